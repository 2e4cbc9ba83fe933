"""Linux: memory that is locked, left out of core dumps and children, and wiped."""

import ctypes
import errno
import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cellward.core.errors import Code, Refused, Unavailable

_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


def forbid_dumps() -> None:
    """From here on this process leaves no core dump, and nobody but root reads its memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise _refused("a process without core dumps", "ulimit -c 0")


class LockedMemory:
    """ports.secretmemory.SecretMemory: anonymous pages of their own for each secret."""

    @contextmanager
    def hold(self, size: int) -> Iterator[memoryview]:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_DONTDUMP, mmap.MADV_DONTFORK):
            pages.madvise(advice)
        whole = memoryview(pages)
        place = ctypes.c_char.from_buffer(pages)
        try:
            _lock(ctypes.addressof(place), size)
            yield whole
        finally:
            ctypes.memset(ctypes.addressof(place), 0, size)
            del place
            with suppress(BufferError):  # somebody keeps a view: of zeros
                whole.release()
                pages.close()  # unlocks

    def randomise(self, view: memoryview) -> None:
        with Path("/dev/urandom").open("rb", buffering=0) as source:
            source.readinto(view)


def read_into(path: Path | None, view: memoryview) -> int:
    """Read a file, or standard input, into `view`; how many bytes there are.

    Raises Unavailable (storage.missing, storage.failed), Refused (request.too_large) for more than have room.
    """
    subject = "standard input" if path is None else str(path)
    try:
        handle = 0 if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0, closefd=path is not None) as source:
            size = 0
            while size < len(view) and (some := source.readinto(view[size:])):
                size += some
            more = size == len(view) and source.read(1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        code = Code.STORAGE_MISSING if missing else Code.STORAGE_FAILED
        raise Unavailable(code, subject, found=error.strerror or "an error") from error
    if more:
        raise Refused(
            Code.REQUEST_TOO_LARGE, subject, expected=f"at most {len(view)} bytes", found="more than that"
        )
    return size


def write_out(view: memoryview) -> None:
    """To standard output. Raises Unavailable (storage.full, storage.failed)."""
    done = 0
    try:
        while done < len(view):
            done += os.write(1, view[done:])
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        code = Code.STORAGE_FULL if full else Code.STORAGE_FAILED
        raise Unavailable(code, "standard output", found=error.strerror or "an error") from error


def _lock(address: int, size: int) -> None:
    if _libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)) != 0:
        raise _refused(f"{size} bytes that are never swapped out", "raise the limit (ulimit -l) to 1 MiB")


def _refused(expected: str, advice: str) -> Unavailable:
    found = os.strerror(ctypes.get_errno())
    return Unavailable(Code.VAULT_MEMORY, "memory for secrets", expected=expected, found=found, advice=advice)
