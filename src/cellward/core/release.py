"""A release: the images and calibrations that belong together, and the documents about it.

docs/formats/release.md is the normative text. Three kinds of envelope (core.envelope):

release      what belongs together, by hash; signed by every key that it names
approval     one other person has looked at this release, by hash
withdrawal   this release is not to be given out any more, and why
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import eq
from typing import TypeVar

from cellward.core import envelope
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.image import Version
from cellward.core.keys import PublicKey
from cellward.core.slots import COUNTER_MAX, HARDWARE, Stage
from cellward.core.strictjson import SHA256_HEX, Fields, format_time, refuse

T = TypeVar("T")
SameHand = Callable[[str, str], bool]  # of two fingerprints

MAX_RELEASE_SIZE = 256 * 1024
MAX_PARTS = 64
MAX_KEYS = 4
MAX_FILE_SIZE = 64 * 1024 * 1024
CALIBRATION = "calibration"
RELEASE, APPROVAL, WITHDRAWAL = "release", "approval", "withdrawal"
RELEASE_FILE, WITHDRAWAL_FILE, APPROVALS = "release.json", "withdrawal.json", "approvals"
OWN_NAMES = frozenset({RELEASE_FILE, WITHDRAWAL_FILE, APPROVALS})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}", re.ASCII)
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", re.ASCII)
_HARDWARE = re.compile("|".join(map(re.escape, HARDWARE)))
_PART = re.compile("|".join((*Stage, CALIBRATION)))
_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,5}(?:\+\d{1,10})?", re.ASCII)
# Nothing that moves a terminal's cursor or turns the order of what is read (Unicode TR 9: overrides).
_HIDDEN = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_TEXT = re.compile(rf"[^\x00-\x08\x0b-\x1f{_HIDDEN}]{{0,1024}}")
_LINE = re.compile(rf"[^\x00-\x1f{_HIDDEN}]{{1,120}}")


@dataclass(frozen=True)
class File:
    """Bytes by name: `sha256` in hex."""

    name: str
    sha256: str
    length: int

    @classmethod
    def of(cls, name: str, data: bytes) -> "File":
        return cls(name, hashlib.sha256(data).hexdigest(), len(data))

    def check(self, data: bytes, what: str) -> bytes:
        """The bytes, if they are this file's. Raises TrustRefused (release.file)."""
        found = File.of(self.name, data)
        if found != self:
            raise TrustRefused(
                Code.RELEASE_FILE,
                what,
                expected=f"{self.length} bytes with SHA-256 {self.sha256[:16]}",
                found=f"{found.length} with {found.sha256[:16]}",
            )
        return data


@dataclass(frozen=True)
class Part:
    """An image or, with the stage `calibration`, a calibration: its file and what it says of itself."""

    file: File
    hardware: str
    stage: str
    version: Version
    counter: int

    @property
    def title(self) -> str:
        return f"{self.hardware} {self.stage} {self.version}"


@dataclass(frozen=True)
class Requirement:
    """On this hardware, `of` works only with `name` of this version or later. Both are stages, or
    `calibration`."""

    hardware: str
    of: str
    name: str
    at_least: Version


@dataclass(frozen=True)
class Release:
    """`safety_impact`: what it changes about safety; empty where an assessment found nothing.

    `keys` are the fingerprints of those who sign it, under their own signatures: none can be left out.
    """

    name: str
    created: datetime
    security_fix: bool
    safety_impact: str
    parts: tuple[Part, ...]
    notes: File
    sbom: File
    requires: tuple[Requirement, ...] = ()
    keys: tuple[str, ...] = ()
    encoded: bytes = field(default=b"", repr=False, compare=False)

    @property
    def id(self) -> str:
        """SHA-256 of the signed payload, in hex."""
        return hashlib.sha256(self.encoded).hexdigest()

    def files(self) -> tuple[File, ...]:
        return (*(part.file for part in self.parts), self.notes, self.sbom)

    def to_sign(self, keys: Iterable[PublicKey]) -> Envelope:
        """The envelope that these keys are to sign.

        Raises FormatRefused (metadata.format) for what would not be read back, PolicyRefused
        (release.keys) without a key that is no post-quantum one.
        """
        named = list(keys)
        check_classical(named, f"release {self.name}")
        whole = replace(self, keys=tuple(sorted(key.fingerprint for key in named)))
        made = envelope.make(RELEASE, _tree(whole))
        _read(made, "new release")
        return made


@dataclass(frozen=True)
class Approval:
    """`approver`: the person's name, as they gave it; who it was is said by `key`."""

    release: str
    approver: str
    statement: str
    at: datetime
    key: PublicKey


@dataclass(frozen=True)
class Withdrawal:
    release: str
    reason: str
    at: datetime
    key: PublicKey


def decode(data: bytes, what: str = "release") -> Release:
    """What a release says; nothing of it is verified. Raises FormatRefused (metadata.*, document.kind)."""
    return _read(envelope.decode(data, RELEASE, what, MAX_RELEASE_SIZE), what)


