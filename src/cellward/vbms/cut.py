"""Power cuts, ordered at any flash or fuse operation, and what a torn operation leaves behind."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cellward.core.errors import Code, ModuleRefused
from cellward.ports.module import Torn


class PowerCut(ModuleRefused):
    """The power went in the middle of an operation."""


class Medium(Enum):
    FLASH = "flash"
    FUSES = "fuses"


# Told what an operation changed: the offset in its memory, the bytes there before and after.
Watch = Callable[[Medium, int, bytes, bytes], None]


@dataclass
class Cuts:
    """Counts the operations of one module and tears the one that was ordered.

    `seed` makes garbage repeatable: same order, same bits. `watch` hears of every whole operation.
    """

    seed: int = 0
    operations: int = 0
    watch: Watch | None = None
    _at: int = 0  # absolute number of the operation to cut; 0: none
    _torn: Torn = Torn.NONE
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311

    def order(self, operation: int, torn: Torn) -> None:
        """Cut the `operation`-th operation from now, counted from 1; 0 takes the order back."""
        self._at = self.operations + operation if operation > 0 else 0
        self._torn = torn

    def next_operation(self) -> Torn | None:
        """Count one operation; how it is to be torn, or None to let it pass."""
        self.operations += 1
        if self.operations != self._at:
            return None
        self._at = 0
        self._random.seed(f"{self.seed}/{self.operations}")
        return self._torn

    def pass_over(self, count: int) -> bool:
        """Count `count` operations at once, unless one of them is to be cut or each is to be told;
        True when counted."""
        if self.watch is not None or self.operations < self._at <= self.operations + count:
            return False
        self.operations += count
        return True

    def done(self, medium: Medium, at: int, old: bytes, new: bytes) -> None:
        if self.watch is not None:
            self.watch(medium, at, old, new)

    def some_of(self, bits: bytes) -> bytes:
        """A random part of the bits that are set in `bits`."""
        return bytes(a & b for a, b in zip(bits, self._random.randbytes(len(bits)), strict=True))


def half_of(bits: bytes) -> bytes:
    """The bits of the first half, in address order."""
    middle = len(bits) // 2
    return bits[:middle] + bytes(len(bits) - middle)


def torn_bits(cuts: Cuts, torn: Torn, bits: bytes) -> bytes:
    """Which of the `bits` that were to change have changed when the power went."""
    if torn is Torn.GARBAGE:
        return cuts.some_of(bits)
    return half_of(bits) if torn is Torn.HALF else bytes(len(bits))


def power_cut(what: str, cuts: Cuts) -> PowerCut:
    return PowerCut(
        Code.POWER_CUT,
        what,
        expected="power until the operation is done",
        found=f"a cut in operation {cuts.operations}",
        advice="switch the module on again",
    )
