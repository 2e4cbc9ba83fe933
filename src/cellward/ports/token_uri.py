"""PKCS#11 URIs (RFC 7512): where a key lives, never what unlocks it."""

import re
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused

SCHEME = "pkcs11:"
MAX_URI = 2048
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class TokenUri:
    """The attributes Cellward understands (RFC 7512 sections 2.3 and 2.4); None is "any".

    `object`, `id`: the key. `token`, `serial`, `manufacturer`, `model`: the token. `module_path`:
    the PKCS#11 library. `pin_source`: a file that holds the PIN.
    """

    token: str | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    object: str | None = None
    id: bytes | None = None
    module_path: str | None = None
    pin_source: str | None = None

    @classmethod
    def parse(cls, text: str) -> "TokenUri":
        """Raises FormatRefused (token.uri). What it says never repeats a value: it may be a PIN."""
        if "pin-value" in text:  # wherever it stands: a slip must not put the PIN into a message
            raise FormatRefused(
                Code.TOKEN_URI,
                "key URI",
                expected="no PIN in it: process lists, shell histories and logs show URIs",
                found="pin-value",
                advice="use CELLWARD_PIN, CELLWARD_PIN_FILE or pin-source=file:…",
            )
        if not text.startswith(SCHEME):
            raise _refused("pkcs11:token=…;object=…", "another scheme")
        if len(text) > MAX_URI or not text.isascii() or not text.isprintable() or "#" in text:
            raise _refused(f"at most {MAX_URI} printable ASCII characters", "others")
        path, _, query = text.removeprefix(SCHEME).partition("?")
        values = _attributes(path, ";", _PATH) | _attributes(query, "&", _QUERY)
        if values.pop("type", b"private") != b"private":
            raise _refused("type=private, or none", "another type")
        pin_source = values.get("pin-source")
        if pin_source is not None:
            values["pin-source"] = _pin_file(pin_source)
        key_id = values.pop("id", None)
        return cls(id=key_id, **{name.replace("-", "_"): _text(value) for name, value in values.items()})

    @property
    def token_name(self) -> str:
        """The token, for people."""
        return f"token {self.token or self.serial or self.model or self.manufacturer or 'of any name'}"

    @property
    def key_name(self) -> str:
        """The key, for people."""
        named = self.object if self.object is not None else (self.id.hex() if self.id is not None else "")
        return f"key {named}" if named else "key of any name"


_PATH = ("token", "serial", "manufacturer", "model", "object", "id", "type")
_QUERY = ("module-path", "pin-source")


def _attributes(part: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    for pair in part.split(separator) if part else []:
        name, equals, value = pair.partition("=")
        if not equals or name not in known:
            raise _refused(", ".join(known), "another attribute")
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


def _pin_file(value: bytes) -> bytes:
    """RFC 7512 section 2.4: a file, as a path or a file: URI; `|command` would run a program."""
    path = value.removeprefix(b"file:")
    path = path[2:] if path.startswith(b"///") else path
    if not path.startswith(b"/") or path.startswith(b"//"):
        raise _refused("pin-source=file:/absolute/path", "something else")
    return path


def _refused(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.TOKEN_URI, "key URI", expected=expected, found=found)
