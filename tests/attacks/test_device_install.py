"""Attacks and accidents between verification and commit: the link, the flash, the power, the pack."""

from dataclasses import replace
from typing import Any

import pytest

from cellward.core.banks import State as BankState
from cellward.core.errors import Code
from cellward.core.slots import BMS_M33, Stage
from cellward.ports.module import Outcome, Torn
from cellward.ports.updatelink import Request
from tests.support.pack import SERIAL, Pack, State, built

APP = f"{SERIAL}/{Stage.APP}"


@pytest.fixture
def pack() -> Pack:
    made = Pack()
    made.release("1.4.0", 7)
    return made


def safe(pack: Pack, before: State) -> None:
    """The running bank as it was, the other one not bootable, the counter where it was."""
    after = pack.snapshot()
    assert after.banks[before.active] == before.banks[before.active]
    assert (after.counter, after.active) == (before.counter, before.active)
    assert pack.module.status().bank("b").state is BankState.EMPTY


def heals(pack: Pack) -> None:
    assert pack.cycle().outcome == "updated"
    assert (pack.module.active, pack.module.counter) == (1, 7)


@pytest.mark.parametrize(
    ("measured", "code"),
    [
        ({"contactors_closed": True}, Code.GATE_CONTACTORS),
        ({"close_requested": True}, Code.GATE_CONTACTORS),
        ({"current_ma": -900}, Code.GATE_CURRENT),
        ({"temperatures_dc": (250, 250, 250, 700)}, Code.GATE_TEMPERATURE),
        ({"soc_permille": 50}, Code.GATE_CHARGE),
        ({"supply_mv": 9_000}, Code.GATE_SUPPLY),
        ({"isolation_fault": True}, Code.GATE_FAULT),
    ],
)
def test_no_gate_no_write(pack: Pack, measured: dict[str, Any], code: Code) -> None:
    pack.module.measured = replace(pack.module.measured, **measured)
    before = pack.snapshot()
    pack.refused(code)
    assert pack.snapshot().banks == before.banks
    assert pack.module.operations == 0
    report = pack.manifests[-1].report(APP)
    assert report is not None
    assert report.result is not None
    assert "degC" in report.result.detail  # what was measured, in the signed report


def wake_up_after(pack: Pack, request: Request, count: int = 1) -> list[int]:
    """High voltage is asked for after that request; returns the offsets that are written."""
    exchange, program = pack.module.exchange, pack.module.program_inside
    written: list[int] = []

    def wake(request_: bytes) -> bytes:
        answer = exchange(request_)
        if pack.module.asked.count(request) == count:
            pack.module.measured = replace(pack.module.measured, close_requested=True)
        return answer

    def note(bank: int, offset: int, data: bytes) -> None:
        written.append(offset)
        program(bank, offset, data)

    pack.module.exchange = wake  # type: ignore[method-assign,assignment]
    pack.module.program_inside = note  # type: ignore[method-assign]
    return written


@pytest.mark.parametrize(
    ("request_", "count"),
    [(Request.ENTER_UPDATE, 1), (Request.BEGIN, 1), (Request.DATA, 1), (Request.DATA, 2), (Request.DATA, 20)],
    ids=str,
)
def test_high_voltage_wakes_up_while_writing(pack: Pack, request_: Request, count: int) -> None:
    before = pack.snapshot()
    written = wake_up_after(pack, request_, count)
    pack.refused(Code.GATE_CONTACTORS)
    safe(pack, before)
    assert not any(offset >= BMS_M33.trailer.offset for offset in written)
    assert Request.FINISH not in pack.module.asked


def test_high_voltage_wakes_up_while_writing_much(pack: Pack) -> None:
    """A large image is stopped on the way, not at its end."""
    data = built(Stage.APP, "1.4.1", 7, size=1024 * 1024)
    pack.order(*pack.published_as("1.4.0", Stage.LOADER), pack.publish(data, Stage.APP, "1.4.1", 7))
    before = pack.snapshot()
    written = wake_up_after(pack, Request.DATA, 40)
    pack.refused(Code.GATE_CONTACTORS)
    safe(pack, before)
    assert len(written) < 60


def test_high_voltage_wakes_up_behind_the_trailer(pack: Pack) -> None:
    """The bank is pending already, and any reset would try it: the trailer goes again."""
    before = pack.snapshot()
    written = wake_up_after(pack, Request.FINISH)
    pack.refused(Code.GATE_CONTACTORS)
    assert written[-1] >= BMS_M33.trailer.offset
    safe(pack, before)


def test_a_module_that_closes_its_contactors_does_not_leave_its_app(pack: Pack) -> None:
    """The gates were open when they were asked; the module measures for itself."""
    telemetry = pack.module.telemetry
    pack.module.telemetry = lambda: replace(telemetry(), contactors_closed=False)  # type: ignore[method-assign]
    pack.module.measured = replace(pack.module.measured, contactors_closed=True)
    before = pack.snapshot()
    pack.refused(Code.UPDATE_CONTACTORS)
    assert pack.snapshot().banks == before.banks
    assert pack.module.outcome is Outcome.RUNNING


def test_a_flash_that_refuses_in_the_middle(pack: Pack) -> None:
    before = pack.snapshot()
    pack.module.refuses_at = 3
    pack.refused(Code.FLASH_UNERASED)
    safe(pack, before)
    pack.module.refuses_at = None
    heals(pack)


