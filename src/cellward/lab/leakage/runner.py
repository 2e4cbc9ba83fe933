"""The campaign on all cores, and what came of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cellward.lab.journal import Journal
from cellward.lab.leakage.campaign import Job, Plan, Result, Site, Worker, plan_jobs
from cellward.lab.leakage.statistics import THRESHOLD, Floats, Moments, length_of, windows_of
from cellward.lab.leakage.subject import Firmware, Subject
from cellward.lab.leakage.tracer import STREAMS, Channel
from cellward.lab.pool import Progress, finished, ignore_interrupt, workers

VERSION = 1  # of the plan and the results; another one is another campaign
TRACES = 1000
SMOKE_TRACES, SMOKE_TRACES_OF_HEAVY, HEAVY = 40, 4, 100
JOB_WEIGHT = 20_000  # half a minute


@dataclass(frozen=True)
class Options:
    seed: int = 1
    smoke: bool = False
    cores: int = 0  # 0: all of them
    results: Path | None = None
    only: str = ""  # subjects with this in the name of binary and routine
    target: Path | None = None
    traces: int = TRACES

    @property
    def plan(self) -> Plan:
        return Plan(self.seed, self.target)

    def traces_of(self, subject: Subject) -> int:
        if not self.smoke:
            return self.traces
        return SMOKE_TRACES_OF_HEAVY if subject.weight >= HEAVY else SMOKE_TRACES


@dataclass(frozen=True)
class Verdict:
    """A routine's traces together. `planned`: how many there are to be."""

    binary: str
    routine: str
    secret: str
    planned: int
    results: Sequence[Result]

    @property
    def traces(self) -> int:
        return sum(result.traces for result in self.results)

    @property
    def counts(self) -> tuple[int, ...]:
        return self.results[0].counts if self.results else (0, 0, 0)

    @property
    def differing(self) -> dict[str, int]:
        """Traces that were not the reference's, by what was not."""
        names = [stream.name.lower() for stream in STREAMS]
        return {name: sum(result.differing.get(name, 0) for result in self.results) for name in names}

    @property
    def wrong(self) -> int:
        """Traces with another answer than the known one, and jobs with another reference."""
        strange = len({result.reference for result in self.results}) - 1
        return sum(result.wrong for result in self.results) + max(strange, 0)

    @cached_property
    def t(self) -> Floats:
        moments = Moments.empty()
        for result in self.results:
            moments.merge(result.moments)
        return moments.t()

    def windows(self, channel: Channel) -> Floats:
        return windows_of(self.t, channel)

    @property
    def most_t(self) -> dict[str, float]:
        """The largest |t| of each channel, and of the trace's length."""
        worst = {channel.name.lower(): float(self.windows(channel).max()) for channel in Channel}
        return {**worst, "length": float(length_of(self.t).max())}

    @property
    def sites(self) -> list[Site]:
        found = {site for result in self.results for site in (*result.sites, *result.divisions)}
        return sorted(found, key=lambda site: (site.address, site.channel))

    @property
    def leaks(self) -> bool:
        """By addresses, branches or length. The values are not in it: no code without masking passes."""
        gated = {name: t for name, t in self.most_t.items() if name != "values"}
        return any(self.differing.values()) or bool(self.sites) or max(gated.values()) >= THRESHOLD

    def to_json(self) -> dict[str, Any]:
        return {
            "binary": self.binary,
            "routine": self.routine,
            "secret": self.secret,
            "traces": self.traces,
            "steps": self.counts[Channel.STEPS],
            "differing": self.differing,
            "t": {name: _finite(t) for name, t in self.most_t.items()},
            "wrong_answers": self.wrong,
            "sites": [{**asdict(site), "address": f"0x{site.address:08x}"} for site in self.sites],
            "leaks": self.leaks,
        }


def _finite(t: float) -> float | str:
    """JSON has no infinity."""
    return round(t, 2) if t != float("inf") else "infinite"


@dataclass(frozen=True)
class Summary:
    verdicts: Sequence[Verdict]
    done: int
    jobs: int
    of_module: bool = True  # not of a user's own firmware

    @property
    def traces(self) -> int:
        return sum(verdict.traces for verdict in self.verdicts)

    @property
    def leaking(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.leaks]

    @property
    def wrong(self) -> int:
        return sum(verdict.wrong for verdict in self.verdicts)

    @property
    def seconds(self) -> float:
        """Of all cores together."""
        return sum(result.seconds for verdict in self.verdicts for result in verdict.results)

    def to_json(self) -> dict[str, Any]:
        return {
            "jobs": {"done": self.done, "all": self.jobs},
            "traces": self.traces,
            "leaks": len(self.leaking),
            "wrong_answers": self.wrong,
            "threshold": THRESHOLD,
            "seconds": round(self.seconds, 1),
            "value_model": "Hamming weight of every value loaded or stored: information, no verdict",
            "routines": [verdict.to_json() for verdict in self.verdicts],
        }


_worker: Worker | None = None


def _start_worker(plan: Plan) -> None:
    global _worker  # noqa: PLW0603  # one a process: that is what a pool's initializer is for
    ignore_interrupt()
    _worker = Worker(plan)


def _run(job: Job) -> Result:
    assert _worker is not None  # noqa: S101
    return _worker.run(job)


def campaign_of(options: Options, firmware: Sequence[Firmware]) -> str:
    """Changes with everything that a result depends on."""
    code = b"".join(data for each in firmware for _, data in each.elf.segments)
    kind = f"{options.smoke}/{options.traces}/{options.seed}/{options.only}"
    subjects = [subject.name for each in firmware for subject in each.subjects]
    told = f"{VERSION}/{kind}/{subjects}/{hashlib.sha256(code).hexdigest()}"
    return hashlib.sha256(told.encode()).hexdigest()


def run(options: Options, progress: Progress) -> Summary:
    """Raises what Journal, `read_target` and `compile_tracer` raise. KeyboardInterrupt leaves a file that
    a second start goes on with."""
    firmware = options.plan.firmware()
    plan = plan_jobs(firmware, options.traces_of, JOB_WEIGHT, options.only)
    journal = Journal(options.results, campaign_of(options, firmware)) if options.results else None
    results = [] if journal is None else [Result.from_json(found) for found in journal.found]
    done = {result.job for result in results}
    waiting = [job for job in plan if job.number not in done]
    expected, passed = _traces(plan), _traces(plan) - _traces(waiting)
    bad = sum(bool(result.differing) for result in results)
    progress(passed, expected, bad)
    try:
        with workers(options.cores, _start_worker, options.plan) as pool:
            for job, result in finished(pool, _run, waiting):
                if journal is not None:
                    journal.add(result.to_json())
                results.append(result)
                passed += job.last - job.first
                bad += bool(result.differing)
                progress(passed, expected, bad)
    finally:
        if journal is not None:
            journal.close()
    verdicts = _verdicts(firmware, options, results)
    return Summary(verdicts, len(results), len(plan), options.target is None)


def _traces(jobs: Sequence[Job]) -> int:
    return sum(job.last - job.first for job in jobs)


def _verdicts(firmware: Sequence[Firmware], options: Options, results: Sequence[Result]) -> list[Verdict]:
    found = []
    for at, each in enumerate(firmware):
        for number, subject in enumerate(each.subjects):
            of = sorted((r for r in results if (r.firmware, r.subject) == (at, number)), key=lambda r: r.job)
            if of:
                planned = options.traces_of(subject)
                found.append(Verdict(each.elf.name, subject.name, subject.secret, planned, of))
    return found
