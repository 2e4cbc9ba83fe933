"""What the pack controller does about tampering: events, responses and states, each as one table.

Normative: docs/formats/tamper.md. A policy may be stricter than the table, never weaker. The log is a hash
chain, and its head stands in the TPM: what an offline hand took away or changed shows, and locks.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, Final

from cellward.core import strictjson, stricttoml
from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.strictjson import SHA256_HEX, Fields

MAX_SIZE: Final = 1024 * 1024
MAX_CONFIG: Final = 16 * 1024
MAX_SENSORS: Final = 16
_WHAT = "tamper log"


class Event(StrEnum):
    """What was noticed."""

    CASE = "case"  # the controller's own case was opened
    VOLTAGE = "voltage"  # its supply left its limits
    DEBUGGER = "debugger"  # its process is traced
    CLOCK = "clock"  # the TPM's starts or time went back: another TPM, or an old state of it
    TIME = "time"  # an attested time before the last one
    GUESSING = "guessing"  # too many failed authentications
    MODULE_SWAPPED = "module swapped"
    MODULE_TAMPERED = "module tampered"  # by its own latch
    SENSOR = "sensor"  # one that was configured says nothing
    LOG = "log"  # this log is not what the TPM knows


class Response(IntEnum):
    """Each does what those before it do."""

    LOG = 0  # and tell the server
    LOCK = 1  # the vault stays closed, and modules get what recovery takes only
    ZEROISE = 2  # no key of this controller is left


class Step(StrEnum):
    """What else the log says."""

    ENROLLED = "enrolled"  # by the maker: from here on the pack is sound
    ERASED = "erased"  # the end of a zeroisation


RESPONSES: Final[Mapping[Event, Response]] = {
    Event.CASE: Response.ZEROISE,
    Event.VOLTAGE: Response.LOCK,
    Event.DEBUGGER: Response.LOCK,
    Event.CLOCK: Response.LOCK,
    Event.TIME: Response.LOG,
    Event.GUESSING: Response.LOG,
    Event.MODULE_SWAPPED: Response.LOCK,
    Event.MODULE_TAMPERED: Response.LOCK,
    Event.SENSOR: Response.LOG,
    Event.LOG: Response.LOCK,
}


class State(StrEnum):
    SOUND = "sound"
    LOCKED = "locked"
    ZEROISING = "zeroising"  # decided, and to be finished by whatever starts next
    ZEROISED = "zeroised"


# What is not here does not happen: a zeroisation that was begun ends in nothing else.
TRANSITIONS: Final[Mapping[State, Mapping[Response | Step, State]]] = {
    State.SOUND: {
        Response.LOG: State.SOUND,
        Response.LOCK: State.LOCKED,
        Response.ZEROISE: State.ZEROISING,
        Step.ERASED: State.ZEROISED,  # the TPM was cleared by somebody
        Step.ENROLLED: State.SOUND,
    },
    State.LOCKED: {
        Response.LOG: State.LOCKED,
        Response.LOCK: State.LOCKED,
        Response.ZEROISE: State.ZEROISING,
        Step.ERASED: State.ZEROISED,
        Step.ENROLLED: State.SOUND,
    },
    State.ZEROISING: {
        Response.LOG: State.ZEROISING,
        Response.LOCK: State.ZEROISING,
        Response.ZEROISE: State.ZEROISING,
        Step.ERASED: State.ZEROISED,
    },
    State.ZEROISED: {
        Response.LOG: State.ZEROISED,
        Response.LOCK: State.ZEROISED,
        Response.ZEROISE: State.ZEROISED,
        Step.ERASED: State.ZEROISED,
        Step.ENROLLED: State.SOUND,
    },
}


@dataclass(frozen=True)
class Alarm:
    """One thing that a sensor noticed. The same subject's same event is one event until the maker enrols
    the pack again."""

    event: Event
    subject: str
    detail: str = ""


# --- the policy ---


@dataclass(frozen=True)
class Policy:
    """`sensors`: folders of Linux's hwmon; `guesses`: failed authentications in a row that are an event."""

    responses: Mapping[Event, Response] = field(default_factory=lambda: dict(RESPONSES))
    sensors: tuple[str, ...] = ()
    guesses: int = 10


