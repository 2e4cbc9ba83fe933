"""One writer at a time among processes: an advisory lock on a file, let go when its holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellward.core.errors import Code, Unavailable

PATIENCE_SECONDS = 30.0


@contextmanager
def file_lock(path: Path, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the lock on `path`, which is made if absent.

    Raises Unavailable: storage.busy after `patience` seconds, storage.failed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(Code.STORAGE_FAILED, str(path), found=error.strerror or "an error") from error
    try:
        _acquire(handle, path, time.monotonic() + patience)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, path: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    Code.STORAGE_BUSY,
                    str(path),
                    expected="nobody else writing",
                    found="another process that holds it",
                    advice="repeat when that one is done",
                ) from error
        except OSError as error:
            raise Unavailable(Code.STORAGE_FAILED, str(path), found=error.strerror or "an error") from error
        time.sleep(0.02)
