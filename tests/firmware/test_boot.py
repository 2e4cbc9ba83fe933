"""ROM, loader and app as built, on the emulated core: who runs, who is refused, what is left."""

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cellward.core.banks import State, state_of
from cellward.core.errors import Code
from cellward.core.slots import (
    BANKS,
    BMS_M33,
    COUNTER_MAX,
    OTP_DEVELOPMENT,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    Lifecycle,
    Stage,
    decode_trailer,
)
from cellward.ports.module import BootReport, Conditions, Outcome, Torn
from cellward.vbms.registers import FLASH_BASE, Flash, FlashProtect, Watchdog
from tests.firmware.rig import STRANGER, Rig, binary, last_event, names, release, sign, told

OLD, NEW = release("1.3.0", 6), release("1.4.0", 7)
BUDGET = 64_000_000


@pytest.fixture
def rig() -> Iterator[Rig]:
    """1.3.0 confirmed in bank a, counter 6."""
    rig = Rig.planted(6)
    rig.stage("a", OLD, confirmed=True)
    yield rig
    rig.off()


def flip(rig: Rig, bank: str, stage: Stage, at: int) -> None:
    rig.flash[BANKS.index(bank) * BMS_M33.bank_size + BMS_M33.slot(stage).offset + at] ^= 0x10


def state(rig: Rig, bank: str) -> State:
    return state_of(decode_trailer(bytes(rig.trailer(bank))))


def closes(rig: Rig) -> bool:
    """Whether the app closes the contactors when the vehicle asks."""
    rig.pack.close_requested = True
    rig.run(100)
    return rig.pack.contactors_closed


def payload_of(code: bytes, *, entry: int | None = None, stack: int = 0x2001_0000) -> bytes:
    """An app of a few instructions behind its vectors."""
    linked = BMS_M33.link_address(Stage.APP)
    vectors = struct.pack("<II", stack, linked + 0x41 if entry is None else entry)
    return (vectors + vectors[4:] * 14 + code).ljust(0x100, b"\xff")


def with_app(payload: bytes, counter: int = 7) -> dict[Stage, bytes]:
    return {**NEW, Stage.APP: sign(payload, Stage.APP, "1.4.1", counter)}


def runs(report: BootReport, bank: str, counter: int) -> None:
    assert (report.outcome, report.bank, report.counter) == (Outcome.RUNNING, bank, counter)


# The good way -------------------------------------------------------------------------------------


def test_a_confirmed_bank_boots_and_closes_on_request(rig: Rig) -> None:
    (report,) = rig.boot()
    runs(report, "a", 6)
    assert names(report) == ["rom_entered", "loader_entered", "app_entered", "selftest_passed", "running"]
    assert report.events == ()
    assert not report.contactors_closed
    rig.run(100)
    assert not rig.pack.contactors_closed
    assert closes(rig)
    rig.pack.close_requested = False
    rig.run(50)
    assert not rig.pack.contactors_closed


def test_an_update_is_tried_confirmed_and_committed(rig: Rig) -> None:
    rig.stage("b", NEW)
    trial, committed = rig.boot()
    assert (trial.outcome, trial.bank, trial.counter) == (Outcome.RESET, "b", 6)
    assert names(trial)[1:] == [
        "trial_started",
        "loader_entered",
        "app_entered",
        "selftest_passed",
        "confirmed",
    ]
    runs(committed, "b", 7)
    assert "counter_raised" in names(committed)
    assert state(rig, "b") is State.CONFIRMED
    assert trial.events == committed.events == ()
    assert closes(rig)


def test_after_the_commit_the_old_image_is_refused(rig: Rig) -> None:
    rig.stage("b", NEW)
    rig.boot()
    rig.trailer("b")[:] = b"\xff" * 32
    (report,) = rig.boot()
    assert report.outcome is Outcome.RECOVERY
    assert told(report) == [("rom", "a", Code.IMAGE_COUNTER), ("rom", "a", Code.BANK_NONE_GOOD)]
    assert (report.events[0].expected, report.events[0].found) == (7, 6)


