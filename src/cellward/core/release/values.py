"""What a release is: parts, files, what it needs, whose keys."""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime

from cellward.core.errors import Code, TrustRefused
from cellward.core.image import Version
from cellward.core.slots import HARDWARE, Stage

MAX_RELEASE_SIZE = 256 * 1024
MAX_PARTS = 64
MAX_KEYS = 4
MAX_FILE_SIZE = 64 * 1024 * 1024
CALIBRATION = "calibration"
RELEASE, APPROVAL, WITHDRAWAL = "release", "approval", "withdrawal"
RELEASE_FILE, WITHDRAWAL_FILE, APPROVALS = "release.json", "withdrawal.json", "approvals"
OWN_NAMES = frozenset({RELEASE_FILE, WITHDRAWAL_FILE, APPROVALS})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}", re.ASCII)
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", re.ASCII)
HARDWARE_NAME = re.compile("|".join(map(re.escape, HARDWARE)))
PART_STAGE = re.compile("|".join((*Stage, CALIBRATION)))
VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,5}(?:\+\d{1,10})?", re.ASCII)
# Nothing that moves a terminal's cursor or turns the order of what is read (Unicode TR 9: overrides).
_HIDDEN = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069"
TEXT = re.compile(rf"[^\x00-\x08\x0b-\x1f{_HIDDEN}]{{0,1024}}")
LINE = re.compile(rf"[^\x00-\x1f{_HIDDEN}]{{1,120}}")


@dataclass(frozen=True)
class File:
    """Bytes by name: `sha256` in hex."""

    name: str
    sha256: str
    length: int

    @classmethod
    def of(cls, name: str, data: bytes) -> "File":
        return cls(name, hashlib.sha256(data).hexdigest(), len(data))

    def check(self, data: bytes, what: str) -> bytes:
        """The bytes, if they are this file's. Raises TrustRefused (release.file)."""
        found = File.of(self.name, data)
        if found != self:
            raise TrustRefused(
                Code.RELEASE_FILE,
                what,
                expected=f"{self.length} bytes with SHA-256 {self.sha256[:16]}",
                found=f"{found.length} with {found.sha256[:16]}",
            )
        return data


@dataclass(frozen=True)
class Part:
    """An image or, with the stage `calibration`, a calibration: its file and what it says of itself."""

    file: File
    hardware: str
    stage: str
    version: Version
    counter: int

    @property
    def title(self) -> str:
        return f"{self.hardware} {self.stage} {self.version}"


@dataclass(frozen=True)
class Requirement:
    """On this hardware, `of` works only with `name` of this version or later. Both are stages, or
    `calibration`."""

    hardware: str
    of: str
    name: str
    at_least: Version


@dataclass(frozen=True)
class Release:
    """`safety_impact`: what it changes about safety; empty where an assessment found nothing.

    `keys` are the fingerprints of those who sign it, under their own signatures: none can be left out.
    """

    name: str
    created: datetime
    security_fix: bool
    safety_impact: str
    parts: tuple[Part, ...]
    notes: File
    sbom: File
    requires: tuple[Requirement, ...] = ()
    keys: tuple[str, ...] = ()
    encoded: bytes = field(default=b"", repr=False, compare=False)

    @property
    def id(self) -> str:
        """SHA-256 of the signed payload, in hex."""
        return hashlib.sha256(self.encoded).hexdigest()

    def files(self) -> tuple[File, ...]:
        return (*(part.file for part in self.parts), self.notes, self.sbom)
