"""How a run of the module ends, and what that is against the run without a fault."""

from dataclasses import dataclass

from cellward.lab.faults.outcome import Outcome


class Decision(Exception):
    """The run has ended. For the board alone."""

    def __init__(self, outcome: Outcome, end: str = "") -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.end = end  # where the boot led to, when it led somewhere


@dataclass(frozen=True)
class Later:
    """What boots without a fault come to: how and where they end, how many there are, what is then in
    flash and fuses."""

    outcome: Outcome
    end: str
    starts: int
    persistent: bytes


def compare(outcome: Outcome, came: Later, expected: Later) -> Outcome:
    """`outcome` ended the run, `came` is what has come of it in the end."""
    if came.persistent != expected.persistent:
        return Outcome.STATE
    if outcome in (Outcome.CRASH, Outcome.HANG):
        return outcome
    if came.end != expected.end:
        return came.outcome
    return Outcome.REFUSED if came.starts <= expected.starts else Outcome.RESET
