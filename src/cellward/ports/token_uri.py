"""PKCS#11 URIs (RFC 7512): where a key lives, never what unlocks it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cellward.core.errors import Code, FormatRefused

SCHEME = "pkcs11:"
MAX_URI = 2048
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
# Section 2.3: unreserved, pk11-res-avail, and what path and query have besides; everything else is escaped.
_COMMON = r"A-Za-z0-9\-._~%:\[\]@!$'()*+,="
_PATH_TEXT = re.compile(rf"[{_COMMON}&;]*", re.ASCII)
_QUERY_TEXT = re.compile(rf"[{_COMMON}&/?|]*", re.ASCII)
_VERSION = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?", re.ASCII)
_SLOT = re.compile(r"\d{1,20}", re.ASCII)


@dataclass(frozen=True)
class TokenUri:
    """Every attribute of RFC 7512 sections 2.3 and 2.4; None is "any".

    `object`, `id`: the key. `token`, `serial`, `manufacturer`, `model`: the token; `slot_*`: where it is.
    `library_*`, `module_path`, `module_name`: the PKCS#11 library. `pin_source`: a file that holds the PIN.
    """

    token: str | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    object: str | None = None
    id: bytes | None = None
    slot_id: int | None = None
    slot_description: str | None = None
    slot_manufacturer: str | None = None
    library_manufacturer: str | None = None
    library_description: str | None = None
    library_version: tuple[int, int] | None = None
    module_path: str | None = None
    module_name: str | None = None
    pin_source: str | None = None

    @classmethod
    def parse(cls, text: str) -> "TokenUri":
        """Raises FormatRefused (token.uri). What it says never repeats a value: it may be a PIN.

        Section 2.5 lets unknown attributes of the path match nothing, and those of the query be ignored;
        here both are refused, a maker's own among them: what narrows a choice must not be passed over.
        """
        if "pin-value" in text:  # wherever it stands: a slip must not put the PIN into a message
            raise FormatRefused(
                Code.TOKEN_URI,
                "key URI",
                expected="no PIN in it: process lists, shell histories and logs show URIs",
                found="pin-value",
                advice="use CELLWARD_PIN, CELLWARD_PIN_FILE or pin-source=file:…",
            )
        if text[: len(SCHEME)].lower() != SCHEME:
            raise _refused("pkcs11:token=…;object=…", "another scheme")
        if len(text) > MAX_URI or not text.isascii() or not text.isprintable():
            raise _refused(f"at most {MAX_URI} printable ASCII characters", "others")
        path, _, query = text[len(SCHEME) :].partition("?")
        if not _PATH_TEXT.fullmatch(path) or not _QUERY_TEXT.fullmatch(query):
            raise _refused("every other character as %XX (a space is %20)", "one that stands for itself")
        values = _attributes(path, ";", _PATH) | _attributes(query, "&", _QUERY)
        if values.pop("type", b"private") != b"private":
            raise _refused("type=private, or none", "another type")
        found: dict[str, Any] = {
            name.replace("-", "_"): _READERS.get(name, _text)(value) for name, value in values.items()
        }
        return cls(**found)

    @property
    def token_name(self) -> str:
        """The token, for people."""
        slot = None if self.slot_id is None else f"in slot {self.slot_id}"
        return (
            f"token {self.token or self.serial or self.model or self.manufacturer or slot or 'of any name'}"
        )

    @property
    def key_name(self) -> str:
        """The key, for people."""
        named = self.object if self.object is not None else (self.id.hex() if self.id is not None else "")
        return f"key {named}" if named else "key of any name"


_PATH = (
    "token",
    "serial",
    "manufacturer",
    "model",
    "object",
    "id",
    "type",
    "slot-id",
    "slot-description",
    "slot-manufacturer",
    "library-manufacturer",
    "library-description",
    "library-version",
)
_QUERY = ("module-path", "module-name", "pin-source")


def _attributes(part: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    for pair in part.split(separator) if part else []:
        name, equals, value = pair.partition("=")
        if not equals or name not in known:
            own = "one of a token's maker: leave it out" if name.startswith("x-") else "another attribute"
            raise _refused(", ".join(known), own)
        if name in values:
            raise _refused(f"{name} once", "twice")
        values[name] = _unescape(value)
    return values


def _unescape(value: str) -> bytes:
    raw = value.encode("ascii")
    if raw.count(b"%") != len(_ESCAPE.findall(raw)):
        raise _refused("%XX escapes", "a % without two hexadecimal digits")
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw)


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise _refused("UTF-8 behind the escapes", "other bytes") from error
    if "\0" in text:
        raise _refused("text", "a NUL character")
    return text


def _pin_file(value: bytes) -> str:
    """Section 2.4: a file, as a path or a file: URI; `|command` would run a program."""
    path = value.removeprefix(b"file:")
    path = path[2:] if path.startswith(b"///") else path
    if not path.startswith(b"/") or path.startswith(b"//"):
        raise _refused("pin-source=file:/absolute/path", "something else")
    return _text(path)


def _library_version(value: bytes) -> tuple[int, int]:
    found = _VERSION.fullmatch(_text(value))
    if found is None:
        raise _refused("library-version=MAJOR or MAJOR.MINOR", "something else")
    return int(found[1]), int(found[2] or 0)


def _slot_id(value: bytes) -> int:
    if not _SLOT.fullmatch(_text(value)):
        raise _refused("slot-id in decimal digits", "something else")
    return int(value)


def _module_path(value: bytes) -> str:
    """Section 2.4: absolute. The loader would look for anything else in places of its own."""
    if not value.startswith(b"/"):
        raise _refused("module-path=/absolute/path", "something else")
    return _text(value)


def _module_name(value: bytes) -> str:
    """Section 2.4: without path, prefix `lib` or suffix, so that it means the same everywhere."""
    name = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,64}", name, re.ASCII) or name.startswith("."):
        raise _refused("module-name without path and suffix", "something else")
    return name


def _bytes(value: bytes) -> bytes:
    return value


_READERS: dict[str, Callable[[bytes], object]] = {
    "id": _bytes,
    "slot-id": _slot_id,
    "library-version": _library_version,
    "module-path": _module_path,
    "module-name": _module_name,
    "pin-source": _pin_file,
}


def _refused(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.TOKEN_URI, "key URI", expected=expected, found=found)
