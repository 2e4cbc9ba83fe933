"""What the demo saw: steps with their times, refusals with their proof that nothing changed."""

from dataclasses import dataclass, field
from enum import StrEnum


class Actor(StrEnum):
    """Who does a step; the lanes of the timeline, top to bottom."""

    MAKER = "maker"
    APPROVER = "approver"
    SERVER = "server"
    CONTROLLER = "pack controller"
    MODULE = "battery module"
    ATTACKER = "attacker"


@dataclass(frozen=True)
class Step:
    """One thing done. `started` and `seconds` are measured from the start of the demo."""

    actor: Actor
    name: str
    command: str
    outcome: str
    started: float
    seconds: float


@dataclass(frozen=True)
class State:
    """What must not change in a refusal: flash of each bank, the counter, what runs."""

    banks: tuple[str, str]
    counter: int
    running: str

    def __str__(self) -> str:
        digests = ", ".join(f"{name} {digest[:8]}" for name, digest in zip("ab", self.banks, strict=True))
        return f"runs {self.running}, counter {self.counter}, banks {digests}"


@dataclass(frozen=True)
class Refusal:
    """One attack or accident: which check stopped it, and the state before and after.

    `before` and `after` are what the module held; `allowed` names what may differ in its banks (what the
    attack itself wrote or damaged), or is empty. `runs` is what the module is left with where the attack
    took what ran before.
    """

    attack: str
    refused_by: str
    code: str
    expected: str
    found: str
    before: State
    after: State
    allowed: str = ""
    runs: str = ""

    @property
    def proof(self) -> str:
        if self.before == self.after:
            return f"unchanged: {self.after}"
        kept = "still" if self.before.running == self.after.running else "now"
        kept = kept if self._runs_as_it_must else "CHANGED:"
        return f"{kept} {self.after}" + (f" ({self.allowed})" if self.allowed else "")

    @property
    def holds(self) -> bool:
        """What must run runs and the counter is where it was; flash too, unless `allowed` says so."""
        return self._runs_as_it_must and (self.before.banks == self.after.banks or bool(self.allowed))

    @property
    def _runs_as_it_must(self) -> bool:
        wanted = (self.runs or self.before.running, self.before.counter)
        return wanted == (self.after.running, self.after.counter)


@dataclass
class Journal:
    """Everything the page of results is drawn from."""

    steps: list[Step] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return max((step.started + step.seconds for step in self.steps), default=0.0)
