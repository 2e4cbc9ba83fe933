"""A second person, and a way back: approvals and withdrawals, each about one release."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import eq

from cellward.core import envelope
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.release.signatures import check_classical
from cellward.core.release.values import (
    APPROVAL,
    APPROVALS,
    LINE,
    MAX_RELEASE_SIZE,
    NAME,
    TEXT,
    WITHDRAWAL,
    Release,
)
from cellward.core.strictjson import SHA256_HEX, Fields, format_time

SameHand = Callable[[str, str], bool]  # of two fingerprints


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


def _read_approval(fields: Fields) -> tuple[str, str, datetime, str, str]:
    about, name, at = _read_about(fields)
    approver, statement = fields.text("approver", LINE), fields.text("statement", TEXT)
    fields.finish()
    return about, name, at, approver, statement


def _read_withdrawal(fields: Fields) -> tuple[str, str, datetime, str]:
    about, name, at = _read_about(fields)
    reason = fields.text("reason", LINE)
    fields.finish()
    return about, name, at, reason


def _read_about(fields: Fields) -> tuple[str, str, datetime]:
    return fields.text("release", SHA256_HEX), fields.text("name", NAME), fields.time("at")
