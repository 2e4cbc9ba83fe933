"""Faults in the module's own ROM and loader. `cellward lab faults` runs all of them, and docs/testplan.toml
says what came of it; here are a sample, and those that once got through."""

import functools
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from unicorn.arm_const import UC_ARM_REG_R0, UC_ARM_REG_R1

from cellward.cli.lab import lab
from cellward.core.slots import OTP_SLOT_KEYS, Stage
from cellward.lab.faults.board import Inside
from cellward.lab.faults.campaign import Job, Kind, Result, Site, Worker, pairs, walk, walk_to
from cellward.lab.faults.hardware import PAGE
from cellward.lab.faults.inject import faults_here
from cellward.lab.faults.inject import run as run_fault
from cellward.lab.faults.library import Library
from cellward.lab.faults.models import Fault, Model
from cellward.lab.faults.module import ModuleBoard
from cellward.lab.faults.outcome import Outcome
from cellward.lab.faults.results import Summary
from cellward.lab.faults.runner import Options, run
from cellward.lab.faults.scenarios import HARDWARE, SCENARIOS, Place
from cellward.lab.faults.subject import InsideSubject, ModuleSubject
from cellward.lab.pool import quiet
from cellward.vbms.registers import ACTIVE_BASE, DATA_BASE, OTP_BASE, ROM_BASE
from tests.firmware.rig import built
from tests.unit.lab import mutated

