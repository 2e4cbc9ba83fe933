"""The register's content as values, with the rules that one version must keep by itself."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NoReturn

from cellward.core.attestation import Custody
from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused, TrustRefused
from cellward.core.keys import KeyStage, PublicKey, Role

MAX_KEYS = 256  # that ever were: nobody is forgotten
MAX_ACTIVE = 64
MAX_ROOT_KEYS = 8  # twice as many may sign a change of all of them: an envelope's limit is 16
CLOCK_SLACK = timedelta(minutes=10)  # between the clocks of two machines that have no network


class State(StrEnum):
    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Status:
    """`at`: from when on it is retired (that may lie ahead), or since when it must be taken as stolen."""

    state: State = State.ACTIVE
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class Entry:
    """One key. `custody`: what its token said when it was entered, where it could be asked.

    `successor`: fingerprint of the key that takes over, or empty.
    """

    name: str
    key: PublicKey
    purpose: Role
    stage: KeyStage
    not_before: datetime
    not_after: datetime
    custody: Custody | None = None
    status: Status = Status()
    successor: str = ""

    @property
    def fingerprint(self) -> str:
        return self.key.fingerprint

    @property
    def active(self) -> bool:
        return self.status.state is State.ACTIVE

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:16]})"


@dataclass(frozen=True)
class Root:
    """`threshold` of these keys must sign."""

    threshold: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Register:
    """One version. `previous`: SHA-256 of the file of the version before; empty in the first.

    Raises FormatRefused (register.content) unless it keeps the rules of the format, section "Rules".
    """

    version: int
    previous: str
    issued: datetime
    root: Root
    entries: tuple[Entry, ...] = field(repr=False)

    def __post_init__(self) -> None:
        _check(self)

    def key(self, fingerprint: str) -> Entry:
        """Raises TrustRefused (key.unknown)."""
        found = next((entry for entry in self.entries if entry.fingerprint == fingerprint), None)
        if found is None:
            raise TrustRefused(
                Code.KEY_UNKNOWN,
                f"key {fingerprint[:16]}",
                expected=f"a key of the register, version {self.version}",
                found="none of them",
                advice="enter it with `cellward keys ceremony begin`, or take one of `cellward keys list`",
            )
        return found

    def named(self, text: str) -> Entry:
        """By its name, its fingerprint, or 8 digits of that. Raises key.unknown, .ambiguous."""
        found = [e for e in self.entries if text == e.name or _starts(e.fingerprint, text.lower())]
        if len(found) == 1:
            return found[0]
        if not found:
            raise TrustRefused(
                Code.KEY_UNKNOWN,
                f"key {text[:64]}",
                expected="the name of a key of the register, or 8 digits of its fingerprint",
                found="names: " + ", ".join(sorted({entry.name for entry in self.entries})[:40]),
            )
        raise Refused(
            Code.REGISTER_AMBIGUOUS,
            f"key {text[:64]}",
            expected="one key",
            found=", ".join(str(entry) for entry in found[:20]),
            advice="give the fingerprint",
        )

    def roots(self) -> tuple[Entry, ...]:
        return tuple(self.key(fingerprint) for fingerprint in self.root.keys)

    def same_hand(self, one: str, other: str) -> bool:
        """Whether two keys (fingerprints) are one person's, as far as their entries say: one key, one name,
        or one token."""
        if one == other:
            return True
        found = [entry for entry in self.entries if entry.fingerprint in (one, other)]
        if len(found) < 2:
            return False
        tokens = [entry.custody.token for entry in found if entry.custody and entry.custody.token.serial]
        return found[0].name.casefold() == found[1].name.casefold() or tokens[1:] == tokens[:1] != []

    def of(self, purpose: Role, stage: KeyStage) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if (e.purpose, e.stage) == (purpose, stage))

    def signing(self, purpose: Role, stage: KeyStage, at: datetime) -> tuple[Entry, ...]:
        """The keys that `check_use` lets sign."""
        return tuple(e for e in self.of(purpose, stage) if self._objection(e, purpose, stage, at) is None)

    def check_use(self, key: PublicKey, purpose: Role, stage: KeyStage, at: datetime) -> Entry:
        """The key's entry, if it may sign for this purpose and stage at this time.

        Raises TrustRefused (key.unknown, key.published), PolicyRefused: key.purpose, .stage, .revoked,
        .retired, .not_yet, .expired; register.clock where the clock is before the register's own time.
        """
        entry = self.key(key.fingerprint)
        if at < self.issued - CLOCK_SLACK:
            raise PolicyRefused(
                Code.REGISTER_CLOCK,
                "this machine's clock",
                expected=f"a time after the register was issued, {self.issued:%Y-%m-%d %H:%M} UTC",
                found=f"{at:%Y-%m-%d %H:%M} UTC",
                advice="set the clock; or the register was issued by a clock that is wrong",
            )
        objection = self._objection(entry, purpose, stage, at)
        if objection is not None:
            raise objection
        return entry

    def check_signature(
        self, key: PublicKey, purpose: Role, stage: KeyStage, logged: datetime | None, now: datetime
    ) -> Entry:
        """The key's entry, if a signature of it counts. `logged`: when the signing log says that it was made;
        without that, it is as old as nobody knows.

        What a revoked key signed counts only where the log has it from before `at`, since a thief can write
        any date but that one. Raises as `check_use`, but not for the clock.
        """
        entry = self.key(key.fingerprint)
        if logged is None and _ended(entry.status, now, past=False):
            _refuse_ended(entry, "a signature that the signing log has from before", None)
        objection = self._objection(entry, purpose, stage, logged or now, past=True)
        if objection is not None:
            raise objection
        return entry

    def _objection(
        self, entry: Entry, purpose: Role, stage: KeyStage, at: datetime, *, past: bool = False
    ) -> Refused | None:
        try:
            entry.key.unpublished(f"key {entry}")
            _check_kind(entry, purpose, stage)
            _check_time(entry, at, past=past)
        except (PolicyRefused, TrustRefused) as error:
            return error
        return None


def _starts(fingerprint: str, text: str) -> bool:
    return len(text) >= 8 and fingerprint.startswith(text)


def _check_kind(entry: Entry, purpose: Role, stage: KeyStage) -> None:
    if entry.purpose is not purpose:
        raise PolicyRefused(
            Code.KEY_PURPOSE, f"key {entry}", expected=f"a {purpose} key", found=f"a {entry.purpose} key"
        )
    if entry.stage is not stage:
        raise PolicyRefused(
            Code.KEY_STAGE, f"key {entry}", expected=f"a {stage} key", found=f"a {entry.stage} key"
        )


def _ended(status: Status, at: datetime, *, past: bool) -> bool:
    """`past`: the time is the log's. For what is signed now a revocation counts whatever the clock says."""
    stolen = status.state is State.REVOKED and not past
    return stolen or (status.at is not None and at >= status.at)


