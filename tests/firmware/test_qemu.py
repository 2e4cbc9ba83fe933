"""The boot chain on another machine (QEMU's mps2-an505): the same sources, the same verdicts; and what
Unicorn has not: exceptions that reach the firmware's own handler, and memory protection by an MPU."""

import functools
from collections.abc import Mapping

import pytest
from elftools.elf.elffile import ELFFile

from cellward.core.banks import State, state_of
from cellward.core.errors import Code
from cellward.core.slots import BANKS, BMS_M33, OTP_COUNTER, Stage, decode_counter, decode_trailer
from cellward.vbms.registers import EXEC_APP_KEY, EXEC_LOADER_KEY, Milestone
from tests.firmware import qemu, rig
from tests.firmware.qemu import Board, Boot, Inject, Run
from tests.firmware.rig import KEY, STRANGER, Rig, sign
from tests.firmware.slot_vectors import FITTING, in_unicorn, module_with, verdict
from vectors.forge import Key

# The vectors ----------------------------------------------------------------------------------------


@functools.cache
def in_qemu() -> Mapping[str, Boot]:
    """One boot of each vector, all in one QEMU."""
    runs = qemu.run((board(module_with(case)) for case in FITTING.values()), timeout=300)
    return {name: run.boots[0] for name, run in zip(FITTING, runs, strict=True)}


def board(rig_: Rig, inject: Inject = Inject.NOTHING, at: Milestone = Milestone.ROM_ENTERED) -> Board:
    return Board(bytes(rig_.flash), bytes(rig_.fuses), close=True, inject=inject, inject_at=at)


@pytest.mark.parametrize("name", FITTING)
def test_python_unicorn_and_qemu_agree(name: str) -> None:
    case, boot, report = FITTING[name], in_qemu()[name], in_unicorn(name)
    assert (boot.outcome, boot.contactors_closed) == ("recovery", False)
    said = verdict(boot.events[0])
    assert said == (case.erased or case.verdict), case.reason
    first, theirs = boot.events[0], report.events[0]
    assert (first.where, first.bank, first.status) == (theirs.where, theirs.bank, theirs.status)
    if said != "ok":  # otherwise it names an address, which is the board's
        assert (first.expected, first.found) == (theirs.expected, theirs.found)
    assert boot.told == [(event.where, event.bank, event.code) for event in report.events]


# Whole boots ----------------------------------------------------------------------------------------


@functools.cache
def release(version: str, counter: int, key: Key = KEY) -> Mapping[Stage, bytes]:
    """Both stages, linked for the board."""
    return {stage: sign(qemu.binary(f"{stage}.bin"), stage, version, counter, key) for stage in Stage}


@functools.cache
def release_of_the_module(version: str, counter: int, key: Key = KEY) -> Mapping[Stage, bytes]:
    return {stage: sign(rig.binary(f"{stage}-1.4.0.bin"), stage, version, counter, key) for stage in Stage}


def flipped(images: Mapping[Stage, bytes], stage: Stage) -> dict[Stage, bytes]:
    image = bytearray(images[stage])
    image[BMS_M33.header_size + 0x100] ^= 1
    return {**images, stage: bytes(image)}


def scenario(name: str, *, of_the_board: bool) -> Rig:
    """1.3.0 with counter 6 runs in bank a; `name` is what is in bank b, to be tried."""
    made = release if of_the_board else release_of_the_module
    module = Rig.planted(6)
    module.stage("a", made("1.3.0", 6), confirmed=True)
    new = made("1.4.0", 7)
    match name:
        case "good":
            module.stage("b", new)
        case "tampered loader":
            module.stage("b", flipped(new, Stage.LOADER))
        case "tampered app":
            module.stage("b", flipped(new, Stage.APP))
        case "wrong key":
            module.stage("b", made("1.4.0", 7, STRANGER))
        case "rolled back":
            module.stage("b", made("1.4.0", 5))
        case "revoked":
            module.revoke(0)
        case "both bad":
            module.stage("a", flipped(made("1.3.0", 6), Stage.LOADER), confirmed=True)
            module.stage("b", flipped(new, Stage.LOADER))
        case "bank a":
            pass
    return module


SCENARIOS = {
    "bank a": ("running", "a", True, 6, []),
    "good": ("running", "b", True, 7, []),
    "tampered loader": ("running", "a", True, 6, [("rom", "b", Code.IMAGE_HASH)]),
    "tampered app": ("running", "a", True, 6, [("loader", "b", Code.IMAGE_HASH)]),
    "wrong key": ("running", "a", True, 6, [("rom", "b", Code.IMAGE_KEY_UNKNOWN)]),
    "rolled back": ("running", "a", True, 6, [("rom", "b", Code.IMAGE_COUNTER)]),
    "revoked": ("recovery", "a", False, 6, [("rom", "a", Code.IMAGE_KEY_REVOKED)]),
    "both bad": ("recovery", "a", False, 6, [("rom", "b", Code.IMAGE_HASH), ("rom", "a", Code.IMAGE_HASH)]),
}