def read_policy(data: bytes, what: str) -> Policy:
    """TOML. Raises FormatRefused (config.invalid), also for what is weaker than the table."""
    table = stricttoml.decode(data, what, MAX_CONFIG)
    unknown = set(table) - {"responses", "sensors", "failed_authentications"}
    if unknown:
        raise _config(what, "responses, sensors, failed_authentications", repr(min(unknown)[:40]))
    default = Policy()
    guesses = table.get("failed_authentications", default.guesses)
    if type(guesses) is not int or not 1 <= guesses <= default.guesses:
        raise _config(what, f"failed_authentications from 1 to {default.guesses}", repr(guesses)[:40])
    return Policy(_responses(table, what), _sensors(table, what), guesses)


def _responses(table: Mapping[str, Any], what: str) -> Mapping[Event, Response]:
    chosen = table.get("responses", {})
    if not isinstance(chosen, dict):
        raise _config(what, "a table of responses", type(chosen).__name__)
    found = dict(RESPONSES)
    for name, word in chosen.items():
        if name not in list(Event):
            raise _config(what, "one of " + ", ".join(Event), repr(name[:40]))
        stricter = {each.name.lower(): each for each in Response if each >= RESPONSES[Event(name)]}
        if not isinstance(word, str) or word not in stricter:
            raise _config(what, f"{' or '.join(stricter)} for {name}", repr(word)[:40])
        found[Event(name)] = stricter[word]
    return found


