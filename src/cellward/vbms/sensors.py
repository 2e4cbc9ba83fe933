"""Tamper sensors: a latch that outlives a power cut, and hides the device secret while it is set."""

from cellward.core.slots import Lifecycle
from cellward.vbms.otp import WORD, Otp
from cellward.vbms.peripherals import Action, BusFault
from cellward.vbms.registers import TAMPER_KEY, Tamper, TamperSource

LATCH_SIZE = WORD
CLEARABLE = (Lifecycle.TAMPERED, Lifecycle.RETIRED)


class TamperLatch:
    """The latch, in `memory` (LATCH_SIZE writable bytes)."""

    def __init__(self, memory: memoryview, otp: Otp) -> None:
        self._memory = memory
        self._otp = otp
        otp.tampered = bool(self.sources)

    @property
    def sources(self) -> int:
        return int.from_bytes(self._memory, "little")

    def trip(self, source: TamperSource) -> None:
        self._set(self.sources | source)

    def reset(self) -> None:
        """Nothing: that is what a latch is for."""

    def read(self, offset: int) -> int:
        if offset == Tamper.LATCH:
            return self.sources
        raise BusFault(f"read of tamper register 0x{offset:x}")

    def write(self, offset: int, value: int) -> Action:
        if offset != Tamper.CLEAR:
            raise BusFault(f"write to tamper register 0x{offset:x}")
        if value == TAMPER_KEY and self._otp.lifecycle in CLEARABLE:
            self._set(0)
        return Action.NONE

    def _set(self, sources: int) -> None:
        self._memory[:] = sources.to_bytes(LATCH_SIZE, "little")
        self._otp.tampered = bool(sources)
