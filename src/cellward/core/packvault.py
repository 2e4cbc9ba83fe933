"""The pack controller's vault: named values in one file, encrypted and authenticated under one key.

Normative: docs/formats/controller-vault.md. (core.vault is the battery module's, another format.) The file
ends in a write of it that a TPM remembers: a counter says which of two is newer, a chain that no other file
of the same number was written instead.

::

    Content.encode(key, nonce)   a file
    decode(data).check(key)      what it says, if the vault's key made it
    standing(…)                  whether it is the newest that there was
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.wire import BigEndianReader, be16, be32, be_sized

MAGIC = b"CWPV"
FORMAT = 1
KEY_SIZE = 32  # AES-256
DIGEST_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16
MAX_VALUES = 64
MAX_VALUE = 64 * 1024  # a signed calibration is not larger
MAX_SEALED = 1024
MAX_COUNTER = 2**64 - 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_WHAT = "vault"
_VALUE = b"cellward pack vault value"
_MARK = b"cellward pack vault mark"
_EXPORTABLE = 1

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Value:
    """One named value, encrypted. `version`: the vault's counter when it was written, so that no value that
    was replaced or removed has the version of one that came after it. Raises FormatRefused (vault.format)."""

    name: str
    version: int
    exportable: bool
    nonce: bytes
    tag: bytes
    ciphertext: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_size(len(self.ciphertext))

    @property
    def entry(self) -> bytes:
        """What the index has of it. The tag is in there: under one key no other ciphertext has it."""
        head = be_sized(self.name.encode()) + bytes([self.exportable * _EXPORTABLE]) + _be64(self.version)
        return head + be32(len(self.ciphertext)) + self.nonce + self.tag

    def open(self, key: Buffer, device: bytes, into: memoryview) -> None:
        """Decrypt into as many bytes as the ciphertext has. Raises TrustRefused (vault.seal)."""
        context = _context(device, self.name, self.version, self.exportable)
        try:
            AESGCM(key).decrypt_into(self.nonce, self.ciphertext + self.tag, context, into)
        except InvalidTag as error:
            raise _unsealed(f"{_WHAT} value {self.name}") from error


def seal_value(
    key: Buffer, device: bytes, name: str, version: int, value: Buffer, nonce: bytes, *, exportable: bool
) -> Value:
    """`nonce` is fresh each time. Raises FormatRefused (vault.format) for what the format has no room for."""
    check_name(name)
    check_size(len(value))
    sealed = bytearray(len(value) + TAG_SIZE)
    AESGCM(key).encrypt_into(nonce, value, _context(device, name, version, exportable), sealed)
    return Value(name, version, exportable, nonce, bytes(sealed[-TAG_SIZE:]), bytes(sealed[:-TAG_SIZE]))


@dataclass(frozen=True)
class Content:
    """What a vault's file says.

    `device`: SHA-256 of the TPM's endorsement key. `approver`: whose policies open `sealed`, the vault key in
    a blob of the TPM's. `counter`: what the TPM's counter says once this file is in force; `before`: what the
    chain said until then. `values`: by name.
    """

    device: bytes
    approver: PublicKey
    sealed: bytes = field(repr=False)
    counter: int
    before: bytes
    values: tuple[Value, ...] = ()

    @property
    def index(self) -> bytes:
        """Everything but nonce, tag and ciphertexts."""
        return b"".join(
            (
                *(MAGIC, be16(FORMAT), self.device, be_sized(self.approver.encoded), be_sized(self.sealed)),
                *(_be64(self.counter), self.before, be16(len(self.values))),
                *(value.entry for value in self.values),
            )
        )

    def value(self, name: str) -> Value:
        """Raises PolicyRefused (vault.unknown)."""
        for value in self.values:
            if value.name == name:
                return value
        raise PolicyRefused(
            Code.VAULT_UNKNOWN,
            f"{_WHAT} value {name!r}",
            expected=", ".join(value.name for value in self.values) or "a vault with values",
            found="no such name",
        )

    def encode(self, key: Buffer, nonce: bytes) -> bytes:
        """The file, whose tag is over all of `index`. `nonce` is fresh each time."""
        index = self.index
        tag = AESGCM(key).encrypt(nonce, b"", index)
        return b"".join((index, nonce, tag, *(value.ciphertext for value in self.values)))

    def mark(self, key: Buffer) -> bytes:
        """What this file extends the chain with. Nobody knows it without the key: not even whoever can remove
        the chain and make it again puts it back to where this file was the newest."""
        return hmac.digest(key, _MARK + self.index, "sha256")

    def with_value(self, value: Value) -> tuple[Value, ...]:
        """The values with this one, in place of an earlier one. Raises PolicyRefused (vault.full)."""
        others = [other for other in self.values if other.name != value.name]
        if len(others) == MAX_VALUES:
            raise PolicyRefused(
                Code.VAULT_FULL,
                _WHAT,
                expected=f"at most {MAX_VALUES} values",
                found=f"a new one, {value.name}",
                advice="remove one first",
            )
        return tuple(sorted([*others, value], key=lambda each: each.name))

    def successor(self, before: bytes, values: tuple[Value, ...]) -> "Content":
        """What is written next."""
        return replace(self, counter=self.counter + 1, before=before, values=values)


@dataclass(frozen=True)
class Decoded:
    """A file that nobody has verified; of it, only `approver` and `sealed` are of use before `check`."""

    content: Content
    nonce: bytes
    tag: bytes

    def check(self, key: Buffer) -> Content:
        """The content, if the vault's key made it. Raises TrustRefused (vault.seal)."""
        try:
            AESGCM(key).decrypt(self.nonce, self.tag, self.content.index)
        except InvalidTag as error:
            raise _unsealed(_WHAT) from error
        return self.content


