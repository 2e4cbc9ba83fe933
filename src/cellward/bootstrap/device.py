"""The pack controller: state directory, TPM, transport."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore
from cellward.bootstrap.tamper import guard
from cellward.core.errors import Code, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from cellward.adapters.http import HttpTransport
    from cellward.adapters.tpm2 import EmbeddedTpm
    from cellward.device.attempts import Attempts
    from cellward.ports.tpm import Tpm


def device_store(state: Path) -> DirectoryStore:
    """The agent's state directory: its own alone, for the identity's key lies in it."""
    return DirectoryStore(state, 0o600)


def device_lock(state: Path) -> "AbstractContextManager[None]":
    """One agent for one state directory. Raises storage.busy."""
    from cellward.adapters.lock import file_lock

    return file_lock(state / "lock", patience=5.0)


@contextmanager
def tpm(state: Path, named: str | None = None) -> "Iterator[Tpm]":
    """The pack controller's TPM: the one that is `named` by its TCTI, by default in CELLWARD_TPM
    (`device:/dev/tpmrm0`); or else, with no name, an embedded one in the state directory, which has power for
    as long as this lasts. A zeroisation that was cut is finished first, whatever was started.

    Raises Unavailable (tpm.*), config.invalid.
    """
    with _tpm(state, os.environ.get("CELLWARD_TPM") if named is None else named) as found:
        guard(state, found).settle()
        yield found


def _tpm(state: Path, named: str | None) -> "AbstractContextManager[Tpm]":
    if not named:
        return _embedded_tpm(state).running()
    with _tpm_library():
        from cellward.adapters.tpm2 import Tpm2

    return Tpm2(named)


@contextmanager
def attempts(state: Path, found: "Tpm") -> "Iterator[Attempts]":
    """Of authentications towards this controller, for one process. Raises storage.busy."""
    from cellward.adapters.lock import file_lock
    from cellward.device.attempts import Attempts

    with file_lock(state / "attempts.lock", patience=5.0):
        yield Attempts(found, device_store(state))


def tpm_authorities(state: Path) -> bytes:
    """Certificates, PEM, of who certified the embedded TPM: they stand for a manufacturer's."""
    return _embedded_tpm(state).authorities()


def _embedded_tpm(state: Path) -> "EmbeddedTpm":
    from cellward.adapters.lock import file_lock

    with _tpm_library():
        from cellward.adapters.tpm2 import EmbeddedTpm

    folder = state / "tpm"
    return EmbeddedTpm(folder, lambda: file_lock(folder / "lock", patience=5.0))


@contextmanager
def _tpm_library() -> "Iterator[None]":
    try:
        yield
    except ImportError as error:
        raise Unavailable(
            Code.TPM_ABSENT,
            "TPM",
            expected="the optional package tpm2-pytss and its C libraries",
            found=f"{error}",
            advice="install cellward[tpm]; it is built against libtss2-dev",
        ) from error


def transport(
    url: str, server_ca: bytes, certificate: bytes | None = None, key: bytes | None = None
) -> "HttpTransport":
    """A server of the pinned CA, as a context manager; PEM. Raises config.invalid, key.format."""
    from cellward.adapters.http import ClientCertificate, HttpTransport

    pair = None if certificate is None or key is None else ClientCertificate(certificate, key)
    return HttpTransport(url, server_ca, pair)
