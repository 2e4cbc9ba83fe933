"""Fuses: bits that go from 0 to 1 once and never back. The map is core.slots'."""

from cellward.core.errors import Code, ModuleRefused
from cellward.core.slots import (
    OTP_COUNTER,
    OTP_DEBUG_LOCK,
    OTP_DEVELOPMENT,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_REVOKED,
    OTP_SERIAL,
    OTP_SIZE,
    OTP_SLOT_KEY_COUNT,
    OTP_SLOT_KEYS,
    Fuse,
    Lifecycle,
    decode_counter,
    decode_lifecycle,
)
from cellward.vbms.cut import Cuts, Medium, power_cut, torn_bits

WORD = 4
# What the plant still burns into a module that is provisioned and not closed.
LATE_FUSES = (OTP_REVOKED, OTP_LIFECYCLE, OTP_DEBUG_LOCK, OTP_DEVELOPMENT)


class Otp:
    """The fuses, in `memory` (OTP_SIZE writable bytes).

    `secret_hidden` and `locked` (the CPU's burns) are latches that only `reset` clears; `tampered`
    follows the sensors' latch.
    """

    def __init__(self, memory: memoryview, cuts: Cuts) -> None:
        if len(memory) != OTP_SIZE:
            raise ModuleRefused(
                Code.FLASH_RANGE, "fuses", expected=f"{OTP_SIZE} bytes", found=f"{len(memory)}"
            )
        self._memory = memory
        self._cuts = cuts
        self.secret_hidden = False
        self.locked = False
        self.tampered = False

    def reset(self) -> None:
        self.secret_hidden = False
        self.locked = False

    def word(self, offset: int) -> int:
        """What the shadow at `offset` reads; the device secret reads 0 once it is hidden, and from a
        tamper event until that is cleared.

        Raises ModuleRefused (flash.range, flash.alignment).
        """
        self._check(offset, WORD)
        if (self.secret_hidden or self.tampered) and _in_secret(offset):
            return 0
        return int.from_bytes(self._memory[offset : offset + WORD], "little")

    def public(self, fuse: Fuse) -> bytes:
        """The bytes of any fuse but the device secret.

        Raises ModuleRefused (otp.locked): the secret is for the ROM alone.
        """
        if fuse.offset < _end(OTP_DEVICE_SECRET) and OTP_DEVICE_SECRET.offset < _end(fuse):
            raise ModuleRefused(Code.OTP_LOCKED, "fuses", expected="a public fuse", found="the device secret")
        return bytes(self._memory[fuse.offset : _end(fuse)])

    def burn_word(self, offset: int, bits: int) -> None:
        """The CPU's burn: set `bits` of the word at `offset`, one operation.

        Raises ModuleRefused (otp.locked, flash.range, flash.alignment), PowerCut.
        """
        self._check(offset, WORD)
        if self.locked:
            raise ModuleRefused(
                Code.OTP_LOCKED, f"fuse word 0x{offset:x}", expected="open fuses", found="locked until reset"
            )
        self._burn(offset, bits)

    def _burn(self, offset: int, bits: int) -> None:
        cell = self._memory[offset : offset + WORD]
        old = int.from_bytes(cell, "little")
        wanted = (bits & ~old).to_bytes(WORD, "little")
        torn = self._cuts.next_operation()
        burned = wanted if torn is None else torn_bits(self._cuts, torn, wanted)
        cell[:] = (old | int.from_bytes(burned, "little")).to_bytes(WORD, "little")
        if torn is not None:
            raise power_cut(f"burn of fuse word 0x{offset:x}", self._cuts)
        self._cuts.done(Medium.FUSES, offset, old.to_bytes(WORD, "little"), bytes(cell))

    def write(self, offset: int, data: bytes) -> None:
        """The plant's write: `data` is what the fuses shall read; LATE_FUSES until the module is
        closed, all others only while it is blank.

        Writing what is there already burns nothing, so a plant step can be repeated. Bits of the
        device secret are only added: a line that lost power cannot read what it has burned so far.
        So are the lifecycle's, whose next state is a byte of its own (`Lifecycle.fuses`).
        Raises ModuleRefused (otp.locked, otp.one_way, flash.range, flash.alignment), PowerCut.
        """
        self._check(offset, len(data))
        self._check_open(offset, len(data))
        held = bytes(self._memory[offset : offset + len(data)])
        self._check_one_way(offset, held, data)
        for start in range(0, len(data), WORD):
            word, there = data[start : start + WORD], held[start : start + WORD]
            if word != there:
                self._burn(offset + start, int.from_bytes(word, "little"))

    def _check_open(self, offset: int, length: int) -> None:
        lifecycle = self.lifecycle
        late = all(
            any(fuse.offset <= at < _end(fuse) for fuse in LATE_FUSES)
            for at in range(offset, offset + length, WORD)
        )
        if lifecycle.closed or (lifecycle is not Lifecycle.BLANK and not late):
            raise ModuleRefused(
                Code.OTP_LOCKED,
                f"fuses from 0x{offset:x}",
                expected="a module that is not closed" if late else "a blank module",
                found=lifecycle,
            )

    def _check_one_way(self, offset: int, held: bytes, data: bytes) -> None:
        for at in range(0, len(data), WORD):
            if offset + at == OTP_LIFECYCLE.offset:
                self._check_forward(int.from_bytes(data[at : at + WORD], "little"))
        for index, (old, new) in enumerate(zip(held, data, strict=True)):
            if old & ~new and not _only_added(offset + index):
                raise ModuleRefused(
                    Code.OTP_ONE_WAY,
                    f"fuse byte 0x{offset + index:x}",
                    expected="bits that are still 0, or 1 again",
                    found="a burned bit to be cleared",
                )

    def _check_forward(self, word: int) -> None:
        states, wanted = list(Lifecycle), decode_lifecycle(word)
        if states.index(wanted) < states.index(self.lifecycle):
            raise ModuleRefused(
                Code.OTP_ONE_WAY, "lifecycle", expected=f"{self.lifecycle} or later", found=wanted
            )

    @property
    def counter(self) -> int:
        return decode_counter(self.public(OTP_COUNTER))

    @property
    def lifecycle(self) -> Lifecycle:
        return decode_lifecycle(int.from_bytes(self.public(OTP_LIFECYCLE), "little"))

    @property
    def debug_locked(self) -> bool:
        return any(self.public(OTP_DEBUG_LOCK))

    def image(self) -> bytes:
        """Every fuse, the secret too: what a decapped chip would show. For searches on the bench."""
        return bytes(self._memory)

    @property
    def serial(self) -> str:
        """ASCII, zero-padded; whatever else is burned there is shown escaped."""
        return self.public(OTP_SERIAL).rstrip(b"\0").decode("ascii", "backslashreplace")

    @property
    def revoked(self) -> int:
        return int.from_bytes(self.public(OTP_REVOKED), "little")

    @property
    def slot_keys(self) -> tuple[bytes, ...]:
        """The hash in every slot up to the last one that is burned; zeros in one that is not."""
        fuses, size = self.public(OTP_SLOT_KEYS), OTP_SLOT_KEYS.size // OTP_SLOT_KEY_COUNT
        slots = [fuses[start : start + size] for start in range(0, len(fuses), size)]
        while slots and not any(slots[-1]):
            slots.pop()
        return tuple(slots)

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or offset + length > OTP_SIZE:
            raise ModuleRefused(
                Code.FLASH_RANGE,
                "fuses",
                expected=f"bytes 0 to 0x{OTP_SIZE:x}",
                found=f"offset 0x{offset:x}, {length} bytes",
            )
        if offset % WORD or length % WORD or not length:
            raise ModuleRefused(
                Code.FLASH_ALIGNMENT,
                f"fuses from 0x{offset:x}",
                expected=f"whole words of {WORD} bytes",
                found=f"{length} bytes",
            )


def _end(fuse: Fuse) -> int:
    return fuse.offset + fuse.size


def _only_added(offset: int) -> bool:
    return _in_secret(offset) or OTP_LIFECYCLE.offset <= offset < _end(OTP_LIFECYCLE)


def _in_secret(offset: int) -> bool:
    return OTP_DEVICE_SECRET.offset <= offset < _end(OTP_DEVICE_SECRET)
