"""Signed notes (C2SP signed-note v1.0.0): text, and lines of signatures by keys that have names. Ed25519."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import NoReturn

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import Algorithm, PublicKey

MAX_NOTE = 64 * 1024
MAX_SIGNATURES = 64
_ED25519 = b"\x01"  # signature type
_ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: everything before the 32 bytes
_DASH = "— "
_ID = 4


@dataclass(frozen=True)
class NoteKey:
    """An Ed25519 key under a name. Raises FormatRefused (log.format) for a name that a note cannot hold."""

    name: str
    public_key: PublicKey

    def __post_init__(self) -> None:
        self.public_key.require([Algorithm.ED25519], "key of the signing log")
        require_name(self.name, "key of the signing log")

    @classmethod
    def from_vkey(cls, text: str) -> "NoteKey":
        """`name+hash+base64(type ‖ key)`, as Go's note package and witnesses write it."""
        name, _, rest = text.strip().partition("+")
        hash_, _, encoded = rest.partition("+")
        typed = decode_base64(encoded, "vkey")
        if len(typed) != 33 or typed[:1] != _ED25519:
            _refuse("vkey", "name+hash+base64 of an Ed25519 key", "another key")
        key = cls(name, PublicKey(_ED25519_SPKI + typed[1:]))
        if hash_ != key.id.hex():
            _refuse("vkey", f"hash {key.id.hex()}", ascii(hash_[:16]))
        return key

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encode_base64(_ED25519 + self._raw)}"

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self._raw).digest()[:_ID]

    @property
    def _raw(self) -> bytes:
        return self.public_key.encoded[len(_ED25519_SPKI) :]


@dataclass(frozen=True)
class Note:
    """`text` ends with a newline; signatures are (name of the key, its id ‖ signature)."""

    text: str
    signatures: tuple[tuple[str, bytes], ...]

    def encode(self) -> bytes:
        lines = [f"{_DASH}{name} {encode_base64(signature)}\n" for name, signature in self.signatures]
        return f"{self.text}\n{''.join(lines)}".encode()

    def verified_by(self, key: NoteKey, what: str) -> str:
        """The text, if this key signed it; what other keys signed is ignored.

        Raises TrustRefused (log.signature).
        """
        mine = [raw[_ID:] for name, raw in self.signatures if name == key.name and raw[:_ID] == key.id]
        if not mine:
            raise TrustRefused(
                Code.LOG_SIGNATURE,
                what,
                expected=f"a signature by {key.name}, key {key.public_key.fingerprint[:16]}",
                found=", ".join(f"{name} {raw[:_ID].hex()}" for name, raw in self.signatures),
            )
        for signature in mine:
            key.public_key.verify(self.text.encode(), signature, code=Code.LOG_SIGNATURE, subject=what)
        return self.text


def signed(text: str, key: NoteKey, signature: bytes) -> Note:
    """The text with one signature, the key's over the text's bytes."""
    return Note(text, ((key.name, key.id + signature),))


def decode(data: bytes, what: str) -> Note:
    """Raises FormatRefused (log.format). Nothing is verified yet."""
    if len(data) > MAX_NOTE:
        _refuse(what, f"at most {MAX_NOTE} bytes", f"{len(data)}")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise _malformed(what, "UTF-8", "other bytes") from error
    if any(character < " " and character != "\n" for character in whole):
        _refuse(what, "no control characters", "one")
    text, separator, below = whole.rpartition("\n\n")
    lines = below.split("\n")
    if not separator or not text or lines.pop() != "" or not 0 < len(lines) <= MAX_SIGNATURES:
        _refuse(what, "text, an empty line, and lines of signatures", "another form")
    return Note(f"{text}\n", tuple(_signature(line, what) for line in lines))


def _signature(line: str, what: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH):
        _refuse(what, "a signature line", ascii(line[:40]))
    raw = decode_base64(encoded, what)
    if len(raw) <= _ID:
        _refuse(what, "a key's id and a signature", f"{len(raw)} bytes")
    return require_name(name, what), raw


def require_name(name: str, what: str) -> str:
    """A key's or a log's name. Raises FormatRefused (log.format)."""
    if not 0 < len(name) <= 200 or not name.isprintable() or " " in name or "+" in name:
        _refuse(what, "a name of up to 200 characters without spaces and plus", ascii(name[:40]))
    return name


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decode_base64(text: str, what: str) -> bytes:
    """Its one form (RFC 4648, section 4). Raises FormatRefused (log.format)."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _malformed(what, "base64", ascii(text[:40])) from error
    if encode_base64(data) != text:
        _refuse(what, "base64 in its one form", ascii(text[:40]))
    return data


def _refuse(what: str, expected: str, found: str) -> NoReturn:
    raise _malformed(what, expected, found)


def _malformed(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.LOG_FORMAT, what, expected=expected, found=found)
