"""Policy, states and log of the tamper response: what may be, and what may not."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, FormatRefused
from cellward.core.tamper import (
    MAX_SIZE,
    RESPONSES,
    START,
    TRANSITIONS,
    Entry,
    Event,
    Log,
    Policy,
    Response,
    Standing,
    State,
    Step,
    decode_log,
    extended,
    period,
    read_policy,
    replay,
    standing,
    state_of,
)
from tests.support.packtpm import refused

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)


def log_of(*steps: tuple[Event, Response] | Step) -> Log:
    log: list[Entry] = []
    for step in steps:
        what, response = (step, None) if isinstance(step, Step) else step
        anew = what is Step.ENROLLED and (not log or log[-1].what is Step.ERASED)
        log.append(Entry(START if anew else log[-1].after, AT, what, "subject", "détail", response))
    return tuple(log)


def encoded(log: Log) -> bytes:
    return b"".join(entry.encode() for entry in log)


SOUND = log_of(Step.ENROLLED)
LOCKED = log_of(Step.ENROLLED, (Event.TIME, Response.LOG), (Event.VOLTAGE, Response.LOCK))
LIFTED = log_of(Step.ENROLLED, (Event.VOLTAGE, Response.LOCK), Step.ENROLLED)
INTENT = log_of(Step.ENROLLED, (Event.CASE, Response.ZEROISE))
ERASED = log_of(Step.ENROLLED, (Event.CASE, Response.ZEROISE), Step.ERASED)
AGAIN = log_of(Step.ENROLLED, (Event.CASE, Response.ZEROISE), Step.ERASED, Step.ENROLLED)


# --- policy


def test_every_event_has_a_response() -> None:
    assert set(RESPONSES) == set(Event)


def test_a_policy_may_be_stricter() -> None:
    text = b"""
        sensors = ["/sys/class/hwmon/hwmon2"]
        failed_authentications = 4
        [responses]
        voltage = "zeroise"
        "module swapped" = "lock"
        """
    found = read_policy(text, "test")
    assert found.responses == {**RESPONSES, Event.VOLTAGE: Response.ZEROISE}
    assert (found.sensors, found.guesses) == (("/sys/class/hwmon/hwmon2",), 4)
    assert read_policy(b"", "test") == Policy()


def test_a_policy_is_never_weaker() -> None:
    for event, response in product(Event, Response):
        text = f'[responses]\n"{event}" = "{response.name.lower()}"'.encode()
        if response < RESPONSES[event]:
            with refused(FormatRefused, Code.CONFIG):
                read_policy(text, "test")
        else:
            assert read_policy(text, "test").responses[event] is response


@pytest.mark.parametrize(
    "text",
    [
        b"failed_authentications = 11",
        b"failed_authentications = 0",
        b"failed_authentications = true",
        b'sensors = "one"',
        b"sensors = [1]",
        b'sensors = ["a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a"]',
        b"responses = 1",
        b"[responses]\ncase = 2",
        b"[responses]\nrain = 'lock'",
        b"other = 1",
        b"\xff",
        b"=",
    ],
)
def test_another_file_is_refused(text: bytes) -> None:
    with refused(FormatRefused, Code.CONFIG):
        read_policy(text, "test")


# --- states


def test_nothing_but_the_maker_makes_a_pack_sound() -> None:
    for state, steps in TRANSITIONS.items():
        for step, after in steps.items():
            if after is State.SOUND and state is not State.SOUND:
                assert step is Step.ENROLLED


def test_a_zeroisation_that_was_begun_ends_zeroised() -> None:
    assert set(TRANSITIONS[State.ZEROISING].values()) == {State.ZEROISING, State.ZEROISED}
    for state in (State.SOUND, State.LOCKED):
        assert TRANSITIONS[state][Response.ZEROISE] is State.ZEROISING


@pytest.mark.parametrize(
    ("log", "state"),
    [
        ((), State.SOUND),
        (SOUND, State.SOUND),
        (LOCKED, State.LOCKED),
        (LIFTED, State.SOUND),
        (INTENT, State.ZEROISING),
        (ERASED, State.ZEROISED),
        (AGAIN, State.SOUND),
    ],
)
def test_what_a_log_makes_of_a_pack(log: Log, state: State) -> None:
    assert replay(log) is state
    assert decode_log(encoded(log)) == log


def test_what_log_and_chain_make_of_it() -> None:
    assert state_of((), None, marked=False) is State.SOUND
    assert state_of((), START, marked=False) is State.SOUND
    assert state_of(SOUND, SOUND[-1].after, marked=False) is State.SOUND
    assert state_of(SOUND, SOUND[-1].after, marked=True) is State.ZEROISING
    assert state_of(LOCKED, LOCKED[-1].before, marked=False) is State.LOCKED  # a cut
    assert state_of(LIFTED, LIFTED[-1].before, marked=False) is State.LOCKED  # not by a file alone
    assert state_of(LIFTED, LIFTED[-1].after, marked=False) is State.SOUND
    assert state_of(LOCKED[:-1], LOCKED[-1].after, marked=False) is State.LOCKED  # an old log
    assert state_of((), LOCKED[-1].after, marked=False) is State.LOCKED
    assert state_of(None, LOCKED[-1].after, marked=False) is State.LOCKED
    assert state_of(None, None, marked=False) is State.LOCKED
    assert state_of(SOUND, None, marked=False) is State.ZEROISED  # cleared, or another TPM
    assert state_of(INTENT, None, marked=False) is State.ZEROISING
    assert state_of(ERASED, None, marked=False) is State.ZEROISED
    assert state_of(ERASED, START, marked=False) is State.ZEROISED
    assert state_of(AGAIN, None, marked=False) is State.ZEROISED
    assert state_of(AGAIN, START, marked=False) is State.ZEROISED
    assert state_of(AGAIN, AGAIN[-1].after, marked=False) is State.SOUND


def read(log: Log) -> Log | None:
    try:
        return decode_log(encoded(log))
    except FormatRefused:
        return None


entries = st.lists(
    st.one_of(st.sampled_from(Step), st.tuples(st.sampled_from(Event), st.sampled_from(Response))),
    max_size=8,
).map(lambda steps: log_of(Step.ENROLLED, *(s for s in steps if s != (Event.LOG, Response.LOG))))


@given(entries, st.data())
def test_no_other_log_fits_a_chain_but_one_that_is_as_strict(log: Log, data: st.DataObject) -> None:
    """Whoever has the file and not the TPM can take lines away, or put others there: the pack is locked, or
    what the true log says."""
    chain = log[-1].after
    true = state_of(log, chain, marked=False)
    cut = data.draw(st.integers(0, len(log)))
    some = data.draw(entries)
    for other in (log[:cut], log[cut:], some, (*log, replace(some[0], before=log[-1].after))):
        found = state_of(read(other), chain, marked=False)
        if found is State.SOUND:
            assert other == log or true is State.SOUND


# --- log


def test_each_line_stands_on_the_one_before_it() -> None:
    for number in range(len(LOCKED)):
        for other in (LOCKED[:number] + LOCKED[number + 1 :], LOCKED[number:][::-1]):
            if other and other != LOCKED[: len(other)]:
                with pytest.raises(FormatRefused):
                    decode_log(encoded(other))


def test_every_byte_counts() -> None:
    data = encoded(LOCKED)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            log: Log | None = decode_log(changed)
        except FormatRefused:
            log = None
        assert standing(log, LOCKED[-1].after) is Standing.LOST


def test_a_line_has_one_form() -> None:
    line = SOUND[0].encode()
    for other in (
        line.replace(b":", b": ", 1),
        line[:-1] + b" \n",
        line.replace(b"subject", b"s\\u0075bject", 1),
    ):
        assert other != line
        with pytest.raises(FormatRefused):
            decode_log(other)


def test_a_chain_begins_at_an_enrolment_or_a_loss() -> None:
    lost = Entry(bytes(32), AT, Event.LOG, "log", "", Response.LOCK)
    assert replay(decode_log(lost.encode())) is State.LOCKED
    for first in (
        replace(lost, what=Event.TIME),
        replace(lost, response=Response.LOG),
        Entry(bytes(32), AT, Step.ENROLLED, "x"),
        Entry(START, AT, Step.ERASED, "x"),
    ):
        with pytest.raises(FormatRefused):
            decode_log(first.encode())
    anew = Entry(START, AT, Step.ENROLLED, "x")
    with pytest.raises(FormatRefused):
        decode_log(encoded((*LOCKED, anew)))
    assert replay(decode_log(encoded((*ERASED, anew)))) is State.SOUND


def test_a_log_has_a_size() -> None:
    with refused(FormatRefused, Code.METADATA_TOO_LARGE):
        decode_log(b"\n" * (MAX_SIZE + 1))


@given(st.binary(max_size=200))
def test_no_bytes_are_a_surprise(data: bytes) -> None:
    try:
        decode_log(data)
    except FormatRefused:
        return
    assert data == b""


def test_a_period_begins_at_the_last_enrolment() -> None:
    assert period(LOCKED) == LOCKED[1:]
    assert period(LIFTED) == ()
    assert period(()) == ()


def test_the_chain_is_the_tpm_s() -> None:
    assert extended(bytes(32), bytes(32)) == START
    assert LOCKED[1].before == extended(START, LOCKED[0].digest)
