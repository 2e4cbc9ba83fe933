"""The files of the Cellward package, as it runs here or as a wheel brings it."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from lzma import LZMAError

from cellward.core.errors import Code, FormatRefused

PACKAGE = "cellward"
_MADE_HERE = "__pycache__"
# What zipfile and the decompressors behind it raise on other bytes; RuntimeError: encrypted.
_NO_ZIP = (
    zipfile.BadZipFile,
    EOFError,
    LZMAError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    zlib.error,
)


def installed() -> dict[str, bytes]:
    """SHA-256 by path, without what Python makes of it here."""
    return {path: hashlib.sha256(file.read_bytes()).digest() for path, file in _walk(files(PACKAGE), PACKAGE)}


def of_wheel(data: bytes, what: str) -> dict[str, bytes]:
    """The same of a wheel that was not installed yet. Raises FormatRefused (attest.format)."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            names = [name for name in wheel.namelist() if name.startswith(f"{PACKAGE}/")]
            found = {n: hashlib.sha256(wheel.read(n)).digest() for n in names if not n.endswith("/")}
    except _NO_ZIP as error:
        raise _no_wheel(what, "something else") from error
    if not found:
        raise _no_wheel(what, "a file without it")
    return found


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        inner = f"{path}/{entry.name}"
        if entry.is_dir():
            if entry.name != _MADE_HERE:
                yield from _walk(entry, inner)
        else:
            yield inner, entry


def _no_wheel(what: str, found: str) -> FormatRefused:
    return FormatRefused(Code.ATTEST_FORMAT, what, expected=f"a wheel of {PACKAGE}, or a digest", found=found)
