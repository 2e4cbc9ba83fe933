"""How to check Targets metadata: Uptane 2.1.0 section 5.4.4.6.

1. Download up to the limit (8 MiB, or the length that the snapshot states).
2. Its version is the one in the latest snapshot; length and hashes too, where it lists them.
3. It is signed by the threshold of unique keys of the latest root.
4. Its version is not below the previous one's.
5. It has not expired.
6. Director: no delegations. Those of the Image repository: `core.trust.delegations`.
7. Director: no ECU is named more than once.
8. Director: every ECU named is in this vehicle, with this hardware. Cellward asks more: the Targets
   carry this vehicle's id, so that another vehicle's cannot be replayed (A8), and an image is for
   the slot that the ECU id names.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from tuf.api.metadata import Metadata, MetaFile, Root, Targets

from cellward.core.errors import Code, TrustRefused
from cellward.core.metadata import (
    Assignment,
    Ecu,
    Repository,
    Role,
    assignments_of,
    parse_targets,
    target_of,
    vehicle_id_of,
)
from cellward.core.trust.root import check_root
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


def targets_limit(state: TrustedRepository) -> int:
    """Step 1: how many bytes of the Targets to download at most."""
    return download_limit(listed(state, Role.TARGETS), Role.TARGETS, state.dialect)


def needs_targets(state: TrustedRepository) -> bool:
    """Whether the trusted Targets are not the ones that the trusted snapshot names."""
    meta = listed(state, Role.TARGETS)
    return state.targets is None or not is_listed(meta, state.targets)


def update_targets(state: TrustedRepository, data: bytes, now: datetime) -> TrustedRepository:
    """The state with these Targets (steps 1 to 6). The snapshot must be trusted and fresh.

    Raises FormatRefused; TrustRefused (metadata.missing, metadata.hash, metadata.version,
    metadata.signature, metadata.expired, target.delegation, target.counter).
    """
    check_snapshot_is_current(state, now)
    new = check_targets(state, Role.TARGETS, state.root.signed, data, state.targets, now)
    return replace(state, targets=Trusted(data, _without_delegations(state, new)))  # 6


def check_targets(
    state: TrustedRepository,
    role: str,
    delegator: Root | Targets,
    data: bytes,
    held: Trusted[Targets] | None,
    now: datetime,
) -> Targets:
    """Steps 1 to 5, for the top level and delegated roles alike; `held` is what was trusted before."""
    subject, meta = state.subject(role), listed(state, role)
    check_meta_file(meta, data, subject)  # 1, 2
    metadata: Metadata[Targets] = parse_targets(data, state.dialect)
    check_listed_version(meta, metadata.signed.version, subject)  # 2
    new = verify_threshold(delegator, role, metadata, subject)  # 3
    if held is not None and state.dialect.compares_with_held:
        check_not_lower(subject, held.signed.version, new.version)  # 4
        if state.repository is Repository.IMAGE:
            _check_counters(held.signed, new)
    check_expiry(f"{subject} version {new.version}", new.expires, now)  # 5
    return new


def _without_delegations(state: TrustedRepository, targets: Targets) -> Targets:
    if state.repository is Repository.DIRECTOR and targets.delegations is not None:
        raise TrustRefused(
            Code.TARGET_DELEGATION,
            state.subject(Role.TARGETS),
            expected="no delegations",
            found="delegations",
            advice="the Director signs every order itself",
        )
    return targets


def current_targets(state: TrustedRepository, now: datetime) -> Targets:
    """The Targets of a state that is complete, consistent and fresh in all four roles.

    A state may come from disk, and step 4 or 8 of 5.4.4.2 may have skipped its snapshot and Targets
    because the timestamp still names them: they must not have expired in the meantime, or somebody
    who holds only the timestamp's key could freeze a vehicle for ever.

    Raises TrustRefused (metadata.missing, metadata.hash, metadata.version, metadata.expired,
    target.delegation).
    """
    check_root(state, now)
    check_snapshot_is_current(state, now)
    if state.targets is None:
        raise TrustRefused(
            Code.METADATA_MISSING, state.subject(Role.TARGETS), expected="trusted Targets", found="none"
        )
    subject, meta = state.subject(Role.TARGETS), listed(state, Role.TARGETS)
    check_meta_file(meta, state.targets.data, subject)
    check_listed_version(meta, state.targets.signed.version, subject)
    check_expiry(subject, state.targets.signed.expires, now)
    return _without_delegations(state, state.targets.signed)  # 6


def check_snapshot_is_current(state: TrustedRepository, now: datetime) -> None:
    """5.4.4.4 step 4, 5.4.4.5 steps 2 and 7: a persisted snapshot only sets floors."""
    timestamp, snapshot = state.timestamp, state.snapshot
    if timestamp is None or snapshot is None:
        raise TrustRefused(
            Code.METADATA_MISSING,
            state.subject(Role.TARGETS),
            expected="a trusted timestamp and snapshot before them",
            found="none",
        )
    subject, meta = state.subject(Role.SNAPSHOT), timestamp.signed.snapshot_meta
    check_expiry(state.subject(Role.TIMESTAMP), timestamp.signed.expires, now)
    check_expiry(subject, snapshot.signed.expires, now)
    check_meta_file(meta, snapshot.data, subject)
    check_listed_version(meta, snapshot.signed.version, subject)


def _check_counters(old: Targets, new: Targets) -> None:
    """5.4.4.2 step 10.2.3: no image's release counter is below the one in the previous Targets.

    Only in the Image repository: the Director's must equal it (10.2.2), and a Director that lied once
    could otherwise set a floor that outlives the lie.
    """
    for name, file in new.targets.items():
        before = old.targets.get(name)
        if before is None or before == file:
            continue
        floor, counter = target_of(before).release_counter, target_of(file).release_counter
        if counter < floor:
            raise TrustRefused(
                Code.TARGET_COUNTER,
                f"target {name}",
                expected=f"a release counter from {floor}",
                found=f"{counter}",
            )


def listed(state: TrustedRepository, role: str) -> MetaFile:
    """What the trusted snapshot says of this role's file. Raises TrustRefused (metadata.missing)."""
    found = state.snapshot.signed.meta.get(f"{role}.json") if state.snapshot else None
    if found is None:
        raise TrustRefused(
            Code.METADATA_MISSING,
            state.subject(role),
            expected="a trusted snapshot that lists it",
            found="none",
        )
    return found


