"""A worker's share of the traces, and what they showed."""

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from cellward.lab.leakage import module
from cellward.lab.leakage.statistics import FIXED, RANDOM, Floats, Moments, features
from cellward.lab.leakage.subject import Firmware, Subject
from cellward.lab.leakage.target import read_target
from cellward.lab.leakage.tracer import STREAMS, Channel, Tracer, compile_tracer
from cellward.lab.routines import Routines

# UDIV and SDIV: the only instructions of a Cortex-M33 whose time is known to depend on their operands.
DIVISIONS = (0xFBB0, 0xFB90)
DIVISION_BITS = 0xFFF0


@dataclass(frozen=True)
class Plan:
    """What makes two campaigns the same. `target` None: the module's own firmware."""

    seed: int = 1
    target: Path | None = None

    def firmware(self) -> tuple[Firmware, ...]:
        return module.firmware() if self.target is None else (read_target(self.target),)


@dataclass(frozen=True)
class Job:
    """Traces `first` to `last` - 1 of a subject; even ones have the fixed secret."""

    number: int
    firmware: int
    subject: int
    first: int
    last: int


@dataclass(frozen=True)
class Site:
    """An instruction at which traces came apart."""

    channel: str
    address: int
    function: str


@dataclass
class Result:
    """`counts`: steps, branches and memory accesses of the reference; `differing`: traces that were not
    the reference's, for each of these; `wrong`: traces whose answer was not the known one."""

    job: int
    firmware: int
    subject: int
    traces: int = 0
    counts: tuple[int, ...] = ()
    differing: dict[str, int] = field(default_factory=Counter)
    wrong: int = 0
    sites: list[Site] = field(default_factory=list)
    divisions: list[Site] = field(default_factory=list)
    moments: Moments = field(default_factory=Moments.empty)
    reference: str = ""  # a digest: the reference of every job of a subject is the same one
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        plain = {name: value for name, value in vars(self).items() if name != "moments"}
        plain["sites"] = [asdict(site) for site in self.sites]
        plain["divisions"] = [asdict(site) for site in self.divisions]
        return {**plain, "moments": self.moments.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Result":
        changed = {
            "counts": tuple(data["counts"]),
            "sites": [Site(**site) for site in data["sites"]],
            "divisions": [Site(**site) for site in data["divisions"]],
            "moments": Moments.from_json(data["moments"]),
        }
        return cls(**{**data, **changed})


class Worker:
    """One process's routines, with hooks; `library` is what `compile_tracer` made."""

    def __init__(self, plan: Plan, library: Path | None = None) -> None:
        self._plan = plan
        self._folder = tempfile.TemporaryDirectory(prefix="cellward-lab-")
        self._library = library or compile_tracer(Path(self._folder.name))
        self.firmware = plan.firmware()
        self._benches: dict[int, tuple[Routines, Tracer]] = {}

    def close(self) -> None:
        for _, tracer in self._benches.values():
            tracer.close()
        self._folder.cleanup()

    def _bench(self, number: int) -> tuple[Routines, Tracer]:
        if number not in self._benches:
            routines = self.firmware[number].routines()
            self._benches[number] = routines, Tracer(self._library, routines)
        return self._benches[number]

    def run(self, job: Job) -> Result:
        firmware = self.firmware[job.firmware]
        subject = firmware.subjects[job.subject]
        routines, tracer = self._bench(job.firmware)
        result = Result(job.number, job.firmware, job.subject)
        started = time.monotonic()
        baseline = self._refer(subject, job, result)
        for number in range(job.first, job.last):
            kind = FIXED if number % 2 == 0 else RANDOM
            tracer.compare()
            answered = execute(routines, subject, self._secret(subject, job, number, kind))
            trace = tracer.trace
            result.traces += 1
            result.wrong += not answered
            for stream, differing in zip(STREAMS, trace.differing, strict=True):
                if differing:
                    name = stream.name.lower()
                    result.differing[name] = result.differing.get(name, 0) + 1
            result.moments.add(kind, features(trace) - baseline)
        result.sites = [
            Site(channel.name.lower(), address, firmware.elf.function(address))
            for channel, address in tracer.sites
        ]
        result.seconds = time.monotonic() - started
        return result

    def _refer(self, subject: Subject, job: Job, result: Result) -> Floats:
        """Record the reference, with the fixed secret, and take it once more for its windows."""
        firmware = self.firmware[job.firmware]
        routines, tracer = self._bench(job.firmware)
        for begin in (tracer.record, tracer.compare):
            begin()
            execute(routines, subject, self._secret(subject, job, 0, FIXED))
        steps = tracer.reference(Channel.STEPS)
        executed = np.unique(steps)
        result.counts = tracer.trace.counts
        result.reference = hashlib.sha256(steps.tobytes()).hexdigest()
        result.divisions = [
            Site("division", int(address), firmware.elf.function(int(address)))
            for address in executed
            if is_division(firmware.elf.code(int(address), 4))
        ]
        return features(tracer.trace)

    def _secret(self, subject: Subject, job: Job, number: int, kind: int) -> bytes:
        name = f"{self._plan.seed}/{job.firmware}/{subject.name}/{number}"
        return subject.draw(Random(name), kind == FIXED)  # noqa: S311  # repeatable, and no key of anything


def execute(routines: Routines, subject: Subject, secret: bytes) -> bool:
    """Whether it answered what is known to be right."""
    run = subject.run(secret)
    routines.reset()
    for address, data in run.memory.items():
        routines.write(address, data)
    returned = [routines.call(call.function, call.arguments) for call in run.calls][-1]
    right = all(routines.read(address, len(data)) == data for address, data in run.expected.items())
    return right and run.returned in (None, returned)


def is_division(code: bytes) -> bool:
    return int.from_bytes(code[:2], "little") & DIVISION_BITS in DIVISIONS


def plan_jobs(
    firmware: Sequence[Firmware], traces: Callable[[Subject], int], most_weight: int, only: str
) -> list[Job]:
    """The longest first: the last ones to end are short."""
    shares = [
        (-subject.weight, at, number, first, min(first + size, traces(subject)))
        for at, each in enumerate(firmware)
        for number, subject in enumerate(each.subjects)
        if only in f"{each.elf.name} {subject.name}"
        for size in [max(most_weight // subject.weight, 1)]
        for first in range(0, traces(subject), size)
    ]
    return [
        Job(number, at, subject, first, last)
        for number, (_, at, subject, first, last) in enumerate(sorted(shares))
    ]
