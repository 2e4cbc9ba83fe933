"""How to check Timestamp metadata: Uptane 2.1.0 section 5.4.4.4.

1. Download up to the limit (16 KiB); the file name is fixed.
2. It is signed by the threshold of unique keys of the latest root.
3. Its version is not below the previous one's. The same version with other content is refused as
   well (a signer that says two things at once; TUF 5.4.3.1 only drops it), and so is a lower snapshot
   version (TUF 5.4.3.2).
4. It has not expired.
"""

from dataclasses import replace
from datetime import datetime

from tuf.api.metadata import Metadata, Timestamp

from cellward.core.errors import Code, TrustRefused
from cellward.core.metadata import Role, parse_timestamp
from cellward.core.trust.root import check_root
from cellward.core.trust.state import (
    Trusted,
    TrustedRepository,
    check_expiry,
    check_not_lower,
    verify_threshold,
)


def update_timestamp(state: TrustedRepository, data: bytes, now: datetime) -> TrustedRepository:
    """The state with this timestamp; an equal one leaves it as it is. The root is checked first.

    Raises FormatRefused; TrustRefused (metadata.signature, metadata.version, metadata.expired).
    """
    check_root(state, now)  # 5.4.4.3 step 3
    subject = state.subject(Role.TIMESTAMP)
    metadata = parse_timestamp(data, state.dialect)  # 1
    new = verify_threshold(state.root.signed, Role.TIMESTAMP, metadata, subject)  # 2
    held, taken = state.timestamp, Trusted(data, new)
    if held is not None:  # 3
        _check_rollback(state, held.signed, metadata, subject)
        taken = held if new.version == held.signed.version else taken
    check_expiry(f"{subject} version {new.version}", taken.signed.expires, now)  # 4
    return state if taken is held else replace(state, timestamp=taken)


def _check_rollback(
    state: TrustedRepository, old: Timestamp, metadata: Metadata[Timestamp], subject: str
) -> None:
    new = metadata.signed
    check_not_lower(subject, old.version, new.version)
    if new.version == old.version:
        if new == old or not state.dialect.compares_with_held:
            return
        raise TrustRefused(
            Code.METADATA_VERSION,
            subject,
            expected=f"the content of version {old.version} that is trusted",
            found="other content with the same version",
        )
    check_not_lower(f"{subject} snapshot", old.snapshot_meta.version, new.snapshot_meta.version)
