"""The promises of ports.module, over the fake, the machine in this process, and one behind its link."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from cellward.adapters.modulelink import LinkModule
from cellward.core.banks import State
from cellward.core.errors import Code, FormatRefused, ModuleRefused, Unavailable
from cellward.core.slots import (
    BMS_M33,
    DATA_BANK_NAME,
    DATA_PAGE_SIZE,
    DATA_SIZE,
    MAGIC_FROM_END,
    OTP_DEBUG_LOCK,
    OTP_LIFECYCLE,
    OTP_REVOKED,
    OTP_SERIAL,
    TRAILER_MAGIC,
    Lifecycle,
)
from cellward.ports.module import (
    MAX_ADVANCE_MS,
    BenchModule,
    Conditions,
    Outcome,
    TamperSource,
    Torn,
)
from cellward.vbms.bench import VirtualModule
from cellward.vbms.plant import Order, provision
from cellward.vbms.process import LinkServer
from cellward.vbms.state import create
from tests.fakes.module import FakeModule
from tests.firmware.rig import KEY, release, remembering

PAGE = BMS_M33.page_size
APP = BMS_M33.app.offset


ORDER = Order(BMS_M33, [KEY.public.key_hash], dict(release("1.3.0", 6)))
# Makes a module from a prepared state file, or a blank one from None.
Make = Callable[[Path, Path | None], AbstractContextManager[BenchModule]]


@contextmanager
def fake(_: Path, prepared: Path | None) -> Iterator[BenchModule]:
    module = FakeModule(powered=False, outcome=Outcome.OFF)
    if prepared is not None:
        provision(module, ORDER, bytes)
        module.power_off()
    yield module


def _state(folder: Path, prepared: Path | None) -> Path:
    state = folder / "m.state"
    if prepared is None:
        create(state, BMS_M33, "M0001")
    else:
        shutil.copy(prepared, state)
    return state


@contextmanager
def in_process(folder: Path, prepared: Path | None) -> Iterator[BenchModule]:
    module = VirtualModule(_state(folder, prepared), cpu=remembering())
    yield module
    module.close()


@contextmanager
def behind_link(folder: Path, prepared: Path | None) -> Iterator[BenchModule]:
    """In a thread: the process around it is tests/unit/vbms/test_process.py's and every command's."""
    ours, theirs = socket.socketpair()
    module = VirtualModule(_state(folder, prepared), cpu=remembering())
    server = LinkServer(module)
    server.add(theirs)
    thread = threading.Thread(target=server.serve, kwargs={"until_alone": True})
    thread.start()
    with LinkModule(ours, "module", thread.join) as linked:
        yield linked
    server.close()
    module.close()


@pytest.fixture(params=[fake, in_process, behind_link], ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@pytest.fixture
def blank(make: Make, tmp_path: Path) -> Iterator[BenchModule]:
    """A blank module with power."""
    with make(tmp_path, None) as module:
        module.power_on()
        yield module


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module that was provisioned with 1.3.0 and has committed it: counter 6."""
    state = tmp_path_factory.mktemp("plant") / "m.state"
    create(state, BMS_M33, "M0001")
    module = VirtualModule(state, cpu=remembering())
    assert provision(module, ORDER, bytes)
    module.power_off()
    module.power_on()
    module.close()
    return state


@pytest.fixture
def running(make: Make, tmp_path: Path, prepared: Path) -> Iterator[BenchModule]:
    """Runs 1.3.0 from bank a."""
    with make(tmp_path, prepared) as module:
        module.power_on()
        assert module.status().outcome is Outcome.RUNNING
        assert module.status().counter == 6
        yield module


def refused(code: Code, call: Callable[[], object]) -> None:
    with pytest.raises(ModuleRefused) as caught:
        call()
    assert caught.value.code is code


def install(module: BenchModule, bank: str, version: str, counter: int) -> None:
    module.erase_page(bank, BMS_M33.trailer.offset)
    for stage, image in release(version, counter).items():
        slot, data = BMS_M33.slot(stage), image + b"\xff" * (-len(image) % 8)
        for offset in range(slot.offset, slot.offset + len(data), PAGE):
            module.erase_page(bank, offset)
        module.program(bank, slot.offset, data)
    module.program(bank, BMS_M33.bank_size - MAGIC_FROM_END, TRAILER_MAGIC)


def test_a_blank_module_recovers(blank: BenchModule) -> None:
    status = blank.status()
    assert (status.serial, status.hardware, status.lifecycle) == ("M0001", "bms-m33", Lifecycle.BLANK)
    assert (status.outcome, status.counter, status.slot_keys) == (Outcome.RECOVERY, 0, ())
    assert [bank.state for bank in status.banks] == [State.EMPTY, State.EMPTY]
    (report,) = blank.reports()
    assert (report.cause, report.outcome) == ("power", Outcome.RECOVERY)
    assert report.reached("recovery")


