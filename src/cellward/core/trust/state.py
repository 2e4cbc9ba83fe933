"""What is trusted of one repository: signed files and their bytes, immutable, loaded and verified."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp

from cellward.core import published
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.metadata import HASHES, PARSE, UPTANE, Repository, Role, Tuf, fingerprint

_NO_FILES: Mapping[str, bytes] = {}


@dataclass(frozen=True)
class Trusted(Generic[T]):
    """A verified file: its exact bytes, and what they say."""

    data: bytes
    signed: T


@dataclass(frozen=True)
class Delegated(Trusted[Targets]):
    """The file of a delegated role, and who vouched for it: the keys that this delegator names."""

    delegator: Targets = field(repr=False)


@dataclass(frozen=True)
class TrustedRepository:
    """The trusted state of one repository. Every `update_*` returns a new one or raises.

    A persisted state is `files()` and `delegated_files()`, given to `load()` at the next start. Write
    them in that order (root first), delete the absent ones: whatever a power cut leaves, `load()`
    accepts. When to persist: see the package's docstring.
    """

    repository: Repository
    root: Trusted[Root]
    timestamp: Trusted[Timestamp] | None = None
    snapshot: Trusted[Snapshot] | None = None
    targets: Trusted[Targets] | None = None
    delegated: Mapping[str, Delegated] = field(default_factory=dict)
    dialect: Tuf = UPTANE

    def files(self) -> dict[Role, bytes]:
        """The trusted bytes, in the order in which to persist them."""
        return {role: trusted.data for role, trusted in self._held() if trusted is not None}

    def delegated_files(self) -> dict[str, bytes]:
        """Those of delegated roles, by name."""
        return {name: trusted.data for name, trusted in self.delegated.items()}

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

    def subject(self, role: str) -> str:
        """How refusals name the file: `director timestamp`."""
        return f"{self.repository} {repr(role[:80])[1:-1]}"  # no line break gets out


def load(
    repository: Repository,
    files: Mapping[Role, bytes],
    delegated: Mapping[str, bytes] = _NO_FILES,
    dialect: Tuf = UPTANE,
) -> TrustedRepository:
    """The trusted state from persisted bytes (`TrustedRepository.files`) or the factory's root.

    Everything is verified again; expiry is not looked at, an expired file still forbids a rollback.
    A file other than the root that is damaged, or that is not signed by the keys of its delegator, is left
    out as if it were absent: that is what a power cut leaves between a rotated root and the deletion of what
    it revoked (5.4.4.3 step 4), and a bad block must not end all updates (5.4.4). It gives nothing to
    somebody who can write here: he could delete the file as well.

    Raises FormatRefused or TrustRefused (metadata.signature) for the root.
    """
    root: Metadata[Root] = PARSE[Role.ROOT](files[Role.ROOT], dialect)
    verify_threshold(root.signed, Role.ROOT, root, f"{repository} {Role.ROOT}")

    def held(role: Role) -> Trusted[Any] | None:
        return _load(root.signed, role, files.get(role), dialect)

    targets = held(Role.TARGETS)
    return TrustedRepository(
        repository=repository,
        root=Trusted(files[Role.ROOT], root.signed),
        timestamp=held(Role.TIMESTAMP),
        snapshot=held(Role.SNAPSHOT),
        targets=targets,
        delegated=_load_delegated(targets.signed, delegated, dialect) if targets else {},
        dialect=dialect,
    )


def _load(delegator: Root | Targets, name: str, data: bytes | None, dialect: Tuf) -> Trusted[Any] | None:
    if data is None:
        return None
    try:
        metadata = PARSE[Role(name) if isinstance(delegator, Root) else Role.TARGETS](data, dialect)
    except FormatRefused:
        return None
    return Trusted(data, metadata.signed) if still_signed(delegator, name, metadata) else None


def _load_delegated(top: Targets, files: Mapping[str, bytes], dialect: Tuf) -> dict[str, Delegated]:
    """Every file that one signed for whom another trusted one, or `top`, delegates to. Each file is taken
    once, so cycles end."""
    kept: dict[str, Delegated] = {}
    delegators = [top]
    while delegators:
        delegator = delegators.pop()
        for name in [name for name in files if name not in kept and delegates(delegator, name)]:
            loaded = _load(delegator, name, files[name], dialect)
            if loaded is not None:
                kept[name] = Delegated(loaded.data, loaded.signed, delegator)
                delegators.append(loaded.signed)
    return {name: kept[name] for name in files if name in kept}


def delegates(delegator: Targets, name: str) -> bool:
    """Whether `delegator` has a delegation to the role of that name."""
    delegations = delegator.delegations
    if delegations is None:
        return False
    if delegations.succinct_roles is not None:
        return delegations.succinct_roles.is_delegated_role(name)
    return name in (delegations.roles or {})


def still_signed(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> bool:
    """Whether `delegator` vouches for this file: a question about what is held, not a verification."""
    return len(_signers(delegator, role, metadata)) >= delegator.get_delegated_role(role).threshold


def verify_threshold(delegator: Root | Targets, role: str, metadata: Metadata[T], subject: str) -> T:
    """What `metadata` says, if the threshold of the keys that `delegator` names for `role` signed it.

    Unique keys are counted, not key ids: one key under two ids is one signer (T6.1, Uptane 5.4.4).
    Raises TrustRefused (metadata.signature; key.published where it is for want of other keys).
    """
    threshold = delegator.get_delegated_role(role).threshold
    what = f"{subject} version {metadata.signed.version}"
    signers = _signers(delegator, role, metadata)
    if len(signers) < threshold:
        for key in _named(delegator, role, metadata):
            published.refuse(key, what)
        raise TrustRefused(
            Code.METADATA_SIGNATURE,
            what,
            expected=f"signatures by {threshold} of the keys in {delegator.type} version {delegator.version}",
            found=f"{len(signers)}",
        )
    return metadata.signed


def _signers(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> set[str]:
    """Without those with which anybody could have signed."""
    return {key for key in _named(delegator, role, metadata) if published.where(key) is None}


def _named(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> set[str]:
    """Who signed, of those that `delegator` names: fingerprints."""
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return {fingerprint(key) for key in result.signed.values()}


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


def download_limit(meta: MetaFile, role: Role, dialect: Tuf) -> int:
    """How many bytes of a listed metadata file to download at most."""
    return min(meta.length or dialect.limits[role], dialect.limits[role])


def hashes(data: bytes, names: Iterable[str]) -> dict[str, str]:
    """As metadata lists them; of the algorithms that are known here."""
    return {name: hashlib.new(name, data).hexdigest() for name in names if name in HASHES}


def is_listed(meta: MetaFile, held: Trusted[Any]) -> bool:
    """Whether what is held is the file that `meta` names: version, and length and hashes where they are."""
    if meta.version != held.signed.version or meta.length not in (None, len(held.data)):
        return False
    return not _other_hashes(meta.hashes or {}, held.data)


def _other_hashes(listed: Mapping[str, str], data: bytes) -> dict[str, str]:
    """Those of `data` that are not as listed."""
    return {name: digest for name, digest in hashes(data, listed).items() if digest != listed[name]}


def check_meta_file(meta: MetaFile, data: bytes, subject: str) -> None:
    """Length and hashes of a metadata file are those listed, where they are (TUF 5.5.2, 5.6.2).

    Raises TrustRefused (metadata.hash).
    """
    if meta.length is not None and len(data) != meta.length:
        raise TrustRefused(
            Code.METADATA_HASH, subject, expected=f"{meta.length} bytes", found=f"{len(data)} bytes"
        )
    for name, digest in _other_hashes(meta.hashes or {}, data).items():
        raise TrustRefused(
            Code.METADATA_HASH,
            subject,
            expected=f"{name} {(meta.hashes or {})[name]}",
            found=digest,
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