def test_256_kib_boots_within_the_budget(rig: Rig) -> None:
    payload = binary("app-1.3.0.bin").ljust(256 * 1024, b"\x5a")
    rig.put("a", Stage.APP, sign(payload, Stage.APP, "1.3.0", 6))
    (report,) = rig.boot(exact=True)
    runs(report, "a", 6)
    reached = {milestone.name: milestone.instructions for milestone in report.milestones}
    assert reached["app_entered"] <= BUDGET


def test_what_the_app_finds_closed_behind_it(rig: Rig) -> None:
    """No stage can undo what the ones before it have shut until the next reset."""
    rig.boot()
    assert rig.machine is not None
    assert rig.machine.otp.secret_hidden  # the ROM's alone
    assert rig.machine.otp.locked  # no burns, no remap
    assert rig.machine._system.locked
    shut = FlashProtect.ACTIVE | FlashProtect.INACTIVE | FlashProtect.BOOT_COUNT
    assert rig.machine._bus[FLASH_BASE].read(Flash.PROTECT) == shut
    assert rig.machine._watchdog.read(Watchdog.LOAD) == 5_000_000


def test_the_watchdog_is_fed(rig: Rig) -> None:
    rig.boot()
    rig.run(2_000)
    assert rig.machine is not None
    assert len(rig.machine.reports()) == 1


@pytest.mark.parametrize(
    ("a", "b", "runs_"),
    [
        (("1.3.0", 6), ("1.4.0", 6), "b"),
        (("1.4.0", 6), ("1.3.0", 6), "a"),
        (("1.4.0", 6), ("1.3.0", 7), "b"),
        (("1.3.0", 7), ("1.4.0", 6), "a"),
        (("1.3.0", 6), ("1.3.0", 6), "a"),
    ],
)
def test_of_two_confirmed_banks_the_newer_runs(
    rig: Rig, a: tuple[str, int], b: tuple[str, int], runs_: str
) -> None:
    rig.stage("a", release(*a), confirmed=True)
    rig.stage("b", release(*b), confirmed=True)
    assert rig.boot()[-1].bank == runs_


# Refused in the ROM, refused in the loader ----------------------------------------------------------


def test_a_flipped_loader_bit_falls_back_in_the_rom(rig: Rig) -> None:
    rig.stage("b", NEW)
    flip(rig, "b", Stage.LOADER, 0x400)
    (report,) = rig.boot()
    runs(report, "a", 6)
    assert told(report) == [("rom", "b", Code.IMAGE_HASH)]
    assert state(rig, "b") is State.PENDING  # never started


def test_a_flipped_app_bit_is_found_by_the_loader(rig: Rig) -> None:
    rig.stage("b", NEW)
    flip(rig, "b", Stage.APP, 0x400)
    trial, back = rig.boot()
    assert told(trial) == [("loader", "b", Code.IMAGE_HASH)]
    assert "app_entered" not in names(trial)
    runs(back, "a", 6)
    assert told(back) == [("rom", "b", Code.BANK_REFUSED_BY_LOADER), ("rom", "b", Code.BANK_NOT_BOOTABLE)]


def test_a_confirmed_bank_whose_app_rots_gives_way_to_the_other(rig: Rig) -> None:
    rig.stage("b", release("1.4.0", 6), confirmed=True)
    flip(rig, "b", Stage.APP, 0x400)
    first, second = rig.boot()
    assert told(first) == [("loader", "b", Code.IMAGE_HASH)]
    runs(second, "a", 6)
    assert told(second) == [("rom", "b", Code.BANK_REFUSED_BY_LOADER)]
    assert closes(rig)


def test_a_refusal_counts_for_one_boot(rig: Rig) -> None:
    """The marker is cleared: after the next reset the refused bank is looked at again."""
    rig.stage("b", release("1.4.0", 6), confirmed=True)
    flip(rig, "b", Stage.APP, 0x400)
    rig.boot()
    flip(rig, "b", Stage.APP, 0x400)
    assert rig.machine is not None
    rig.machine.reset()
    (report,) = rig.machine.reports()
    runs(report, "b", 6)