def test_reads_what_was_programmed_over_erased_flash(blank: BenchModule) -> None:
    data = bytes(range(256)) * 300  # more than one frame of the link
    for offset in range(APP, APP + len(data), PAGE):
        blank.erase_page("b", offset)
    blank.program("b", APP, data)
    assert blank.read("b", APP, len(data)) == data
    assert blank.read("b", APP + len(data), 8) == b"\xff" * 8
    assert blank.read("a", APP, 16) == b"\xff" * 16
    blank.erase_page("b", APP)
    assert blank.read("b", APP, PAGE + 8) == b"\xff" * PAGE + data[PAGE : PAGE + 8]


def test_refuses_what_the_silicon_would_spoil(blank: BenchModule) -> None:
    blank.program("b", 16, b"\x55" * 16)
    refused(Code.FLASH_UNERASED, lambda: blank.program("b", 24, b"\x00" * 8))
    refused(Code.FLASH_UNERASED, lambda: blank.program("b", 8, b"\x11" * 16))
    assert blank.read("b", 8, 32) == b"\x11" * 8 + b"\x55" * 16 + b"\xff" * 8
    for offset, data in ((4, b"\0" * 8), (32, b"\0" * 7), (32, b"")):
        refused(Code.FLASH_ALIGNMENT, partial(blank.program, "b", offset, data))
    refused(Code.FLASH_ALIGNMENT, lambda: blank.erase_page("b", 8))
    size = BMS_M33.bank_size
    refused(Code.FLASH_RANGE, lambda: blank.program("b", size, b"\0" * 8))
    refused(Code.FLASH_RANGE, lambda: blank.program("b", -8, b"\0" * 8))
    refused(Code.FLASH_RANGE, lambda: blank.erase_page("b", size))
    refused(Code.FLASH_RANGE, lambda: blank.read("b", size - 4, 8))
    refused(Code.FLASH_RANGE, lambda: blank.read("b", 0, -1))
    refused(Code.FLASH_RANGE, lambda: blank.read("c", 0, 8))


def test_the_running_bank_is_locked_and_the_other_is_not(running: BenchModule) -> None:
    before = running.read("a", 0, 64)
    refused(Code.FLASH_LOCKED, lambda: running.erase_page("a", 0))
    refused(Code.FLASH_LOCKED, lambda: running.program("a", BMS_M33.app.end - 8, b"\0" * 8))
    assert running.read("a", 0, 64) == before
    running.erase_page("b", 0)
    running.program("b", 0, b"\0" * 8)


def test_an_update_commits(running: BenchModule) -> None:
    install(running, "b", "1.4.0", 7)
    reports = running.reset()
    assert [report.outcome for report in reports] == [Outcome.RESET, Outcome.RUNNING]
    assert reports[0].cause == "pin"
    assert reports[0].reached("confirmed")
    assert reports == running.reports()
    status = running.status()
    assert (status.active_bank, status.counter) == ("b", 7)
    assert status.bank("b").state is State.CONFIRMED
    install(running, "a", "1.3.0", 6)  # authentic, and below the counter: never again
    running.reset()
    assert running.status().active_bank == "b"


def test_contactors_follow_the_request(running: BenchModule) -> None:
    assert not running.telemetry().contactors_closed
    running.set_close_request(True)
    running.advance(100)
    telemetry = running.telemetry()
    assert (telemetry.close_requested, telemetry.contactors_closed) == (True, True)
    running.reset()
    running.set_close_request(False)
    running.advance(100)
    assert not running.telemetry().contactors_closed


def test_conditions_are_measured(running: BenchModule) -> None:
    assert running.telemetry().front_end_answers
    running.set_conditions(Conditions(front_end_dead=True, welded_contactor=True, supply_mv=9000))
    telemetry = running.telemetry()
    assert (telemetry.front_end_answers, telemetry.contactors_closed) == (False, True)
    assert telemetry.supply_mv == 9000


def test_time_advances(running: BenchModule) -> None:
    before = running.telemetry().at_ms
    running.advance(500)
    after = running.telemetry().at_ms
    assert after >= before + 500
    for milliseconds in (-1, MAX_ADVANCE_MS + 1):
        with pytest.raises(FormatRefused) as caught:
            running.advance(milliseconds)
        assert caught.value.code is Code.REQUEST_FORMAT


