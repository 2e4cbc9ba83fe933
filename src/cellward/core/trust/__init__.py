"""What a Primary trusts, and in which order it finds out: Uptane 2.1.0 sections 5.4.4.2 to 5.4.4.7.

Pure: `now` (aware, UTC, fixed for the whole cycle) and the bytes come in, a new state or a refusal
comes out; a refusal leaves the old state as it was. One cycle (docs/formats/uptane.md)::

    director = load(Repository.DIRECTOR, files)      # or the factory's root: {Role.ROOT: data}
    for each next root, at most MAX_ROOTS_PER_CYCLE: director = update_root(director, data)
    director = update_timestamp(director, data, now)             # 5.4.4.2 step 3
    if not needs_snapshot(director): nothing new                 # step 4
    director = update_snapshot(director, data, now)              # at most snapshot_limit() bytes
    director = update_targets(director, data, now)               # step 5, at most targets_limit()
    assignments = check_director_targets(director, now, vehicle_id=..., ecus=...)
    ... the same five for Repository.IMAGE ...                   # steps 6 to 9
    while (next := wanted(assignments, image, now)):             # 5.4.4.7, delegated roles
        image = update_delegated(image, next, data, now)         # at most next.limit bytes
    orders = match(assignments, image, installed, now)                # step 10
    verify_download(order.target, data)

Persist a new root at once, and the other files of both repositories together when the last check of
the cycle has passed: a refused cycle then leaves nothing behind. The Director signs for every vehicle
with one key, so another vehicle's timestamp verifies here; kept too early, its higher version would
lock this vehicle's own out as a rollback.
"""

from cellward.core.trust.delegations import MAX_ROLES, Wanted, search, update_delegated
from cellward.core.trust.match import Order, match, verify_digest, verify_download, verify_file, wanted
from cellward.core.trust.root import MAX_ROOTS_PER_CYCLE, check_root, update_root
from cellward.core.trust.snapshot import needs_snapshot, snapshot_limit, update_snapshot
from cellward.core.trust.state import Trusted, TrustedRepository, load
from cellward.core.trust.targets import (
    check_director_targets,
    current_targets,
    needs_targets,
    targets_limit,
    update_targets,
)
from cellward.core.trust.timestamp import update_timestamp

__all__ = [
    "MAX_ROLES",
    "MAX_ROOTS_PER_CYCLE",
    "Order",
    "Trusted",
    "TrustedRepository",
    "Wanted",
    "check_director_targets",
    "check_root",
    "current_targets",
    "load",
    "match",
    "needs_snapshot",
    "needs_targets",
    "search",
    "snapshot_limit",
    "targets_limit",
    "update_delegated",
    "update_root",
    "update_snapshot",
    "update_targets",
    "update_timestamp",
    "verify_digest",
    "verify_download",
    "verify_file",
    "wanted",
]
