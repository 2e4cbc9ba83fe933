"""NOR flash, two banks and the data flash: pages erase to ones, phrases of 8 bytes program ones to
zeros, once.

An honest model refuses what the silicon would spoil: a phrase is programmed only over erased
flash, because its ECC cannot be written twice. Each operation changes the memory it was given at
once and can be torn by a power cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cellward.core.errors import Code, ModuleRefused
from cellward.core.slots import (
    BANKS,
    DATA_BANK,
    DATA_BANK_NAME,
    DATA_PAGE_SIZE,
    DATA_SIZE,
    ERASED,
    WRITE_SIZE,
    Hardware,
)
from cellward.vbms.cut import Cuts, Medium, power_cut, torn_bits

BANK_NAMES = (*BANKS, DATA_BANK_NAME)  # by the number that the flash controller has for it


def flash_size(hardware: Hardware) -> int:
    return len(BANKS) * hardware.bank_size + DATA_SIZE


@dataclass(frozen=True)
class Area:
    """`start` to `end` (exclusive) of bank number `bank`."""

    bank: int
    start: int
    end: int

    def overlaps(self, other: "Area") -> bool:
        return self.bank == other.bank and self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        return f"bank {BANK_NAMES[self.bank]}, bytes 0x{self.start:x} to 0x{self.end:x}"


class Nor:
    """Bank a, bank b and the data flash in `memory` (flash_size writable bytes).

    `locked` areas differ by who asks: the CPU's controller and the programmer see other locks.
    """

    def __init__(self, hardware: Hardware, memory: memoryview, cuts: Cuts) -> None:
        if len(memory) != flash_size(hardware):
            raise ModuleRefused(
                Code.FLASH_RANGE, "flash", expected=f"{flash_size(hardware)} bytes", found=f"{len(memory)}"
            )
        self.hardware = hardware
        self._memory = memory
        self._cuts = cuts

    def page_size(self, bank: int) -> int:
        return DATA_PAGE_SIZE if bank == DATA_BANK else self.hardware.page_size

    def size(self, bank: int) -> int:
        return DATA_SIZE if bank == DATA_BANK else self.hardware.bank_size

    def read(self, bank: int, offset: int, length: int) -> bytes:
        """Raises ModuleRefused (flash.range)."""
        self._check_range(Area(bank, offset, offset + length), length)
        return bytes(self._slice(bank, offset, length))

    def erase(self, bank: int, offset: int, locked: Sequence[Area] = ()) -> None:
        """Erase the page at `offset`.

        Raises ModuleRefused (flash.range, flash.alignment, flash.locked), PowerCut.
        """
        size = self.page_size(bank)
        area = Area(bank, offset, offset + size)
        self._check(area, size, locked)
        page = self._slice(bank, offset, size)
        torn = self._cuts.next_operation()
        if torn is None:
            old, page[:] = bytes(page), bytes([ERASED]) * size
            self._cuts.done(Medium.FLASH, self._place(bank, offset), old, bytes(page))
            return
        missing = bytes(byte ^ ERASED for byte in page)
        gained = torn_bits(self._cuts, torn, missing)
        page[:] = bytes(a | b for a, b in zip(page, gained, strict=True))
        raise power_cut(f"erase of {area}", self._cuts)

    def program(self, bank: int, offset: int, data: bytes, locked: Sequence[Area] = ()) -> None:
        """Program whole phrases in ascending order; each is one operation.

        Raises ModuleRefused (flash.range, flash.alignment, flash.locked before the first phrase;
        flash.unerased at the phrase), PowerCut.
        """
        self._check(Area(bank, offset, offset + len(data)), WRITE_SIZE, locked)
        target = self._slice(bank, offset, len(data))
        if _erased(target) and self._cuts.pass_over(len(data) // WRITE_SIZE):
            target[:] = data
            return
        for start in range(0, len(data), WRITE_SIZE):
            self._program_phrase(bank, offset + start, data[start : start + WRITE_SIZE])

    def flip(self, bank: int, offset: int, bit: int) -> None:
        """Damage: `bit` of one byte changes, whatever is locked. No operation of the module.

        Raises ModuleRefused (flash.range).
        """
        self._check_range(Area(bank, offset, offset + 1), 1)
        if not 0 <= bit < 8:
            raise ModuleRefused(Code.FLASH_RANGE, "flash cell", expected="bit 0 to 7", found=f"{bit}")
        self._slice(bank, offset, 1)[0] ^= 1 << bit

    def _program_phrase(self, bank: int, offset: int, phrase: bytes) -> None:
        cell = self._slice(bank, offset, WRITE_SIZE)
        area = Area(bank, offset, offset + WRITE_SIZE)
        if not _erased(cell):
            raise ModuleRefused(
                Code.FLASH_UNERASED, str(area), expected="erased flash", found=bytes(cell).hex()
            )
        torn = self._cuts.next_operation()
        if torn is None:
            old, cell[:] = bytes(cell), phrase
            self._cuts.done(Medium.FLASH, self._place(bank, offset), old, phrase)
            return
        wanted = bytes(byte ^ ERASED for byte in phrase)
        cleared = torn_bits(self._cuts, torn, wanted)
        cell[:] = bytes(byte ^ ERASED for byte in cleared)
        raise power_cut(f"write of {area}", self._cuts)

    def _slice(self, bank: int, offset: int, length: int) -> memoryview:
        start = self._place(bank, offset)
        return self._memory[start : start + length]

    def _place(self, bank: int, offset: int) -> int:
        return bank * self.hardware.bank_size + offset

    def _check(self, area: Area, unit: int, locked: Sequence[Area]) -> None:
        length = area.end - area.start
        self._check_range(area, length)
        if area.start % unit or length % unit or not length:
            raise ModuleRefused(
                Code.FLASH_ALIGNMENT,
                str(area),
                expected=f"whole units of {unit} bytes",
                found=f"offset 0x{area.start:x}, {length} bytes",
            )
        for lock in locked:
            if area.overlaps(lock):
                raise ModuleRefused(Code.FLASH_LOCKED, str(area), expected="unlocked flash", found=str(lock))

    def _check_range(self, area: Area, length: int) -> None:
        if (
            not 0 <= area.bank < len(BANK_NAMES)
            or area.start < 0
            or length < 0
            or area.end > self.size(area.bank)
        ):
            raise ModuleRefused(
                Code.FLASH_RANGE,
                f"flash bank {area.bank}",
                expected=f"bytes 0 to 0x{self.size(area.bank):x} of bank 0 to {DATA_BANK}",
                found=f"offset 0x{area.start:x}, {length} bytes",
            )


def _erased(cell: memoryview) -> bool:
    return bytes(cell).count(ERASED) == len(cell)