def _check_time(entry: Entry, at: datetime, *, past: bool) -> None:
    if _ended(entry.status, at, past=past):
        _refuse_ended(entry, "a key in use" if not past else "a signature from before that", at)
    if at < entry.not_before:
        raise PolicyRefused(
            Code.KEY_NOT_YET,
            f"key {entry}",
            expected=f"use from {entry.not_before:%Y-%m-%d %H:%M} UTC on",
            found=f"{at:%Y-%m-%d %H:%M} UTC",
        )
    if at > entry.not_after:
        raise PolicyRefused(
            Code.KEY_EXPIRED,
            f"key {entry}",
            expected=f"use until {entry.not_after:%Y-%m-%d %H:%M} UTC",
            found=f"{at:%Y-%m-%d %H:%M} UTC",
            advice="make its successor with `cellward keys rotate`",
        )


def _refuse_ended(entry: Entry, expected: str, at: datetime | None) -> NoReturn:
    status = entry.status
    when = "" if status.at is None else f" {status.at:%Y-%m-%d %H:%M} UTC"
    found = f"one that is {status.state} since{when}" + (f": {status.reason}" if status.reason else "")
    raise PolicyRefused(
        Code.KEY_REVOKED if status.state is State.REVOKED else Code.KEY_RETIRED,
        f"key {entry}",
        expected=expected,
        found=found if at is None else f"{found}; the time is {at:%Y-%m-%d %H:%M} UTC",
        advice=f"its successor is {entry.successor[:16]}" if entry.successor else "",
    )