def verify(data: bytes, keys: Collection[PublicKey], what: str = "release") -> Release:
    """The release, if everybody that it names has signed it.

    A named key that is not among `keys` cannot be asked, but its signature must be there; one classical
    key must be known. So an older verifier goes by ECDSA. One that knows an ML-DSA key asks for both, and
    takes none that names no ML-DSA key: who can forge ECDSA would otherwise just leave the other out.

    Raises FormatRefused as `decode`; TrustRefused (document.signature); PolicyRefused (release.keys).
    """
    found = envelope.decode(data, RELEASE, what, MAX_RELEASE_SIZE)
    release = _read(found, what)
    present = tuple(signature.key_id for signature in found.signatures)
    if present != release.keys:
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE,
            what,
            expected="signatures by all that it names: " + ", ".join(key[:16] for key in release.keys),
            found=", ".join(key[:16] for key in present) or "none",
        )
    known = {key.fingerprint: key for key in keys}
    ours = tuple(signature for signature in found.signatures if signature.key_id in known)
    if not ours:
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE,
            what,
            expected="a release key of " + (", ".join(k[:16] for k in sorted(known)) or "no key"),
            found=", ".join(key[:16] for key in present),
        )
    signers = [known[signature.key_id] for signature in ours]
    check_classical(signers, what)
    _check_post_quantum(signers, known.values(), what)
    replace(found, signatures=ours).signers(known.values(), what)
    return release


def check_classical(keys: Sequence[PublicKey], what: str) -> None:
    """An ML-DSA key is software's until tokens have it: it only ever adds to a token's."""
    if all(key.algorithm.post_quantum for key in keys):
        raise PolicyRefused(
            Code.RELEASE_KEYS,
            what,
            expected="a key in a token, ECDSA or RSA, beside any post-quantum one",
            found=", ".join(key.algorithm.display for key in keys) or "no key",
        )


def _check_post_quantum(signers: Iterable[PublicKey], known: Iterable[PublicKey], what: str) -> None:
    wanted = [key.fingerprint[:16] for key in known if key.algorithm.post_quantum]
    if wanted and not any(key.algorithm.post_quantum for key in signers):
        raise PolicyRefused(
            Code.RELEASE_KEYS,
            what,
            expected=f"post-quantum key {' or '.join(wanted)}, which is known here, among its signers",
            found="classical ones alone",
        )


# --- a second person, and a way back ---


def approval(release: Release, approver: str, statement: str, at: datetime) -> Envelope:
    tree = _about(release, at) | {"approver": approver, "statement": statement}
    made = envelope.make(APPROVAL, tree)
    _read_approval(made.fields("new approval"))
    return made


def withdrawal(release: Release, reason: str, at: datetime) -> Envelope:
    made = envelope.make(WITHDRAWAL, _about(release, at) | {"reason": reason})
    _read_withdrawal(made.fields("new withdrawal"))
    return made


def verify_approval(data: bytes, release: Release, keys: Collection[PublicKey], what: str) -> Approval:
    """Raises FormatRefused, TrustRefused (document.signature, release.other for another release's),
    PolicyRefused (release.keys) for a post-quantum key: an approval is by token."""
    found, key = _by_one(data, APPROVAL, keys, what)
    check_classical([key], what)
    about, name, at, approver, statement = _read_approval(found.fields(what))
    _check_about(about, name, release, what)
    return Approval(about, approver, statement, at, key)


def verify_withdrawal(data: bytes, release: Release, keys: Collection[PublicKey], what: str) -> Withdrawal:
    """Raises as `verify_approval`; a post-quantum key may take back: at worst, nothing goes out."""
    found, key = _by_one(data, WITHDRAWAL, keys, what)
    about, name, at, reason = _read_withdrawal(found.fields(what))
    _check_about(about, name, release, what)
    return Withdrawal(about, reason, at, key)


def check_approved(
    release: Release,
    approvals: Sequence[Approval],
    least: int,
    what: str,
    *,
    asked: int,
    same_hand: SameHand = eq,
) -> None:
    """Four eyes: `least` different keys of the `asked` have approved, and none of them made the release.
    `same_hand` says which keys are one person's: a key register knows more than that a key is itself.

    Raises PolicyRefused (release.approval).
    """
    given = {approval.key.fingerprint for approval in approvals}
    own = {one for one in given if any(same_hand(one, key) for key in release.keys)}
    others = given - own
    if len(others) < least:
        raise PolicyRefused(
            Code.RELEASE_APPROVAL,
            what,
            expected=f"approval by {least} other than who made the release",
            found=f"{len(others) or 'none'}" + (", and one by who made it" if own else ""),
            advice="let another person run `cellward release approve` with their own token"
            if asked
            else "say with --approver PEM whose approval counts",
        )


def approval_file(key: PublicKey) -> str:
    """Where a release's folder keeps the approval by this key."""
    return f"{APPROVALS}/{key.fingerprint}.json"


