"""An ML-DSA key in a file: `softkey:` and the absolute path of its PKCS#8 PEM. No HSM.

For ML-DSA alone, until tokens carry it (docs/adr/0007): its signature only ever adds to a token's. There is
no such signer for what a token can hold. Who can read the file can sign: it is its owner's, mode 0600.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cellward.core.errors import CellwardError, Code, FormatRefused, PolicyRefused, Refused, Unavailable
from cellward.core.keys import Algorithm, PublicKey

SCHEME = "softkey:"
MAX_FILE = 64 * 1024
PrivateKey = mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
_KINDS: dict[Algorithm, Callable[[], PrivateKey]] = {
    Algorithm.ML_DSA_65: mldsa.MLDSA65PrivateKey.generate,
    Algorithm.ML_DSA_87: mldsa.MLDSA87PrivateKey.generate,
}


class SoftSigner:
    """A Signer. Raises Unavailable (storage.*), PolicyRefused (key.exportable) for a file that others can
    read or a key of another kind, FormatRefused (key.format), TrustRefused (key.published)."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        path = Path(uri.removeprefix(SCHEME))
        if not uri.startswith(SCHEME) or not path.is_absolute():
            raise FormatRefused(
                Code.TOKEN_URI, "key URI", expected="softkey: and an absolute path", found="another form"
            )
        self._key = _load(_read(path), path)
        self.public_key = PublicKey.from_cryptography(self._key.public_key()).unpublished(str(path))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


def make(path: Path, algorithm: Algorithm, write: Callable[[Path, bytes, int], None]) -> PublicKey:
    """A new key in a new file. Raises Refused (key.exists), PolicyRefused (key.exportable), storage.*."""
    if algorithm not in _KINDS:
        raise _no_software_key(path, algorithm.display)
    if path.exists():
        raise Refused(Code.KEY_EXISTS, str(path), expected="a new file", found="one that is there")
    key = _KINDS[algorithm]()
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write(path, data, 0o600)
    return PublicKey.from_cryptography(key.public_key())


def _read(path: Path) -> bytes:
    """What is looked at is what is read: the open file, not its name."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            held = os.fstat(file.fileno())
            if not stat.S_ISREG(held.st_mode) or held.st_mode & 0o077 or held.st_uid != os.geteuid():
                raise PolicyRefused(
                    Code.KEY_EXPORTABLE,
                    str(path),
                    expected="a file of this user, mode 0600",
                    found=f"mode {stat.S_IMODE(held.st_mode):04o}, of user {held.st_uid}",
                    advice="if others could read it, make another key",
                )
            return file.read(MAX_FILE)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> CellwardError:
    if isinstance(error, FileNotFoundError):
        return Unavailable(Code.STORAGE_MISSING, str(path), expected="an ML-DSA key", found="no such file")
    return Unavailable(Code.STORAGE_FAILED, str(path), found=error.strerror or "an error")


def _load(data: bytes, path: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: what the parser says may be about the key's bytes.
        raise FormatRefused(
            Code.KEY_FORMAT, str(path), expected="an unencrypted PKCS#8 PEM of an ML-DSA key", found="another"
        ) from None
    if not isinstance(key, mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey):
        raise _no_software_key(path, "another kind")
    return key


def _no_software_key(path: Path, found: str) -> PolicyRefused:
    return PolicyRefused(
        Code.KEY_EXPORTABLE,
        str(path),
        expected="an ML-DSA-65 or ML-DSA-87 key",
        found=found,
        advice="every other key belongs into a token: give its PKCS#11 URI",
    )
