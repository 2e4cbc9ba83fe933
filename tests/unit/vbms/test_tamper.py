"""Tamper sensors: the reset in any state, the latch that stays, the secret that is gone."""

from typing import Any

import pytest

from cellward.core.errors import Code
from cellward.core.slots import OTP_DEVICE_SECRET, OTP_LIFECYCLE, Lifecycle
from cellward.ports.module import Outcome
from cellward.vbms import machine as machine_module
from cellward.vbms.cpu import Cpu
from cellward.vbms.machine import CLOCK_PER_MS
from cellward.vbms.registers import (
    CONTACTOR_CLOSE,
    OTP_BASE,
    PACK_BASE,
    SYS_BASE,
    TAMPER_BASE,
    TAMPER_KEY,
    Sys,
    Tamper,
    TamperSource,
)
from cellward.vbms.registers import Pack as PackRegister
from tests.unit.vbms.programs import RESET, RUNNING, Bench, burn, found
from tests.unit.vbms.thumb import SPIN, idle, mov, poke, tell, unless_zero

LATCH = tell(TAMPER_BASE + Tamper.LATCH)
CAUSE = tell(SYS_BASE + Sys.RESET_CAUSE)
CLEAR = poke(TAMPER_BASE + Tamper.CLEAR, TAMPER_KEY)
SECRET = tell(OTP_BASE + OTP_DEVICE_SECRET.offset) + tell(OTP_BASE + OTP_DEVICE_SECRET.offset + 28)
HIDDEN, SHOWN = [0, 0], [0x5A5A_5A5A] * 2
TAMPERED = burn(OTP_LIFECYCLE.offset, Lifecycle.TAMPERED.fuses)


@pytest.fixture
def bench(bench: Bench) -> Bench:
    start = OTP_DEVICE_SECRET.offset
    bench.fuses[start : start + 32] = b"\x5a" * 32
    return bench


def when_latched(code: bytes) -> bytes:
    return mov(0, TAMPER_BASE + Tamper.LATCH) + (0x6803).to_bytes(2, "little") + unless_zero(3, code)


@pytest.mark.parametrize("ending", [idle(), SPIN], ids=["idle", "busy"])
def test_a_running_module_is_reset_at_once(bench: Bench, ending: bytes) -> None:
    close = poke(PACK_BASE + PackRegister.CONTACTOR_CONTROL, CONTACTOR_CLOSE)
    bench.boot(CAUSE, LATCH, SECRET, RUNNING, close, ending)
    bench.running.run(30)
    at, closed = bench.pack.at_ms, bench.pack.contactors_closed
    assert closed
    bench.running.tamper(TamperSource.CASE)
    before, after = bench.running.reports()
    assert (before.outcome, found(before)) == (Outcome.RESET, [0, 0, *SHOWN])
    assert before.contactors_closed
    assert (after.cause, after.outcome) == ("tamper", Outcome.RUNNING)
    assert found(after) == [4, TamperSource.CASE, *HIDDEN]
    assert after.milestones[0].at_ms == at  # no time of the old program passed


def test_every_source_has_its_bit_and_they_add_up(bench: Bench) -> None:
    bench.boot(LATCH, RUNNING, idle())
    for source in TamperSource:
        bench.running.tamper(source)
    assert [found(report) for report in bench.running.reports()] == [[0], [1], [3], [7], [15], [31]]


def test_a_hung_module_is_reset_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "BOOT_BUDGET", 5 * CLOCK_PER_MS)
    latched = when_latched(RUNNING + idle())
    (report,) = bench.boot(latched, SPIN)
    assert report.outcome is Outcome.HANG
    bench.running.tamper(TamperSource.CLOCK)
    before, after = bench.running.reports()
    assert (before.outcome, after.cause, after.outcome) == (Outcome.HANG, "tamper", Outcome.RUNNING)


def test_the_latch_outlives_power_and_waits_without_it(bench: Bench) -> None:
    bench.boot(CAUSE, LATCH, SECRET, RUNNING, idle())
    bench.running.power_off()
    bench.running.tamper(TamperSource.VOLTAGE)
    assert (bench.running.powered, bench.running.outcome) == (False, Outcome.OFF)
    assert len(bench.running.reports()) == 1
    bench.running.power_on()
    (report,) = bench.running.reports()
    assert (report.cause, found(report)) == ("power", [0, TamperSource.VOLTAGE, *HIDDEN])
    (report,) = bench.boot(CAUSE, LATCH, SECRET, RUNNING, idle())  # another process, the same latch
    assert found(report) == [0, TamperSource.VOLTAGE, *HIDDEN]
    assert bench.latch == b"\x02\0\0\0"


