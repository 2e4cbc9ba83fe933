"""The key register: which keys the maker has, what each is for, and since when or until when.

docs/formats/key-register.md is the normative text. A version is an envelope (core.envelope) signed by the
root quorum of the version before it *and* by its own, as TUF changes its root (specification 5.3); it names
the version before it by hash. So whoever trusts one version can follow to the newest, and nobody can put an
older one, or one of a smaller quorum, in its place.
"""

import hashlib
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cellward.core import envelope
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.strictjson import SHA256_HEX, Fields, format_time, refuse

KIND = "key-register"
MAX_REGISTER_SIZE = 1024 * 1024
MAX_KEYS = 64
MAX_ROOTS = 16
MAX_VERSION = 2**31
ROOT = "root"
_PURPOSE = re.compile(r"[a-z][a-z-]{0,31}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,_-]{0,79}", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{1,4096}={0,2}", re.ASCII)
_REASON = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


class Stage(StrEnum):
    """Whose life a key signs for. What one stage's key has signed is nothing to the other."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class State(StrEnum):
    ACTIVE = "active"
    RETIRED = "retired"  # signs nothing any more; what it has signed stays good
    REVOKED = "revoked"  # what it has signed is good only if it was logged before


@dataclass(frozen=True)
class RegisteredKey:
    """A key and its conditions. `until` None: for as long as it is active. `at`: when it was retired or
    revoked, with the `reason`. `successor`: fingerprint of the key that took its place, or empty."""

    key: PublicKey
    name: str
    purpose: str
    stage: Stage
    since: datetime
    until: datetime | None = None
    state: State = State.ACTIVE
    at: datetime | None = None
    reason: str = ""
    successor: str = ""

    @property
    def fingerprint(self) -> str:
        return self.key.fingerprint


@dataclass(frozen=True)
class Register:
    """`previous`: SHA-256 of the version before, in hex; empty in version 1. `threshold` of the active
    root keys sign."""

    version: int
    previous: str
    issued: datetime
    threshold: int
    keys: tuple[RegisteredKey, ...]
    encoded: bytes = field(default=b"", repr=False, compare=False)

    @property
    def roots(self) -> tuple[PublicKey, ...]:
        return tuple(k.key for k in self.keys if k.purpose == ROOT and k.state is State.ACTIVE)

    @property
    def id(self) -> str:
        """SHA-256 of the payload, in hex: what the holders of the roots compare before they sign."""
        return hashlib.sha256(self.encoded).hexdigest()

    def find(self, fingerprint: str) -> RegisteredKey:
        """Raises TrustRefused (key.unknown)."""
        for known in self.keys:
            if known.fingerprint == fingerprint:
                return known
        raise TrustRefused(
            Code.KEY_UNKNOWN,
            f"key {fingerprint[:16]}",
            expected=f"a key of register version {self.version}",
            found="none with that fingerprint",
        )

    def usable(self, purpose: str, stage: Stage, at: datetime) -> tuple[PublicKey, ...]:
        """The keys that may sign this now, in the register's order."""
        return tuple(
            known.key
            for known in self.keys
            if (known.purpose, known.stage, known.state) == (purpose, stage, State.ACTIVE)
            and known.since <= at
            and (known.until is None or at < known.until)
        )

    def check_use(self, key: PublicKey, purpose: str, stage: Stage, at: datetime) -> RegisteredKey:
        """The entry of a key that may sign this at this time.

        Raises TrustRefused (key.unknown), PolicyRefused: key.purpose, key.stage, key.not_yet, key.expired,
        key.retired, key.revoked.
        """
        known = self.find(key.fingerprint)
        what = f"key {known.name} ({known.fingerprint[:16]})"
        checks = (
            (Code.KEY_PURPOSE, known.purpose == purpose, f"a key for {purpose}", f"one for {known.purpose}"),
            (Code.KEY_STAGE, known.stage is stage, f"a {stage} key", f"a {known.stage} key"),
            (Code.KEY_REVOKED, known.state is not State.REVOKED, "a key in use", _ended(known)),
            (Code.KEY_RETIRED, known.state is not State.RETIRED, "a key in use", _ended(known)),
            (Code.KEY_NOT_YET, known.since <= at, f"one valid at {at:%Y-%m-%d %H:%M}", f"from {known.since}"),
            (
                Code.KEY_EXPIRED,
                known.until is None or at < known.until,
                f"one valid at {at:%Y-%m-%d %H:%M}",
                f"until {known.until}",
            ),
        )
        for code, good, expected, found in checks:
            if not good:
                raise PolicyRefused(code, what, expected=expected, found=found)
        return known

    def to_sign(self) -> Envelope:
        """Raises FormatRefused (metadata.format) for what would not be read back."""
        made = envelope.make(KIND, _tree(self))
        _read(made, "new key register")
        return made


def _ended(known: RegisteredKey) -> str:
    when = f" {known.at:%Y-%m-%d}" if known.at else ""
    return f"{known.state}{when}: {known.reason}"


def decode(data: bytes, what: str = "key register") -> Register:
    """What a version says; nothing of it is verified. Raises FormatRefused (metadata.*, document.kind)."""
    return _read(envelope.decode(data, KIND, what, MAX_REGISTER_SIZE), what)


def verify_first(data: bytes, anchor: Iterable[PublicKey], what: str = "key register") -> Register:
    """Version 1, or any that one knows by its roots: its active root keys are exactly `anchor`, and its
    threshold of them has signed.

    Raises as `decode`, and TrustRefused (register.roots, document.signature).
    """
    found = envelope.decode(data, KIND, what, MAX_REGISTER_SIZE)
    register = _read(found, what)
    expected, has = ({key.fingerprint for key in keys} for keys in (anchor, register.roots))
    if expected != has:
        raise TrustRefused(
            Code.REGISTER_ROOTS,
            what,
            expected="the roots " + ", ".join(sorted(key[:16] for key in expected)),
            found=", ".join(sorted(key[:16] for key in has)),
        )
    _check_quorum(found, register, (register,), what)
    return register


def verify_next(data: bytes, held: Register, what: str = "key register") -> Register:
    """The version after `held`: signed by the quorum of both.

    Raises as `decode`, and TrustRefused (register.version, document.signature), PolicyRefused
    (register.keys) where a key has vanished or came back to life.
    """
    found = envelope.decode(data, KIND, what, MAX_REGISTER_SIZE)
    register = _read(found, what)
    if (register.version, register.previous) != (held.version + 1, held.id):
        raise TrustRefused(
            Code.REGISTER_VERSION,
            what,
            expected=f"version {held.version + 1} after {held.id[:16]}",
            found=f"version {register.version} after {register.previous[:16] or 'none'}",
        )
    _check_quorum(found, register, (held, register), what)
    _check_history(held, register, what)
    return register


def verify_chain(documents: Sequence[bytes], anchor: Iterable[PublicKey]) -> Register:
    """The newest of all versions, the first of which is known by its roots. Raises as the two above."""
    if not documents:
        raise TrustRefused(Code.REGISTER_VERSION, "key register", expected="version 1", found="none")
    register = verify_first(documents[0], anchor, "key register, first version")
    for number, data in enumerate(documents[1:], 2):
        register = verify_next(data, register, f"key register, document {number}")
    return register


def _check_quorum(found: Envelope, register: Register, of: Sequence[Register], what: str) -> None:
    known = {key.fingerprint: key for each in of for key in each.roots}
    signers = found.signers(known.values(), what)
    for each in of:
        have = len(signers & set(each.roots))
        if have < each.threshold:
            raise TrustRefused(
                Code.DOCUMENT_SIGNATURE,
                what,
                expected=f"{each.threshold} of the {len(each.roots)} root keys of version {each.version}",
                found=f"{have}",
            )


def _check_history(held: Register, register: Register, what: str) -> None:
    """A key is never forgotten, changed in what it is for, or given back what was taken from it."""
    now = {known.fingerprint: known for known in register.keys}
    order = list(State)
    for before in held.keys:
        after = now.get(before.fingerprint)
        if after is None:
            raise _rewritten(what, f"key {before.name}, which version {held.version} has", "none")
        same = (before.purpose, before.stage, before.since) == (after.purpose, after.stage, after.since)
        if not same or order.index(after.state) < order.index(before.state):
            raise _rewritten(
                what,
                f"key {before.name} for {before.purpose}, {before.stage}, {before.state} or later",
                f"{after.purpose}, {after.stage}, {after.state}",
            )


def _rewritten(what: str, expected: str, found: str) -> PolicyRefused:
    return PolicyRefused(Code.REGISTER_KEYS, what, expected=expected, found=found)


# --- the payload ---


def _tree(register: Register) -> dict[str, object]:
    return {
        "version": register.version,
        "previous": register.previous,
        "issued": format_time(register.issued),
        "threshold": register.threshold,
        "keys": [_key_tree(known) for known in register.keys],
    }


def _key_tree(known: RegisteredKey) -> dict[str, object]:
    return {
        "key": b64encode(known.key.spki).decode(),
        "name": known.name,
        "purpose": known.purpose,
        "stage": str(known.stage),
        "since": format_time(known.since),
        "until": None if known.until is None else format_time(known.until),
        "state": str(known.state),
        "at": None if known.at is None else format_time(known.at),
        "reason": known.reason,
        "successor": known.successor,
    }


def _read(found: Envelope, what: str) -> Register:
    fields = found.fields(what)
    version = fields.integer("version", 1, MAX_VERSION)
    items = fields.items("keys", MAX_KEYS)
    register = Register(
        version,
        fields.text("previous", SHA256_HEX if version > 1 else re.compile("")),
        fields.time("issued"),
        fields.integer("threshold", 1, MAX_ROOTS),
        tuple(_key(Fields(item, f"{what} key {number}")) for number, item in enumerate(items)),
        found.payload,
    )
    fields.finish()
    fingerprints = [known.fingerprint for known in register.keys]
    if len(set(fingerprints)) != len(fingerprints):
        refuse(what, "every key once, for one purpose", "one twice")
    if any(known.successor and known.successor not in fingerprints for known in register.keys):
        refuse(what, "successors among the keys", "another")
    if not register.threshold <= len(register.roots) <= MAX_ROOTS:
        refuse(what, f"{register.threshold} to {MAX_ROOTS} active root keys", f"{len(register.roots)}")
    return register


def _key(fields: Fields) -> RegisteredKey:
    known = RegisteredKey(
        _public_key(fields),
        fields.text("name", _NAME),
        fields.text("purpose", _PURPOSE),
        Stage(fields.text("stage", re.compile("|".join(Stage)))),
        fields.time("since"),
        _optional_time(fields, "until"),
        State(fields.text("state", re.compile("|".join(State)))),
        _optional_time(fields, "at"),
        fields.text("reason", re.compile(_REASON.pattern + "|")),
        fields.text("successor", re.compile(SHA256_HEX.pattern + "|")),
    )
    fields.finish()
    ended = known.state is not State.ACTIVE
    if ended != (known.at is not None) or ended != bool(known.reason):
        refuse(fields.what, "time and reason of a key that is retired or revoked, and of no other", "another")
    if known.purpose == ROOT and known.key.algorithm.post_quantum:
        refuse(fields.what, "a root key in a token", known.key.algorithm.display)
    return known


def _optional_time(fields: Fields, name: str) -> datetime | None:
    return None if fields.value(name) is None else fields.time(name)


def _public_key(fields: Fields) -> PublicKey:
    text = fields.text("key", _BASE64, 8192)
    try:
        return PublicKey.from_spki(b64decode(text, validate=True))
    except Base64Error as error:
        raise FormatRefused(
            Code.METADATA_FORMAT, fields.what, expected="base64 in 'key'", found="something else"
        ) from error
