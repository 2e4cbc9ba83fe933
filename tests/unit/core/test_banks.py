"""The trial state machine: its tables against rules written here, then the whole machine explored.

The exploration works on raw trailer bytes as NOR flash holds them, so that it covers the decoder and
the tables together. The reachable set is small, so it is closed completely: any number of steps.
"""

import dataclasses
from collections.abc import Iterator
from itertools import product

import pytest

from cellward.core.banks import (
    ACTIONS,
    ORDER,
    STATES,
    TRANSITIONS,
    Action,
    Candidate,
    Event,
    Newer,
    State,
    choose,
    other,
    state_of,
)
from cellward.core.slots import TRAILER_MAGIC, Mark, Trailer, decode_trailer, flag_phrase

E, P, T, C = State.EMPTY, State.PENDING, State.TRIAL, State.CONFIRMED

# Every (state, event) by hand: what the page holds afterwards, or None where nobody may do that.
EXPECTED_TRANSITIONS = {
    (E, Event.ERASE): E,
    (E, Event.STAGE): P,
    (E, Event.PLANT): C,
    (E, Event.START): None,
    (E, Event.CONFIRM): None,
    (P, Event.ERASE): E,
    (P, Event.STAGE): None,
    (P, Event.PLANT): None,
    (P, Event.START): T,
    (P, Event.CONFIRM): None,
    (T, Event.ERASE): E,
    (T, Event.STAGE): None,
    (T, Event.PLANT): None,
    (T, Event.START): None,
    (T, Event.CONFIRM): C,
    (C, Event.ERASE): E,
    (C, Event.STAGE): None,
    (C, Event.PLANT): None,
    (C, Event.START): None,
    (C, Event.CONFIRM): None,
}

