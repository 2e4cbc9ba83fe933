"""The link's mailbox, under firmware that answers, keeps silent, resets or loses its power."""

import pytest

from cellward.core.errors import CellwardError, Code
from cellward.core.slots import OTP_COUNTER
from cellward.ports.module import Outcome, Torn
from cellward.vbms import machine as machine_module
from cellward.vbms.machine import ANSWER_IDLE_MS, CLOCK_PER_MS
from cellward.vbms.registers import (
    LINK_BASE,
    LINK_BUFFER_SIZE,
    LINK_RX_BASE,
    LINK_TX_BASE,
    SYS_BASE,
    Link,
    Milestone,
    Sys,
)
from tests.unit.vbms.programs import RESET, RUNNING, Bench, burn, faulted
from tests.unit.vbms.thumb import SPIN, copy, idle, load, loop, milestone, mov, poke, store, tell, unless_zero

DONE = poke(LINK_BASE + Link.RX_DONE, 1)
IDLE = poke(SYS_BASE + Sys.IDLE, 0)
LENGTH = mov(2, LINK_BASE + Link.RX_LENGTH) + load(3, 2)
# r3 holds the request's length: the first two words of the request, echoed with its length.
ECHO = copy(LINK_RX_BASE, LINK_TX_BASE) + copy(LINK_RX_BASE + 4, LINK_TX_BASE + 4)
SEND = mov(0, LINK_BASE + Link.TX_LENGTH) + store(3, 0)


def answering(*body: bytes) -> bytes:
    """Polls each tick; runs `body` when a request waits."""
    return loop(LENGTH + unless_zero(3, b"".join(body)) + IDLE)


def silent(bench: Bench, request: bytes = b"1234", code: Code = Code.LINK_SILENT) -> None:
    with pytest.raises(CellwardError) as caught:
        bench.running.exchange(request)
    assert caught.value.code is code


def test_a_request_is_answered(bench: Bench) -> None:
    bench.boot(RUNNING, answering(ECHO, DONE, SEND))
    for request in (b"12345678", b"abcde", b"x"):
        assert bench.running.exchange(request) == request
    assert bench.pack.at_ms < 100
    assert bench.running.outcome is Outcome.RUNNING


def test_an_answer_in_the_same_tick_needs_no_idling(bench: Bench) -> None:
    bench.boot(RUNNING, loop(LENGTH + unless_zero(3, ECHO + DONE + SEND)))  # never idles
    assert bench.running.exchange(b"12345678") == b"12345678"
    assert bench.running.exchange(b"abcdefgh") == b"abcdefgh"


def test_the_longest_fits_and_a_longer_one_or_none_is_refused(bench: Bench) -> None:
    bench.boot(RUNNING, answering(DONE, SEND))
    assert len(bench.running.exchange(b"r" * LINK_BUFFER_SIZE)) == LINK_BUFFER_SIZE
    silent(bench, b"r" * (LINK_BUFFER_SIZE + 1), Code.LINK_FRAME)
    silent(bench, b"", Code.LINK_FRAME)
    assert bench.running.exchange(b"abcd")  # neither was put


def test_silence_has_an_end(bench: Bench) -> None:
    bench.boot(RUNNING, idle())
    before = bench.pack.at_ms
    silent(bench)
    assert ANSWER_IDLE_MS < bench.pack.at_ms - before <= ANSWER_IDLE_MS + 20
    # Its request is the module's until it says so: no other takes the place.
    silent(bench, b"5678")
    assert bytes(bench.running._memories.rx.view[:4]) == b"1234"
    bench.running.reset()
    silent(bench, b"5678")
    assert bytes(bench.running._memories.rx.view[:4]) == b"5678"


def test_work_without_idling_has_an_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "BOOT_BUDGET", 20 * CLOCK_PER_MS)
    bench.boot(RUNNING, SPIN)
    bench.running.run(100)
    before = bench.pack.at_ms
    silent(bench)
    assert bench.pack.at_ms - before == 21
    assert bench.running.outcome is Outcome.RUNNING


def test_a_second_answer_is_nobodys(bench: Bench) -> None:
    """It is not taken for the answer to the next request."""
    bench.boot(RUNNING, answering(ECHO, DONE, mov(3, 4) + SEND, mov(3, 2) + SEND))  # answers twice
    assert bench.running.exchange(b"12345678") == b"1234"
    assert bench.running.exchange(b"abcdefgh") == b"abcd"


