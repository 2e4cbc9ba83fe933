"""Where a token's PIN comes from: never argv, never a URI."""

import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from cellward.core.errors import Code, PolicyRefused, Unavailable

MAX_PIN = 256  # bytes; PKCS#11 tokens stop far below

Pin = Callable[[], str]


def pin_source(environ: Mapping[str, str], source: str | None, embedded: Pin | None) -> Pin:
    """Read when a login needs it, from the first that is there.

    1. the URI's pin-source, 2. CELLWARD_PIN, 3. CELLWARD_PIN_FILE, 4. the embedded store's own file,
    which is never tried on another token: wrong attempts lock a real one, or the person at the terminal.

    What it returns raises Unavailable (token.pin_missing), PolicyRefused (token.pin_exposed).
    """
    if source is not None:
        return lambda: read_pin(Path(source))
    if "CELLWARD_PIN" in environ:
        return lambda: _checked(environ["CELLWARD_PIN"].encode(errors="surrogateescape"), "CELLWARD_PIN")
    if "CELLWARD_PIN_FILE" in environ:
        return lambda: read_pin(Path(environ["CELLWARD_PIN_FILE"]))
    return embedded or _asked


def _asked() -> str:
    """From the person at the terminal, where there is one; nothing of it is shown."""
    if not sys.stdin.isatty():
        raise _missing("user PIN", "CELLWARD_PIN, CELLWARD_PIN_FILE or the URI's pin-source", "none of them")
    import getpass  # only here: no build waits at a prompt

    try:
        typed = getpass.getpass("PIN of the token: ")
    except EOFError as error:
        raise _missing("user PIN", "a PIN at the prompt", "none") from error
    return _checked(typed.encode(errors="surrogateescape"), "user PIN")


def read_pin(path: Path, *, private: bool = False) -> str:
    """The PIN in the first line of a file; a `private` one must be its owner's alone."""
    subject = f"PIN file {path}"
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_PIN + 2)
    except OSError as error:
        raise _missing(subject, "a file with the PIN", error.strerror or type(error).__name__) from error
    if private and mode & 0o077:
        raise PolicyRefused(
            Code.TOKEN_PIN_EXPOSED, subject, expected="mode 0600", found=f"{mode:04o}", advice="chmod 600"
        )
    return _checked(data.removesuffix(b"\n").removesuffix(b"\r"), subject)


def _checked(data: bytes, subject: str) -> str:
    try:
        pin = data.decode()
    except UnicodeDecodeError as error:
        raise _missing(subject, "a PIN in UTF-8", "other bytes") from error
    if not 0 < len(data) <= MAX_PIN or not pin.isprintable():
        raise _missing(subject, f"a PIN of 1 to {MAX_PIN} printable bytes on one line", "something else")
    return pin


def _missing(subject: str, expected: str, found: str) -> Unavailable:
    return Unavailable(Code.TOKEN_PIN_MISSING, subject, expected=expected, found=found)