@pytest.mark.parametrize("torn", list(Torn))
def test_a_cut_takes_the_power_and_leaves_the_rest(running: BenchModule, torn: Torn) -> None:
    running.erase_page("b", APP)
    running.cut_power_at(3, torn)
    refused(Code.POWER_CUT, lambda: running.program("b", APP, b"\x11" * 64))
    assert running.status().outcome is Outcome.POWER_CUT
    for call in (
        lambda: running.erase_page("b", APP),
        lambda: running.program("b", APP, b"\0" * 8),
        running.reset,
        lambda: running.set_close_request(True),
    ):
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.code is Code.MODULE_ABSENT
    assert running.read("b", APP, 16) == b"\x11" * 16
    assert running.read("b", APP + 24, 8) == b"\xff" * 8
    (report,) = running.power_on()
    assert (report.cause, report.outcome, report.bank) == ("power", Outcome.RUNNING, "a")
    running.erase_page("b", APP)  # the order is spent


def test_a_cut_can_be_taken_back(blank: BenchModule) -> None:
    blank.cut_power_at(1, Torn.NONE)
    blank.cut_power_at(0, Torn.NONE)
    blank.erase_page("b", 0)


def test_fuses_go_one_way_until_the_plant_is_done(blank: BenchModule) -> None:
    blank.burn(OTP_SERIAL.offset, b"AB01".ljust(16, b"\0"))
    blank.burn(OTP_SERIAL.offset, b"AB01".ljust(16, b"\0"))
    assert blank.status().serial == "M0001"  # the label's, until the plant is done
    refused(Code.OTP_ONE_WAY, lambda: blank.burn(OTP_SERIAL.offset, bytes(4)))
    refused(Code.FLASH_ALIGNMENT, lambda: blank.burn(OTP_SERIAL.offset + 1, b"\xff" * 4))
    refused(Code.FLASH_ALIGNMENT, lambda: blank.burn(OTP_SERIAL.offset, b"\xff"))
    refused(Code.FLASH_RANGE, lambda: blank.burn(0x1FE, b"\xff" * 4))
    refused(Code.FLASH_RANGE, lambda: blank.burn(-4, b"\xff" * 4))
    blank.burn(OTP_LIFECYCLE.offset, b"\xff\0\0\0")
    assert blank.status().lifecycle is Lifecycle.PROVISIONED
    refused(Code.OTP_LOCKED, lambda: blank.burn(OTP_SERIAL.offset, b"\xff" * 4))
    assert blank.status().serial == "AB01"


def test_power(blank: BenchModule) -> None:
    reports = blank.power_on()
    assert reports == blank.reports()  # it had power: nothing happened
    blank.power_off()
    blank.power_off()
    assert blank.status().outcome is Outcome.OFF
    with pytest.raises(Unavailable):
        blank.reset()
    (report,) = blank.power_on()
    assert report.cause == "power"


def test_provisioning_twice_changes_nothing(running: BenchModule) -> None:
    before = running.status()
    assert provision(running, ORDER, bytes) is False
    assert running.status() == before


# The data flash -------------------------------------------------------------------------------------


