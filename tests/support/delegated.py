"""An Image repository that delegates: roles as a tree, and the files that it is served as."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Targets

from cellward.core.metadata import (
    Role,
    Target,
    file_name,
    make_snapshot,
    make_targets,
    make_timestamp,
    tuf_key,
)
from tests.support.uptane import IMAGE_OWNER, NOW, Owner, Served, holder, sign

EXPIRES = NOW + timedelta(days=1)


@dataclass(frozen=True)
class Delegate:
    """A role as its delegator names it (`keys`, `threshold`, …), and its file, signed by `signers`."""

    name: str
    targets: tuple[Target, ...] = ()
    below: tuple["Delegate", ...] = ()
    paths: tuple[str, ...] = ("*/*",)
    prefixes: tuple[str, ...] = ()
    terminating: bool = False
    hardware: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    threshold: int = 1
    signers: tuple[str, ...] = ()
    version: int = 1
    expires: datetime = EXPIRES

    def role(self) -> DelegatedRole:
        ids = [holder(name).public_key.fingerprint for name in self.keys or (self.name,)]
        custom = {"custom": {"hardware_ids": list(self.hardware)}} if self.hardware else {}
        paths, prefixes = (None, list(self.prefixes)) if self.prefixes else (list(self.paths), None)
        return DelegatedRole(self.name, ids, self.threshold, self.terminating, paths, prefixes, custom)

    def file(self) -> bytes:
        made = make_targets(version=self.version, expires=self.expires, targets=self.targets)
        return sign(_delegating(made, self.below), *map(holder, self.signers or self.keys or (self.name,)))

    def all(self) -> Iterator["Delegate"]:
        yield self
        for role in self.below:
            yield from role.all()


def _delegating(metadata: Metadata[Targets], roles: tuple[Delegate, ...]) -> Metadata[Targets]:
    if roles:
        keys = [tuf_key(holder(name).public_key) for role in roles for name in role.keys or (role.name,)]
        named = {role.name: role.role() for role in roles}
        metadata.signed.delegations = Delegations({key.keyid: key for key in keys}, named)
    return metadata


def delegating(
    *roles: Delegate, targets: tuple[Target, ...] = (), version: int = 1, owner: Owner = IMAGE_OWNER
) -> Served:
    """What is served of this repository, its root aside. Of a name that is there twice, the first file."""
    top = _delegating(make_targets(version=version, expires=EXPIRES, targets=targets), roles)
    files = {str(Role.TARGETS): (version, sign(top, *owner.holders(Role.TARGETS)))}
    for role in roles:
        for each in role.all():
            files.setdefault(each.name, (each.version, each.file()))
    return snapshot_of(files, version, owner)


def snapshot_of(
    files: dict[str, tuple[int, bytes]], version: int, owner: Owner = IMAGE_OWNER, *, omit: str = ""
) -> Served:
    """With snapshot and timestamp of that version, honestly made; `omit` is not listed."""
    made = make_snapshot(version=version, expires=EXPIRES, targets_version=1, targets_data=b"")
    made.signed.meta = {
        f"{name}.json": MetaFile.from_data(each, data, ["sha256"])
        for name, (each, data) in files.items()
        if name != omit
    }
    snapshot = sign(made, *owner.holders(Role.SNAPSHOT))
    stamp = make_timestamp(version=version, expires=EXPIRES, snapshot_version=version, snapshot_data=snapshot)
    return {
        **{file_name(name, each): data for name, (each, data) in files.items()},
        file_name(Role.SNAPSHOT, version): snapshot,
        file_name(Role.TIMESTAMP, version): sign(stamp, *owner.holders(Role.TIMESTAMP)),
    }
