"""Which faults are run, in which order, and one worker's share of them.

A scenario's run without a fault is its sequence of steps; each step outside the library is a site.
Skips are tried at every site, all other models where an instruction is executed for the first and for
the last time. A job is a list of sites in the order of the run: a worker walks once from the reset to
the job's first site, copies the state before each, and runs every fault from its copy.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from cellward.lab.faults.board import Board, Inside
from cellward.lab.faults.inject import faults_here, run
from cellward.lab.faults.models import Attack, Fault, Model, Pair
from cellward.lab.faults.outcome import Counts, Outcome

JOB_FAULTS = 3000
FULL_SITE_FAULTS = 100  # about
SKIP_FAULTS = 2
# Sites of each scenario in a smoke test: for all models; for skips where code decides, and elsewhere.
SMOKE_WHOLE, SMOKE_DECIDING, SMOKE_OTHERS = 15, 180, 60
SMOKE_FAULTS = 1500  # about
INSIDE_SKIPS = 60  # of a job
PAIRS_HERE = 20  # that begin at one site
NEAR_GAP, FAR_GAP = 12, 400
AUDITED_JOBS = 8  # of so many jobs, one fault of one is run again for real


class Kind(StrEnum):
    """Of a campaign."""

    SINGLE = "single faults"
    SMOKE = "smoke"
    INSIDE = "inside the library"
    PAIRS = "pairs"


@dataclass(frozen=True)
class Site:
    """A step of the run; `full`: for all models, not for skips alone. `inside`: of a call into the library,
    what is to be skipped; `pairs`: so many sampled pairs that begin here."""

    step: int
    full: bool
    inside: tuple[Inside, ...] = ()
    pairs: int = 0


@dataclass(frozen=True)
class Job:
    """Without sites: a smoke job, which chooses its own."""

    number: int
    scenario: int
    sites: tuple[Site, ...] = ()
    kind: Kind = Kind.SINGLE

    @property
    def expected(self) -> int:
        """Faults, about."""
        return sum(_expected(site) for site in self.sites) if self.sites else SMOKE_FAULTS


@dataclass(frozen=True)
class Bypass:
    """A fault that broke something. `confirmed`: with the real crypto library as well, from reset."""

    scenario: str
    step: int
    address: int
    where: str
    model: Model
    fault: str
    outcome: Outcome
    confirmed: bool


@dataclass
class Result:
    """Of one job."""

    job: int
    scenario: str
    counts: dict[str, Counts] = field(default_factory=dict)  # by model
    heat: dict[int, Counts] = field(default_factory=dict)  # by address
    bypasses: list[Bypass] = field(default_factory=list)
    audited: int = 0
    differing: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        return sum(counts.total() for counts in self.counts.values())

    def add(self, address: int, model: Model, outcome: Outcome) -> None:
        self.counts.setdefault(model, Counter())[outcome] += 1
        self.heat.setdefault(address, Counter())[outcome] += 1

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "heat": {str(address): counts for address, counts in self.heat.items()},
            "bypasses": [vars(bypass) for bypass in self.bypasses],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Result":
        def counts(found: dict[str, int]) -> Counts:
            return Counter({Outcome(name): number for name, number in found.items()})

        return cls(
            job=data["job"],
            scenario=data["scenario"],
            counts={model: counts(found) for model, found in data["counts"].items()},
            heat={int(address): counts(found) for address, found in data["heat"].items()},
            bypasses=[
                Bypass(**{**b, "outcome": Outcome(b["outcome"]), "model": Model(b["model"])})
                for b in data["bypasses"]
            ],
            audited=data["audited"],
            differing=data["differing"],
            seconds=data["seconds"],
        )


def walk(board: Board) -> list[int]:
    """The address of each step from reset to the end of the run."""
    board.begin()
    steps = []
    while True:
        steps.append(board.core.pc)
        if board.step() is not None:
            return steps


def sites(board: Board, steps: Sequence[int]) -> Iterator[Site]:
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, address in enumerate(steps):
        first.setdefault(address, step)
        last[address] = step
    for step, address in enumerate(steps):
        if board.is_site(address):
            yield Site(step, step in (first[address], last[address]))


def calls(board: Board, steps: Sequence[int]) -> list[Site]:
    """For each function of the library that is called, the call that is nearest to the verdict: its last
    one; and what is executed there."""
    last = {address: step for step, address in enumerate(steps) if not board.is_site(address)}
    board.begin()
    found = []
    for step in sorted(last.values()):
        walk_to(board, step)
        restore = board.save()
        inside = board.trace()
        restore()
        parts = range(0, len(inside), INSIDE_SKIPS)
        found += [Site(step, full=False, inside=inside[at : at + INSIDE_SKIPS]) for at in parts]
    return found


def pairs(found: Sequence[Site], number: int, chance: random.Random) -> list[Site]:
    """`number` pairs, PAIRS_HERE beginning at each of the sites chosen."""
    chosen = chance.sample(found, min(-(-number // PAIRS_HERE), len(found)))
    return [Site(step, full=True, pairs=PAIRS_HERE) for step in sorted(site.step for site in chosen)]


def jobs(scenario: int, found: Sequence[Site], start: int, kind: Kind = Kind.SINGLE) -> Iterator[Job]:
    """All sites of a scenario in jobs of about the same size, numbered from `start`."""
    part: list[Site] = []
    weight = 0
    for site in found:
        part.append(site)
        weight += _expected(site)
        if weight >= (INSIDE_SKIPS if kind is Kind.INSIDE else JOB_FAULTS):
            yield Job(start, scenario, tuple(part), kind)
            part, weight, start = [], 0, start + 1
    if part:
        yield Job(start, scenario, tuple(part), kind)


def _expected(site: Site) -> int:
    return len(site.inside) or site.pairs or (FULL_SITE_FAULTS if site.full else SKIP_FAULTS)


def walk_to(board: Board, step: int) -> None:
    while board.steps_done < step:
        ended = board.step()
        assert ended is None, f"the run without a fault ended before step {step}"  # noqa: S101


def smoke(board: Board, steps: Sequence[int], found: Sequence[Site], chance: random.Random) -> list[Site]:
    """Skips wherever code decides; a part of all other faults there; some skips elsewhere."""
    full = [site for site in found if site.full]
    deciding = [site for site in full if board.decides(steps[site.step])]
    others = [site for site in full if not board.decides(steps[site.step])]
    chosen = chance.sample(deciding, min(len(deciding), SMOKE_DECIDING))
    whole = {site.step for site in chosen[:SMOKE_WHOLE]}
    chosen += chance.sample(others, min(len(others), SMOKE_OTHERS))
    return [Site(step, step in whole) for step in sorted(site.step for site in chosen)]


def attacks_here(board: Board, site: Site, chance: random.Random) -> list[Attack]:
    if site.inside:
        return [Fault(Model.INSIDE, address=at, place=place) for at, place in site.inside]
    faults = list(faults_here(board, full=site.full))
    if not site.pairs:
        return [*faults]
    return [Pair(chance.choice(faults), _gap(chance), chance.random()) for _ in range(site.pairs)]


def _gap(chance: random.Random) -> int:
    """Steps to the second fault: as likely within NEAR_GAP as farther away."""
    return chance.randint(1, NEAR_GAP if chance.random() < 0.5 else FAR_GAP)


class MakeBoard(Protocol):
    """`real`: with the real crypto library instead of the modelled one."""

    def __call__(self, scenario: int, *, real: bool) -> Board: ...


class Worker:
    """Runs jobs, on boards that `make` makes."""

    def __init__(self, make: MakeBoard, names: Sequence[str], seed: int) -> None:
        self._make = make
        self._names = names
        self._seed = seed
        self._boards: dict[tuple[int, bool], Board] = {}
        self._stands = -1  # the step that the last job has left the board at
        self._real: tuple[int, Board] | None = None

    def steps(self, scenario: int) -> tuple[list[int], list[Site]]:
        board = self._board(scenario)
        steps = walk(board)
        self._stands = -1
        return steps, list(sites(board, steps))

    def inside(self, scenario: int) -> list[Site]:
        board = self._board(scenario, real=True)
        self._stands = -1
        return calls(board, walk(board))

    def run(self, job: Job) -> Result:
        began = time.process_time()
        board = self._board(job.scenario, real=job.kind is Kind.INSIDE)
        chance = random.Random(f"{self._seed}/{job.number}")  # noqa: S311
        chosen = job.sites or self._smoke(job.scenario, chance)
        if self._stands > chosen[0].step or board.steps_done != self._stands:
            board.begin()
        result = Result(job.number, self._names[job.scenario])
        audits = job.number % AUDITED_JOBS == 0 and job.kind is not Kind.INSIDE
        audited = chance.choice(chosen).step if audits else -1
        for site in chosen:
            walk_to(board, site.step)
            self._site(board, site, result, audit=site.step == audited)
        self._stands = board.steps_done
        result.seconds = time.process_time() - began
        return result

    def _smoke(self, scenario: int, chance: random.Random) -> Sequence[Site]:
        steps, found = self.steps(scenario)
        return smoke(self._board(scenario), steps, found, chance)

    def _board(self, scenario: int, *, real: bool = False) -> Board:
        if (scenario, real) not in self._boards:
            self._boards.clear()  # one at a time: each holds a virtual machine
            self._stands = -1
            self._boards[scenario, real] = self._make(scenario, real=real)
        return self._boards[scenario, real]

    def _site(self, board: Board, site: Site, result: Result, *, audit: bool) -> None:
        address = board.core.pc
        chance = random.Random(f"{self._seed}/{result.job}/{site.step}")  # noqa: S311
        restore = board.save()
        attacks = attacks_here(board, site, chance)
        audited = chance.choice(attacks) if audit else None
        for attack in attacks:
            outcome = run(board, attack)
            restore()
            at = attack.address if isinstance(attack, Fault) and attack.address else address
            result.add(at, attack.model, outcome)
            if outcome.broken:
                confirmed = bool(site.inside) or self._again(result, site.step, attack).broken
                told = (board.where(at), attack.model, str(attack), outcome, confirmed)
                result.bypasses.append(Bypass(result.scenario, site.step, at, *told))
            if attack == audited:
                result.audited += 1
                again = self._again(result, site.step, attack)
                if again.judged is not outcome.judged:
                    result.differing.append(f"{site.step} {attack}: {outcome}, for real {again}")

    def _again(self, result: Result, step: int, attack: Attack) -> Outcome:
        """The same fault with the real library, in a machine of its own that came from reset."""
        scenario = self._names.index(result.scenario)
        if self._real is None or self._real[0] != scenario or self._real[1].steps_done > step:
            board = self._make(scenario, real=True)
            board.begin()
            self._real = (scenario, board)
        board = self._real[1]
        walk_to(board, step)
        restore = board.save()
        outcome = run(board, attack)
        restore()
        return outcome
