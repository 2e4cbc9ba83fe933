"""A campaign on all cores: the lives are lived, their cuts handed out, and what comes back is kept."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cellward.lab.journal import Journal
from cellward.lab.pool import Progress, finished, ignore_interrupt, workers
from cellward.lab.powercut.campaign import Finding, Job, Plan, Result, Survey, Worker, rom_of
from cellward.lab.powercut.judge import Promise
from cellward.lab.powercut.naive import NAIVE
from cellward.lab.powercut.scenarios import SCENARIOS
from cellward.vbms.packaged import packaged, packaged_names
from cellward.vbms.registers import ROM_BASE

VERSION = 2  # of the plan and the results; another one is another campaign
JOB_OPERATIONS = 64
SMOKE_OPERATIONS = 40  # of each scenario
FULL = Plan(garbage=2, padding=32 * 1024, twice=199)
SMOKE = Plan(garbage=1, twice=997)


@dataclass(frozen=True)
class Options:
    seed: int = 1
    smoke: bool = False
    cores: int = 0  # 0: all of them
    results: Path | None = None
    only: str = ""  # scenarios whose name contains it
    naive: bool = False  # the example that must fail
    rom: Path | None = None  # an ELF; None is the packaged one

    @property
    def plan(self) -> Plan:
        kind = SMOKE if self.smoke else FULL
        return replace(kind, seed=self.seed, rom=self.rom)

    @property
    def scenarios(self) -> list[str]:
        if self.naive:
            return [NAIVE]
        return [kind.name for kind in SCENARIOS if self.only in kind.name]


_worker: Worker | None = None


def _start_worker(plan: Plan) -> None:
    global _worker  # noqa: PLW0603  # one a process: that is what a pool's initializer is for
    ignore_interrupt()
    _worker = Worker(plan)


def _survey(scenario: str) -> Survey:
    assert _worker is not None  # noqa: S101
    return Survey.of(_worker.life(scenario))


def _run(job: Job) -> Result:
    assert _worker is not None  # noqa: S101
    return _worker.run(job)


def campaign_of(options: Options) -> str:
    names = (name for name in packaged_names() if name.endswith((".bin", ".elf")))
    rom = rom_of(options.plan).image(ROM_BASE)
    firmware = hashlib.sha256(b"".join(packaged(name) for name in names) + rom).hexdigest()
    plan = replace(options.plan, rom=None)
    told = f"{VERSION}/{plan}/{options.scenarios}/{options.smoke}/{firmware}"
    return hashlib.sha256(told.encode()).hexdigest()


@dataclass
class Summary:
    """Everything that was found. `jobs`: how many there are to do in all."""

    surveys: Sequence[Survey]
    results: Sequence[Result]
    jobs: int

    def of(self, scenario: str) -> list[Result]:
        return [result for result in self.results if result.scenario == scenario]

    @property
    def cuts(self) -> int:
        return sum(result.cuts for result in self.results)

    @property
    def twice(self) -> int:
        """Of the cuts, those behind which the next boot was cut as well."""
        return sum(result.twice for result in self.results)

    @property
    def findings(self) -> list[Finding]:
        return [finding for result in self.results for finding in result.findings]

    def broken(self, *promises: Promise) -> int:
        """Cuts after which one of these promises was broken, with real cryptography too."""
        return len(
            {
                (finding.scenario, finding.number, finding.variant)
                for finding in self.findings
                if finding.confirmed and finding.promise in (promises or tuple(Promise))
            }
        )

    @property
    def bricks(self) -> int:
        return self.broken(Promise.BRICK, Promise.PLANT)

    @property
    def wrong_images(self) -> int:
        return self.broken(Promise.WRONG_IMAGE, Promise.CONTACTORS, Promise.COUNTER)

    @property
    def seconds(self) -> float:
        """Of all cores together."""
        return sum(result.seconds for result in self.results)

    @property
    def rate(self) -> float:
        """Cuts a second on one core."""
        return self.cuts / self.seconds if self.seconds else 0.0

    @property
    def audited(self) -> int:
        return sum(result.audited for result in self.results)

    @property
    def differing(self) -> list[str]:
        return [text for result in self.results for text in result.differing]

    def outcomes(self, scenario: str) -> dict[str, int]:
        return dict(sum((Counter(result.outcomes) for result in self.of(scenario)), Counter()))

    def to_json(self) -> dict[str, Any]:
        return {
            "jobs": {"done": len(self.results), "all": self.jobs},
            "cuts": self.cuts,
            "twice": self.twice,
            "bricks": self.bricks,
            "wrong_images": self.wrong_images,
            "broken": {promise.name.lower(): self.broken(promise) for promise in Promise},
            "rate": round(self.rate, 1),
            "seconds": round(self.seconds, 1),
            "audited": self.audited,
            "differing": self.differing,
            "scenarios": [
                {
                    "name": survey.scenario,
                    "operations": len(survey.kinds) - 1,
                    "cuts": sum(result.cuts for result in self.of(survey.scenario)),
                    "outcomes": self.outcomes(survey.scenario),
                    "broken": len([f for r in self.of(survey.scenario) for f in r.findings]),
                }
                for survey in self.surveys
            ],
            "found": [{**asdict(found), "promise": found.promise.name.lower()} for found in self.findings],
        }


def run(options: Options, progress: Progress) -> Summary:
    """Raises what Journal, `rom_of` and the firmware's package raise. KeyboardInterrupt leaves a file that a
    second start goes on with."""
    campaign = campaign_of(options)  # a ROM that cannot be read is refused here, not in every worker
    journal = Journal(options.results, campaign) if options.results else None
    try:
        with workers(options.cores, _start_worker, options.plan) as pool:
            return _run_all(options, pool, journal, progress)
    finally:
        if journal is not None:
            journal.close()


def _run_all(
    options: Options, pool: ProcessPoolExecutor, journal: Journal | None, progress: Progress
) -> Summary:
    surveys = list(pool.map(_survey, options.scenarios))
    plan = jobs(surveys, smoke=options.smoke)
    results = [] if journal is None else [Result.from_json(found) for found in journal.found]
    done = {result.job for result in results}
    passed = sum(len(job.operations) for job in plan if job.number in done)
    expected = sum(len(job.operations) for job in plan)
    broken = sum(len(result.findings) for result in results)
    progress(passed, expected, broken)
    for job, result in finished(pool, _run, [job for job in plan if job.number not in done]):
        if journal is not None:
            journal.add(result.to_json())
        results.append(result)
        passed += len(job.operations)
        broken += len(result.findings)
        progress(passed, expected, broken)
    return Summary(surveys, sorted(results, key=lambda result: result.job), len(plan))


def jobs(surveys: Iterable[Survey], *, smoke: bool) -> list[Job]:
    plan: list[Job] = []
    for survey in surveys:
        operations = survey.sample(SMOKE_OPERATIONS) if smoke else range(len(survey.phases))
        size = len(operations) if smoke else JOB_OPERATIONS
        for first in range(0, len(operations), size):
            plan.append(Job(len(plan), survey.scenario, tuple(operations[first : first + size])))
    return plan