@functools.cache
def booted(name: str) -> Run:
    (run,) = qemu.run([board(scenario(name, of_the_board=True))])
    return run


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_whole_boot(name: str) -> None:
    outcome, bank, closed, counter, events = SCENARIOS[name]
    run = booted(name)
    last = run.boots[-1]
    assert (last.outcome, last.bank, last.contactors_closed) == (outcome, bank, closed)
    assert run.boots[0].told[: len(events)] == events
    fuses = run.fuses[OTP_COUNTER.offset : OTP_COUNTER.offset + OTP_COUNTER.size]
    assert decode_counter(fuses) == counter


@pytest.mark.parametrize("name", SCENARIOS)
def test_unicorn_tells_the_same(name: str) -> None:
    """Boot by boot: milestones, events, outcome; and afterwards fuses and trailers."""
    module = scenario(name, of_the_board=False)
    module.pack.close_requested = True
    reports = module.boot()
    module.run(100)
    module.off()
    run = booted(name)
    assert [boot.outcome for boot in run.boots] == [report.outcome for report in reports]
    for boot, report in zip(run.boots, reports, strict=True):
        assert boot.milestones == [milestone.name for milestone in report.milestones]
        assert boot.told == [(event.where, event.bank, event.code) for event in report.events]
        assert (boot.cause, boot.bank) == (report.cause, report.bank)
    assert run.trailers == [bytes(module.trailer(bank)) for bank in BANKS]
    assert run.fuses == bytes(module.fuses)


def test_a_trial_leaves_its_marks_in_the_trailer() -> None:
    assert state_of(decode_trailer(booted("good").trailers[1])) is State.CONFIRMED
    assert state_of(decode_trailer(booted("tampered app").trailers[1])) is State.TRIAL
    assert state_of(decode_trailer(booted("tampered loader").trailers[1])) is State.PENDING


# The firmware's own fault handler -------------------------------------------------------------------

STAGES = {
    "rom": (Milestone.ROM_ENTERED, "rom.elf"),
    "loader": (Milestone.LOADER_ENTERED, "loader.elf"),
    "app": (Milestone.RUNNING, "app.elf"),
}
WHERE_IT_POINTS = {  # of the fault's program counter; a stack overflow has no frame to read it from
    Inject.UNDEFINED: "the code",
    Inject.BUS: "the code",
    Inject.FLASH_STORE: "the code",
    Inject.RAM_CODE: 0x3800_0100,
    Inject.OTHER_BANK: 0x80C0_0240,
}


@functools.cache
def faulted() -> Mapping[tuple[str, Inject], Run]:
    module = scenario("bank a", of_the_board=True)
    asked = [(stage, kind) for stage in STAGES for kind in Inject if kind is not Inject.NOTHING]
    runs = qemu.run([board(module, kind, STAGES[stage][0]) for stage, kind in asked])
    return dict(zip(asked, runs, strict=True))


def code_of(name: str) -> range:
    with (qemu.OUT / name).open("rb") as file:
        text = ELFFile(file).get_section_by_name(".text")
        assert text is not None
        return range(text["sh_addr"], text["sh_addr"] + text["sh_size"])


@pytest.mark.parametrize("kind", [kind for kind in Inject if kind is not Inject.NOTHING])
@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_is_told_by_the_stage_s_own_handler_and_resets(stage: str, kind: Inject) -> None:
    run = faulted()[stage, kind]
    first, second = run.boots
    event = first.events[-1]
    assert (event.where, event.bank, event.code) == (stage, "a", Code.MODULE_FAULT)
    assert (first.outcome, first.contactors_closed) == ("reset", False)
    where = WHERE_IT_POINTS.get(kind)
    if where == "the code":
        assert event.found in code_of(STAGES[stage][1])
    elif where is not None:
        assert event.found == where
    assert (second.cause, second.outcome, second.bank) == ("software", "running", "a")
    assert second.events == []


@pytest.mark.parametrize(
    ("wrong", "where", "last"),
    [
        ({"exec_loader": EXEC_LOADER_KEY ^ 1}, "rom", "rom_entered"),
        ({"exec_app": EXEC_APP_KEY ^ 1}, "loader", "loader_entered"),
    ],
    ids=["loader", "app"],
)
def test_a_stage_runs_only_where_the_word_is_the_hardware_s(
    wrong: dict[str, int], where: str, last: str
) -> None:
    """A wrong word opens nothing and closes what was open: the ROM's jump faults at the loader's entry,
    the loader where it stands. The handler of the stage that runs tells the address."""
    module = scenario("bank a", of_the_board=True)
    (run,) = qemu.run([Board(bytes(module.flash), bytes(module.fuses), boots=1, **wrong)])  # type: ignore[arg-type]
    (boot,) = run.boots
    assert boot.milestones[-1] == last
    assert boot.told[-1] == (where, "a", Code.MODULE_FAULT)
    assert boot.events[-1].found in code_of("loader.elf")
