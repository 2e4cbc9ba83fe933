"""The pack controller's tamper response: noticed, logged, and answered by core.tamper's tables.

A zeroisation is decided in the log and in the TPM, then TPM2_Clear takes the owner's seed, both keys and all
that was sealed in one command, then the files go. Each step may be done twice, and whatever starts next goes
on where a cut left off (docs/formats/tamper.md).
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cellward.core import strictjson, tamper
from cellward.core.errors import CellwardError, Code, FormatRefused, PolicyRefused, Refused, Unavailable
from cellward.core.strictjson import Fields
from cellward.core.tamper import Alarm, Entry, Event, Log, Policy, Response, Standing, State, Step
from cellward.device.attempts import Attempts
from cellward.ports.sensors import Sensor
from cellward.ports.store import Store
from cellward.ports.tpm import (
    MAKER_CHAIN,
    RELEASE_COUNTER,
    TAMPER_CHAIN,
    VAULT_CHAIN,
    VAULT_COUNTER,
    ZEROISE_MARK,
    KeyName,
    Tpm,
)

FACTORY: Final = "factory.json"
LOG: Final = "tamper/log.jsonl"
LOST: Final = "tamper/lost.jsonl"  # the last log that was not the TPM's
CLOCK: Final = "tamper/clock.json"
SECRETS: Final = ("vault/values", "vault/policies/", "identity/")
_SUBJECT = "pack controller"
_CLOCK = ("resets", "restarts", "milliseconds")
_CLEARED = "TPM2_Clear, and the files"
_PIECEMEAL = "TPM2_Clear was refused: keys, counters and chains one by one, and the files"


def read_log(store: Store) -> Log | None:
    """None for one that cannot be read. What the TPM says of it is Guard's to ask."""
    try:
        return tamper.decode_log(store.read(LOG) or b"")
    except FormatRefused:
        return None


def state(tpm: Tpm, store: Store) -> State:
    return tamper.state_of(read_log(store), _chain(tpm), marked=_marked(tpm))


def check_sound(tpm: Tpm, store: Store, subject: str) -> None:
    """Raises PolicyRefused (tamper.locked, tamper.zeroised)."""
    found = state(tpm, store)
    if found is not State.SOUND:
        raise tamper.refusal(found, read_log(store) or (), subject)