# The order of two banks by hand: states of a and b, then what the ROM tries when a is newer, when b
# is newer, and when both are the same age.
EXPECTED_ORDER = {
    (E, E): ("", "", ""),
    (E, P): ("b", "b", "b"),
    (E, T): ("", "", ""),
    (E, C): ("b", "b", "b"),
    (P, E): ("a", "a", "a"),
    (P, P): ("ab", "ba", "ab"),
    (P, T): ("a", "a", "a"),
    (P, C): ("ab", "ab", "ab"),
    (T, E): ("", "", ""),
    (T, P): ("b", "b", "b"),
    (T, T): ("", "", ""),
    (T, C): ("b", "b", "b"),
    (C, E): ("a", "a", "a"),
    (C, P): ("ba", "ba", "ba"),
    (C, T): ("a", "a", "a"),
    (C, C): ("ab", "ba", "ab"),
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_state_and_event(state: State, event: Event) -> None:
    assert TRANSITIONS.get((state, event)) is EXPECTED_TRANSITIONS[state, event]


def test_what_the_rom_does_in_each_state() -> None:
    assert ACTIONS == {E: Action.SKIP, P: Action.START, T: Action.SKIP, C: Action.RUN}


def expected_state(magic: Mark, copy_done: Mark, image_ok: Mark) -> State:
    """No magic: nothing there. Confirmed needs a clean image_ok. Anything else that was touched was
    started."""
    if magic in (Mark.UNSET, Mark.BAD):
        return E
    return {
        (Mark.UNSET, Mark.UNSET): P,
        (Mark.UNSET, Mark.SET): C,
        (Mark.SET, Mark.SET): C,
        (Mark.BAD, Mark.SET): C,
    }.get((copy_done, image_ok), T)


def test_all_27_trailers() -> None:
    assert len(STATES) == 27
    assert {marks: expected_state(*marks) for marks in product(Mark, repeat=3)} == STATES


@pytest.mark.parametrize("marks", list(product(Mark, repeat=3)))
def test_the_state_of_a_trailer_is_its_row(marks: tuple[Mark, Mark, Mark]) -> None:
    assert state_of(Trailer(*marks)) is expected_state(*marks)


def test_all_48_orders() -> None:
    assert len(ORDER) == 48
    for (a, b), rows in EXPECTED_ORDER.items():
        for newer, row in zip((Newer.A, Newer.B, Newer.SAME), rows, strict=True):
            assert "".join("ab"[bank] for bank in ORDER[a, b, newer]) == row, (a, b, newer)


def test_the_values_are_the_indexes_of_the_c_tables() -> None:
    assert [state.value for state in State] == [0, 1, 2, 3]
    assert [action.value for action in Action] == [0, 1, 2]
    assert [newer.value for newer in Newer] == [0, 1, 2]
    assert [mark.value for mark in Mark] == [0, 1, 2]


def candidate(state: State, counter: int, version: tuple[int, int, int, int]) -> Candidate:
    trailer = {
        E: Trailer(Mark.UNSET, Mark.UNSET, Mark.UNSET),
        P: Trailer(Mark.SET, Mark.UNSET, Mark.UNSET),
        T: Trailer(Mark.SET, Mark.SET, Mark.UNSET),
        C: Trailer(Mark.SET, Mark.SET, Mark.SET),
    }[state]
    return Candidate(trailer, counter, version)


@pytest.mark.parametrize(
    ("a", "b", "order"),
    [
        ((1, (1, 0, 0, 0)), (1, (1, 0, 0, 0)), (0, 1)),
        ((2, (1, 0, 0, 0)), (1, (9, 0, 0, 0)), (0, 1)),  # the counter before the version
        ((1, (9, 0, 0, 0)), (2, (1, 0, 0, 0)), (1, 0)),
        ((1, (1, 0, 0, 0)), (1, (1, 0, 0, 1)), (1, 0)),  # down to the build number
        ((1, (1, 2, 0, 0)), (1, (1, 1, 9, 9)), (0, 1)),
        ((1, (1, 10, 0, 0)), (1, (1, 9, 0, 0)), (0, 1)),  # as numbers, not as text
    ],
)
@pytest.mark.parametrize("state", [P, C])
def test_the_newer_of_two_equals_comes_first(
    state: State,
    a: tuple[int, tuple[int, int, int, int]],
    b: tuple[int, tuple[int, int, int, int]],
    order: tuple[int, int],
) -> None:
    assert choose(candidate(state, *a), candidate(state, *b)) == order


@pytest.mark.parametrize(("a", "b"), list(product(State, State)))
@pytest.mark.parametrize(("newer", "counters"), [(0, (2, 1)), (1, (1, 2)), (2, (1, 1))])
def test_choose_reads_its_table(a: State, b: State, newer: int, counters: tuple[int, int]) -> None:
    chosen = choose(candidate(a, counters[0], (1, 0, 0, 0)), candidate(b, counters[1], (1, 0, 0, 0)))
    assert "".join("ab"[bank] for bank in chosen) == EXPECTED_ORDER[a, b][newer]


def test_a_candidate_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        candidate(C, 1, (1, 0, 0, 0)).counter = 2  # type: ignore[misc]


def test_the_other_bank() -> None:
    assert (other("a"), other("b")) == ("b", "a")


# The machine as a whole ------------------------------------------------------------------------

FLAG_COPY_DONE, FLAG_IMAGE_OK, AT_MAGIC = 0, 8, 16
ERASED_PAGE = b"\xff" * 32
# What a cut leaves of one programmed unit: nothing, some of its bits, all of them.
TORN_FLAGS = (b"\xff" * 8, b"\x81" + b"\xff" * 7, flag_phrase())
TORN_MAGICS = (
    b"\xff" * 16,
    bytes(a | b for a, b in zip(TRAILER_MAGIC, b"\xf0" * 16, strict=True)),
    TRAILER_MAGIC[:8] + b"\xff" * 8,  # the second of its two units was never written
    TRAILER_MAGIC,
)
Module = tuple[bytes, bytes]


def put(page: bytes, offset: int, unit: bytes) -> bytes:
    """Program as NOR does: bits only fall."""
    programmed = bytes(a & b for a, b in zip(page[offset:], unit, strict=False))
    return page[:offset] + programmed + page[offset + len(unit) :]


def state(page: bytes) -> State:
    return state_of(decode_trailer(page))


def after(page: bytes, event: Event) -> Iterator[tuple[bytes, bool]]:
    """Every page that `event` can leave, and whether it was written to its end."""
    if event is Event.ERASE:
        yield ERASED_PAGE, True
        yield page, False  # cut before it began
        yield put(page, AT_MAGIC, b"\x00" * 16), False  # cut in the middle: any bits
        yield ERASED_PAGE[:16] + page[16:], False  # flags gone before the magic
    elif event is Event.PLANT:  # image_ok first, so that no cut leaves a planted bank on trial
        for flag, magic in product(TORN_FLAGS, TORN_MAGICS):
            if flag == flag_phrase() or magic == TORN_MAGICS[0]:
                done = magic == TRAILER_MAGIC
                yield put(put(page, FLAG_IMAGE_OK, flag), AT_MAGIC, magic), done
    else:
        offset, units = {
            Event.STAGE: (AT_MAGIC, TORN_MAGICS),
            Event.START: (FLAG_COPY_DONE, TORN_FLAGS),
            Event.CONFIRM: (FLAG_IMAGE_OK, TORN_FLAGS),
        }[event]
        for unit in units:
            yield put(page, offset, unit), unit == units[-1]


def allowed(page: bytes) -> list[Event]:
    """Events of the table, with the one thing a careful writer also demands: EMPTY is not ERASED. A
    bank whose page was torn must be erased before it is staged."""
    events = [event for event in Event if (state(page), event) in TRANSITIONS]
    return [e for e in events if e not in (Event.STAGE, Event.PLANT) or page == ERASED_PAGE]


def steps(page: bytes) -> Iterator[tuple[Event, bytes, bool]]:
    for event in allowed(page):
        for new, done in after(page, event):
            yield event, new, done


def reachable() -> set[bytes]:
    """Every page that any sequence of writes and cuts can leave, of any length."""
    pages, todo = {ERASED_PAGE}, [ERASED_PAGE]
    while todo:
        for _, new, _ in steps(todo.pop()):
            if new not in pages:
                pages.add(new)
                todo.append(new)
    return pages


PAGES = sorted(reachable())
# Erasing is the only step towards EMPTY, starting the only one that costs a trial: a cut may move a
# bank down this ladder, never up it.
RANK = {E: 0, T: 1, P: 2, C: 3}


def order(a: bytes, b: bytes, newer: Newer) -> tuple[int, ...]:
    counters = {Newer.A: (2, 1), Newer.B: (1, 2), Newer.SAME: (1, 1)}[newer]
    first, second = (
        Candidate(decode_trailer(page), count, (1, 0, 0, 0))
        for page, count in zip((a, b), counters, strict=True)
    )
    return choose(first, second)


def test_the_exploration_reaches_every_state() -> None:
    assert {state(page) for page in PAGES} == set(State)
    assert len(PAGES) > 12


def test_a_finished_write_goes_where_the_table_says() -> None:
    for page in PAGES:
        for event, new, done in steps(page):
            if done:
                assert state(new) is TRANSITIONS[state(page), event], (page.hex(), event)


def test_a_torn_write_never_promotes() -> None:
    """It leaves what the whole write leaves, or what was there, or less."""
    for page in PAGES:
        for event, new, done in steps(page):
            if not done and event is not Event.ERASE:
                full = TRANSITIONS[state(page), event]
                highest = max(RANK[state(page)], RANK[full])
                assert state(new) in (state(page), full) or RANK[state(new)] < highest, (page.hex(), event)


def test_a_torn_confirmation_is_no_confirmation_and_a_torn_start_is_a_start() -> None:
    trial = put(put(ERASED_PAGE, AT_MAGIC, TRAILER_MAGIC), FLAG_COPY_DONE, flag_phrase())
    pending = put(ERASED_PAGE, AT_MAGIC, TRAILER_MAGIC)
    torn = b"\x81" + b"\xff" * 7
    assert state(put(trial, FLAG_IMAGE_OK, torn)) is T
    assert state(put(pending, FLAG_COPY_DONE, torn)) is T
    assert state(put(pending, FLAG_IMAGE_OK, torn)) is T


@pytest.mark.parametrize("newer", Newer)
def test_no_bank_that_is_empty_or_on_trial_ever_boots(newer: Newer) -> None:
    for pair in product(PAGES, PAGES):
        chosen = order(*pair, newer)
        assert len(set(chosen)) == len(chosen)
        for bank in chosen:
            assert state(pair[bank]) in (P, C)
            assert ACTIONS[state(pair[bank])] is not Action.SKIP


@pytest.mark.parametrize("newer", Newer)
def test_a_confirmed_bank_is_always_among_the_choices(newer: Newer) -> None:
    """Whatever the other bank's page says, torn or whole."""
    for pair in product(PAGES, PAGES):
        confirmed = {bank for bank in (0, 1) if state(pair[bank]) is C}
        assert confirmed <= set(order(*pair, newer))


def test_only_an_erasure_takes_a_confirmed_bank_away() -> None:
    for page in PAGES:
        if state(page) is C:
            assert {event for event, new, _ in steps(page) if state(new) is not C} == {Event.ERASE}


def test_nothing_but_a_finished_confirmation_or_plant_confirms() -> None:
    for page in PAGES:
        if state(page) is not C:
            ways = {(event, done) for event, new, done in steps(page) if state(new) is C}
            assert ways <= {(Event.CONFIRM, True), (Event.PLANT, True)}


def test_an_update_is_tried_once() -> None:
    """From TRIAL no write leads back to PENDING except through an erased page."""
    seen = {page for page in PAGES if state(page) is T}
    todo = list(seen)
    while todo:
        for event, new, _ in steps(todo.pop()):
            if event is not Event.ERASE and new not in seen:
                assert state(new) in (T, C)
                seen.add(new)
                todo.append(new)


def test_an_update_of_one_bank_never_takes_the_other_away() -> None:
    """Bank a runs confirmed; anything at all happens to bank b: a is still tried before recovery."""
    planted = put(put(ERASED_PAGE, FLAG_IMAGE_OK, flag_phrase()), AT_MAGIC, TRAILER_MAGIC)
    assert state(planted) is C
    for page, newer in product(PAGES, Newer):
        chosen = order(planted, page, newer)
        assert 0 in chosen
        assert chosen[0] == (1 if state(page) is P or (state(page) is C and newer is Newer.B) else 0)
