"""The module's ROM, flash and fuses, read wrong for a moment."""

from cellward.core.slots import BANKS, OTP_SIZE
from cellward.lab.faults.hardware import FlippableShadow
from cellward.lab.faults.probe import Probe
from cellward.lab.faults.scenarios import HARDWARE
from cellward.vbms.cpu import Memories
from cellward.vbms.registers import ACTIVE_BASE, DATA_BASE, INACTIVE_BASE, OTP_BASE, ROM_BASE, ROM_SIZE

BANK = HARDWARE.bank_size
DATA = len(BANKS) * BANK  # where the data flash begins in the whole


def in_fuses(address: int, size: int) -> bool:
    return address >= OTP_BASE and address + size <= OTP_BASE + OTP_SIZE


class Wrong:
    """At most one patch of code, and one bit that is read wrong."""

    def __init__(self, memories: Memories, shadow: FlippableShadow) -> None:
        self._memories = memories
        self._shadow = shadow
        self._patched: tuple[int, bytes] | None = None
        self._disturbed: tuple[int, bytes] | None = None

    def place(self, core: Probe, address: int, size: int) -> tuple[memoryview, int] | None:
        """Where in this process the ROM's or flash's bytes at `address` lie."""
        flash = self._memories.flash.view
        for base, length, view, start in (
            (ROM_BASE, ROM_SIZE, self._memories.rom.view, 0),
            (ACTIVE_BASE, BANK, core.window(active=True), 0),
            (INACTIVE_BASE, BANK, core.window(active=False), 0),
            (DATA_BASE, len(flash) - DATA, flash, DATA),
        ):
            if base <= address and address + size <= base + length:
                return view, start + address - base
        return None

    def _change(self, core: Probe, address: int, data: bytes) -> bytes:
        """Returns what was there."""
        place = self.place(core, address, len(data))
        assert place is not None  # noqa: S101
        view, at = place
        before = bytes(view[at : at + len(data)])
        view[at : at + len(data)] = data
        return before

    def patch(self, core: Probe, address: int, code: bytes) -> None:
        self._patched = (address, self._change(core, address, code))
        core.changed(address, len(code))

    def unpatch(self, core: Probe) -> None:
        if self._patched is not None:
            address, before = self._patched
            self._patched = None
            self._change(core, address, before)
            core.changed(address, len(before))

    def disturb(self, core: Probe, address: int, bit: int) -> None:
        at, mask = address + bit // 8, 1 << bit % 8
        if in_fuses(at, 1):
            self._shadow.flips = (at - OTP_BASE, mask)
            core.read_fuses()
            return
        place = self.place(core, at, 1)
        assert place is not None  # noqa: S101
        view, index = place
        self._disturbed = (at, self._change(core, at, bytes([view[index] ^ mask])))

    def calm(self, core: Probe) -> None:
        if self._shadow.flips != FlippableShadow.flips:
            self._shadow.flips = FlippableShadow.flips
            core.read_fuses()
        if self._disturbed is not None:
            at, before = self._disturbed
            self._disturbed = None
            self._change(core, at, before)
