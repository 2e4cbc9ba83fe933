"""Exact, repeatable instruction counts, by the part of the boot chain that executed them.

A block hook in Python costs about four fifths of the speed, so it is for the bench and for
questions, not for every boot. Counted is what the core steps over: a conditional instruction that
does not execute counts, as it does for QEMU's -icount.
"""

from collections.abc import Callable, Mapping

from cellward.core.slots import Hardware, Stage
from cellward.vbms.registers import ACTIVE_BASE, ROM_BASE, ROM_SIZE

ReadCode = Callable[[int, int], bytes]

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
    """Adds up blocks as they are entered, and takes back what a block left early did not execute.

    A count is exact whenever the core stands still; a milestone's is exact to the end of its block.
    """

    def __init__(self, hardware: Hardware, parts: Mapping[str, range] | None = None) -> None:
        """`parts` are counted by themselves and taken from the region that they lie in."""
        self._regions = {
            **(parts or {}),
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
        self._block = (0, 0)
        self.reset()

    def reset(self) -> None:
        self._cells = {name: [0] for name in self._regions}
        self._known = {}
        self._block = (0, 0)

    def forget_code(self) -> None:
        """The flash behind the addresses has changed."""
        self._known = {}

    def enter(self, address: int, size: int, read: ReadCode) -> None:
        self._block = (address, size)
        cell, count = self._known.get(self._block) or self._learn(address, size, read)
        cell[0] += count

    def stop(self, pc: int, read: ReadCode) -> None:
        """The core stands before `pc`, perhaps in the middle of the block it entered last."""
        address, size = self._block
        if address <= pc < address + size:
            cell, _ = self._known.get(self._block) or self._learn(address, size, read)
            cell[0] -= instructions_in(read(pc, address + size - pc))

    def _learn(self, address: int, size: int, read: ReadCode) -> tuple[list[int], int]:
        name = next(name for name, region in self._regions.items() if address in region)
        known = (self._cells[name], instructions_in(read(address, size)))
        self._known[address, size] = known
        return known

    @property
    def by_region(self) -> dict[str, int]:
        """Instructions since the reset: the parts, rom, loader, app."""
        return {name: cell[0] for name, cell in self._cells.items()}

    @property
    def total(self) -> int:
        return sum(cell[0] for cell in self._cells.values())
