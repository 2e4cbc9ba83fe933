"""SoftHSM's object files, read to see that they are whole; what the values mean is SoftHSM's.

::

    generation    u64, big-endian as all
    attributes    type u64, kind u64, value, up to the end of the file
    value         1: one byte; 2: u64; 3: length u64 and bytes; 4: length u64 and attributes;
                  5: count u64 and a u64 each

SoftHSM 2.6 makes two things necessary. It passes over a damaged object, so that a key seems never to have
been made, and ends the process at an absurd length. And it rewrites token.object in place at every login:
killed at that moment it leaves an empty file, and without it no key of the token can be used any more.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cellward.adapters.pkcs11.lane import unreadable
from cellward.core.errors import Code, FormatRefused

MAX_FILE = 1 << 20
SPARE = "token.spare"  # SoftHSM looks at *.object alone
_TOKEN_ATTRIBUTES = 5  # label, serial number, flags, and what each of the two PINs unlocks
_WORD = 8
_FIXED = {1: 1, 2: _WORD}
_UNIT = {3: 1, 4: 1, 5: _WORD}

Write = Callable[[Path, bytes, int], None]


def make_whole(tokens: Path, write: Write) -> None:
    """What must be seen to while no other process logs in: `write` replaces a file durably.

    A key's file without attributes was never finished; SoftHSM leaves it when it is killed, and nothing is
    lost with it. Raises FormatRefused (token.damaged), Unavailable (token.failed, storage.*).
    """
    for path in sorted(tokens.glob("*/*.object")):
        data = _read(path)
        if path.name == "token.object":
            _keep(path, data, write)
        elif len(data) > _WORD:
            check_object(data, str(path))


def _keep(path: Path, data: bytes, write: Write) -> None:
    """A spare of token.object, from before each login; and back, where a login was cut off."""
    spare = path.with_name(SPARE)
    held = _read(spare) if spare.exists() else b""
    try:
        check_object(data, str(path), _TOKEN_ATTRIBUTES)
    except FormatRefused:
        if not held:
            raise
        check_object(held, str(spare), _TOKEN_ATTRIBUTES)
        write(path, held, 0o600)
    else:
        if held[_WORD:] != data[_WORD:]:  # the generation rises with each login
            write(spare, data, 0o600)


@contextmanager
def stored_whole(tokens: Path) -> Iterator[None]:
    """Around the making of a key, while no other process makes one: its files are on the disk, and whole.

    SoftHSM says that a key was made when half of it was written, and syncs nothing. Raises as `make_whole`.
    """
    before = set(tokens.glob("*/*.object"))
    yield
    for path in sorted(set(tokens.glob("*/*.object")) - before):
        check_object(_read(path), str(path))
        for each in (path, path.parent):
            _sync(each)


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise unreadable(path, error) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise unreadable(path, error) from error


def check_object(data: bytes, subject: str, least: int = 1) -> int:
    """How many attributes it has, at `least` so many. Raises FormatRefused (token.damaged)."""
    if len(data) > MAX_FILE:
        raise _damaged(subject, f"at most {MAX_FILE} bytes", "more")
    found = sum(1 for _ in _attributes(data, subject))
    if found < least:
        raise _damaged(subject, f"{least} attributes", f"{found} in {len(data)} bytes")
    return found


def _attributes(data: bytes, subject: str) -> Iterator[int]:
    """Where each begins."""
    at = _WORD
    while at < len(data):
        yield at
        kind, value = _word(data, at + _WORD), at + 2 * _WORD
        if kind in _UNIT:
            after = value + _WORD + _word(data, value) * _UNIT[kind]
        else:
            after = value + _FIXED.get(kind, len(data))
        if after > len(data):
            raise _damaged(subject, "whole attributes", f"something else at byte {at} of {len(data)}")
        at = after


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + _WORD], "big")


def _damaged(subject: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(
        Code.TOKEN_DAMAGED,
        subject,
        expected=expected,
        found=found,
        advice="put the file back from a copy; if it was cut off while its key was made, remove it",
    )