def test_two_rotten_apps_end_in_recovery_not_in_a_loop(rig: Rig) -> None:
    rig.stage("b", release("1.4.0", 6), confirmed=True)
    for bank in BANKS:
        flip(rig, bank, Stage.APP, 0x400)
    first, second = rig.boot()
    assert first.outcome is Outcome.RESET
    assert second.outcome is Outcome.RECOVERY
    assert told(second) == [
        ("rom", "b", Code.BANK_REFUSED_BY_LOADER),
        ("rom", "a", Code.IMAGE_HASH),
        ("rom", "a", Code.BANK_NONE_GOOD),
    ]
    assert not closes(rig)


def test_an_empty_module_stays_in_recovery() -> None:
    rig = Rig.planted()
    (report,) = rig.boot()
    assert (report.outcome, names(report)) == (Outcome.RECOVERY, ["rom_entered", "recovery"])
    assert not closes(rig)
    rig.off()


@pytest.mark.parametrize("stage", Stage)
def test_a_stranger_s_image_is_refused(rig: Rig, stage: Stage) -> None:
    image = sign(binary(f"{stage}-1.4.0.bin"), stage, "1.4.0", 7, STRANGER)
    rig.stage("b", {**NEW, stage: image})
    reports = rig.boot()
    where = {Stage.LOADER: "rom", Stage.APP: "loader"}[stage]
    assert told(reports[0]) == [(where, "b", Code.IMAGE_KEY_UNKNOWN)]
    runs(reports[-1], "a", 6)


def test_a_revoked_key_boots_nothing(rig: Rig) -> None:
    rig.revoke(0)
    (report,) = rig.boot()
    assert report.outcome is Outcome.RECOVERY
    assert told(report)[0] == ("rom", "a", Code.IMAGE_KEY_REVOKED)


@pytest.mark.parametrize(
    "lifecycle", [Lifecycle.PROVISIONED, Lifecycle.PRODUCTION, Lifecycle.TAMPERED], ids=str
)
def test_a_development_key_boots_nothing_once_the_module_is_closed(rig: Rig, lifecycle: Lifecycle) -> None:
    rig.fuse(OTP_DEVELOPMENT, b"\x01")
    rig.fuse(OTP_LIFECYCLE, lifecycle.fuses.to_bytes(4, "little"))
    rig.fuse(OTP_DEVICE_SECRET, b"\xff" * OTP_DEVICE_SECRET.size)  # as zeroising leaves it
    (report,) = rig.boot()
    refused = ("rom", "a", Code.IMAGE_KEY_REVOKED) in told(report)
    assert (refused, report.outcome is Outcome.RECOVERY) == (lifecycle.closed, lifecycle.closed)


def test_the_other_slots_development_bit_bars_nothing(rig: Rig) -> None:
    rig.fuse(OTP_DEVELOPMENT, b"\x02")
    rig.fuse(OTP_LIFECYCLE, Lifecycle.PRODUCTION.fuses.to_bytes(4, "little"))
    runs(rig.boot()[-1], "a", 6)


def test_a_module_that_the_plant_has_not_finished_switches_no_pack(rig: Rig) -> None:
    rig.fuse(OTP_LIFECYCLE, bytes(4))
    (report,) = rig.boot()
    assert told(report) == [("app", "a", Code.LIFECYCLE_OPEN)]
    assert not closes(rig)


def test_a_loader_is_no_app_and_an_app_is_no_loader(rig: Rig) -> None:
    rig.stage("b", {Stage.LOADER: NEW[Stage.APP], Stage.APP: NEW[Stage.LOADER]})
    (report,) = rig.boot()
    assert told(report) == [("rom", "b", Code.IMAGE_HARDWARE)]
    runs(report, "a", 6)
    rig.stage("b", {**NEW, Stage.APP: NEW[Stage.LOADER]})
    assert told(rig.boot()[0]) == [("loader", "b", Code.IMAGE_HARDWARE)]


