"""Public keys as commands are given them."""

from pathlib import Path

from cellward import bootstrap
from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import ROM_ALGORITHMS, PublicKey
from cellward.core.revocation import Quorum

KEY_FILE_LIMIT = 16 * 1024


def read_key(path: Path) -> PublicKey:
    """A key that is to be trusted. Raises FormatRefused (key.format), TrustRefused (key.published),
    Unavailable (storage.*)."""
    try:
        return PublicKey.from_pem(bootstrap.read_file(path, KEY_FILE_LIMIT)).unpublished(str(path))
    except FormatRefused as error:
        raise error.about(str(path)) from error


def key_hash(text: str) -> bytes:
    """Of a firmware key's PEM file, or the hash itself in hex. Raises as `read_key`."""
    if len(text) == 64 and not Path(text).exists():
        try:
            return bytes.fromhex(text)
        except ValueError as error:
            raise FormatRefused(
                Code.KEY_FORMAT, "firmware key", expected="a PEM file or 64 hex digits", found=text
            ) from error
    return read_key(Path(text)).require(ROM_ALGORITHMS, f"firmware key {text}").key_hash


def quorum(threshold: int, paths: tuple[Path, ...]) -> Quorum:
    """Raises as `read_key`, and FormatRefused (revocation.format)."""
    return Quorum.of(threshold, tuple(read_key(path) for path in paths))
