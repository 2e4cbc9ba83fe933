"""How a run can end, and the sums over many of them."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from math import sqrt


class Outcome(StrEnum):
    """Worst first; the order is the table's."""

    BYPASS = "bypass"  # the bad image was executed, or the hardware's gate opened for it
    # The security counter is above what was authorised. The fault burned it: of every burn's word one
    # flip makes another. It costs availability, and lets no bad image run.
    COUNTER = "counter"
    STATE = "state"  # trailer, flash or fuses changed otherwise than without the fault
    GOOD = "good bank"  # the good image runs, where without the fault it would not have
    RECOVERY = "recovery"  # no image runs, where without the fault the good one would have
    RESET = "reset"  # the firmware reset itself otherwise than without the fault
    CRASH = "crash"  # bus fault, undefined instruction, fetch from where nothing may run
    HANG = "hang"  # the instruction budget ran out: the watchdog's case
    REFUSED = "refused"  # as without the fault

    @property
    def broken(self) -> bool:
        return self is Outcome.BYPASS

    @property
    def judged(self) -> "Outcome":
        """Budgets decide between a hang and a crash at its end: the watchdog's reset follows on either."""
        return Outcome.CRASH if self is Outcome.HANG else self


Counts = Counter[Outcome]


def broken(counts: Counts) -> int:
    return sum(number for outcome, number in counts.items() if outcome.broken)


def total(parts: Iterable[Counts]) -> Counts:
    return sum(parts, Counter())


def wilson(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval (Wilson 1927) of a rate; 95 % for the z given. (0, 1) without a trial."""
    if not trials:
        return 0.0, 1.0
    rate, square = hits / trials, z * z
    middle = rate + square / (2 * trials)
    spread = z * sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    low = 0.0 if not hits else (middle - spread) / scale
    return low, 1.0 if hits == trials else (middle + spread) / scale
