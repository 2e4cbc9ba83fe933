"""How to check Snapshot metadata: Uptane 2.1.0 section 5.4.4.5.

1. Download up to the number of bytes that the timestamp states.
2. Length, hashes and version are those in the timestamp (mix and match).
3. It is signed by the threshold of unique keys of the latest root.
4. Its version is not below the previous one's.
5. No Targets file that the previous snapshot lists has a lower version in this one.
6. None that it lists is missing.
7. It has not expired.
"""

from dataclasses import replace
from datetime import datetime

from tuf.api.metadata import Snapshot, Timestamp

from cellward.core.errors import Code, TrustRefused
from cellward.core.metadata import Role, parse_snapshot
from cellward.core.trust.state import (
    Trusted,
    TrustedRepository,
    check_expiry,
    check_listed_version,
    check_meta_file,
    check_not_lower,
    download_limit,
    is_listed,
    verify_threshold,
)


def snapshot_limit(state: TrustedRepository) -> int:
    """Step 1: how many bytes of the snapshot to download at most."""
    return download_limit(_timestamp(state).snapshot_meta, Role.SNAPSHOT, state.dialect)


def needs_snapshot(state: TrustedRepository) -> bool:
    """Whether the trusted snapshot is not the one that the trusted timestamp names (5.4.4.2 step 4)."""
    meta = _timestamp(state).snapshot_meta
    return state.snapshot is None or not is_listed(meta, state.snapshot)


def update_snapshot(state: TrustedRepository, data: bytes, now: datetime) -> TrustedRepository:
    """The state with this snapshot. The timestamp must be trusted and fresh.

    Raises FormatRefused; TrustRefused (metadata.missing, metadata.hash, metadata.version,
    metadata.signature, metadata.expired).
    """
    subject = state.subject(Role.SNAPSHOT)
    timestamp = _timestamp(state)
    check_expiry(state.subject(Role.TIMESTAMP), timestamp.expires, now)  # 5.4.4.4 step 4
    check_meta_file(timestamp.snapshot_meta, data, subject)  # 1, 2: length and hashes
    metadata = parse_snapshot(data, state.dialect)
    check_listed_version(timestamp.snapshot_meta, metadata.signed.version, subject)  # 2: version
    new = verify_threshold(state.root.signed, Role.SNAPSHOT, metadata, subject)  # 3
    if state.snapshot is not None:
        old = state.snapshot.signed
        check_not_lower(subject, old.version, new.version)  # 4
        _check_listed(old, new, subject)  # 5, 6
    check_expiry(f"{subject} version {new.version}", new.expires, now)  # 7
    return replace(state, snapshot=Trusted(data, new))


def _check_listed(old: Snapshot, new: Snapshot, subject: str) -> None:
    for name, meta in old.meta.items():
        if name not in new.meta:  # 6
            raise TrustRefused(
                Code.METADATA_MISSING, subject, expected=f"{name}, listed before", found="no such entry"
            )
        check_not_lower(f"{subject} {name}", meta.version, new.meta[name].version)  # 5


def _timestamp(state: TrustedRepository) -> Timestamp:
    if state.timestamp is None:
        raise TrustRefused(
            Code.METADATA_MISSING,
            state.subject(Role.SNAPSHOT),
            expected="a trusted timestamp before it",
            found="none",
        )
    return state.timestamp.signed
