"""The Image repository: every image the maker vouches for, signed by roles (Uptane 5.3.1).

A write goes artefact, N.targets, N.snapshot, timestamp: until the last one lands, whoever reads
sees the repository as it was. A crash leaves files that nobody names; their versions are not used
again, because an immutable name must never have two contents.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from cellward.core.errors import Code, TrustRefused, Unavailable
from cellward.core.metadata import (
    Repository,
    Role,
    Target,
    expiry,
    file_name,
    make_snapshot,
    make_targets,
    make_timestamp,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
    targets_of,
)
from cellward.ports.store import Store
from cellward.publish.gate import Gate
from cellward.publish.roots import Roots, Signers, is_due

Lock = Callable[[], AbstractContextManager[None]]
ContentKeys = Callable[[bytes], bytes | None]  # of these published bytes
IMAGE = Repository.IMAGE


@dataclass(frozen=True)
class State:
    """What `timestamp.json` stands for now."""

    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]


class ImageRepository:
    """Metadata in one Store, artefacts in another; `lock` keeps other writers out."""

    def __init__(self, metadata: Store, artefacts: Store, signers: Signers, lock: Lock) -> None:
        self.roots = Roots(IMAGE, metadata, signers)
        self._metadata = metadata
        self._artefacts = artefacts
        self._lock = lock

    def init(self, now: datetime) -> None:
        """An empty repository, where there is none; one that was cut off half-way is completed."""
        with self._lock():
            self.roots.init(now)
            if self._metadata.read(file_name(Role.TIMESTAMP, 1)) is None:
                self._write(None, (), now)

    def targets(self) -> tuple[Target, ...]:
        """What is published, sorted by name. Raises Unavailable (metadata.missing)."""
        return targets_of(self._state().targets.signed)

    def expiries(self) -> dict[str, datetime]:
        """When each role's newest metadata expires."""
        state = self._state()
        return {
            str(Role.ROOT): self.roots.newest().signed.expires,
            str(Role.TARGETS): state.targets.signed.expires,
            str(Role.SNAPSHOT): state.snapshot.signed.expires,
            str(Role.TIMESTAMP): state.timestamp.signed.expires,
        }

    def timestamp(self) -> Timestamp:
        """The newest. Raises Unavailable (metadata.missing)."""
        return parse_timestamp(self._read(file_name(Role.TIMESTAMP, 1))).signed

    def publish(
        self,
        images: Mapping[str, bytes],
        gate: Gate,
        now: datetime,
        content_keys: ContentKeys = lambda data: None,
        check: Callable[[Sequence[Target]], None] = lambda published: None,
        release: bytes = b"",
    ) -> tuple[Target, ...]:
        """Publish these images (by the name they have in refusals) in one new version, or none.
        `content_keys` are for the gate; none is published. `check` is asked first, with what is published
        already, while nobody else can publish. `release`: the file of the release that they belong to, which
        is published beside them; an image that is out already keeps what it came with.

        Raises what the gate refuses with; then nothing is changed.
        """
        with self._lock():
            state = self._state()
            before = targets_of(state.targets.signed)
            check(before)
            published = list(before)
            admitted = []
            for what, data in images.items():
                target = gate.admit(data, published, what, content_keys(data))
                if release and target not in published:
                    target = replace(target, release=hashlib.sha256(release).hexdigest())
                admitted.append(target)
                if target not in published:
                    published.append(target)
            for target, data in zip(admitted, images.values(), strict=True):
                self._artefacts.write_once(target.stored_name, data)
                if target.release and target not in before:
                    self._artefacts.write_once(target.release_name, release)
            if len(published) > len(before):
                self._write(state, published, now)
            return tuple(admitted)

    def renew(self, now: datetime) -> None:
        """Sign again whatever has less than half of its lifetime left, the offline roles included."""
        with self._lock():
            self.roots.renew(now)
            state = self._state()
            if is_due(state.targets.signed.expires, Role.TARGETS, IMAGE, now):
                self._write(state, targets_of(state.targets.signed), now)
            else:
                self._renew_online(state, now)

    def renew_online(self, now: datetime) -> None:
        """The same for snapshot and timestamp, whose keys a server has. Free when nothing is due."""
        if is_due(self.timestamp().expires, Role.TIMESTAMP, IMAGE, now):
            with self._lock():
                self._renew_online(self._state(), now)

    def _renew_online(self, state: State, now: datetime) -> None:
        # The snapshot is signed with every timestamp that follows it, so it is never the older one
        # by more than a crash.
        due = (state.timestamp.signed.expires, Role.TIMESTAMP), (state.snapshot.signed.expires, Role.SNAPSHOT)
        if any(is_due(expires, role, IMAGE, now) for expires, role in due):
            version = state.targets.signed.version
            self._write_snapshot(state, version, self._read(file_name(Role.TARGETS, version)), now)

    def _write(self, state: State | None, targets: Sequence[Target], now: datetime) -> None:
        if state is not None and state.targets.signed.delegations is not None:
            raise TrustRefused(
                Code.TARGET_DELEGATION,
                "image repository",
                expected="Targets without delegations",
                found="delegations",
                advice="other tools made them; they would be lost",
            )
        version = self._next(Role.TARGETS, state.targets.signed.version if state else 0)
        expires = expiry(Role.TARGETS, IMAGE, now)
        made = make_targets(version=version, expires=expires, targets=targets)
        data = self.roots.sign(Role.TARGETS, made)
        self._metadata.write_once(file_name(Role.TARGETS, version), data)
        self._write_snapshot(state, version, data, now)

    def _write_snapshot(
        self, state: State | None, targets_version: int, targets_data: bytes, now: datetime
    ) -> None:
        version = self._next(Role.SNAPSHOT, state.snapshot.signed.version if state else 0)
        made = make_snapshot(
            version=version,
            expires=expiry(Role.SNAPSHOT, IMAGE, now),
            targets_version=targets_version,
            targets_data=targets_data,
        )
        snapshot = self.roots.sign(Role.SNAPSHOT, made)
        timestamp = make_timestamp(
            version=(state.timestamp.signed.version if state else 0) + 1,
            expires=expiry(Role.TIMESTAMP, IMAGE, now),
            snapshot_version=version,
            snapshot_data=snapshot,
        )
        signed = self.roots.sign(Role.TIMESTAMP, timestamp)
        self._metadata.write_once(file_name(Role.SNAPSHOT, version), snapshot)
        self._metadata.write(file_name(Role.TIMESTAMP, timestamp.signed.version), signed)

    def _next(self, role: Role, version: int) -> int:
        """The next version that no file has, not even one that a crash left behind."""
        version += 1
        while self._metadata.read(file_name(role, version)) is not None:
            version += 1
        return version

    def _state(self) -> State:
        timestamp = parse_timestamp(self._read(file_name(Role.TIMESTAMP, 1)))
        version = timestamp.signed.snapshot_meta.version
        snapshot = parse_snapshot(self._read(file_name(Role.SNAPSHOT, version)))
        version = snapshot.signed.meta["targets.json"].version
        return State(timestamp, snapshot, parse_targets(self._read(file_name(Role.TARGETS, version))))

    def _read(self, name: str) -> bytes:
        data = self._metadata.read(name)
        if data is None:
            raise Unavailable(
                Code.METADATA_MISSING,
                "image repository",
                expected=name,
                found="none",
                advice="make the repository with `cellward repo init`",
            )
        return data
