"""The trial state of a bank and the ROM's choice: one state machine, as tables.

::

    EMPTY ──STAGE──▶ PENDING ──START──▶ TRIAL ──CONFIRM──▶ CONFIRMED
      ▲  └──PLANT──────────────────────────────────────────────▲
      └───ERASE─── every state

A bank found in TRIAL at boot was started once and never confirmed itself: it is passed over, and
the other bank runs. CONFIRMED with a counter above the OTP's is committed by the ROM before the
jump (MCUboot #2282, #2549: never earlier, never later). Trailer flags are unsigned, so they only
order the banks; which of them may run is decided by verification alone.

firmware/include/generated/banks.h is generated from these tables.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import product

from cellward.core.slots import BANKS, Mark, Trailer


class State(Enum):
    EMPTY = 0
    PENDING = 1
    TRIAL = 2
    CONFIRMED = 3


class Event(Enum):
    """What is written to the trailer page."""

    ERASE = "erase the page"
    STAGE = "write the magic"
    PLANT = "write magic and image_ok"
    START = "write copy_done"
    CONFIRM = "write image_ok"


class Action(Enum):
    """What the ROM does with a bank it has chosen and verified."""

    SKIP = 0
    START = 1  # write copy_done, then run on trial under the watchdog
    RUN = 2  # raise the counter if the image's is higher, then run


class Newer(Enum):
    """Which bank's app has the higher (security counter, version)."""

    A = 0
    B = 1
    SAME = 2


TRANSITIONS: dict[tuple[State, Event], State] = {
    **{(state, Event.ERASE): State.EMPTY for state in State},
    (State.EMPTY, Event.STAGE): State.PENDING,
    (State.EMPTY, Event.PLANT): State.CONFIRMED,
    (State.PENDING, Event.START): State.TRIAL,
    (State.TRIAL, Event.CONFIRM): State.CONFIRMED,
}

ACTIONS: dict[State, Action] = {
    State.EMPTY: Action.SKIP,
    State.PENDING: Action.START,
    State.TRIAL: Action.SKIP,
    State.CONFIRMED: Action.RUN,
}


def _state(magic: Mark, copy_done: Mark, image_ok: Mark) -> State:
    """A torn flag never gains a bank anything: a torn start counts as started, a torn
    confirmation as not confirmed."""
    if magic is not Mark.SET:
        return State.EMPTY
    if image_ok is Mark.SET:
        return State.CONFIRMED
    return State.PENDING if copy_done is Mark.UNSET and image_ok is Mark.UNSET else State.TRIAL


STATES: dict[tuple[Mark, Mark, Mark], State] = {
    (magic, copy_done, image_ok): _state(magic, copy_done, image_ok)
    for magic in Mark
    for copy_done in Mark
    for image_ok in Mark
}


def _order(a: State, b: State, newer: Newer) -> tuple[int, ...]:
    """Banks worth verifying, best first: a pending update before a confirmed image, then the
    newer, then bank a."""
    rank = {State.PENDING: 0, State.CONFIRMED: 1}
    newest_first = (1, 0) if newer is Newer.B else (0, 1)
    states = (a, b)
    usable = [bank for bank in newest_first if ACTIONS[states[bank]] is not Action.SKIP]
    return tuple(sorted(usable, key=lambda bank: rank[states[bank]]))


ORDER: dict[tuple[State, State, Newer], tuple[int, ...]] = {
    (a, b, newer): _order(a, b, newer) for a, b, newer in product(State, State, Newer)
}


@dataclass(frozen=True)
class Candidate:
    """What the choice looks at in one bank; counter and version are the app's, not yet verified."""

    trailer: Trailer
    counter: int
    version: tuple[int, int, int, int]


def state_of(trailer: Trailer) -> State:
    return STATES[trailer.magic, trailer.copy_done, trailer.image_ok]


def choose(a: Candidate, b: Candidate) -> tuple[int, ...]:
    """Indexes into BANKS in the order the ROM tries them; empty means recovery."""
    age = [(c.counter, c.version) for c in (a, b)]
    newer = Newer.SAME if age[0] == age[1] else Newer.A if age[0] > age[1] else Newer.B
    return ORDER[state_of(a.trailer), state_of(b.trailer), newer]


def other(bank: str) -> str:
    return BANKS[1 - BANKS.index(bank)]
