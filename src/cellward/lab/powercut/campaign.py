"""The forward pass of a scenario, and a worker's share of its cuts."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cellward.lab.hostcrypto import HostCrypto
from cellward.lab.powercut.bench import Bench
from cellward.lab.powercut.judge import Before, Breach, Promise, Seen, judge
from cellward.lab.powercut.naive import Naive
from cellward.lab.powercut.operations import Operation, Variant, torn, variants
from cellward.lab.powercut.scenarios import SCENARIOS, Scenario
from cellward.lab.routines import Elf
from cellward.ports.module import Outcome, Torn
from cellward.vbms.packaged import packaged
from cellward.vbms.registers import ROM_BASE

KINDS: tuple[type[Scenario], ...] = (*SCENARIOS, Naive)
AUDIT_EVERY = 997  # one of so many cuts is run again with real cryptography
TWICE_MOST = 16  # operations of a boot that are cut, evenly
SHORT, DENSER = 100, 40  # a life of so few operations has so many more boots that are cut


@dataclass(frozen=True)
class Plan:
    """What makes two campaigns the same. `rom`: an ELF; None is the packaged one. `twice`: behind one of
    so many cuts the next boot is cut as well; 0: behind none."""

    seed: int = 1
    garbage: int = 2
    padding: int = 0
    twice: int = 0
    rom: Path | None = None


@dataclass(frozen=True)
class Again:
    """The boot after a cut is cut too, in or before the last of these operations of its."""

    operations: tuple[Operation, ...]
    variant: Variant


@dataclass(frozen=True)
class Cut:
    """In or before operation `number` of the scenario, counted from 0."""

    scenario: str
    number: int
    variant: Variant
    again: Again | None = None

    @property
    def name(self) -> str:
        if self.again is None:
            return self.variant.name
        number = len(self.again.operations) - 1
        return f"{self.variant.name}, then {self.again.variant.name} at {number} of the boot"


@dataclass(frozen=True)
class Finding:
    scenario: str
    phase: str
    number: int
    variant: str
    promise: Promise
    detail: str
    confirmed: bool  # with real cryptography too


@dataclass(frozen=True)
class Job:
    """The cuts in or before these operations of a scenario."""

    number: int
    scenario: str
    operations: tuple[int, ...]


@dataclass
class Result:
    job: int
    scenario: str
    cuts: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)  # of the boot after the cut
    variants: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    worst: dict[int, str] = field(default_factory=dict)  # by operation, for the picture
    twice: int = 0  # of the cuts, those whose boot was cut as well
    audited: int = 0
    differing: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "worst": {str(number): name for number, name in self.worst.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Result":
        findings = [Finding(**{**each, "promise": Promise(each["promise"])}) for each in data["findings"]]
        worst = {int(number): name for number, name in data["worst"].items()}
        return cls(**{**data, "findings": findings, "worst": worst})


class Life:
    """A scenario lived through: what was there before, and every operation since."""

    def __init__(self, scenario: Scenario, bench: Bench) -> None:
        self.scenario = scenario
        self.blank = bench.image()
        bench.releases = tuple(scenario.releases.values())
        scenario.prepare(bench)
        self.initial = bench.image()
        bench.log.begin()
        with bench.module() as module:
            scenario.live(module, bench.log)
        bench.log.look_at_latch()
        self.operations: tuple[Operation, ...] = tuple(bench.log.operations)
        bench.log.undo(bench.memory)

    @cached_property
    def cuts(self) -> int:
        """Operations, and the end."""
        return len(self.operations) + 1

    def operation(self, number: int) -> Operation | None:
        return self.operations[number] if number < len(self.operations) else None

    def phase(self, number: int) -> str:
        return self.operations[min(number, len(self.operations) - 1)].phase if self.operations else ""


class Worker:
    """One process's module; a life is lived again in each, which costs less than to send it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._folder = tempfile.TemporaryDirectory(prefix="cellward-lab-")
        rom = rom_of(plan)
        self._crypto = HostCrypto((rom, *elves()))
        self._bench = Bench(Path(self._folder.name), self._crypto, rom.image(ROM_BASE))
        self._blank = self._bench.image()
        self._lives: dict[str, Life] = {}
        self._now: tuple[str, int] = ("", 0)

    def close(self) -> None:
        self._folder.cleanup()

    def image(self) -> bytes:
        """The memories as they are now."""
        return self._bench.image()

    def life(self, name: str) -> Life:
        if name not in self._lives:
            kind = next(kind for kind in KINDS if kind.name == name)
            self._bench.load(self._blank)
            self._lives[name] = Life(kind(self.plan.seed, self.plan.padding), self._bench)
            self._now = ("", 0)
        return self._lives[name]

    def run(self, job: Job) -> Result:
        life, result = self.life(job.scenario), Result(job.number, job.scenario)
        started = time.monotonic()
        for number in job.operations:
            for variant in variants(life.operation(number), self.plan.garbage):
                cut = Cut(job.scenario, number, variant)
                self._cut(life, cut, result)
                if self._twice(life, cut):
                    for again in self.cuts_of_boot(life, cut):
                        self._cut(life, replace(cut, again=again), result)
        result.seconds = time.monotonic() - started
        return result

    def _twice(self, life: Life, cut: Cut) -> bool:
        every = -(-self.plan.twice // DENSER) if life.cuts <= SHORT else self.plan.twice
        return every > 0 and (cut.number * 7 + cut.variant.seed) % every == 0

    def _cut(self, life: Life, cut: Cut, result: Result) -> None:
        seen, breaches = self.boot(life, cut)
        by_turn = cut.again is None and (cut.number * 7 + cut.variant.seed) % AUDIT_EVERY == 0
        confirmed = breaches
        if breaches or by_turn:
            again, confirmed = self.boot(life, cut, real=True)
            result.audited += 1
            if (again, confirmed) != (seen, breaches):
                result.differing.append(f"{cut.scenario} {cut.number} {cut.name}")
        result.cuts += 1
        result.twice += cut.again is not None
        ended = f"{seen.outcome} {seen.bank}" if seen.outcome is Outcome.RUNNING else str(seen.outcome)
        result.outcomes[ended] = result.outcomes.get(ended, 0) + 1
        result.variants[cut.variant.torn] = result.variants.get(cut.variant.torn, 0) + 1
        phase = life.phase(cut.number)
        for each in breaches:
            found = Finding(
                cut.scenario, phase, cut.number, cut.name, each.promise, each.detail, each in confirmed
            )
            result.findings.append(found)
            result.worst[cut.number] = each.promise.name
        result.worst.setdefault(cut.number, ended)

    def boot(self, life: Life, cut: Cut, *, real: bool = False) -> tuple[Seen, list[Breach]]:
        """Power on after the cut, and watch. The memories are put back."""
        operation = life.operation(cut.number)
        registered = len(life.scenario.registrations) if operation is None else operation.registered
        with self._left_by(life, cut):
            return watch(self._bench, life.scenario, registered, cut.number, real=real)

    def cuts_of_boot(self, life: Life, cut: Cut) -> Iterator[Again]:
        """All ways to cut the boot after `cut`, or a sample of a long one's."""
        with self._left_by(life, cut):
            if life.scenario.boot(self._bench) is not None:
                return
            with self._bench.module() as module:
                module.pack.close_requested = True
                module.power_on()
            self._bench.log.look_at_latch()
            done = tuple(self._bench.log.operations)
        step = max(-(-len(done) // TWICE_MOST), 1)
        for number in range(0, len(done), step):
            for variant in variants(done[number], self.plan.garbage):
                yield Again(done[: number + 1], variant)

    @contextmanager
    def _left_by(self, life: Life, cut: Cut) -> Iterator[None]:
        """The memories as the cut left them; what happens then is taken back."""
        self._go_to(life, cut.number)
        operation, memory = life.operation(cut.number), self._bench.memory
        if operation is not None:
            _tear(memory, operation, cut.variant, cut.number)
        for before in () if cut.again is None else cut.again.operations[:-1]:
            memory[before.at : before.at + len(before.new)] = before.new
        if cut.again is not None:
            number = len(cut.again.operations) - 1
            _tear(memory, cut.again.operations[-1], cut.again.variant, number)
        self._bench.log.begin()
        try:
            yield
        finally:
            self._bench.log.undo(memory)
            for each in () if cut.again is None else reversed(cut.again.operations):
                memory[each.at : each.at + len(each.old)] = each.old
            if operation is not None:
                memory[operation.at : operation.at + len(operation.old)] = operation.old

    def _go_to(self, life: Life, number: int) -> None:
        name, at = self._now
        if name != life.scenario.name or at > number:
            self._bench.load(life.initial)
            self._bench.releases = tuple(life.scenario.releases.values())
            at = 0
        for operation in life.operations[at:number]:
            self._bench.memory[operation.at : operation.at + len(operation.new)] = operation.new
        self._now = (life.scenario.name, number)


def _tear(memory: memoryview, operation: Operation, variant: Variant, number: int) -> None:
    if variant.torn is not Torn.NONE:
        end = operation.at + len(operation.old)
        memory[operation.at : end] = torn(operation, variant, number)


def watch(
    bench: Bench, scenario: Scenario, registered: int, number: int, *, real: bool
) -> tuple[Seen, list[Breach]]:
    before = Before.of(bench, registered)
    example = scenario.boot(bench)
    if example is not None:
        return example, list(judge(bench, before, example, recovery=scenario.recovery))
    with bench.module(real=real) as module:
        module.pack.close_requested = True
        module.power_on()  # until the app has been through a whole cycle
        seen = Seen(module.machine.outcome, module.status().active_bank)
        breaches = list(judge(bench, before, seen, recovery=scenario.recovery))
        breaches += scenario.after(module, before, seen, number)
    breaches += [Breach(Promise.CONTACTORS, closing) for closing in bench.closings]
    return seen, breaches


def rom_of(plan: Plan) -> Elf:
    """Raises Unavailable (storage.missing), FormatRefused (firmware.format)."""
    if plan.rom is None:
        return Elf(packaged("rom.elf"), "rom.elf")
    rom = Elf.read(plan.rom)
    rom.check_linked(ROM_BASE)
    return rom


def elves() -> tuple[Elf, ...]:
    """One loader and app; those of other versions have their functions at the same places, or run
    without a shortcut."""
    return tuple(Elf(packaged(name), name) for name in ("loader-1.3.0.elf", "app-1.3.0.elf"))


@dataclass(frozen=True)
class Survey:
    """What the parent must know of a life: its operations' kinds and phases, the end as the last."""

    scenario: str
    phases: tuple[str, ...]
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, life: Life) -> "Survey":
        phases = tuple(life.phase(number) for number in range(life.cuts))
        return cls(life.scenario.name, phases, (*(str(op.kind) for op in life.operations), "end"))

    def sample(self, most: int) -> tuple[int, ...]:
        """Each phase's first and last operations, and some between them; all of a short life."""
        count = len(self.phases)
        if count <= most:
            return tuple(range(count))
        edges = {at for at in range(1, count) if self.phases[at] != self.phases[at - 1]} | {0, count}
        near = {at + step for at in edges for step in (-3, -2, -1, 0, 1, 2) if 0 <= at + step < count}
        between = max(most - len(near), 1)
        return tuple(sorted(near | {at * count // between for at in range(between)}))
