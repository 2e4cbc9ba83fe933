"""The Director repository: which vehicle shall run what, signed for it alone (Uptane 5.3.2).

Targets, snapshot and timestamp of a vehicle are made when it asks, together and under one version,
and kept until its orders or ECUs change or half of their lifetime is gone. A version is stored
before anybody sees it, and only if no other process stored that version first, so a vehicle never
meets two contents under one.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.metadata import (
    RULES,
    Assignment,
    Ecu,
    Repository,
    Role,
    Target,
    expiry,
    make_director_targets,
    make_snapshot,
    make_timestamp,
    parse_file_name,
)
from cellward.ports.registry import Issue, Order, Registry, Vehicle
from cellward.ports.store import Store
from cellward.publish.roots import Roots, Signers

DIRECTOR = Repository.DIRECTOR
ATTEMPTS = 3


class Director:
    """The root in a Store, what is per vehicle in the Registry. `wrapped` holds the content keys of
    encrypted images as `SHA256/SERIAL`, each wrapped for one module: nothing that can be opened here."""

    def __init__(
        self, roots: Store, registry: Registry, signers: Signers, wrapped: Store | None = None
    ) -> None:
        self.roots = Roots(DIRECTOR, roots, signers)
        self._root_store = roots
        self._registry = registry
        self._wrapped = wrapped

    def init(self, now: datetime) -> None:
        self.roots.init(now)

    def current(self, vehicle: Vehicle, now: datetime) -> Issue:
        """What stands for this vehicle now; signed first if it must be.

        Raises Unavailable (token.*, storage.database) and then nothing new stands.
        """
        key_id = self.roots.newest().signed.roles[Role.TARGETS].keyids[0]
        for _ in range(ATTEMPTS):
            issue = self._registry.issue(vehicle.vehicle_id)
            if (
                issue is not None
                and (issue.revision, issue.signed_by) == (vehicle.revision, key_id)
                and now < issue.renew_after
            ):
                return issue
            vehicle = self._registry.vehicle(vehicle.vehicle_id) or vehicle
            version = issue.version + 1 if issue else 1
            issue = self._registry.add_issue(self._sign(vehicle, version, key_id, now))
            if issue.revision == vehicle.revision:
                return issue
        raise Unavailable(
            Code.DATABASE_FAILED,
            f"orders of {vehicle.vehicle_id}",
            expected="a quiet moment",
            found="changes",
        )

    def file(self, vehicle: Vehicle, name: str, now: datetime) -> bytes | None:
        """One of this vehicle's files, or None when there is no such version (any more).

        Raises FormatRefused (target.name) for what is no metadata file's name.
        """
        role, version = parse_file_name(name)
        if role is Role.ROOT:
            return self._root_store.read(name)
        if not isinstance(role, Role):
            return None  # the Director delegates to nobody
        if version is None:
            return self.current(vehicle, now).timestamp
        issue = self._registry.issue_at(vehicle.vehicle_id, version)
        if issue is None:
            return None
        return issue.targets if role is Role.TARGETS else issue.snapshot

    def _sign(self, vehicle: Vehicle, version: int, key_id: str, now: datetime) -> Issue:
        # Orders may be newer than `vehicle`: its revision is what the issue stands for at least.
        _, orders = self._registry.orders(vehicle.vehicle_id)
        made = make_director_targets(
            version=version,
            expires=expiry(Role.TARGETS, DIRECTOR, now),
            vehicle_id=vehicle.vehicle_id,
            assignments=[self._with_keys(assignment) for assignment in _assignments(vehicle, orders)],
        )
        targets = self.roots.sign(Role.TARGETS, made)
        snapshot = self.roots.sign(
            Role.SNAPSHOT,
            make_snapshot(
                version=version,
                expires=expiry(Role.SNAPSHOT, DIRECTOR, now),
                targets_version=version,
                targets_data=targets,
            ),
        )
        timestamp = self.roots.sign(
            Role.TIMESTAMP,
            make_timestamp(
                version=version,
                expires=expiry(Role.TIMESTAMP, DIRECTOR, now),
                snapshot_version=version,
                snapshot_data=snapshot,
            ),
        )
        return Issue(
            vehicle.vehicle_id,
            version,
            vehicle.revision,
            signed_by=key_id,
            renew_after=now + RULES[Role.TIMESTAMP].lifetime(DIRECTOR) / 2,
            targets=targets,
            snapshot=snapshot,
            timestamp=timestamp,
        )

    def _with_keys(self, assignment: Assignment) -> Assignment:
        if self._wrapped is None:
            return assignment
        keys = (
            (ecu.ecu_id, self._wrapped.read(f"{assignment.target.sha256}/{ecu.ecu_id.partition('/')[0]}"))
            for ecu in assignment.ecu_identifiers
        )
        found = tuple((ecu_id, key) for ecu_id, key in keys if key is not None)
        return replace(assignment, wrapped_keys=found)


def _assignments(vehicle: Vehicle, orders: Sequence[Order]) -> list[Assignment]:
    """Orders by target, with the hardware that the inventory knows."""
    ecus = {ecu.ecu_id: ecu for ecu in vehicle.ecus}
    by_target: dict[Target, list[Ecu]] = {}
    for order in orders:
        if order.ecu_id in ecus:
            by_target.setdefault(order.target, []).append(ecus[order.ecu_id])
    if len({target.name for target in by_target}) != len(by_target):
        raise Refused(
            Code.TARGET_MISMATCH,
            f"orders of {vehicle.vehicle_id}",
            expected="one content under each name",
            found="two",
        )
    return [Assignment(target, tuple(found)) for target, found in by_target.items()]