@pytest.mark.parametrize("lifecycle", Lifecycle)
def test_the_latch_is_cleared_only_once_the_fuses_say_tampered(bench: Bench, lifecycle: Lifecycle) -> None:
    bench.latch[0] = TamperSource.TEMPERATURE
    bench.fuses[OTP_LIFECYCLE.offset : OTP_LIFECYCLE.offset + 4] = lifecycle.fuses.to_bytes(4, "little")
    (report,) = bench.boot(SECRET, CLEAR, LATCH, SECRET, RUNNING, idle())
    cleared = lifecycle in (Lifecycle.TAMPERED, Lifecycle.RETIRED)
    assert found(report) == HIDDEN + ([0, *SHOWN] if cleared else [TamperSource.TEMPERATURE, *HIDDEN])
    assert any(bench.latch) is not cleared


def test_another_word_clears_nothing(bench: Bench) -> None:
    bench.latch[0] = 1
    wrong = poke(TAMPER_BASE + Tamper.CLEAR, TAMPER_KEY ^ 4)
    (report,) = bench.boot(TAMPERED, wrong, LATCH, CLEAR, LATCH, RUNNING, idle())
    assert found(report) == [1, 0]


def test_a_reset_between_changes_nothing(bench: Bench) -> None:
    bench.boot(LATCH, SECRET, RUNNING, idle())
    bench.running.tamper(TamperSource.CASE)
    bench.running.reset()
    assert found(bench.running.reports()[0]) == [1, *HIDDEN]


@pytest.mark.parametrize("nth", [1, 3, 9, 40])
def test_in_the_middle_of_a_boot(bench: Bench, nth: int) -> None:
    """At any instruction, from within the run: what follows the event is not executed."""

    class Struck(Cpu):
        def prepare(self, uc: Any) -> None:
            passed: list[int] = []

            def count(_uc: Any, at: int, _size: int, _data: Any) -> None:
                passed.append(at)
                if len(passed) == nth and not any(bench.latch):
                    bench.running.tamper(TamperSource.CASE)

            uc.hook_add(1 << 2, count)

    reports = bench.boot(CAUSE, LATCH, RUNNING, poke(0x2000_0000, 7) * 6, idle(), cpu=Struck)
    assert [report.cause for report in reports] == ["power", "tamper"]
    assert found(reports[1]) == [4, TamperSource.CASE]
    assert reports[1].outcome is Outcome.RUNNING
    assert len(found(reports[0])) == (nth > 12) + (nth > 24)


def test_it_comes_before_what_the_slice_ended_with(bench: Bench) -> None:
    """A sensor and the firmware's own reset in the same slice: the cause is the sensor."""

    class Struck(Cpu):
        def prepare(self, uc: Any) -> None:
            def look(_uc: Any, *_rest: Any) -> None:
                if not any(bench.latch):
                    bench.running.tamper(TamperSource.CASE)

            uc.hook_add(1 << 11, look, begin=SYS_BASE, end=SYS_BASE)

    reports = bench.boot(when_latched(RUNNING + idle()), RESET, SPIN, cpu=Struck)
    assert [report.cause for report in reports] == ["power", "tamper"]


def test_events_without_end_are_a_hang(bench: Bench) -> None:
    class Struck(Cpu):
        def prepare(self, uc: Any) -> None:
            uc.hook_add(1 << 2, lambda *_: bench.running.tamper(TamperSource.CASE))

    assert bench.boot(RUNNING, idle(), cpu=Struck)[-1].outcome is Outcome.HANG


def test_what_the_block_does_not_list_is_a_fault(bench: Bench) -> None:
    for code in (poke(TAMPER_BASE, 0), tell(TAMPER_BASE + Tamper.CLEAR), tell(TAMPER_BASE + 8)):
        assert bench.boot(code, RUNNING, idle())[0].events[0].code is Code.MODULE_FAULT
