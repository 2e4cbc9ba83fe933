"""A campaign on all cores: surveys the scenarios, hands out the jobs, keeps what comes back."""

import hashlib
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cellward.lab.faults.board import Board
from cellward.lab.faults.campaign import Job, Kind, Result, Site, Worker, jobs, pairs
from cellward.lab.faults.results import Summary
from cellward.lab.faults.symbols import Symbols
from cellward.lab.journal import Journal
from cellward.lab.pool import Progress, finished, ignore_interrupt, workers

VERSION = 3  # of the models, the plan and the results; another one is another campaign


class Subject(Protocol):
    """What is attacked. Pickled to the workers, which make their boards of it."""

    @property
    def title(self) -> str: ...

    @property
    def scenarios(self) -> Sequence[str]: ...

    @property
    def smoke(self) -> Sequence[str]:
        """Those of a smoke test."""

    @property
    def fingerprint(self) -> str:
        """Changes with everything that a result depends on."""

    @property
    def symbols(self) -> Sequence[Symbols]: ...

    def board(self, scenario: int, *, real: bool) -> Board: ...


@dataclass(frozen=True)
class Options:
    seed: int = 1
    kind: Kind = Kind.SINGLE
    pairs: int = 0  # of Kind.PAIRS, in all
    cores: int = 0  # 0: all of them
    results: Path | None = None
    only: str = ""  # the scenario of that name, or those whose name contains it

    def of(self, names: Sequence[str]) -> list[str]:
        return [self.only] if self.only in names else [name for name in names if self.only in name]


_worker: Worker | None = None


def _start_worker(subject: Subject, seed: int) -> None:
    global _worker  # noqa: PLW0603  # one a process: that is what a pool's initializer is for
    ignore_interrupt()
    _worker = Worker(subject.board, subject.scenarios, seed)


def _survey(scenario: int, kind: Kind) -> list[Site]:
    assert _worker is not None  # noqa: S101
    return _worker.inside(scenario) if kind is Kind.INSIDE else _worker.steps(scenario)[1]


def _run(job: Job) -> Result:
    assert _worker is not None  # noqa: S101
    return _worker.run(job)


def campaign_of(subject: Subject, options: Options) -> str:
    told = (VERSION, options.kind, options.pairs, options.seed, options.only, subject.fingerprint)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def run(subject: Subject, options: Options, progress: Progress) -> Summary:
    """Raises what Journal raises. KeyboardInterrupt leaves a file that a second start goes on with."""
    file = Journal(options.results, campaign_of(subject, options)) if options.results else None
    try:
        with workers(options.cores, _start_worker, subject, options.seed) as pool:
            return _run_all(subject, options, pool, file, progress)
    finally:
        if file is not None:
            file.close()


def _run_all(
    subject: Subject, options: Options, pool: ProcessPoolExecutor, file: Journal | None, progress: Progress
) -> Summary:
    plan = _plan(subject, options, pool)
    results = [] if file is None else [Result.from_json(found) for found in file.found]
    done = {result.job for result in results}
    open_ = [job for job in plan if job.number not in done]
    expected = sum(job.expected for job in plan)
    passed = expected - sum(job.expected for job in open_)
    bypasses = sum(len(result.bypasses) for result in results)
    progress(passed, expected, bypasses)
    for job, result in finished(pool, _run, open_):
        if file is not None:
            file.add(result.to_json())
        results.append(result)
        passed += job.expected
        bypasses += len(result.bypasses)
        progress(passed, expected, bypasses)
    return Summary(subject.title, len(plan), sorted(results, key=lambda result: result.job))


def _plan(subject: Subject, options: Options, pool: ProcessPoolExecutor) -> list[Job]:
    kind = options.kind
    names = subject.smoke if kind is Kind.SMOKE else subject.scenarios
    chosen = [subject.scenarios.index(name) for name in options.of(names)]
    if kind is Kind.SMOKE:
        return [Job(number, scenario, kind=kind) for number, scenario in enumerate(chosen)]
    plan: list[Job] = []
    for scenario, found in zip(chosen, pool.map(_survey, chosen, [kind] * len(chosen)), strict=True):
        if kind is Kind.PAIRS:
            chance = random.Random(f"{options.seed}/{scenario}")  # noqa: S311
            sampled = pairs(found, -(-options.pairs // len(chosen)), chance)
            plan += jobs(scenario, sampled, len(plan), kind)
        else:
            plan += jobs(scenario, found, len(plan), kind)
    return plan