@pytest.mark.parametrize(
    ("entry", "stack"),
    [
        (BMS_M33.link_address(Stage.APP) + 0x101, 0x2001_0000),  # behind the payload
        (BMS_M33.link_address(Stage.LOADER) + 0x41, 0x2001_0000),  # another image
        (0x0820_0041, 0x2001_0000),  # the other bank
        (BMS_M33.link_address(Stage.APP) + 0x40, 0x2001_0000),  # not Thumb
        (BMS_M33.link_address(Stage.APP) + 0x41, 0x2001_0008),
        (BMS_M33.link_address(Stage.APP) + 0x41, 0x4000_0000),
    ],
)
def test_an_entry_outside_what_was_verified_is_refused(rig: Rig, entry: int, stack: int) -> None:
    rig.stage("b", with_app(payload_of(b"\xfe\xe7", entry=entry, stack=stack)))
    reports = rig.boot()
    assert told(reports[0]) == [("loader", "b", Code.IMAGE_HEADER)]
    runs(reports[-1], "a", 6)


def test_a_payload_at_an_address_that_cannot_hold_vectors_is_refused(rig: Rig) -> None:
    image = sign(binary("loader-1.4.0.bin"), Stage.LOADER, "1.4.0", 7, header_size=0x240)
    rig.stage("b", {**NEW, Stage.LOADER: image})
    (report,) = rig.boot()
    assert told(report) == [("rom", "b", Code.IMAGE_HEADER)]
    runs(report, "a", 6)


# Trials that fail -----------------------------------------------------------------------------------


def test_a_failed_self_test_falls_back_by_itself(rig: Rig) -> None:
    rig.stage("b", release("1.5.0", 7))
    trial, back = rig.boot()
    assert names(trial)[-1] == "selftest_failed"
    event = last_event(trial)
    assert (event.code, event.expected, event.found) == (Code.SELFTEST_FRONT_END, 14, 12)
    runs(back, "a", 6)
    assert state(rig, "b") is State.TRIAL
    runs(rig.boot()[0], "a", 6)  # and stays there


@pytest.mark.parametrize(
    ("code", "told_"),
    [
        (b"\xfe\xe7", Code.WATCHDOG),  # b .
        (b"\x00\x20\x00\x68\xfe\xe7", Code.MODULE_FAULT),  # movs r0, #0; ldr r0, [r0]
        (b"\x00\xde\xfe\xe7", Code.MODULE_FAULT),  # udf
    ],
    ids=["hang", "bus fault", "undefined"],
)
def test_an_app_that_hangs_or_faults_on_trial_is_left(rig: Rig, code: bytes, told_: Code) -> None:
    rig.stage("b", with_app(payload_of(code)))
    trial, back = rig.boot()
    assert told(trial) == [("hardware", "b", told_)]
    runs(back, "a", 6)


def test_an_app_on_trial_keeps_the_contactors_open(rig: Rig) -> None:
    rig.pack.close_requested = True
    rig.stage("b", release("1.5.0", 7))
    for report in rig.boot()[:1]:
        assert not report.contactors_closed


# The commit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loader", "app", "committed"), [(9, 7, 7), (7, 9, 7), (6, 9, 6), (6, 6, 6)])
def test_the_counter_goes_to_the_lower_of_the_two(rig: Rig, loader: int, app: int, committed: int) -> None:
    images = {
        Stage.LOADER: release("1.4.0", loader)[Stage.LOADER],
        Stage.APP: release("1.4.0", app)[Stage.APP],
    }
    rig.stage("b", images)
    report = rig.boot()[-1]
    runs(report, "b", committed)
    assert ("counter_raised" in names(report)) == (committed > 6)
    assert closes(rig)
    assert rig.boot()[-1].bank == "b"  # its own loader was not locked out


def test_a_confirmed_bank_with_a_bad_app_commits_nothing(rig: Rig) -> None:
    """image_ok is unsigned: with it set from outside, an app that does not verify raises no counter."""
    rig.stage("b", NEW, confirmed=True)
    flip(rig, "b", Stage.APP, 0x400)
    report = rig.boot()[-1]
    runs(report, "a", 6)
    assert told(report)[0] == ("rom", "b", Code.IMAGE_HASH)


