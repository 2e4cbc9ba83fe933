"""An intent: what a key is about to sign, for whom to read it later. Fixed text, one form only.

::

    cellward signing intent v1
    time 2026-11-24T20:44:56Z
    kind image
    role firmware
    algorithm p256
    key 93a5…        SHA-256 of the public key, 64 hex digits
    signed 7be1…     the bytes that the key is given, if at most 64; of longer ones sha256:…
    subject app 1.4.0 for bms-m33, security counter 7
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cellward.core.errors import Code, FormatRefused

MAX_ENTRY = 1024
MAX_SUBJECT = 200  # characters
GIVEN_WHOLE = 64  # bytes; a digest of SHA-512 is the longest
_NAME = "[a-z][a-z0-9-]{0,31}"


@dataclass(frozen=True)
class Entry:
    """Times are UTC in whole seconds. `kind` and `role` are lower-case words, `key` a fingerprint.

    Raises FormatRefused (log.format) for anything that its text could not say in exactly one way.
    """

    time: datetime
    kind: str
    role: str
    algorithm: str
    key: str
    signed: str
    subject: str

    def __post_init__(self) -> None:
        if not _FORM().fullmatch(self._text()) or not _printable(self.subject):
            raise _malformed("entry of the signing log", self.subject)

    def encode(self) -> bytes:
        return self._text().encode()

    def _text(self) -> str:
        # isoformat has neither the Z nor a fixed number of fields.
        time = self.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
        return (
            f"cellward signing intent v1\ntime {time}\nkind {self.kind}\nrole {self.role}\n"
            f"algorithm {self.algorithm}\nkey {self.key}\nsigned {self.signed}\nsubject {self.subject}\n"
        )


def given(data: bytes) -> str:
    """What `signed` says of the bytes that a key is given. Two messages never have one text."""
    if len(data) <= GIVEN_WHOLE:
        return data.hex()
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def decode(data: bytes, what: str) -> Entry:
    """Raises FormatRefused (log.format) unless `data` is what `Entry.encode` makes."""
    try:
        text = data[: MAX_ENTRY + 1].decode()
    except UnicodeDecodeError as error:
        raise _malformed(what, "bytes that are not UTF-8") from error
    fields = _FORM().fullmatch(text) if len(data) <= MAX_ENTRY else None
    if fields is None:
        raise _malformed(what, text)
    time, *words = fields.groups()
    try:
        return Entry(datetime.fromisoformat(time), *words)
    except (ValueError, FormatRefused) as error:  # the 30th of February, an unprintable subject
        raise _malformed(what, text) from error


@cache
def _FORM() -> re.Pattern[str]:  # noqa: N802  a constant, but compiled when first asked for
    return re.compile(
        r"cellward signing intent v1\n"
        r"time ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)\n"
        rf"kind ({_NAME})\nrole ({_NAME})\nalgorithm ({_NAME})\nkey ([0-9a-f]{{64}})\n"
        rf"signed ((?:[0-9a-f]{{2}}){{1,{GIVEN_WHOLE}}}|sha256:[0-9a-f]{{64}})\n"
        rf"subject ([^\n]{{1,{MAX_SUBJECT}}})\n"
    )


def _printable(subject: str) -> bool:
    """No control or direction characters, no lone surrogates: the terminal shows what is there."""
    return subject.isprintable() and subject.strip() == subject


def _malformed(what: str, found: str) -> FormatRefused:
    return FormatRefused(
        Code.LOG_FORMAT, what, expected="a signing intent in its one form", found=ascii(found[:60])
    )
