"""Where the module link of a state file listens: a Unix socket beside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellward.core.errors import Code, Refused, Unavailable

SUFFIX = ".sock"
SUN_PATH = 107  # bytes of a socket's address on Linux, without the terminating zero


def socket_path(state: Path) -> Path:
    return state.with_name(state.name + SUFFIX)


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """An address for bind or connect: through the open folder where the path itself is too long.

    Raises Refused (config.invalid) when the name alone is too long, Unavailable (storage.*).
    """
    if len(os.fsencode(path)) <= SUN_PATH:
        yield str(path)
        return
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise Unavailable(Code.STORAGE_MISSING, str(path.parent), found=error.strerror or "") from error
    try:
        address = f"/proc/self/fd/{folder}/{path.name}"
        if len(os.fsencode(address)) > SUN_PATH:
            raise Refused(
                Code.CONFIG,
                f"socket {path.name}",
                expected=f"a name of at most {SUN_PATH - len(address) + len(path.name)} bytes",
                found=f"{len(os.fsencode(path.name))}",
                advice="give the state file a shorter name",
            )
        yield address
    finally:
        os.close(folder)
