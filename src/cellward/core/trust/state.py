"""What is trusted of one repository: signed files and their bytes, immutable, loaded and verified."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp

from cellward.core import published
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata import (
    RULES,
    Repository,
    Role,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
    public_key,
)

PARSE: dict[Role, Callable[[bytes], Metadata[Any]]] = {
    Role.ROOT: parse_root,
    Role.TIMESTAMP: parse_timestamp,
    Role.SNAPSHOT: parse_snapshot,
    Role.TARGETS: parse_targets,
}


@dataclass(frozen=True)
class Trusted(Generic[T]):
    """A verified file: its exact bytes, and what they say."""

    data: bytes
    signed: T


@dataclass(frozen=True)
class TrustedRepository:
    """The trusted state of one repository. Every `update_*` returns a new one or raises.

    A persisted state is `files()`, given to `load()` at the next start. Write them in that order
    (root first), delete the absent ones: whatever a power cut leaves, `load()` accepts. When to
    persist: see the package's docstring.
    """

    repository: Repository
    root: Trusted[Root]
    timestamp: Trusted[Timestamp] | None = None
    snapshot: Trusted[Snapshot] | None = None
    targets: Trusted[Targets] | None = None

    def files(self) -> dict[Role, bytes]:
        """The trusted bytes, in the order in which to persist them."""
        return {role: trusted.data for role, trusted in self._held() if trusted is not None}

    def version(self, role: Role) -> int:
        """The trusted version of `role`, 0 for none."""
        return next(held.signed.version if held else 0 for name, held in self._held() if name is role)

    def _held(self) -> tuple[tuple[Role, Trusted[Any] | None], ...]:
        return (
            (Role.ROOT, self.root),
            (Role.TIMESTAMP, self.timestamp),
            (Role.SNAPSHOT, self.snapshot),
            (Role.TARGETS, self.targets),
        )

    def subject(self, role: Role) -> str:
        """How refusals name the file: `director timestamp`."""
        return f"{self.repository} {role}"


def load(repository: Repository, files: Mapping[Role, bytes]) -> TrustedRepository:
    """The trusted state from persisted bytes (`TrustedRepository.files`) or the factory's root.

    Everything is verified again; expiry is not looked at, an expired file still forbids a rollback.
    A file other than the root that is damaged, or that the root's keys do not sign, is left out as if
    it were absent: that is what a power cut leaves between a rotated root and the deletion of what it
    revoked (5.4.4.3 step 4), and a bad block must not end all updates (5.4.4). It gives nothing to
    somebody who can write here: he could delete the file as well.

    Raises FormatRefused or TrustRefused (metadata.signature) for the root.
    """
    subject = f"{repository} {Role.ROOT}"
    root = parse_root(files[Role.ROOT])
    verify_threshold(root.signed, root, subject)
    state = root.signed
    return TrustedRepository(
        repository=repository,
        root=Trusted(files[Role.ROOT], state),
        timestamp=_load(state, files.get(Role.TIMESTAMP), parse_timestamp),
        snapshot=_load(state, files.get(Role.SNAPSHOT), parse_snapshot),
        targets=_load(state, files.get(Role.TARGETS), parse_targets),
    )


def _load(root: Root, data: bytes | None, parse: Callable[[bytes], Metadata[T]]) -> Trusted[T] | None:
    if data is None:
        return None
    try:
        metadata = parse(data)
    except FormatRefused:
        return None
    return Trusted(data, metadata.signed) if still_signed(root, metadata) else None


def still_signed(root: Root, metadata: Metadata[Any]) -> bool:
    """Whether `root` vouches for this file: a question about what is held, not a verification."""
    return len(_signers(root, metadata)) >= root.roles[metadata.signed.type].threshold


def verify_threshold(root: Root, metadata: Metadata[T], subject: str) -> T:
    """What `metadata` says, if the threshold of the keys that `root` names for its role signed it.

    Unique keys are counted, not key ids: one key under two ids is one signer (T6.1, Uptane 5.4.4).
    Raises TrustRefused (metadata.signature; key.published where it is for want of other keys).
    """
    threshold = root.roles[metadata.signed.type].threshold
    what = f"{subject} version {metadata.signed.version}"
    signers = _signers(root, metadata)
    if len(signers) < threshold:
        for key in _named(root, metadata):
            key.unpublished(what)
        raise TrustRefused(
            Code.METADATA_SIGNATURE,
            what,
            expected=f"signatures by {threshold} of the keys in root version {root.version}",
            found=f"{len(signers)}",
        )
    return metadata.signed


def _signers(root: Root, metadata: Metadata[Any]) -> set[PublicKey]:
    """Without those with which anybody could have signed."""
    return {key for key in _named(root, metadata) if published.where(key.fingerprint) is None}


def _named(root: Root, metadata: Metadata[Any]) -> set[PublicKey]:
    """Who signed, of those that `root` names."""
    result = root.get_verification_result(metadata.signed.type, metadata.signed_bytes, metadata.signatures)
    return {public_key(key) for key in result.signed.values()}


def check_not_lower(subject: str, old: int, new: int) -> None:
    """Raises TrustRefused (metadata.version): a rollback."""
    if new < old:
        raise TrustRefused(
            Code.METADATA_VERSION, subject, expected=f"version {old} or later", found=f"version {new}"
        )


def check_expiry(subject: str, expires: datetime, now: datetime) -> None:
    """Raises TrustRefused (metadata.expired): a freeze. `now` is aware and fixed for the whole cycle."""
    if now >= expires:
        raise TrustRefused(
            Code.METADATA_EXPIRED,
            subject,
            expected=f"a file valid at {now:%Y-%m-%dT%H:%M:%SZ}",
            found=f"expired at {expires:%Y-%m-%dT%H:%M:%SZ}",
        )


def download_limit(meta: MetaFile, role: Role) -> int:
    """How many bytes of a listed metadata file to download at most."""
    return min(meta.length or RULES[role].limit, RULES[role].limit)


def hashes(data: bytes) -> dict[str, str]:
    """As metadata lists them."""
    return {"sha256": hashlib.sha256(data).hexdigest()}


def check_meta_file(meta: MetaFile, data: bytes, subject: str) -> None:
    """Length and hash of a metadata file are those listed, where they are (TUF 5.5.2, 5.6.2).

    Raises TrustRefused (metadata.hash).
    """
    if meta.length is not None and len(data) != meta.length:
        raise TrustRefused(
            Code.METADATA_HASH, subject, expected=f"{meta.length} bytes", found=f"{len(data)} bytes"
        )
    if meta.hashes is not None and meta.hashes != hashes(data):
        raise TrustRefused(
            Code.METADATA_HASH,
            subject,
            expected=f"SHA-256 {meta.hashes['sha256']}",
            found=hashes(data)["sha256"],
        )


def check_listed_version(meta: MetaFile, version: int, subject: str) -> None:
    """Raises TrustRefused (metadata.version)."""
    if version != meta.version:
        raise TrustRefused(
            Code.METADATA_VERSION,
            subject,
            expected=f"version {meta.version}, as listed",
            found=f"version {version}",
        )