def test_the_data_flash_is_small_pages(blank: BenchModule) -> None:
    name, page = DATA_BANK_NAME, DATA_PAGE_SIZE
    blank.program(name, 0, bytes(3 * page))
    blank.erase_page(name, page)
    assert blank.read(name, 0, 3 * page) == bytes(page) + b"\xff" * page + bytes(page)
    blank.program(name, DATA_SIZE - 8, b"the last")
    assert blank.read(name, DATA_SIZE - 8, 8) == b"the last"
    refused(Code.FLASH_UNERASED, lambda: blank.program(name, 0, b"\x11" * 8))
    refused(Code.FLASH_ALIGNMENT, lambda: blank.erase_page(name, page // 2))
    refused(Code.FLASH_RANGE, lambda: blank.erase_page(name, DATA_SIZE))
    refused(Code.FLASH_RANGE, lambda: blank.read(name, DATA_SIZE - 4, 8))
    assert blank.read("a", 0, 64) == blank.read("b", 0, 64) == b"\xff" * 64


def test_the_data_flash_is_open_while_an_app_runs_and_is_cut_like_any(running: BenchModule) -> None:
    last = DATA_SIZE - DATA_PAGE_SIZE
    running.program(DATA_BANK_NAME, last, b"\x11" * 16)
    running.cut_power_at(1, Torn.NONE)
    refused(Code.POWER_CUT, lambda: running.erase_page(DATA_BANK_NAME, last))
    assert running.read(DATA_BANK_NAME, last, 16) == b"\x11" * 16


# Lifecycle ------------------------------------------------------------------------------------------


def close(module: BenchModule, lifecycle: Lifecycle = Lifecycle.PRODUCTION) -> None:
    module.burn(OTP_LIFECYCLE.offset, lifecycle.fuses.to_bytes(4, "little"))
    assert module.status().lifecycle is lifecycle


def test_the_plant_closes_a_provisioned_module(running: BenchModule) -> None:
    running.burn(OTP_DEBUG_LOCK.offset, b"\x01\0\0\0")
    running.burn(OTP_REVOKED.offset, b"\x08\0\0\0")
    refused(Code.OTP_ONE_WAY, lambda: running.burn(OTP_REVOKED.offset, b"\x04\0\0\0"))
    refused(Code.OTP_ONE_WAY, lambda: running.burn(OTP_LIFECYCLE.offset, bytes(4)))
    refused(Code.OTP_LOCKED, lambda: running.burn(OTP_SERIAL.offset, b"\xff" * 4))
    assert running.status().lifecycle is Lifecycle.PROVISIONED
    close(running)


@pytest.mark.parametrize("lifecycle", [state for state in Lifecycle if state.closed])
def test_a_closed_module_is_closed_to_the_programmer(running: BenchModule, lifecycle: Lifecycle) -> None:
    close(running, lifecycle)
    before = running.status()
    for bank in ("a", "b", DATA_BANK_NAME):
        refused(Code.FLASH_LOCKED, partial(running.read, bank, 0, 8))
        refused(Code.FLASH_LOCKED, partial(running.erase_page, bank, 0))
        refused(Code.FLASH_LOCKED, partial(running.program, bank, 8192, b"\0" * 8))
    for offset in (OTP_SERIAL.offset, OTP_LIFECYCLE.offset, OTP_REVOKED.offset, OTP_DEBUG_LOCK.offset):
        refused(Code.OTP_LOCKED, partial(running.burn, offset, b"\xff" * 4))
    after = running.status()
    assert (after.operations, after.lifecycle, after.revoked) == (before.operations, lifecycle, 0)
    with pytest.raises(ModuleRefused) as caught:
        running.read("a", 0, 8)
    assert (caught.value.expected, caught.value.found) == ("a module that is not closed", lifecycle)


# The update link's mailbox ---------------------------------------------------------------------------


def test_a_request_has_a_size(running: BenchModule) -> None:
    for request in (b"", bytes(4097)):
        with pytest.raises(FormatRefused) as caught:
            running.exchange(request)
        assert caught.value.code is Code.LINK_FRAME


def test_without_power_nobody_is_asked(blank: BenchModule) -> None:
    blank.power_off()
    for call in (lambda: blank.exchange(b"ask"), blank.attach_debugger):
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.code is Code.MODULE_ABSENT


# Tamper and damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", TamperSource)
def test_a_tamper_event_resets_the_module(blank: BenchModule, source: TamperSource) -> None:
    blank.tamper(source)
    causes = [report.cause for report in blank.reports()]
    assert causes[:2] == ["power", "tamper"]


def test_a_tamper_event_without_power_gives_none(blank: BenchModule) -> None:
    blank.power_off()
    blank.tamper(TamperSource.VOLTAGE)
    assert blank.status().outcome is Outcome.OFF


def test_a_debugger_is_let_in_until_the_lock_is_burned(blank: BenchModule) -> None:
    blank.attach_debugger()
    assert [report.cause for report in blank.reports()] == ["power"]
    blank.burn(OTP_DEBUG_LOCK.offset, b"\0\0\0\x80")
    refused(Code.TAMPER, blank.attach_debugger)
    assert [report.cause for report in blank.reports()][:2] == ["power", "tamper"]


def test_damage_knows_no_lock(running: BenchModule) -> None:
    running.program("b", 64, b"\0" * 8)
    running.flip_bit(DATA_BANK_NAME, 64, 3)
    before = running.status().operations
    running.flip_bit("b", 64, 7)
    running.flip_bit("a", 0x20, 0)  # the running bank
    assert running.read("b", 64, 1) == b"\x80"
    assert running.read(DATA_BANK_NAME, 64, 1) == b"\xf7"
    close(running)
    running.flip_bit("a", 0x20, 0)
    assert running.status().operations == before + 1  # the close alone
    for bank, offset, bit in (("c", 0, 0), ("a", BMS_M33.bank_size, 0), ("b", -1, 0), ("b", 0, 8)):
        refused(Code.FLASH_RANGE, partial(running.flip_bit, bank, offset, bit))
    running.power_off()
    running.flip_bit("b", 0, 0)