def _sensors(table: Mapping[str, Any], what: str) -> tuple[str, ...]:
    found = table.get("sensors", [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise _config(what, "a list of folders in sensors", repr(found)[:40])
    if len(found) > MAX_SENSORS:
        raise _config(what, f"at most {MAX_SENSORS} sensors", f"{len(found)}")
    return tuple(found)


def _config(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.CONFIG, what, expected=expected, found=found)


# --- the log ---


def extended(before: bytes, digest: bytes) -> bytes:
    """The TPM's chain after an extension."""
    return hashlib.sha256(before + digest).digest()


START: Final = extended(bytes(32), bytes(32))  # of a chain that was just made


@dataclass(frozen=True)
class Entry:
    """`before` is what the chain held; `response` is None for a step; `time` is by the controller's clock."""

    before: bytes
    time: datetime
    what: Event | Step
    subject: str
    detail: str = ""
    response: Response | None = None

    def encode(self) -> bytes:
        tree = {
            "before": self.before.hex(),
            "time": strictjson.format_time(self.time),
            "what": self.what.value,
            "subject": self.subject,
            "detail": self.detail,
            "response": "" if self.response is None else self.response.name.lower(),
        }
        return strictjson.encode(tree) + b"\n"

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.encode()).digest()

    @property
    def after(self) -> bytes:
        return extended(self.before, self.digest)

    @property
    def step(self) -> Response | Step:
        """What it does to the state."""
        if self.response is not None:
            return self.response
        assert isinstance(self.what, Step)  # noqa: S101  as it was read
        return self.what


Log = tuple[Entry, ...]


def decode_log(data: bytes) -> Log:
    """Raises FormatRefused (metadata.*) also for a line that does not follow the one before it."""
    if len(data) > MAX_SIZE:
        raise FormatRefused(
            Code.METADATA_TOO_LARGE, _WHAT, expected=f"at most {MAX_SIZE} bytes", found=f"{len(data)}"
        )
    lines = data.splitlines(keepends=True)
    found = tuple(_entry(line) for line in lines)
    before: Entry | None = None
    for entry in found:
        if not _follows(entry, before):
            strictjson.refuse(_WHAT, "each line behind the one before it", "another")
        before = entry
    return found


def _follows(entry: Entry, last: Entry | None) -> bool:
    """A chain begins at an enrolment, or where the log before it was lost."""
    if last is None:
        return entry.what is Event.LOG or (entry.what is Step.ENROLLED and entry.before == START)
    if entry.before == last.after:
        return True
    return entry.what is Step.ENROLLED and last.what is Step.ERASED and entry.before == START


def _entry(line: bytes) -> Entry:
    fields = Fields(strictjson.decode(line, _WHAT, MAX_SIZE), _WHAT)
    name, word = fields.text("what"), fields.text("response")
    words = {each.name.lower(): each for each in Response}
    if name in list(Event) and word in words:
        what: Event | Step = Event(name)
    elif name in list(Step) and not word:
        what = Step(name)
    else:
        strictjson.refuse(_WHAT, "an event with its response, or a step", repr(f"{name[:40]} {word[:40]}"))
    found = Entry(
        bytes.fromhex(fields.text("before", SHA256_HEX)),
        fields.time("time"),
        what,
        fields.text("subject"),
        fields.text("detail"),
        words.get(word),
    )
    fields.finish()
    if what is Event.LOG and found.response is Response.LOG:
        strictjson.refuse(_WHAT, "a lost log to lock", "one that is only logged")
    if found.encode() != line:
        strictjson.refuse(_WHAT, "lines in their one form", "another")
    return found


def period(log: Log) -> Log:
    """Since the maker enrolled the pack last."""
    starts = [number for number, entry in enumerate(log) if entry.what is Step.ENROLLED]
    return log[starts[-1] + 1 :] if starts else log


def replay(log: Log) -> State:
    state = State.SOUND
    for entry in log:
        state = TRANSITIONS[state].get(entry.step, state)
    return state


class Standing(StrEnum):
    """How log and chain stand to each other."""

    NONE = "none"  # neither has anything
    IN_FORCE = "in force"
    WRITTEN = "written"  # the last line is not in the chain yet: a cut
    GONE = "gone"  # the TPM was cleared, or is another
    LOST = "lost"  # the log is another than the chain's


def standing(log: Log | None, chain: bytes | None) -> Standing:
    """None: no log that could be read, and no chain."""
    if log is None:
        return Standing.LOST
    if not log:
        return Standing.NONE if chain in (None, START) else Standing.LOST
    last = log[-1]
    if chain is None or (chain == START and last.what is Step.ERASED):
        return Standing.GONE
    if chain == last.after:
        return Standing.IN_FORCE
    return Standing.WRITTEN if chain == last.before else Standing.LOST


def state_of(log: Log | None, chain: bytes | None, *, marked: bool) -> State:
    """`marked`: the TPM says that a zeroisation has begun."""
    if marked:
        return State.ZEROISING
    found = standing(log, chain)
    if found is Standing.LOST or log is None:
        return State.LOCKED
    if found is Standing.GONE:
        return State.ZEROISING if replay(log) is State.ZEROISING else State.ZEROISED
    if found is Standing.WRITTEN and log[-1].what is Step.ENROLLED:
        log = log[:-1]  # only the TPM's word lifts a lock
    return replay(log)


def refusal(state: State, log: Log, subject: str) -> PolicyRefused:
    """Of whatever a pack that is not sound does not do."""
    locks = [entry for entry in period(log) if entry.response in (Response.LOCK, Response.ZEROISE)]
    worst = max(locks, key=lambda entry: entry.response or 0, default=None)
    found = state.value + (f" by {worst.what}: {worst.subject}" if worst else "")
    if state is State.ZEROISED and (worst is None or worst.response is not Response.ZEROISE):
        found = "another TPM, or one that was cleared"
    return PolicyRefused(
        Code.TAMPER_LOCKED if state is State.LOCKED else Code.TAMPER_ZEROISED,
        subject,
        expected="a pack controller that nobody tampered with",
        found=found,
        advice="the maker enrols it again, with a new token: `cellward device enrol --again`",
    )
