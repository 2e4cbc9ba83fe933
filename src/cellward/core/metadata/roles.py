"""Roles, limits, lifetimes and file names: the table of docs/formats/uptane.md."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cellward.core.errors import Code, FormatRefused


class Repository(StrEnum):
    """The two repositories that must agree (Uptane 5.3)."""

    DIRECTOR = "director"
    IMAGE = "image"


class Role(StrEnum):
    """The four top-level roles of each repository, in the order in which they are verified."""

    ROOT = "root"
    TIMESTAMP = "timestamp"
    SNAPSHOT = "snapshot"
    TARGETS = "targets"


KIB = 1024


@dataclass(frozen=True)
class RoleRule:
    """One row: byte limit, lifetimes, and which key role of `cellward keys` signs it."""

    limit: int
    image_lifetime: timedelta
    director_lifetime: timedelta
    image_key: str
    director_key: str

    def lifetime(self, repository: Repository) -> timedelta:
        return self.director_lifetime if repository is Repository.DIRECTOR else self.image_lifetime

    def key_role(self, repository: Repository) -> str:
        return self.director_key if repository is Repository.DIRECTOR else self.image_key


def _days(count: int) -> timedelta:
    return timedelta(days=count)


RULES: dict[Role, RoleRule] = {
    Role.ROOT: RoleRule(64 * KIB, _days(365), _days(365), "root", "root"),
    Role.TIMESTAMP: RoleRule(16 * KIB, _days(7), _days(1), "timestamp", "director"),
    Role.SNAPSHOT: RoleRule(256 * KIB, _days(7), _days(1), "snapshot", "director"),
    Role.TARGETS: RoleRule(8 * KIB * KIB, _days(90), _days(1), "targets", "director"),
}
MAX_MANIFEST_SIZE = KIB * KIB
MAX_FACTORY_SIZE = KIB * KIB

DELEGATED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)
_FILE_NAME = re.compile(rf"(?:([1-9][0-9]{{0,15}})\.({DELEGATED_NAME.pattern})|(timestamp))\.json", re.ASCII)


def file_name(role: str, version: int) -> str:
    """`1.root.json`, `1.supplier.json`; `timestamp.json` whatever the version (Uptane 5.2.7)."""
    return "timestamp.json" if role == Role.TIMESTAMP else f"{version}.{role}.json"


def parse_file_name(name: str) -> tuple[Role | str, int | None]:
    """Role, perhaps a delegated one, and version of a metadata file name; the timestamp has no version.

    Raises FormatRefused (target.name) for any other name.
    """
    match = _FILE_NAME.fullmatch(name)
    if match is None or match[2] == Role.TIMESTAMP:
        raise FormatRefused(
            Code.TARGET_NAME,
            f"metadata file {name[:80]!r}",
            expected="VERSION.ROLE.json or timestamp.json",
            found="another name",
        )
    version, role, _ = match.groups()
    if not version:
        return Role.TIMESTAMP, None
    return (Role(role) if role in set(Role) else role), int(version)


def expiry(role: Role, repository: Repository, now: datetime) -> datetime:
    """When metadata made at `now` (aware, UTC) expires."""
    return now.replace(microsecond=0) + RULES[role].lifetime(repository)
