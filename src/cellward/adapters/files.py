"""Files: bounded reads, atomic durable writes, and a directory as a Store."""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, Unavailable

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}"
_TEMPORARY = re.compile(r"\..{1,32}\.[0-9a-f]{16}", re.DOTALL)
_NAME = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,3}}", re.ASCII)


def read_file(path: Path, limit: int) -> bytes:
    """The whole file, of at most `limit` bytes.

    Raises Unavailable (storage.missing, storage.failed), Refused (request.too_large).
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise _failed(path, error) from error
    if len(data) > limit:
        raise Refused(
            Code.REQUEST_TOO_LARGE, str(path), expected=f"at most {limit} bytes", found="more than that"
        )
    return data


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data`: written beside it, synced, renamed, the folder synced.

    Raises Unavailable (storage.full, storage.failed); `path` then still holds what it held.
    """
    temporary = path.parent / f".{path.name[:32]}.{os.urandom(8).hex()}"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise Unavailable(
            Code.STORAGE_MISSING, str(path), expected=f"the folder {path.parent}", found="none"
        ) from error
    except OSError as error:
        raise _failed(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _failed(path, error) from error


def sweep(folder: Path) -> None:
    """Remove what a power cut left of writes in this folder: for whoever is alone with it."""
    try:
        for path in folder.glob(".*"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise _failed(folder, error) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _failed(path: Path, error: OSError) -> CellwardError:
    if isinstance(error, FileNotFoundError):
        return Unavailable(Code.STORAGE_MISSING, str(path), expected="a file", found="none")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return Unavailable(
        Code.STORAGE_FULL if full else Code.STORAGE_FAILED,
        str(path),
        found=error.strerror or type(error).__name__,
        advice="free some space and repeat; nothing was changed" if full else "",
    )


class DirectoryStore:
    """A Store in a folder, which is made when something is first written; `mode` is its files'."""

    def __init__(self, folder: Path, mode: int = 0o644) -> None:
        self._folder = folder
        self._mode = mode

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise FormatRefused(
                Code.TARGET_NAME,
                f"name {name!r}",
                expected="up to four segments of letters, digits, '.', '_', '+' and '-'",
                found="another form",
            )
        return self._folder / name

    def read(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(self._path(name), error) from error

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(path, error) from error
        write_file(path, data, self._mode)

    def write_once(self, name: str, data: bytes) -> None:
        held = self.read(name)
        if held is None:
            self.write(name, data)
        elif held != data:
            raise Refused(
                Code.STORAGE_EXISTS, name, expected="a new name or the same bytes", found="other bytes"
            )

    def delete(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _failed(self._path(name), error) from error

    def names(self) -> Iterator[str]:
        paths = (path for path in self._folder.rglob("*") if path.is_file())
        names = (path.relative_to(self._folder).as_posix() for path in paths)
        return iter(sorted(name for name in names if _NAME.fullmatch(name)))

    def size(self, name: str) -> int | None:
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(self._path(name), error) from error

    def read_range(self, name: str, start: int, length: int) -> bytes:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError as error:
            raise _failed(path, error) from error