def check_director_targets(
    state: TrustedRepository, now: datetime, *, vehicle_id: str, ecus: Iterable[Ecu]
) -> tuple[Assignment, ...]:
    """The Director's orders for this vehicle (steps 6 to 8), sorted by target name; perhaps none.

    `ecus` are all ECUs of this vehicle, from the factory's or the modules' own word, never from the
    network. Raises FormatRefused; TrustRefused (as `current_targets`; target.vehicle, target.ecu,
    target.hardware).
    """
    subject = state.subject(Role.TARGETS)
    targets = current_targets(state, now)
    if vehicle_id_of(targets) != vehicle_id:  # 8 (A8)
        raise TrustRefused(
            Code.TARGET_VEHICLE, subject, expected=f"vehicle {vehicle_id}", found=vehicle_id_of(targets)
        )
    known = {ecu.ecu_id: ecu for ecu in ecus}
    assignments = assignments_of(targets)
    seen: set[str] = set()
    for assignment in assignments:
        for ecu in assignment.ecu_identifiers:
            _check_ecu(assignment, ecu, known, seen)
            seen.add(ecu.ecu_id)
    return assignments


def _check_ecu(assignment: Assignment, ecu: Ecu, known: dict[str, Ecu], seen: set[str]) -> None:
    target = assignment.target
    subject = f"target {target.name} for ECU {ecu.ecu_id}"
    if ecu.ecu_id in seen:  # 7
        raise TrustRefused(Code.TARGET_ECU, subject, expected="one image for an ECU", found="two")
    if ecu.ecu_id not in known:  # 8
        raise TrustRefused(
            Code.TARGET_ECU, subject, expected="an ECU of this vehicle", found="one that is not here"
        )
    if ecu.stage != target.stage:  # 8
        raise TrustRefused(Code.TARGET_ECU, subject, expected=f"an image for {ecu.stage}", found=target.stage)
    hardware = known[ecu.ecu_id].hardware_id
    if ecu.hardware_id != hardware or hardware not in target.hardware_ids:  # 8 (A10)
        raise TrustRefused(
            Code.TARGET_HARDWARE,
            subject,
            expected=f"hardware {hardware}",
            found=f"{ecu.hardware_id}, image for {', '.join(target.hardware_ids)}",
        )
