"""Untrusted JSON, bounded and strict.

Refused, always as FormatRefused: more than the limit (metadata.too_large); and as metadata.format
anything that two readers could understand differently: bytes that are not UTF-8, duplicate names,
floats, NaN, integers beyond 2^53, nesting beyond MAX_DEPTH, lone surrogates, strings that are not
in NFC (Uptane 5.2, Net-Unicode).
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NoReturn

from cellward.core.errors import Code, FormatRefused

MAX_DEPTH = 16
MAX_INTEGER = 2**53 - 1  # exact in every JSON reader (RFC 8259 section 6)
MAX_TEXT = 1024
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


def refuse(what: str, expected: str, found: str) -> NoReturn:
    raise FormatRefused(Code.METADATA_FORMAT, what, expected=expected, found=found)


def decode(data: bytes, what: str, limit: int, *, normal: bool = True) -> object:
    """The JSON value that `data` is. `what` names it in refusals; `limit` is in bytes. Strings must
    be in NFC where the format is one of ours: `normal`."""
    if len(data) > limit:
        raise FormatRefused(
            Code.METADATA_TOO_LARGE, what, expected=f"at most {limit} bytes", found=f"{len(data)} bytes"
        )

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) != len(items):
            refuse(what, "every name once", "a duplicate name")
        return found

    def integer(digits: str) -> int:
        # 17 characters are a sign and 2^53; longer ones are not even converted.
        if len(digits) > 17 or abs(value := int(digits)) > MAX_INTEGER:
            refuse(what, "integers up to 2^53", "a larger one")
        return value

    def other(text: str) -> NoReturn:
        refuse(what, "integers", f"the number {text[:20]}")

    try:
        tree = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_int=integer,
            parse_float=other,
            parse_constant=other,
        )
    except (ValueError, RecursionError) as error:
        raise FormatRefused(
            Code.METADATA_FORMAT, what, expected="JSON in UTF-8", found=_short(error)
        ) from error
    _check_depth(tree, what)
    if not data.isascii() or b"\\u" in data:
        _check_text(tree, what, normal=normal)
    return tree


def _short(error: Exception) -> str:
    return "nesting without end" if isinstance(error, RecursionError) else str(error)[:120]


def _check_depth(tree: object, what: str) -> None:
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    refuse(what, f"at most {MAX_DEPTH} levels", "more")


def _children(node: object) -> list[object]:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [child for child in inner if isinstance(child, dict | list)]


def _check_text(tree: object, what: str, *, normal: bool) -> None:
    """One pass in C over all strings: JSON's own characters neither combine nor are surrogates."""
    text = json.dumps(tree, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FormatRefused(
            Code.METADATA_FORMAT, what, expected="Unicode text", found="a lone surrogate"
        ) from error
    if normal and not unicodedata.is_normalized("NFC", text):
        refuse(what, "strings in NFC", "another normal form")


def encode(tree: object) -> bytes:
    """As JSON that everybody reads, the same bytes for the same tree."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def parse_time(text: str, what: str) -> datetime:
    """`2026-11-24T05:31:00Z`. Raises FormatRefused (metadata.format)."""
    if _TIME.fullmatch(text):
        try:
            return datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            pass  # the 30th of February: refused below, like any other text
    refuse(what, "a time YYYY-MM-DDTHH:MM:SSZ", repr(text[:40]))


def format_time(time: datetime) -> str:
    return time.astimezone(UTC).strftime(_TIME_FORMAT)


class Fields:
    """A JSON object read field by field, every read typed and bounded.

    Raises FormatRefused (metadata.format). `finish()` refuses what nobody has read, where nothing
    unknown is allowed (an unsigned envelope); elsewhere unknown fields are kept and ignored (TUF 4.2).
    """

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            refuse(what, "an object", type(value).__name__)
        self._fields: dict[str, object] = value
        self._read: set[str] = set()
        self.what = what

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def names(self) -> list[str]:
        return list(self._fields)

    def value(self, name: str) -> object:
        if name not in self._fields:
            refuse(self.what, f"a field {name[:80]!r}", "none")
        self._read.add(name)
        return self._fields[name]

    def text(self, name: str, pattern: re.Pattern[str] | None = None, limit: int = MAX_TEXT) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            refuse(self.what, f"text in {name!r}", type(value).__name__)
        if len(value) > limit:
            refuse(self.what, f"at most {limit} characters in {name!r}", f"{len(value)}")
        if pattern is not None and not pattern.fullmatch(value):
            refuse(self.what, f"{name!r} of the form {pattern.pattern}", repr(value[:80]))
        return value

    def integer(self, name: str, low: int = 0, high: int = MAX_INTEGER) -> int:
        value = self.value(name)
        if type(value) is not int:  # JSON's true is an int to isinstance
            refuse(self.what, f"an integer in {name!r}", type(value).__name__)
        if not low <= value <= high:
            refuse(self.what, f"{name!r} from {low} to {high}", f"{value}")
        return value

    def boolean(self, name: str) -> bool:
        value = self.value(name)
        if not isinstance(value, bool):
            refuse(self.what, f"true or false in {name!r}", type(value).__name__)
        return value

    def time(self, name: str) -> datetime:
        return parse_time(self.text(name), f"{self.what} {name}")

    def fields(self, name: str) -> "Fields":
        return Fields(self.value(name), f"{self.what} {repr(name[:80])[1:-1]}")  # no line break gets out

    def optional_fields(self, name: str) -> "Fields | None":
        return None if self.value(name) is None else self.fields(name)

    def items(self, name: str, limit: int) -> list[object]:
        value = self.value(name)
        if not isinstance(value, list):
            refuse(self.what, f"a list in {name!r}", type(value).__name__)
        if len(value) > limit:
            refuse(self.what, f"at most {limit} entries in {name!r}", f"{len(value)}")
        return value

    def texts(self, name: str, pattern: re.Pattern[str], limit: int) -> tuple[str, ...]:
        """A non-empty list of different strings."""
        values = tuple(v for v in self.items(name, limit) if isinstance(v, str) and pattern.fullmatch(v))
        if not values or len(set(values)) != len(self.items(name, limit)):
            refuse(self.what, f"{name!r} a list of different {pattern.pattern}", "another list")
        return values

    def sha256(self, name: str) -> str:
        """The digest of `{"sha256": hex}`: the one hash algorithm of this POUF."""
        hashes = self.fields(name)
        digest = hashes.text("sha256", SHA256_HEX)
        hashes.finish()
        return digest

    def finish(self) -> None:
        unknown = set(self._fields) - self._read
        if unknown:
            refuse(self.what, "no further fields", repr(min(unknown)[:80]))


Json = Mapping[str, object]
