"""Exact, repeatable instruction counts, by the part of the boot chain that executed them.

A block hook in Python costs about four fifths of the speed, so it is for the bench and for
questions, not for every boot. Counted is what the core steps over: a conditional instruction that
does not execute counts, as it does for QEMU's -icount.
"""

from collections.abc import Callable

from cellward.core.slots import Hardware, Stage
from cellward.vbms.registers import ACTIVE_BASE, ROM_BASE, ROM_SIZE

HALFWORD = 2
# Thumb: a first halfword with one of these top five bits starts a 32-bit instruction (ARMv8-M, C2.1).
WIDE_PREFIXES = (0b11101, 0b11110, 0b11111)


def instructions_in(code: bytes) -> int:
    """How many Thumb instructions `code` holds."""
    count = offset = 0
    while offset < len(code):
        wide = code[offset + 1] >> 3 in WIDE_PREFIXES
        offset += 2 * HALFWORD if wide else HALFWORD
        count += 1
    return count


class InstructionCounter:
    """Adds up blocks as they are entered. `read` fetches code from the VM."""

    def __init__(self, hardware: Hardware) -> None:
        self._regions = {
            "rom": range(ROM_BASE, ROM_BASE + ROM_SIZE),
            **{
                str(stage): range(
                    ACTIVE_BASE + hardware.slot(stage).offset, ACTIVE_BASE + hardware.slot(stage).end
                )
                for stage in Stage
            },
        }
        self._cells: dict[str, list[int]] = {}
        self._known: dict[tuple[int, int], tuple[list[int], int]] = {}
        self.reset()

    def reset(self) -> None:
        self._cells = {name: [0] for name in self._regions}
        self._known = {}

    def forget_code(self) -> None:
        """The flash behind the addresses has changed."""
        self._known = {}

    def enter(self, address: int, size: int, read: Callable[[int, int], bytes]) -> None:
        known = self._known.get((address, size))
        if known is None:
            name = next(name for name, region in self._regions.items() if address in region)
            known = (self._cells[name], instructions_in(read(address, size)))
            self._known[address, size] = known
        known[0][0] += known[1]

    @property
    def by_region(self) -> dict[str, int]:
        """Instructions since the reset: rom, loader, app."""
        return {name: cell[0] for name, cell in self._cells.items()}

    @property
    def total(self) -> int:
        return sum(cell[0] for cell in self._cells.values())