SCENARIO = "tampered, loader, alone"
DECIDING = frozenset({"verify", "unlock_add"})
KEPT = ("r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "sp")


def attack(name: str, functions: frozenset[str]) -> Result:
    """Every fault there is, where these functions are executed for the first and last time."""
    built("all")
    subject = ModuleSubject(1)
    index = subject.scenarios.index(name)
    worker = Worker(subject.board, subject.scenarios, 1)
    steps, sites = worker.steps(index)
    chosen = [s for s in sites if s.full and _function(subject, steps[s.step]) in functions]
    return worker.run(Job(1, index, tuple(chosen)))


def _function(subject: ModuleSubject, address: int) -> str:
    return next(name for file in subject.symbols if (name := file.function(address)))


attacked = functools.cache(attack)


def test_the_smoke_test_finds_nothing() -> None:
    """As a user runs it, and as `make test` must."""
    built("all")
    done = CliRunner().invoke(lab, ["faults", "--smoke", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["bypasses"] == 0
    assert told["faults"] > 10_000
    assert told["rate"] > 0
    assert told["differing"] == []
    assert len(told["table"]) == 5


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        # A `stage` that was hit verified the app, which was good, and then ran the loader.
        (SCENARIO, DECIDING),
        # The ROM's jump, hit the same way, opened the app's slot with what the loader had earned.
        ("tampered, app, alone", frozenset({"jump"})),
    ],
)
def test_what_once_got_through_does_not(name: str, functions: frozenset[str]) -> None:
    result = attacked(name, functions)
    assert result.faults > 1000
    assert result.bypasses == []


# The word that opens a slot is written, not computed; and the status does not turn the entry any more.
CONSTANT_WORD = (
    "image->unlock ^ UNLOCK_REST;",
    "opaque(stage == STAGE_LOADER ? 0x9A3C65E1u : 0x4D71C2B6u);",
)
NO_KEY = ("vectors.entry ^ key", "vectors.entry + 0u * key")


def test_a_verdict_alone_is_broken(tmp_path: Path) -> None:
    """What a status that is asked for twice is worth without the word that is computed; and that the
    smoke test would see it."""
    built("all")
    rom = mutated.rom(tmp_path, "boot/jump.c", [CONSTANT_WORD, NO_KEY])
    summary = run(ModuleSubject(1, rom.read_bytes()), Options(kind=Kind.SMOKE, cores=1, only=SCENARIO), quiet)
    assert summary.counts(Model.SKIP_1)[Outcome.BYPASS] > 0
    assert summary.bypasses
    assert summary.unconfirmed == []


def test_the_known_end_of_a_run_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that come together end alike: with and without looking them up."""
    known = attacked(SCENARIO, DECIDING)
    numbers = iter(range(1 << 30))
    monkeypatch.setattr(ModuleBoard, "_state", lambda _board: next(numbers).to_bytes(4, "big"))
    followed = attack(SCENARIO, DECIDING)
    assert known.counts == followed.counts
    assert known.faults > 1500


def test_pairs_are_sampled_the_same_each_time() -> None:
    built("all")
    subject = ModuleSubject(1)
    results = []
    for _ in range(2):
        worker = Worker(subject.board, subject.scenarios, 1)
        scenario = subject.scenarios.index(SCENARIO)
        sampled = pairs(worker.steps(scenario)[1], 100, random.Random(1))
        results.append(worker.run(Job(1, scenario, tuple(sampled), Kind.PAIRS)))
    assert results[0].counts == results[1].counts
    assert results[0].faults == 100
    summary = Summary("pairs", 1, results)
    assert summary.models == [Model.PAIR]
    low, high = summary.interval
    assert low <= len(summary.bypasses) / summary.faults < high < 0.05


@pytest.mark.parametrize(("algorithm", "least"), [("", 1500), (", RSA", 600)])
def test_inside_the_library_every_executed_instruction_is_a_site(algorithm: str, least: int) -> None:
    built("all")
    subject = InsideSubject(1)
    worker = Worker(subject.board, subject.scenarios, 1)
    scenario = subject.scenarios.index(f"forged, loader, alone{algorithm}, signature 2")
    found = worker.inside(scenario)
    assert sum(len(site.inside) for site in found) > least
    few = tuple(Site(site.step, full=False, inside=chosen(site.inside)) for site in found[::8])
    result = worker.run(Job(1, scenario, few, Kind.INSIDE))
    assert result.faults == sum(len(site.inside) for site in few) > 3
    assert result.bypasses == []


def chosen(inside: tuple[Inside, ...]) -> tuple[Inside, ...]:
    """Every 60th, and the first in an IT block, within which Unicorn cannot stop."""
    return (*inside[::60], *[one for one in inside if one.place][:1])


def sampled(faults: Iterable[Fault]) -> Iterator[Fault]:
    """All that patch code; of those that change a value, which are all put back one way, every fourth."""
    for number, fault in enumerate(faults):
        if fault.model not in (Model.REGISTER, Model.READ) or number % 4 == 0:
            yield fault


def test_a_fault_leaves_nothing_to_the_next_run() -> None:
    """At a reset and where the gate opens, the run without a fault is what it was before all of them."""
    built("all")
    subject = ModuleSubject(1)
    board = ModuleBoard(SCENARIOS[4], *subject.symbols, 1, Library(subject.symbols))
    steps = walk(board)
    board.begin()
    behind = [step for step, at in enumerate(steps) if _function(subject, at) in ("reset", "jump")][-400:]
    first, last = ({steps[step]: step for step in order} for order in (behind[::-1], behind))
    for step in sorted({*first.values(), *last.values()}):
        walk_to(board, step)
        restore = board.save()
        for fault in sampled(faults_here(board, full=steps.index(steps[step]) == step)):
            run_fault(board, fault)
            restore()
    while board.steps_done < len(steps) - 1:
        assert board.core.pc == steps[board.steps_done], board.where(board.core.pc)
        assert board.step() is None


@pytest.mark.parametrize("loader", [False, True])
def test_patched_code_is_forgotten_in_both_machines(loader: bool) -> None:
    """The one that has translated it may not be the one that runs when it is put back: a patch may open the
    gate. `loader`: which one has."""
    built("all")
    subject = ModuleSubject(1)
    board = ModuleBoard(SCENARIOS[0], *subject.symbols, 1, Library(subject.symbols))
    board.begin()
    core, at = board.core, board.core.pc
    seen = []
    for code in ("2a20", ""):  # movs r0, #42, and what is there
        core.open(not loader)
        if code:
            board.patch(at, bytes.fromhex(code))
        else:
            board.unpatch()
        core.open(loader)
        core.pc = at
        core.write(UC_ARM_REG_R0, 0)
        assert board.step() is None
        seen.append(core.named()["r0"])
    assert seen[0] == 42 != seen[1]


def test_pages_that_a_fault_has_written_are_put_back() -> None:
    built("all")
    subject = ModuleSubject(1)
    board = ModuleBoard(SCENARIOS[0], *subject.symbols, 1, Library(subject.symbols))
    board.begin()
    before, restore = bytes(board.nor.read(1, 0, PAGE)), board.save()
    board.nor.erase(1, 0)
    board.nor.program(1, 0, bytes(8))
    assert bytes(board.nor.read(1, 0, PAGE)) != before
    restore()
    assert bytes(board.nor.read(1, 0, PAGE)) == before


@pytest.mark.parametrize("real", [True, False])
def test_a_flipped_bit_is_what_the_core_reads(real: bool) -> None:
    """In fuses, which are registers or memory, in ROM and in both windows of the flash; for one time."""
    built("all")
    subject = ModuleSubject(1)
    board = ModuleBoard(SCENARIOS[0], *subject.symbols, 1, None if real else Library(subject.symbols))
    board.begin()
    for address in (OTP_BASE + OTP_SLOT_KEYS.offset + 4, ROM_BASE + 4, ACTIVE_BASE + 4, DATA_BASE):
        seen = []
        for bit in (None, 0, 13, 31):
            restore = board.save()
            board.patch(board.core.pc, bytes.fromhex("0868"))  # ldr r0, [r1]
            board.core.write(UC_ARM_REG_R1, address)
            if bit is not None:
                board.disturb(address, bit)
            assert board.step() is None
            seen.append(board.core.named()["r0"])
            board.calm()
            board.unpatch()
            restore()
        assert [seen[0] ^ value for value in seen[1:]] == [1 << bit for bit in (0, 13, 31)], hex(address)


def test_a_modelled_library_changes_nothing() -> None:
    """Where a run without a fault goes, with the real one and with the modelled; and all registers that
    a call keeps. Residue may differ with the data: that is what the audits are for."""
    built("all")
    subject = ModuleSubject(1)
    scenario = SCENARIOS[subject.scenarios.index("forged, loader, alone, RSA")]
    ends = []
    for library in (None, Library(subject.symbols)):
        board = ModuleBoard(scenario, *subject.symbols, 1, library)
        board.begin()
        trace = []
        while board.step() is None:
            kept = board.core.named()
            trace.append((board.core.pc, *(kept[name] for name in KEPT)))
        ends.append(trace)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("stage", list(Stage))
def test_the_good_image_in_the_bad_ones_place_is_no_bypass(stage: Stage) -> None:
    """A flip that goes on inside the update engine's copy may put it there (16 runs were told as bypasses).
    One byte besides, and it is the bad one still."""
    built("all")
    subject = ModuleSubject(1)
    scenario = next(s for s in SCENARIOS if s.stage is stage and s.place is Place.NEWEST)
    board = ModuleBoard(scenario, *subject.symbols, 1, Library(subject.symbols))
    kept = board._kept
    board.begin()
    slot = HARDWARE.slot(stage)
    assert not kept.replaced(0, stage)
    for offset in range(slot.offset, slot.end, PAGE):
        board.nor.erase(0, offset)
        board.nor.program(0, offset, board.nor.read(1, offset, PAGE))
    board.nor.erase(1, HARDWARE.trailer.offset)  # so that it is this bank that runs
    assert kept.replaced(0, stage)
    assert board.finish() is Outcome.STATE
    board.nor.flip(0, slot.offset + 1000, 3)
    assert not kept.replaced(0, stage)


def test_an_erased_slot_is_no_good_image() -> None:
    subject = ModuleSubject(1)
    alone = SCENARIOS[subject.scenarios.index("tampered, app, alone")]
    board = ModuleBoard(alone, *subject.symbols, 1, Library(subject.symbols))
    board.begin()
    for offset in range(0, HARDWARE.bank_size, PAGE):
        board.nor.erase(0, offset)
    assert not board._kept.replaced(0, Stage.APP)


def test_the_boots_after_a_fault_are_without_it() -> None:
    """A flip whose instruction crashes is over at the reset that follows. Each in a board of its own, for
    what those boots come to is remembered."""
    subject = ModuleSubject(1)
    index = subject.scenarios.index("tampered, app, on trial")
    steps = walk(subject.board(index, real=False))
    there = [_function(subject, address) == "area_keep" for address in steps]
    returns = there.index(False, there.index(True)) - 1
    came = []
    for number in range(16):
        board = subject.board(index, real=False)
        board.begin()
        walk_to(board, returns)
        came.append(run_fault(board, Fault(Model.OPCODE, number)))
    assert Outcome.CRASH in came
    assert Outcome.STATE not in came


def test_a_call_that_is_not_modelled_has_the_time_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """BearSSL's verification is eight million instructions for real, and was told as a hang once."""
    monkeypatch.setattr(Library, "_ecdsa", lambda *_: None)
    subject = ModuleSubject(1)
    board = subject.board(subject.scenarios.index("forged, loader, alone"), real=False)
    board.begin()
    assert board.finish() is Outcome.REFUSED
