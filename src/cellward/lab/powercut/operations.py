"""What a module's life does to its memories, operation by operation, and what a cut leaves of each."""

from collections.abc import MutableSequence
from dataclasses import dataclass, field
from enum import StrEnum

from cellward.core.slots import ERASED
from cellward.ports.module import Torn
from cellward.vbms.cut import Cuts, Medium, torn_bits
from cellward.vbms.state import FLASH_OFFSET, LATCH_OFFSET, OTP_OFFSET


class Kind(StrEnum):
    ERASE = "erase"
    PROGRAM = "program"
    BURN = "burn"
    LATCH = "latch"  # the tamper latch: hardware, it changes at once or not at all


PLACES = {Medium.FLASH: FLASH_OFFSET, Medium.FUSES: OTP_OFFSET}


@dataclass(frozen=True)
class Operation:
    """`old` becomes `new` at offset `at` of the module's state file. `registered`: how often the plant
    has written its registration before."""

    kind: Kind
    at: int
    old: bytes = field(repr=False)
    new: bytes = field(repr=False)
    phase: str
    registered: int = 0


@dataclass(frozen=True)
class Variant:
    """How the power goes. Torn.NONE is between two operations, or in the later one before it had any
    effect: the memories are the same."""

    torn: Torn
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.torn} {self.seed}" if self.torn is Torn.GARBAGE else str(self.torn)


WHOLE = Variant(Torn.NONE)


def variants(operation: Operation | None, garbage: int) -> tuple[Variant, ...]:
    """All ways to lose power in or before `operation`; None: behind the last one."""
    if operation is None or operation.kind is Kind.LATCH or operation.old == operation.new:
        return (WHOLE,)
    torn_ones = (Variant(Torn.GARBAGE, seed) for seed in range(garbage))
    return (WHOLE, Variant(Torn.HALF), *torn_ones)


def torn(operation: Operation, variant: Variant, number: int) -> bytes:
    """What is at the operation's place after the cut: the virtual module's own tearing."""
    cuts = Cuts(seed=variant.seed, operations=number)
    cuts.order(1, variant.torn)
    cuts.next_operation()
    change = bytes(a ^ b for a, b in zip(operation.old, operation.new, strict=True))
    done = torn_bits(cuts, variant.torn, change)
    return bytes(a ^ b for a, b in zip(operation.old, done, strict=True))


@dataclass
class Log:
    """Every operation, from `begin` on. `latch`: the module's tamper latch, to be looked at."""

    latch: memoryview
    phase: str = ""
    registered: int = 0
    operations: list[Operation] = field(default_factory=list)
    _latched: bytes = b""

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.operations.clear()
        self._latched = bytes(self.latch)

    def watch(self, medium: Medium, at: int, old: bytes, new: bytes) -> None:
        """The module's Watch."""
        self.look_at_latch()
        if medium is Medium.FUSES:
            kind = Kind.BURN
        else:
            kind = Kind.ERASE if new.count(ERASED) == len(new) and len(new) > 8 else Kind.PROGRAM
        self._add(kind, PLACES[medium] + at, old, new)

    def look_at_latch(self) -> None:
        """A latch that has changed did so behind the last operation."""
        now = bytes(self.latch)
        if now != self._latched:
            self._add(Kind.LATCH, LATCH_OFFSET, self._latched, now)
            self._latched = now

    def _add(self, kind: Kind, at: int, old: bytes, new: bytes) -> None:
        self.operations.append(Operation(kind, at, old, new, self.phase, self.registered))

    def undo(self, memory: MutableSequence[int] | memoryview) -> None:
        """Take back, in the state file's bytes, all that has happened since `begin`."""
        self.look_at_latch()
        for operation in reversed(self.operations):
            memory[operation.at : operation.at + len(operation.old)] = operation.old  # type: ignore[assignment,unused-ignore]
        self.begin()
