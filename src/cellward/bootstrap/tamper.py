"""The pack controller's tamper response: its policy's file, and what notices."""

from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore, read_file
from cellward.core.errors import Code, Unavailable

if TYPE_CHECKING:
    from cellward.core.tamper import Policy
    from cellward.device.tamper import Guard
    from cellward.ports.tpm import Tpm

POLICY = "tamper.toml"


def tamper_policy(state: Path) -> "Policy":
    """Of the state directory's tamper.toml, or the default. Raises config.invalid."""
    from cellward.core.tamper import MAX_CONFIG, Policy, read_policy

    path = state / POLICY
    try:
        data = read_file(path, MAX_CONFIG)
    except Unavailable as error:
        if error.code is not Code.STORAGE_MISSING:
            raise
        return Policy()
    return read_policy(data, str(path))


def guard(state: Path, tpm: "Tpm") -> "Guard":
    """Of this TPM and state directory. Raises config.invalid."""
    from cellward.adapters.hwmon import Hwmon
    from cellward.adapters.lock import file_lock
    from cellward.adapters.tracer import Tracer
    from cellward.device.tamper import Guard

    policy = tamper_policy(state)
    return Guard(
        tpm,
        DirectoryStore(state, 0o600),
        policy,
        (Tracer(), *(Hwmon(Path(folder)) for folder in policy.sensors)),
        lambda: file_lock(state / "tamper" / "lock", patience=5.0),
    )
