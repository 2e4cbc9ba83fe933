"""The next version's content: one function for each thing that happens to keys."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from cellward.core.errors import Code, PolicyRefused
from cellward.core.keys import Role
from cellward.core.register.document import Document
from cellward.core.register.values import Entry, Register, Root, State, Status, in_order


def first(entries: Iterable[Entry], threshold: int, issued: datetime) -> Register:
    """Version 1. Raises FormatRefused (register.content), TrustRefused (key.published)."""
    return _made(1, "", in_order(_unpublished(entries)), threshold, issued)


def _made(
    version: int, previous: str, entries: tuple[Entry, ...], threshold: int, issued: datetime
) -> Register:
    roots = tuple(entry.fingerprint for entry in entries if entry.purpose is Role.ROOT and entry.active)
    return Register(version, previous, issued, Root(threshold, roots), entries)


def _next(
    before: Document, entries: Iterable[Entry], issued: datetime, threshold: int | None = None
) -> Register:
    old = before.register
    changed = {entry.fingerprint: entry for entry in old.entries}
    new = {entry.fingerprint: entry for entry in entries}
    _unpublished(entry for fingerprint, entry in new.items() if fingerprint not in changed)
    changed |= new
    m = old.root.threshold if threshold is None else threshold
    return _made(old.version + 1, before.sha256, in_order(changed.values()), m, issued)


def _unpublished(new: Iterable[Entry]) -> list[Entry]:
    """What is in the register already stays readable, so that it can be revoked; it signs nothing."""
    return [replace(entry, key=entry.key.unpublished(f"key {entry}")) for entry in new]


def added(before: Document, entries: Sequence[Entry], issued: datetime) -> Register:
    """With new keys. Raises PolicyRefused (key.exists) for a known one: a key has one purpose for life."""
    known = {entry.fingerprint: entry for entry in before.register.entries}
    for entry in entries:
        held = known.get(entry.fingerprint)
        if held is not None:
            raise PolicyRefused(
                Code.KEY_EXISTS,
                f"key {entry}",
                expected="a key that is new to the register",
                found=f"a {held.purpose} key of stage {held.stage}, {held.status.state}",
            )
    return _next(before, entries, issued)


def rotated(
    before: Document, fingerprint: str, new: Entry, retire_at: datetime, issued: datetime
) -> Register:
    """`new` takes over; the old key may still sign until `retire_at`."""
    old = before.register.key(fingerprint)
    _require_active(old)
    added(before, [new], issued)
    status = Status(State.RETIRED, retire_at)
    return _next(before, [replace(old, status=status, successor=new.fingerprint), new], issued)


def revoked(
    before: Document,
    fingerprint: str,
    reason: str,
    at: datetime,
    issued: datetime,
    *,
    even_last: bool = False,
    threshold: int | None = None,
) -> Register:
    """What the key signed from `at` on counts no more. A root key leaves the root with it.

    Raises PolicyRefused (register.last_key) where no key of its purpose and stage remains to sign with,
    unless `even_last`; key.revoked for one that is revoked already.
    """
    old = before.register.key(fingerprint)
    if old.status.state is State.REVOKED:
        raise PolicyRefused(
            Code.KEY_REVOKED, f"key {old}", expected="a key that is not revoked", found="a revoked one"
        )
    others = [
        entry
        for entry in before.register.signing(old.purpose, old.stage, issued)
        if entry.fingerprint != fingerprint
    ]
    if not others and not even_last:
        raise PolicyRefused(
            Code.REGISTER_LAST_KEY,
            f"key {old}",
            expected=f"another {old.stage} key for {old.purpose} that may sign",
            found="none: nothing could be signed to mend what the thief did",
            advice="make its successor first (`cellward keys rotate`), or say --even-last",
        )
    return _next(before, [replace(old, status=Status(State.REVOKED, at, reason))], issued, threshold)


def with_root(
    before: Document, roots: Sequence[Entry], threshold: int, others: Sequence[Entry], issued: datetime
) -> Register:
    """Another root: new keys come, those that are not among `roots` are retired. `others`: new keys of other
    roles. Raises as `added`."""
    added(before, others, issued)
    wanted = {entry.fingerprint for entry in roots}
    known = {entry.fingerprint for entry in before.register.entries}
    gone = [
        replace(entry, status=Status(State.RETIRED, issued))
        for entry in before.register.roots()
        if entry.fingerprint not in wanted
    ]
    for entry in roots:
        if entry.fingerprint in known and entry.fingerprint not in before.register.root.keys:
            added(before, [entry], issued)  # out of use, or of another purpose: refused
    new = [entry for entry in roots if entry.fingerprint not in known]
    return _next(before, [*gone, *new, *others], issued, threshold)


def _require_active(entry: Entry) -> None:
    if not entry.active:
        raise PolicyRefused(
            Code.KEY_RETIRED if entry.status.state is State.RETIRED else Code.KEY_REVOKED,
            f"key {entry}",
            expected="an active key",
            found=f"a {entry.status.state} one",
        )