# --- the rules of one version ---


def _check(register: Register) -> None:
    for expected, found in _faults(register):
        raise FormatRefused(
            Code.REGISTER_CONTENT, f"key register {register.version}", expected=expected, found=found
        )


def _faults(register: Register) -> Iterator[tuple[str, str]]:
    entries, root = register.entries, register.root
    ids = [entry.fingerprint for entry in entries]
    if register.version < 1 or (register.version == 1) != (register.previous == ""):
        yield "version 1 without, every other with the hash of the one before", f"version {register.version}"
    twice = [str(entry) for entry in entries if ids.count(entry.fingerprint) > 1]
    if twice:
        yield "every key once", ", ".join(twice) + " are one key"
    if ids != sorted(ids):
        yield "keys in the order of their fingerprints", "another order"
    active = [entry for entry in entries if entry.active]
    if len(entries) > MAX_KEYS or len(active) > MAX_ACTIVE:
        yield f"at most {MAX_ACTIVE} active keys of {MAX_KEYS}", f"{len(active)} of {len(entries)}"
    roots = tuple(entry.fingerprint for entry in active if entry.purpose is Role.ROOT)
    if root.keys != roots:
        yield "every active root key under root, no other", f"{len(root.keys)} for {len(roots)}"
    if not 1 <= root.threshold <= len(roots) <= MAX_ROOT_KEYS:
        yield (
            f"a threshold of 1 to the number of root keys, which is at most {MAX_ROOT_KEYS}",
            f"{root.threshold} of {len(roots)}",
        )
    held = {entry.fingerprint: entry for entry in entries}
    for entry in entries:
        yield from _faults_of(entry, register.issued)
        yield from _faults_of_successor(entry, held)


def _faults_of(entry: Entry, issued: datetime) -> Iterator[tuple[str, str]]:
    status = entry.status
    if entry.not_before >= entry.not_after:
        yield f"key {entry} valid from before to after", "an empty span"
    if (status.state is State.ACTIVE) != (status.at is None):
        yield f"a time for key {entry} where it is retired or revoked, and only there", status.state.value
    if (status.state is State.REVOKED) != bool(status.reason):
        yield f"a reason for key {entry} where it is revoked, and only there", status.state.value
    if status.state is State.REVOKED and status.at is not None and status.at > issued:
        yield f"key {entry} revoked by now", f"{status.at:%Y-%m-%d %H:%M} UTC"
    if entry.purpose is Role.ROOT and entry.key.algorithm.post_quantum:
        yield f"root key {entry} in a token", entry.key.algorithm.display
    if entry.purpose is Role.ROOT and entry.stage is not KeyStage.PRODUCTION:
        yield f"root key {entry} of stage production", entry.stage.value


def _faults_of_successor(entry: Entry, held: dict[str, Entry]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    at: Entry | None = entry
    while at is not None and at.successor:
        following = held.get(at.successor)
        if following is None or (following.purpose, following.stage) != (entry.purpose, entry.stage):
            yield f"a successor of key {entry} with its purpose and stage", at.successor[:16]
            return
        if at.fingerprint in seen:
            yield f"an end to the successors of key {entry}", "a circle"
            return
        seen.add(at.fingerprint)
        at = following


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.fingerprint))
