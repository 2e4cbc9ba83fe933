"""How to check Root metadata: Uptane 2.1.0 section 5.4.4.3.

1. Load the previous root (`load`).
2. Update to the latest root:
   1. N is the version of the latest root.
   2. Download version N+1, bounded; if there is none, go on with step 3 (the caller's loop, at most
      MAX_ROOTS_PER_CYCLE turns).
   3. N+1 is signed by a threshold of unique keys of root N, and of root N+1 itself.
   4. Its version is exactly N+1.
   5. It becomes the latest root.
   6. Repeat.
3. The latest root has not expired (an expired one on the way is no fault).
4. If the timestamp's or snapshot's keys were rotated, delete both: recovery from fast-forward.
"""

from dataclasses import replace
from datetime import datetime

from tuf.api.metadata import Root

from cellward.core.errors import Code, TrustRefused
from cellward.core.metadata import PARSE, Role, parse_root
from cellward.core.trust.state import (
    Trusted,
    TrustedRepository,
    check_expiry,
    still_signed,
    verify_threshold,
)

# A vehicle that slept through more rotations needs several cycles; a liar cannot keep it busy.
MAX_ROOTS_PER_CYCLE = 32


def update_root(state: TrustedRepository, data: bytes) -> TrustedRepository:
    """Steps 2.3 to 2.5 and 4 with `data` as the file of version N+1. Expiry: `check_root`.

    Raises FormatRefused; TrustRefused (metadata.signature, metadata.version).
    """
    subject = state.subject(Role.ROOT)
    metadata = parse_root(data, state.dialect)  # 2.2: bounded
    current, new = state.root.signed, metadata.signed
    verify_threshold(current, Role.ROOT, metadata, subject)  # 2.3 (1)
    verify_threshold(new, Role.ROOT, metadata, subject)  # 2.3 (2)
    if new.version != current.version + 1:  # 2.4
        raise TrustRefused(
            Code.METADATA_VERSION,
            subject,
            expected=f"version {current.version + 1}",
            found=f"version {new.version}",
        )
    return _without_rotated(replace(state, root=Trusted(data, new)), current)  # 2.5, 4


def check_root(state: TrustedRepository, now: datetime) -> TrustedRepository:
    """Step 3, after the loop. `update_timestamp` does it too, so that nobody can leave it out.

    Raises TrustRefused (metadata.expired).
    """
    check_expiry(state.subject(Role.ROOT), state.root.signed.expires, now)  # 3
    return state


def _without_rotated(state: TrustedRepository, old: Root) -> TrustedRepository:
    """Step 4. Targets are judged alike: what revoked keys signed sets no floor for later versions."""
    if _rotated(state, old, Role.TIMESTAMP) or _rotated(state, old, Role.SNAPSHOT):
        state = replace(state, timestamp=None, snapshot=None)
    if _rotated(state, old, Role.TARGETS):
        state = replace(state, targets=None, delegated={})
    return state


def _rotated(state: TrustedRepository, old: Root, role: Role) -> bool:
    """A key was withdrawn, or those that are left no longer sign the file that is held.

    A key that is only added rotates nothing: the old ones are still trusted, and so is their floor.
    """
    new = state.root.signed
    if not set(old.roles[role].keyids) <= set(new.roles[role].keyids):
        return True
    data = state.files().get(role)
    return data is not None and not still_signed(new, role, PARSE[role](data, state.dialect))
