"""From the first version to the newest: who may change the register, and what no change may do.

As TUF changes its root (specification 5.3): the threshold of the old root keys and of the new ones.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.register.document import Document, decode
from cellward.core.register.values import Entry, Register, State

MAX_CHAIN = 1024
MAX_FILE = 64 * 1024 * 1024  # of all versions: a thousand of thirty keys
_FIXED = ("name", "purpose", "stage", "not_before", "custody")


@dataclass(frozen=True)
class Step:
    """A signed version and who signed it; `missing`: whose signatures are still wanted, in words."""

    document: Document
    signers: frozenset[PublicKey]
    missing: tuple[str, ...] = ()


def split(data: bytes, what: str = "key register") -> list[bytes]:
    """A register file's versions, one a line. Raises FormatRefused (metadata.format, .too_large)."""
    if len(data) > MAX_FILE:
        raise FormatRefused(
            Code.METADATA_TOO_LARGE, what, expected=f"at most {MAX_FILE} bytes", found=f"{len(data)}"
        )
    lines = data.splitlines(keepends=True)
    if not lines or not all(line.endswith(b"\n") for line in lines):
        raise FormatRefused(
            Code.METADATA_FORMAT, what, expected="one version a line, each with its line's end", found="other"
        )
    if len(lines) > MAX_CHAIN:
        raise FormatRefused(
            Code.METADATA_TOO_LARGE, what, expected=f"at most {MAX_CHAIN} versions", found=f"{len(lines)}"
        )
    return lines


def verify_chain(
    documents: Sequence[bytes],
    anchor: "str | Collection[PublicKey] | None" = None,
    what: str = "key register",
) -> Register:
    """The newest version, if every one is signed as it must be.

    `anchor`: SHA-256 of the first version's file, or all of its root keys, known from elsewhere. Without it
    the first version is taken at its word, which is for its maker alone.

    Raises FormatRefused (see `decode`), TrustRefused: register.version, .roots, .quorum, .keys,
    document.signature.
    """
    previous: Document | None = None
    for data in documents:
        document = decode(data, what)
        if previous is None and anchor is not None:
            _check_anchor(document, anchor, what)
        step = signed(document, previous, what)
        if step.missing:
            signers = ", ".join(sorted(key.fingerprint[:16] for key in step.signers))
            raise TrustRefused(
                Code.REGISTER_QUORUM,
                f"{what} {document.register.version}",
                expected="; ".join(step.missing),
                found=f"signatures by {signers or 'nobody'}",
            )
        previous = document
    if previous is None:
        raise TrustRefused(Code.REGISTER_VERSION, what, expected="at least one version", found="none")
    return previous.register


def signed(document: Document, previous: Document | None, what: str = "key register") -> Step:
    """Who signed this version, and who has yet to. Raises TrustRefused: register.version, for what may not
    follow `previous`; document.signature, for a signature that is not good or nobody's of the two roots."""
    new = document.register
    if previous is None:
        _first(new, what)
        old_roots: tuple[Entry, ...] = ()
    else:
        check_succession(previous, document, what)
        old_roots = previous.register.roots()
    signers = document.envelope.signers(
        {entry.key: None for entry in (*old_roots, *new.roots())}, f"{what} {new.version}"
    )
    own = _missing(new, new.roots(), new.root.threshold, signers)
    before = own if previous is None else _missing(new, old_roots, previous.register.root.threshold, signers)
    wanted = [("the root", own)] if own == before else [("its own root", own), ("the root before", before)]
    return Step(document, signers, tuple(f"of {whose}, {text}" for whose, text in wanted if text))


def _check_anchor(document: Document, anchor: "str | Collection[PublicKey]", what: str) -> None:
    if isinstance(anchor, str):
        expected, found = f"the register {anchor[:16]}", document.sha256[:16]
        good = document.sha256 == anchor
    else:
        wanted, has = {key.fingerprint for key in anchor}, set(document.register.root.keys)
        expected, found = ("the roots " + _short(wanted), _short(has))
        good = wanted == has
    if not good:
        raise TrustRefused(Code.REGISTER_ROOTS, what, expected=expected, found=found)


def _short(fingerprints: Collection[str]) -> str:
    return ", ".join(sorted(each[:16] for each in fingerprints))


def _missing(new: Register, roots: Sequence[Entry], threshold: int, signers: Collection[PublicKey]) -> str:
    """Empty where the threshold is reached. A root key counts while it is valid, by the time that the new
    version itself says."""
    valid = [entry for entry in roots if entry.not_before <= new.issued <= entry.not_after]
    count = sum(entry.key in signers for entry in valid)
    if count >= threshold:
        return ""
    names = ", ".join(str(entry) for entry in valid if entry.key not in signers)
    return f"{threshold} of {len(roots)}, {threshold - count} more: {names or 'none is valid'}"


def _first(register: Register, what: str) -> None:
    if register.version != 1:
        raise TrustRefused(
            Code.REGISTER_VERSION, what, expected="version 1 first", found=f"version {register.version}"
        )


def check_succession(previous: Document, document: Document, what: str = "key register") -> None:
    """Refuse what may not follow: another predecessor, a key that is forgotten or changed, a state that goes
    back, a life that gets longer. Raises TrustRefused (register.version, register.keys)."""
    old, new, where = previous.register, document.register, f"{what} {document.register.version}"
    for expected, found in _breaks(previous, new):
        raise TrustRefused(Code.REGISTER_VERSION, where, expected=expected, found=found)
    held = {entry.fingerprint: entry for entry in new.entries}
    for before in old.entries:
        for expected, found in _rewritten(before, held.get(before.fingerprint)):
            raise TrustRefused(Code.REGISTER_KEYS, where, expected=expected, found=found)


def _breaks(previous: Document, new: Register) -> Iterator[tuple[str, str]]:
    old = previous.register
    if new.version != old.version + 1:
        yield f"version {old.version + 1}", f"{new.version}"
    if new.previous != previous.sha256:
        yield f"one that follows {previous.sha256[:16]}", new.previous[:16]
    if new.issued < old.issued:
        yield f"issued after {old.issued:%Y-%m-%d %H:%M} UTC", f"{new.issued:%Y-%m-%d %H:%M} UTC"


_AGE = {State.ACTIVE: 0, State.RETIRED: 1, State.REVOKED: 2}


def _rewritten(before: Entry, after: Entry | None) -> Iterator[tuple[str, str]]:
    if after is None:
        yield f"key {before} still in it", "no such key"
        return
    changed = [name for name in _FIXED if getattr(before, name) != getattr(after, name)]
    if changed:
        yield f"key {before} as it was", f"another {changed[0]}"
    if after.not_after > before.not_after:
        yield f"key {before} no longer valid than before", f"until {after.not_after:%Y-%m-%d} UTC"
    was, now = before.status, after.status
    if _AGE[now.state] < _AGE[was.state]:
        yield f"key {before} {was.state} or worse", now.state.value
    if was.state is now.state and was.at is not None and now.at is not None and now.at > was.at:
        yield f"key {before} {was.state} at {was.at:%Y-%m-%d %H:%M} UTC or before", "a later time"
    if before.successor and after.successor != before.successor:
        yield f"key {before} with its successor", after.successor[:16] or "none"