def _about(release: Release, at: datetime) -> dict[str, object]:
    return {"release": release.id, "name": release.name, "at": format_time(at)}


def _check_about(about: str, name: str, release: Release, what: str) -> None:
    if (about, name) != (release.id, release.name):
        raise TrustRefused(
            Code.RELEASE_OTHER,
            what,
            expected=f"a document about release {release.name} ({release.id[:16]})",
            found=f"one about {name} ({about[:16]})",
        )


def _by_one(data: bytes, kind: str, keys: Collection[PublicKey], what: str) -> tuple[Envelope, PublicKey]:
    found = envelope.decode(data, kind, what, MAX_RELEASE_SIZE)
    signers = found.signers(keys, what)
    if len(signers) != 1:
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE, what, expected="one signature", found=f"{len(signers) or 'none'}"
        )
    return found, next(iter(signers))


# --- the payloads ---


def _tree(release: Release) -> dict[str, object]:
    return {
        "name": release.name,
        "created": format_time(release.created),
        "security_fix": release.security_fix,
        "safety_impact": release.safety_impact,
        "parts": [
            _file_tree(part.file)
            | {
                "hardware": part.hardware,
                "stage": part.stage,
                "version": str(part.version),
                "counter": part.counter,
            }
            for part in release.parts
        ],
        "notes": _file_tree(release.notes),
        "sbom": _file_tree(release.sbom),
        "requires": [
            {"hardware": r.hardware, "of": r.of, "name": r.name, "at_least": str(r.at_least)}
            for r in release.requires
        ],
        "keys": list(release.keys),
    }


def _file_tree(file: File) -> dict[str, object]:
    return {"file": file.name, "sha256": file.sha256, "length": file.length}


def _read(found: Envelope, what: str) -> Release:
    fields = found.fields(what)
    release = Release(
        name=fields.text("name", NAME),
        created=fields.time("created"),
        security_fix=fields.boolean("security_fix"),
        safety_impact=fields.text("safety_impact", _TEXT),
        parts=_each(fields, "parts", _part),
        notes=_file(fields.fields("notes"), last=True),
        sbom=_file(fields.fields("sbom"), last=True),
        requires=_each(fields, "requires", _requirement),
        keys=fields.texts("keys", SHA256_HEX, MAX_KEYS),
        encoded=found.payload,
    )
    fields.finish()
    names = [file.name for file in release.files()]
    places = [f"{part.hardware} {part.stage}" for part in release.parts]
    if not places or len(set(places)) != len(places):
        refuse(what, "one part for each hardware and stage", _twice(places) or "no part")
    if len(set(names)) != len(names):
        refuse(what, "every file under a name of its own", _twice(names))
    if OWN_NAMES & {name.lower() for name in names}:
        refuse(what, f"files of other names than {', '.join(sorted(OWN_NAMES))}", "one of them")
    if list(release.keys) != sorted(release.keys):
        refuse(what, "keys in order", "another order")
    return release


def _twice(items: Sequence[object]) -> str:
    return ", ".join(f"{item} twice" for item in dict.fromkeys(items) if items.count(item) > 1)


def _each(fields: Fields, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
    items = fields.items(name, MAX_PARTS)
    return tuple(read(Fields(item, f"{fields.what} {name} {n}")) for n, item in enumerate(items))


def _file(fields: Fields, *, last: bool = False) -> File:
    file = File(
        fields.text("file", FILE_NAME),
        fields.text("sha256", SHA256_HEX),
        fields.integer("length", 1, MAX_FILE_SIZE),
    )
    if last:
        fields.finish()
    return file


def _part(fields: Fields) -> Part:
    part = Part(
        _file(fields),
        fields.text("hardware", _HARDWARE),
        fields.text("stage", _PART),
        _version(fields, "version"),
        fields.integer("counter", 0, COUNTER_MAX),
    )
    fields.finish()
    return part


def _requirement(fields: Fields) -> Requirement:
    requirement = Requirement(
        fields.text("hardware", _HARDWARE),
        fields.text("of", _PART),
        fields.text("name", _PART),
        _version(fields, "at_least"),
    )
    fields.finish()
    return requirement


def _version(fields: Fields, name: str) -> Version:
    text = fields.text(name, _VERSION)
    version = Version.parse(text)
    if str(version) != text:
        refuse(fields.what, f"{name!r} as {version}", repr(text))
    return version


def _read_approval(fields: Fields) -> tuple[str, str, datetime, str, str]:
    about, name, at = _read_about(fields)
    approver, statement = fields.text("approver", _LINE), fields.text("statement", _TEXT)
    fields.finish()
    return about, name, at, approver, statement


def _read_withdrawal(fields: Fields) -> tuple[str, str, datetime, str]:
    about, name, at = _read_about(fields)
    reason = fields.text("reason", _LINE)
    fields.finish()
    return about, name, at, reason


def _read_about(fields: Fields) -> tuple[str, str, datetime]:
    return fields.text("release", SHA256_HEX), fields.text("name", NAME), fields.time("at")