@dataclass(frozen=True)
class Guard:
    """`lock`: held by the one process that changes the log."""

    tpm: Tpm
    store: Store
    policy: Policy = field(default_factory=Policy)
    sensors: Sequence[Sensor] = ()
    lock: Callable[[], AbstractContextManager[None]] = nullcontext
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def state(self) -> State:
        return state(self.tpm, self.store)

    @property
    def log(self) -> Log:
        return read_log(self.store) or ()

    def noticed(self, subject: str = _SUBJECT) -> CellwardError | None:
        """What a pack that is not sound refuses with; of one that is, what it only logged. None: nothing."""
        found, events = self.state, tamper.period(self.log)
        if found is not State.SOUND:
            return tamper.refusal(found, self.log, subject)
        if not events:
            return None
        said = "; ".join(f"{entry.what}: {entry.subject} {entry.detail}".strip() for entry in events)
        return PolicyRefused(Code.TAMPER_ALARM, subject, expected="nothing to log", found=said)

    # --- noticing ---

    def sense(self) -> None:
        """Finish what was begun, look, log and respond: the worst first."""
        self.settle()
        responses = self.policy.responses
        for alarm in sorted(self.alarms(), key=lambda each: -responses[each.event]):
            self.happened(alarm)

    def alarms(self) -> list[Alarm]:
        """What the controller's own sources say now."""
        found = [alarm for sensor in self.sensors for alarm in sensor.alarms()]
        found += self._clock_alarms()
        failures = Attempts(self.tpm, self.store).failures
        if failures >= self.policy.guesses:
            found.append(Alarm(Event.GUESSING, "authentication", f"{failures} failed in a row"))
        return found

    def happened(self, alarm: Alarm) -> None:
        """Respond. A subject's same event is one until the maker enrols the pack again."""
        with self.lock():
            self._settle()
            known = {(entry.what, entry.subject) for entry in tamper.period(self.log)}
            if (alarm.event, _short(alarm.subject)) in known:
                return
            if not self.log:
                self._enrolled("the log begins", self.store.read(FACTORY) or b"")
            self._append(alarm.event, alarm.subject, alarm.detail, self.policy.responses[alarm.event])
            if self.state is State.ZEROISING:
                self._zeroise()

    def _clock_alarms(self) -> list[Alarm]:
        """The TPM counts its starts, and the time in each. An older number than before is another TPM's, or
        an old state of this one's."""
        clock = self.tpm.clock()
        now, before = (clock.resets, clock.restarts, clock.since_start), self._latest()
        if now[:2] > before[:2]:  # once in each start, for it wears flash
            self.store.write(CLOCK, strictjson.encode(dict(zip(_CLOCK, now, strict=True))))
        if now >= before:
            return []
        return [Alarm(Event.CLOCK, "TPM", f"start {now[0]}.{now[1]} behind {before[0]}.{before[1]}")]

    def _latest(self) -> tuple[int, ...]:
        try:
            fields = Fields(strictjson.decode(self.store.read(CLOCK) or b"", CLOCK, 1024), CLOCK)
            return tuple(fields.integer(name) for name in _CLOCK)
        except FormatRefused:
            return (0, 0, 0)

    # --- the maker ---

    def check_quiet(self) -> None:
        """Before a token is spent on what would lock again at once. Raises PolicyRefused (tamper.alarm)."""
        for alarm in self.alarms():
            if alarm.event in (Event.CASE, Event.VOLTAGE, Event.DEBUGGER):
                raise PolicyRefused(
                    Code.TAMPER_ALARM,
                    alarm.subject,
                    expected="no alarm while the pack is enrolled",
                    found=alarm.event.value,
                    advice="close the case, and write 0 to its alarm",
                )

    def check_maker(self, factory: bytes) -> None:
        """A lock is lifted by the maker who enrolled the pack: his factory data say whose servers and
        certificates count, and the TPM remembers them. Raises PolicyRefused (tamper.locked)."""
        if self.state is State.LOCKED and _chain(self.tpm, MAKER_CHAIN) != _maker(factory):
            raise tamper.refusal(State.LOCKED, self.log, "enrolment with other factory data than before")

    def enrolled(self, detail: str, factory: bytes) -> None:
        """By the maker: the pack is sound again, and its history stays. Raises as `check_maker`."""
        with self.lock():
            self._settle()
            self.check_maker(factory)
            self._enrolled(detail, factory)
            self.store.delete(CLOCK)
            Attempts(self.tpm, self.store).forgive()

    def _enrolled(self, detail: str, factory: bytes) -> None:
        """A chain that is not there begins anew, behind a line that says why."""
        if _chain(self.tpm, MAKER_CHAIN) != _maker(factory):
            self.tpm.remove_counter(MAKER_CHAIN)
            self.tpm.define_chain(MAKER_CHAIN)
            self.tpm.extend_chain(MAKER_CHAIN, hashlib.sha256(factory).digest())
        log, chain = self.log, _chain(self.tpm)
        if tamper.standing(log, chain) is Standing.GONE and log[-1].what is not Step.ERASED:
            self._append(Step.ERASED, "TPM", "cleared, or another")
        if chain is None:
            chain = self.tpm.define_chain(TAMPER_CHAIN)
        self._chained(Entry(chain, self.clock(), Step.ENROLLED, _SUBJECT, _short(detail)))

    # --- the log ---

    def settle(self) -> None:
        """What a cut left out is made good: a line without its link, a zeroisation; a log that is not the
        TPM's begins anew, locked. For whatever starts."""
        with self.lock():
            self._settle()

    def _settle(self) -> None:
        log, chain = read_log(self.store), _chain(self.tpm)
        standing = tamper.standing(log, chain)
        if standing is Standing.WRITTEN and log:
            if log[-1].what is Step.ENROLLED:  # only with the TPM's word is a lock lifted
                self._write(log[:-1])
            else:
                self.tpm.extend_chain(TAMPER_CHAIN, log[-1].digest)
        elif standing is Standing.LOST:
            self._begin_lost(chain)
        elif standing is Standing.GONE:
            self.tpm.remove_counter(TAMPER_CHAIN)  # one that an enrolment began that was cut
        if self.state is State.ZEROISING:
            self._zeroise()

    def _begin_lost(self, chain: bytes | None) -> None:
        self.store.write(LOST, self.store.read(LOG) or b"")
        before = self.tpm.define_chain(TAMPER_CHAIN) if chain is None else chain
        response = self.policy.responses[Event.LOG]
        entry = Entry(before, self.clock(), Event.LOG, LOG, "another than the TPM's", response)
        self._write((entry,))
        self.tpm.extend_chain(TAMPER_CHAIN, entry.digest)

    def _append(
        self, what: Event | Step, subject: str, detail: str, response: Response | None = None
    ) -> None:
        log, chain = self.log, _chain(self.tpm)
        gone = tamper.standing(log, chain) is Standing.GONE
        before = log[-1].after if gone or chain is None else chain
        entry = Entry(before, self.clock(), what, _short(subject), _short(detail), response)
        if gone:
            self._write((*log, entry))
        else:
            self._chained(entry)

    def _chained(self, entry: Entry) -> None:
        """The file first: what the chain alone has nobody can read."""
        self._write((*self.log, entry))
        self.tpm.extend_chain(TAMPER_CHAIN, entry.digest)

    def _write(self, log: Log) -> None:
        self.store.write(LOG, b"".join(entry.encode() for entry in log))

    # --- zeroising ---

    def _zeroise(self) -> None:
        """Every step may be done twice. Raises Unavailable (tpm.*, storage.*) where one could not be done:
        what starts next goes on."""
        done = _CLEARED
        if _chain(self.tpm) is not None or _marked(self.tpm):  # else it was cleared, or is another TPM
            with suppress(Unavailable):  # without room for it the log alone has decided
                self.tpm.define_counter(ZEROISE_MARK)
            done = self._clear()
        for name in [name for name in self.store.names() if name.startswith(SECRETS)]:
            self.store.delete(name)
        self.store.delete(CLOCK)
        if not self.log:  # somebody put a state directory back from before there was one
            self._write((Entry(tamper.START, self.clock(), Step.ENROLLED, _SUBJECT, "the log begins"),))
        self._append(Step.ERASED, _SUBJECT, done)
        self.tpm.remove_counter(ZEROISE_MARK)

    def _clear(self) -> str:
        """TPM2_Clear, or what goes without it; which it was."""
        try:
            self.tpm.clear()
        except (Refused, Unavailable) as error:
            if error.code not in (Code.TPM_AUTHORISATION, Code.TPM_LOCKOUT):
                raise
        else:
            return _CLEARED
        for name in KeyName:
            self.tpm.remove_key(name)
        for index in (RELEASE_COUNTER, VAULT_COUNTER, VAULT_CHAIN, MAKER_CHAIN, TAMPER_CHAIN):
            self.tpm.remove_counter(index)
        return _PIECEMEAL


def _maker(factory: bytes) -> bytes:
    return tamper.extended(tamper.START, hashlib.sha256(factory).digest())


def _chain(tpm: Tpm, index: int = TAMPER_CHAIN) -> bytes | None:
    try:
        return tpm.chain(index)
    except Unavailable as error:
        if error.code is Code.TPM_MISSING:
            return None
        raise


def _marked(tpm: Tpm) -> bool:
    try:
        tpm.counter(ZEROISE_MARK)
    except Unavailable as error:
        if error.code is Code.TPM_MISSING:
            return False
        raise
    return True


def _short(text: str) -> str:
    """As a line of the log may have it: some of it is a module's or a file's word."""
    return text.encode("ascii", "backslashreplace").decode("ascii")[:200]
