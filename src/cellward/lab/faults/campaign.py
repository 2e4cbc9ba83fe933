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
from typing import Any, Protocol

from cellward.lab.faults.board import Board
from cellward.lab.faults.inject import faults_here, run
from cellward.lab.faults.models import Fault, Model
from cellward.lab.faults.outcome import Counts, Outcome

JOB_FAULTS = 3000
FULL_SITE_FAULTS = 100  # about
SKIP_FAULTS = 2
# Sites of each scenario in a smoke test: for all models; for skips where code decides, and elsewhere.
SMOKE_WHOLE, SMOKE_DECIDING, SMOKE_OTHERS = 20, 250, 100
SMOKE_FAULTS = 2400  # about
AUDITED_JOBS = 8  # of so many jobs, one fault of one is run again for real


@dataclass(frozen=True)
class Site:
    """A step of the run; `full`: for all models, not for skips alone."""

    step: int
    full: bool


@dataclass(frozen=True)
class Job:
    """Without sites: a smoke job, which chooses its own."""

    number: int
    scenario: int
    sites: tuple[Site, ...] = ()

    @property
    def expected(self) -> int:
        """Faults, about."""
        return (
            SMOKE_FAULTS
            if not self.sites
            else sum(FULL_SITE_FAULTS if site.full else SKIP_FAULTS for site in self.sites)
        )


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


def jobs(scenario: int, found: Sequence[Site], start: int) -> Iterator[Job]:
    """All sites of a scenario in jobs of about the same size, numbered from `start`."""
    part: list[Site] = []
    weight = 0
    for site in found:
        part.append(site)
        weight += FULL_SITE_FAULTS if site.full else SKIP_FAULTS
        if weight >= JOB_FAULTS:
            yield Job(start, scenario, tuple(part))
            part, weight, start = [], 0, start + 1
    if part:
        yield Job(start, scenario, tuple(part))


def smoke(board: Board, steps: Sequence[int], found: Sequence[Site], chance: random.Random) -> list[Site]:
    """Skips wherever code decides; a part of all other faults there; some skips elsewhere."""
    full = [site for site in found if site.full]
    deciding = [site for site in full if board.decides(steps[site.step])]
    others = [site for site in full if not board.decides(steps[site.step])]
    chosen = chance.sample(deciding, min(len(deciding), SMOKE_DECIDING))
    whole = {site.step for site in chosen[:SMOKE_WHOLE]}
    chosen += chance.sample(others, min(len(others), SMOKE_OTHERS))
    return [Site(step, step in whole) for step in sorted(site.step for site in chosen)]


class MakeBoard(Protocol):
    """`real`: with the real crypto library instead of the modelled one."""

    def __call__(self, scenario: int, *, real: bool) -> Board: ...


class Worker:
    """Runs jobs, on boards that `make` makes."""

    def __init__(self, make: MakeBoard, names: Sequence[str], seed: int) -> None:
        self._make = make
        self._names = names
        self._seed = seed
        self._boards: dict[int, Board] = {}
        self._stands = -1  # the step that the last job has left the board at
        self._real: tuple[int, Board] | None = None

    def steps(self, scenario: int) -> tuple[list[int], list[Site]]:
        board = self._board(scenario)
        steps = walk(board)
        return steps, list(sites(board, steps))

    def run(self, job: Job) -> Result:
        began = time.process_time()
        board = self._board(job.scenario)
        chance = random.Random(f"{self._seed}/{job.number}")  # noqa: S311
        chosen = job.sites or self._smoke(job.scenario, chance)
        if self._stands > chosen[0].step or board.steps_done != self._stands:
            board.begin()
        result = Result(job.number, self._names[job.scenario])
        audited = chance.choice(chosen).step if job.number % AUDITED_JOBS == 0 else -1
        for site in chosen:
            self._walk_to(board, site.step)
            self._site(board, site, result, chance if site.step == audited else None)
        self._stands = board.steps_done
        result.seconds = time.process_time() - began
        return result

    def _smoke(self, scenario: int, chance: random.Random) -> Sequence[Site]:
        steps, found = self.steps(scenario)
        self._stands = -1
        return smoke(self._board(scenario), steps, found, chance)

    def _board(self, scenario: int) -> Board:
        if scenario not in self._boards:
            self._boards.clear()  # one at a time: each holds a virtual machine
            self._stands = -1
            self._boards[scenario] = self._make(scenario, real=False)
        return self._boards[scenario]

    def _walk_to(self, board: Board, step: int) -> None:
        while board.steps_done < step:
            ended = board.step()
            assert ended is None, f"the run without a fault ended before step {step}"  # noqa: S101

    def _site(self, board: Board, site: Site, result: Result, audit: random.Random | None) -> None:
        address = board.core.pc
        restore = board.save()
        faults = list(faults_here(board, full=site.full))
        audited = audit.choice(faults) if audit is not None else None
        for fault in faults:
            outcome = run(board, fault)
            restore()
            result.add(address, fault.model, outcome)
            if outcome.broken:
                again = self._again(result, site.step, fault)
                result.bypasses.append(
                    Bypass(
                        result.scenario,
                        site.step,
                        address,
                        board.where(address),
                        fault.model,
                        str(fault),
                        outcome,
                        again.broken,
                    )
                )
            if fault == audited:
                result.audited += 1
                again = self._again(result, site.step, fault)
                if again is not outcome:
                    result.differing.append(f"{site.step} {fault}: {outcome}, for real {again}")

    def _again(self, result: Result, step: int, fault: Fault) -> Outcome:
        """The same fault with the real library, in a machine of its own that came from reset."""
        scenario = self._names.index(result.scenario)
        if self._real is None or self._real[0] != scenario or self._real[1].steps_done > step:
            board = self._make(scenario, real=True)
            board.begin()
            self._real = (scenario, board)
        board = self._real[1]
        self._walk_to(board, step)
        restore = board.save()
        outcome = run(board, fault)
        restore()
        return outcome