def decode(data: bytes) -> Decoded:
    """Raises FormatRefused (wire.*, vault.format, key.format)."""
    reader = BigEndianReader(data, _WHAT)
    if reader.take(4) != MAGIC or reader.u16() != FORMAT:
        _refuse(f"{MAGIC.decode()} in format {FORMAT}", f"{data[:6].hex()}")
    device = reader.take(DIGEST_SIZE)
    approver = PublicKey(reader.sized()).require([Algorithm.P256], f"{_WHAT}, policy key")
    sealed = reader.sized()
    if not 1 <= len(sealed) <= MAX_SEALED:
        _refuse(f"a sealed key of 1 to {MAX_SEALED} bytes", f"{len(sealed)}")
    counter, before, count = reader.u64(), reader.take(DIGEST_SIZE), reader.u16()
    if count > MAX_VALUES:
        _refuse(f"at most {MAX_VALUES} values", f"{count}")
    entries = [_read_entry(reader) for _ in range(count)]
    names = [name for name, *_ in entries]
    if names != sorted(set(names)):
        _refuse("every name once, in their order", "another list")
    nonce, tag = reader.take(NONCE_SIZE), reader.take(TAG_SIZE)
    values = tuple(
        Value(name, version, exportable, own, its, reader.take(size))
        for name, exportable, version, size, own, its in entries
    )
    reader.finish()
    if any(value.version > counter for value in values):
        _refuse(f"versions up to {counter}", "a later one")
    return Decoded(Content(device, approver, sealed, counter, before, values), nonce, tag)


def _read_entry(reader: BigEndianReader) -> tuple[str, bool, int, int, bytes, bytes]:
    name = reader.sized().decode("ascii", "replace")
    check_name(name)
    if (flags := reader.u8()) & ~_EXPORTABLE:
        _refuse("no flag but exportable", f"{flags:#04x}")
    version, size = reader.u64(), reader.u32()
    check_size(size)
    return name, bool(flags), version, size, reader.take(NONCE_SIZE), reader.take(TAG_SIZE)


# --- freshness ---


class Standing(Enum):
    """How far the write of a file has come. What a cut left out is made good by whoever opens the vault."""

    IN_FORCE = auto()
    COUNTED_NOT_YET = auto()  # the chain has it
    WRITTEN = auto()  # neither chain nor counter have it


def extended(before: bytes, mark: bytes) -> bytes:
    """A chain's value after an extension."""
    return hashlib.sha256(before + mark).digest()


def standing(content: Content, key: Buffer, chain: bytes, counter: int) -> Standing:
    """Raises TrustRefused (vault.rollback) for a file that is not what the TPM saw last."""
    after = extended(content.before, content.mark(key))
    found = {
        (after, content.counter): Standing.IN_FORCE,
        (after, content.counter - 1): Standing.COUNTED_NOT_YET,
        (content.before, content.counter - 1): Standing.WRITTEN,
    }.get((chain, counter))
    if found is None:
        same = content.counter == counter
        raise TrustRefused(
            Code.VAULT_ROLLBACK,
            _WHAT,
            expected=f"the newest file, number {counter}",
            found="another one of that number" if same else f"number {content.counter}",
            advice="somebody put another file in place of the newest; put that one back",
        )
    return found


def check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        _refuse("a name of 1 to 64 lower-case letters, digits, '.', '_' and '-'", repr(name[:80]))
    return name


def check_size(size: int) -> int:
    if not 1 <= size <= MAX_VALUE:
        _refuse(f"a value of 1 to {MAX_VALUE} bytes", f"{size}")
    return size


def _context(device: bytes, name: str, version: int, exportable: bool) -> bytes:
    return _VALUE + device + be_sized(name.encode()) + bytes([exportable]) + _be64(version)


def _be64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _unsealed(subject: str) -> TrustRefused:
    return TrustRefused(Code.VAULT_SEAL, subject, expected="the seal of the vault's key", found="another one")


def _refuse(expected: str, found: str) -> NoReturn:
    raise FormatRefused(Code.VAULT_FORMAT, _WHAT, expected=expected, found=found)