def test_a_link_that_delivers_other_bytes(pack: Pack) -> None:
    """What was verified here is not what arrived: the module says so, over its own flash."""
    before = pack.snapshot()
    pack.module.flips = 5000
    pack.refused(Code.IMAGE_HASH)
    safe(pack, before)
    pack.module.flips = None
    heals(pack)


@pytest.mark.parametrize(
    "request_",
    [Request.ENTER_UPDATE, Request.BEGIN, Request.IMAGE, Request.DATA, Request.FINISH, Request.ABORT],
    ids=str,
)
def test_a_link_that_goes_while_the_module_works(pack: Pack, request_: Request) -> None:
    """It did what was asked, and nobody heard. The next cycle finds it in its engine and brings it back;
    what was staged whole is tried, as the ROM decides."""
    pack.module.loses = request_
    pack.refused(Code.LINK_SILENT)
    pack.module.loses = None
    assert pack.cycle().refusal is None
    assert (pack.module.active, pack.module.counter) == (1, 7)
    assert pack.cycle().outcome == "nothing to do"
    assert pack.told(APP) == "ok"


def test_a_trailer_that_does_not_clear(pack: Pack) -> None:
    """VW Simos18: an erase that did not take, and the old valid mark stands over new bytes."""
    pack.module.banks[1][:] = pack.module.banks[0]
    erase = pack.module.erase_inside

    def lazy(bank: int, offset: int) -> None:
        if offset != BMS_M33.trailer.offset:
            erase(bank, offset)

    pack.module.erase_inside = lazy  # type: ignore[method-assign]
    before = pack.snapshot()
    pack.refused(Code.FLASH_READBACK)
    assert pack.snapshot().banks == before.banks


def test_every_refusal_leaves_the_app_running(pack: Pack) -> None:
    pack.module.flips = 5000
    pack.refused(Code.IMAGE_HASH)
    assert pack.module.outcome is Outcome.RUNNING
    last_report = [Request.DIGEST, Request.DIGEST, Request.BOOT_RECORD]
    assert pack.module.asked[-4:] == [Request.RESTART, *last_report]


def test_a_damaged_stage_is_not_copied(pack: Pack) -> None:
    """The app alone is ordered; a bit of the running loader has gone since it booted."""
    data = built(Stage.APP, "1.3.1", 6)
    pack.order(pack.publish(data, Stage.APP, "1.3.1", 6))
    before = pack.snapshot()
    pack.module.flip_bit("a", BMS_M33.loader.offset + 5000, 3)
    pack.refused(Code.IMAGE_HASH)
    assert pack.module.status().bank("b").state is BankState.EMPTY
    assert pack.module.counter == before.counter


def test_a_file_swapped_after_verification(pack: Pack) -> None:
    """TOCTOU: whoever can write the state directory swaps the download between verify and flash."""
    evil = built(Stage.APP, "1.4.0", 7, signer="thief")
    target = pack.published["bms-m33/app-1.4.0.img"]
    telemetry = pack.module.telemetry

    def swap() -> object:
        pack.memory.set_download(target.sha256, evil)
        return telemetry()

    pack.module.telemetry = swap  # type: ignore[method-assign,assignment]
    assert pack.cycle().outcome == "updated"
    start = BMS_M33.app.offset
    assert bytes(pack.module.banks[1][start : start + target.length]) == built(Stage.APP, "1.4.0", 7)


def test_a_file_swapped_before_verification(pack: Pack) -> None:
    target = pack.published["bms-m33/app-1.4.0.img"]
    good = built(Stage.APP, "1.4.0", 7)
    pack.memory.set_download(target.sha256, good[:9000] + bytes([good[9000] ^ 1]) + good[9001:])
    before = pack.snapshot()
    pack.refused(Code.TARGET_HASH)
    assert pack.snapshot().banks == before.banks
    heals(pack)


def test_a_module_that_changed_banks_since_the_plan(pack: Pack) -> None:
    telemetry = pack.module.telemetry

    def flip() -> object:
        pack.module.active = 1
        return telemetry()

    pack.module.telemetry = flip  # type: ignore[method-assign,assignment]
    pack.refused(Code.PLAN_INCOMPLETE)
    assert pack.module.operations == 0


def operations_of_an_update() -> int:
    pack = Pack()
    pack.release("1.4.0", 7)
    pack.cycle()
    return pack.module.operations


def cuts() -> list[int]:
    """First, last, and an even choice between: every operation is cut in the module's own tests."""
    total = operations_of_an_update()
    return sorted({1, 2, 3, *range(4, total, total // 12), total - 1, total})


@pytest.mark.parametrize("operation", cuts())
def test_a_power_cut_in_mid_flash(pack: Pack, operation: int) -> None:
    before = pack.snapshot()
    pack.module.cut_power_at(operation, Torn.NONE)
    pack.refused(Code.POWER_CUT)
    safe(pack, before)
    pack.module.power_on()
    assert pack.module.status().outcome is Outcome.RUNNING
    assert (pack.module.active, pack.module.counter) == (0, 6)
    heals(pack)


def test_a_trial_is_not_overwritten(pack: Pack) -> None:
    """The other bank is the only way back of a bank that has not confirmed itself."""
    pack.cycle()
    flash = pack.module.banks[1]
    flash[-24:-16] = b"\xff" * 8  # as if the self-test were still running
    pack.release("1.5.0", 7)
    before = pack.snapshot()
    pack.refused(Code.PLAN_INCOMPLETE)
    assert pack.snapshot().banks == before.banks
