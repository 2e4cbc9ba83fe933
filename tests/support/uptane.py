"""Two Uptane repositories whose keys the tests hold, and a Primary that follows them.

Real parts only: keys are made at test time, metadata by our builders, verification by core/trust.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from cellward.core import trust
from cellward.core.keys import PublicKey
from cellward.core.metadata import (
    Assignment,
    Ecu,
    Repository,
    Role,
    RoleKeys,
    Target,
    attach,
    digest_to_sign,
    encode,
    file_name,
    make_director_targets,
    make_root,
    make_snapshot,
    make_targets,
    make_timestamp,
    target_name,
)
from cellward.core.trust import Order, TrustedRepository

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=12)
VEHICLE = "PACK-0001"
LOADER = Ecu("M-0001/loader", "bms-m33")
APP = Ecu("M-0001/app", "bms-m33")
ECUS = (LOADER, APP)
IMAGE_BYTES = b"\x3d\xb8\xf3\x96" + bytes(96)


@dataclass(frozen=True)
class Holder:
    """A private key of a test, with the two members of `ports.signer.Signer` that matter here."""

    private: ec.EllipticCurvePrivateKey

    @property
    def public_key(self) -> PublicKey:
        return PublicKey.from_cryptography(self.private.public_key())

    def sign(self, digest: bytes) -> bytes:
        return self.private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@cache
def holder(name: str) -> Holder:
    """The key called `name`: made once for all tests of a run."""
    return Holder(ec.generate_private_key(ec.SECP256R1()))


def sign(metadata: Metadata[T], *holders: Holder) -> bytes:
    for each in holders:
        metadata = attach(metadata, each.public_key, each.sign(digest_to_sign(metadata)))
    return encode(metadata)


def target(version: str = "1.4.0", counter: int = 7, **changes: object) -> Target:
    values: dict[str, object] = {
        "name": target_name("bms-m33", "app", version),
        "length": len(IMAGE_BYTES),
        "sha256": "a2" * 32,
        "hardware_ids": ("bms-m33",),
        "stage": "app",
        "version": version,
        "release_counter": counter,
    }
    return Target(**{**values, **changes})  # type: ignore[arg-type]


def order(item: Target, *ecus: Ecu) -> Assignment:
    return Assignment(item, ecus or (APP,))


@dataclass(frozen=True)
class Owner:
    """Who holds which keys of one repository."""

    repository: Repository
    keys: Mapping[Role, tuple[str, ...]]
    thresholds: Mapping[Role, int] = field(default_factory=dict)

    def holders(self, role: Role) -> tuple[Holder, ...]:
        return tuple(holder(name) for name in self.keys[role])

    def role_keys(self) -> dict[Role, RoleKeys]:
        return {
            role: RoleKeys(tuple(h.public_key for h in self.holders(role)), self.thresholds.get(role, 1))
            for role in Role
        }

    def rekeyed(self, **names: tuple[str, ...]) -> "Owner":
        return replace(self, keys={**self.keys, **{Role(role): keys for role, keys in names.items()}})

    def root(
        self,
        version: int = 1,
        signers: Iterable[Holder] | None = None,
        expires: datetime = NOW + timedelta(days=365),
    ) -> bytes:
        metadata = make_root(version=version, expires=expires, roles=self.role_keys())
        return sign(metadata, *(self.holders(Role.ROOT) if signers is None else signers))


DIRECTOR_OWNER = Owner(
    Repository.DIRECTOR,
    {
        Role.ROOT: ("root-1", "root-2", "root-3"),
        Role.TIMESTAMP: ("director",),
        Role.SNAPSHOT: ("director",),
        Role.TARGETS: ("director",),
    },
    {Role.ROOT: 2},
)
IMAGE_OWNER = Owner(
    Repository.IMAGE,
    {
        Role.ROOT: ("root-1", "root-2", "root-3"),
        Role.TIMESTAMP: ("timestamp",),
        Role.SNAPSHOT: ("snapshot",),
        Role.TARGETS: ("targets-1", "targets-2"),
    },
    {Role.ROOT: 2, Role.TARGETS: 2},
)


@dataclass(frozen=True)
class Release:
    """One consistent set of files of a repository, the root aside."""

    timestamp: bytes
    snapshot: bytes
    targets: bytes
    version: int

    def files(self) -> dict[str, bytes]:
        return {
            file_name(Role.TIMESTAMP, self.version): self.timestamp,
            file_name(Role.SNAPSHOT, self.version): self.snapshot,
            file_name(Role.TARGETS, self.version): self.targets,
        }


@dataclass(frozen=True)
class Dates:
    timestamp: datetime = NOW + timedelta(days=1)
    snapshot: datetime = NOW + timedelta(days=1)
    targets: datetime = NOW + timedelta(days=1)


def release(owner: Owner, targets: bytes, version: int = 1, dates: Dates | None = None) -> Release:
    """Snapshot and timestamp of `version` around signed Targets of the same version."""
    dates = dates or Dates()
    snapshot = sign(
        make_snapshot(version=version, expires=dates.snapshot, targets_version=version, targets_data=targets),
        *owner.holders(Role.SNAPSHOT),
    )
    timestamp = sign(
        make_timestamp(
            version=version, expires=dates.timestamp, snapshot_version=version, snapshot_data=snapshot
        ),
        *owner.holders(Role.TIMESTAMP),
    )
    return Release(timestamp, snapshot, targets, version)


def director_release(
    *orders: Assignment,
    version: int = 1,
    vehicle_id: str = VEHICLE,
    owner: Owner = DIRECTOR_OWNER,
    dates: Dates | None = None,
) -> Release:
    metadata = make_director_targets(
        version=version,
        expires=(dates or Dates()).targets,
        vehicle_id=vehicle_id,
        assignments=orders,
    )
    return release(owner, sign(metadata, *owner.holders(Role.TARGETS)), version, dates)


def image_release(
    *targets: Target, version: int = 1, owner: Owner = IMAGE_OWNER, dates: Dates | None = None
) -> Release:
    metadata = make_targets(version=version, expires=(dates or Dates()).targets, targets=targets)
    return release(owner, sign(metadata, *owner.holders(Role.TARGETS)), version, dates)


def start(owner: Owner) -> TrustedRepository:
    """What a vehicle trusts when it leaves the plant."""
    return trust.load(owner.repository, {Role.ROOT: owner.root()})


def follow(state: TrustedRepository, to: Release, now: datetime = NOW) -> TrustedRepository:
    state = trust.update_timestamp(state, to.timestamp, now)
    state = trust.update_snapshot(state, to.snapshot, now)
    return trust.update_targets(state, to.targets, now)


Served = dict[str, bytes]


class Primary:
    """A vehicle that takes whole cycles from what it is served and keeps only files, as a device does."""

    def __init__(self, installed: Mapping[str, int] | None = None, ecus: tuple[Ecu, ...] = ECUS) -> None:
        self.installed = dict(installed or {})
        self.ecus = ecus
        self.files: dict[Repository, dict[Role, bytes]] = {
            owner.repository: start(owner).files() for owner in (DIRECTOR_OWNER, IMAGE_OWNER)
        }

    def cycle(self, served: Mapping[Repository, Served], now: datetime = NOW) -> tuple[Order, ...]:
        director = self._follow(Repository.DIRECTOR, served[Repository.DIRECTOR], now)
        assignments = trust.check_director_targets(director, now, vehicle_id=VEHICLE, ecus=self.ecus)
        image = self._follow(Repository.IMAGE, served[Repository.IMAGE], now)
        orders = trust.match(assignments, image, self.installed, now)
        self._keep(director)
        self._keep(image)
        return orders

    def _follow(self, repository: Repository, served: Served, now: datetime) -> TrustedRepository:
        state = trust.load(repository, self.files[repository])
        for _ in range(trust.MAX_ROOTS_PER_CYCLE):
            data = served.get(file_name(Role.ROOT, state.version(Role.ROOT) + 1))
            if data is None:
                break
            state = self._keep(trust.update_root(state, data))
        state = trust.update_timestamp(state, served["timestamp.json"], now)
        if trust.needs_snapshot(state):
            assert state.timestamp is not None
            version = state.timestamp.signed.snapshot_meta.version
            state = trust.update_snapshot(state, served[file_name(Role.SNAPSHOT, version)], now)
        if trust.needs_targets(state):
            assert state.snapshot is not None
            version = state.snapshot.signed.meta["targets.json"].version
            state = trust.update_targets(state, served[file_name(Role.TARGETS, version)], now)
        return state

    def _keep(self, state: TrustedRepository) -> TrustedRepository:
        self.files[state.repository] = state.files()
        return state
