"""The signing log, and signers that write into it before they sign."""

from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import write_file
from cellward.config import Home
from cellward.ports.signer import Role, Signer

if TYPE_CHECKING:
    from cellward.ports.signinglog import SigningLog


# Keys of people and releases. The others sign online, for each device or each day: no log could be read.
LOGGED = frozenset({Role.ROOT, Role.FIRMWARE, Role.CALIBRATION, Role.RELEASE, Role.TARGETS, Role.POLICY})


def signing_log(home: Home) -> "SigningLog":
    return log_of(home.signing_log)


def log_of(folder: Path) -> "SigningLog":
    """The signing log in a folder, the maker's own or a copy of it."""
    from cellward.adapters.lock import file_lock
    from cellward.adapters.signlog import FolderLog

    return FolderLog(folder, lambda: file_lock(folder / "lock"), write_file)


def logged(home: Home, key: Signer, role: str, kind: str, subject: str) -> Signer:
    """The same key; what it is to sign is in the signing log before the signature is out."""
    from datetime import UTC, datetime

    from cellward.sign.logged import LoggedSigner, Purpose

    return LoggedSigner(key, signing_log(home), role, Purpose(kind, subject), lambda: datetime.now(UTC))