def test_a_counter_that_no_fuses_can_hold_is_not_committed(rig: Rig) -> None:
    rig.stage("b", release("1.4.0", COUNTER_MAX + 1), confirmed=True)
    report = rig.boot()[-1]
    runs(report, "b", 6)
    assert told(report) == [("rom", "b", Code.OTP_ONE_WAY), ("app", "b", Code.IMAGE_COUNTER)]
    assert not closes(rig)  # not committed, so never in charge of the contactors


@pytest.mark.parametrize("torn", [Torn.HALF, Torn.GARBAGE])
def test_a_power_cut_at_any_operation_of_an_update_leaves_a_bank_that_runs(torn: Torn) -> None:
    """Trial mark, confirmation, every fuse of the commit (6 → 9) and the boot counts, cut in each."""
    rig = waiting_update()
    runs(rig.boot()[-1], "b", 9)
    total = rig.cuts.operations
    rig.off()
    for operation in range(1, total + 1):
        rig = waiting_update()
        rig.cuts.order(operation, torn)
        cut = rig.boot()[-1]
        assert cut.outcome is Outcome.POWER_CUT
        assert not rig.pack.contactors_closed
        report = rig.boot()[-1]
        assert report.outcome is Outcome.RUNNING
        assert report.counter in (6, 9)
        assert (report.bank == "b") == (report.counter == 9)
        assert closes(rig)
        rig.off()


def waiting_update() -> Rig:
    """Counter 6, release 6 in bank a, release 9 staged in bank b."""
    rig = Rig.planted(6)
    rig.stage("a", OLD, confirmed=True)
    rig.stage("b", release("1.4.0", 9))
    return rig


# The app --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        (Conditions(front_end_dead=True), Code.SELFTEST_FRONT_END),
        (Conditions(welded_contactor=True), Code.SELFTEST_CONTACTORS),
        (Conditions(limits_stuck=True), Code.SELFTEST_LIMITS),
        (Conditions(faulty_cell=11, faulty_cell_mv=200), Code.SELFTEST_CELL_RANGE),
        (Conditions(faulty_sensor=3, faulty_sensor_dc=1500), Code.SELFTEST_TEMPERATURE),
        (Conditions(pack_sense_offset_mv=-2000), Code.SELFTEST_CELL_SUM),
    ],
    ids=lambda value: str(value) if isinstance(value, Code) else "",
)
def test_a_confirmed_app_that_fails_its_self_test_monitors_with_open_contactors(
    rig: Rig, conditions: Conditions, code: Code
) -> None:
    rig.pack.set_conditions(conditions)
    (report,) = rig.boot()
    assert report.outcome is Outcome.RUNNING
    assert told(report)[0] == ("app", "a", code)
    rig.pack.set_conditions(Conditions())
    assert not closes(rig)  # until the next reset has tested again
    assert rig.machine is not None
    assert len(rig.machine.reports()) == 1


def test_a_faulty_app_from_the_plant_does_not_reset_in_a_loop() -> None:
    rig = Rig.planted(6)
    rig.stage("a", release("1.5.0", 6), confirmed=True)
    (report,) = rig.boot()
    assert report.outcome is Outcome.RUNNING
    assert not closes(rig)
    rig.off()


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(faulty_cell=0, faulty_cell_mv=4251),
        Conditions(faulty_cell=11, faulty_cell_mv=2699),
        Conditions(faulty_sensor=3, faulty_sensor_dc=601),
        Conditions(faulty_sensor=0, faulty_sensor_dc=-201),
        Conditions(load_ma=250_001),
        Conditions(load_ma=-120_001),
    ],
    ids=["over", "under", "hot", "cold", "discharge", "charge"],
)
def test_every_limit_opens_closed_contactors(rig: Rig, conditions: Conditions) -> None:
    rig.boot()
    assert closes(rig)
    rig.pack.set_conditions(conditions)
    rig.run(50)
    assert not rig.pack.contactors_closed
    rig.pack.set_conditions(replace(Conditions(), load_ma=0))
    rig.run(50)
    assert not rig.pack.contactors_closed  # a fresh request is needed
    rig.pack.close_requested = False
    rig.run(50)
    assert closes(rig)