def test_a_late_answer_is_nobodys_either(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "ANSWER_IDLE_MS", 20)
    bench.boot(RUNNING, answering(ECHO, IDLE * 3, DONE, SEND))
    silent(bench, b"12345678")
    bench.running.run(100)
    monkeypatch.setattr(machine_module, "ANSWER_IDLE_MS", 100)
    assert bench.running.exchange(b"abcdefgh") == b"abcdefgh"


def test_an_answer_is_given_once(bench: Bench) -> None:
    bench.boot(RUNNING, answering(ECHO, DONE, SEND, idle()))
    assert bench.running.exchange(b"12345678") == b"12345678"
    silent(bench)


def test_an_answer_without_a_request_is_lost(bench: Bench) -> None:
    bench.boot(poke(LINK_TX_BASE, 0x5858_5858), mov(3, 4), SEND, RUNNING, idle())
    silent(bench)


def test_the_answer_comes_before_the_reset_that_follows_it(bench: Bench) -> None:
    bench.boot(RUNNING, answering(ECHO, SEND, RESET))
    assert bench.running.exchange(b"12345678") == b"12345678"
    reports = bench.running.reports()
    assert [(r.cause, r.outcome) for r in reports] == [
        ("power", Outcome.RESET),
        ("software", Outcome.RUNNING),
    ]
    assert bench.running.exchange(b"abcdefgh") == b"abcdefgh"  # RX_DONE was never written: reset


def test_a_request_that_a_reset_loses_is_not_answered(bench: Bench) -> None:
    bench.boot(RUNNING, answering(RESET))
    before = bench.pack.at_ms
    silent(bench)
    assert bench.pack.at_ms - before < 100  # known at once
    assert bench.running.outcome is Outcome.RUNNING
    bench.running.run(50)
    assert len(bench.running.reports()) == 2


def test_a_cut_before_the_answer_and_after_it(bench: Bench) -> None:
    burning = burn(OTP_COUNTER.offset, 1)
    bench.boot(RUNNING, answering(burning))
    bench.cuts.order(1, Torn.NONE)
    silent(bench, code=Code.POWER_CUT)
    assert not bench.running.powered
    assert bytes(bench.running._memories.rx.view) == b"\xa5" * LINK_BUFFER_SIZE
    bench.boot(RUNNING, answering(DONE, SEND, burning))
    bench.cuts.order(1, Torn.NONE)
    assert bench.running.exchange(b"1234") == b"\xa5" * 4
    assert bench.running.outcome is Outcome.POWER_CUT


def test_a_hung_module_is_silent(bench: Bench) -> None:
    bench.boot(RESET, SPIN)
    assert bench.running.outcome is Outcome.HANG
    silent(bench)


def test_the_update_engine_settles_while_it_waits(bench: Bench) -> None:
    (report,) = bench.boot(milestone(Milestone.UPDATE_ENTERED), answering(ECHO, DONE, SEND))
    assert report.outcome is Outcome.UPDATING
    assert bench.running.exchange(b"12345678") == b"12345678"
    assert bench.running.outcome is Outcome.UPDATING


def test_what_a_request_holds_is_read_and_not_written(bench: Bench) -> None:
    bench.boot(RUNNING, answering(tell(LINK_RX_BASE), poke(LINK_RX_BASE, 0)))
    silent(bench, b"\x11\x22\x33\x44")
    first = bench.running.reports()[0]
    assert [event.found for event in first.events] == [0x4433_2211, LINK_RX_BASE]


@pytest.mark.parametrize("length", [0, LINK_BUFFER_SIZE + 1])
def test_an_answer_of_no_length_is_a_fault(bench: Bench, length: int) -> None:
    address = LINK_BASE + Link.TX_LENGTH
    assert faulted(bench.boot(poke(address, length), RUNNING, idle())).found == address


def test_what_the_block_does_not_list_is_a_fault(bench: Bench) -> None:
    for code in (poke(LINK_BASE, 0), tell(LINK_BASE + Link.RX_DONE), tell(LINK_BASE + Link.TX_LENGTH)):
        assert bench.boot(code, RUNNING, idle())[0].events[0].code is Code.MODULE_FAULT


def test_only_1_gives_the_buffer_back(bench: Bench) -> None:
    bench.boot(RUNNING, answering(poke(LINK_BASE + Link.RX_DONE, 3), SEND, IDLE))
    bench.running.exchange(b"1234")
    silent(bench, b"5678")
