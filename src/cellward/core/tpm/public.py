"""Public areas and the Names that they have (Part 1, 16; Part 2, 12.2 and 13.5).

What is taken is what Cellward uses: ECC on P-256 and RSA-2048, everything by SHA-256, in the one
encoding that a TPM gives. So decoding and encoding are each other's inverse.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NoReturn, TypeVar

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import P256_SPKI_PREFIX, PublicKey
from cellward.core.tpm.numbers import (
    DIGEST_SIZE,
    NIST_P256,
    Alg,
    NvAttributes,
    NvType,
    ObjectAttributes,
)
from cellward.core.wire import BigEndianReader, be16, be32, be_sized

COORDINATE_SIZE = 32
RSA_BITS = 2048
RSA_SIZE = RSA_BITS // 8
NAME_SIZE = 2 + DIGEST_SIZE
_KNOWN_ATTRIBUTES = sum(ObjectAttributes)
_NO_KDF = be16(Alg.NULL)
_DEFAULT_EXPONENT = be32(0)  # 65537, 12.2.3.5


class Symmetric(Enum):
    """TPMT_SYM_DEF_OBJECT: what a storage key protects its children with."""

    NONE = be16(Alg.NULL)
    AES_128_CFB = be16(Alg.AES) + be16(128) + be16(Alg.CFB)


class Scheme(Enum):
    """TPMT_ECC_SCHEME: what a signing key signs by; NONE leaves it to each command."""

    NONE = be16(Alg.NULL)
    ECDSA_SHA256 = be16(Alg.ECDSA) + be16(Alg.SHA256)


_Form = TypeVar("_Form", Symmetric, Scheme)


@dataclass(frozen=True)
class Public:
    """TPMT_PUBLIC. `unique`: x ‖ y of an ECC key, the modulus of an RSA key."""

    kind: Alg
    attributes: ObjectAttributes
    unique: bytes
    policy: bytes = b""
    symmetric: Symmetric = Symmetric.NONE
    scheme: Scheme = Scheme.NONE

    def encode(self) -> bytes:
        head = be16(self.kind) + be16(Alg.SHA256) + be32(self.attributes) + be_sized(self.policy)
        forms = self.symmetric.value + self.scheme.value
        if self.kind is Alg.RSA:
            return head + forms + be16(RSA_BITS) + _DEFAULT_EXPONENT + be_sized(self.unique)
        x, y = self.unique[:COORDINATE_SIZE], self.unique[COORDINATE_SIZE:]
        return head + forms + be16(NIST_P256) + _NO_KDF + be_sized(x) + be_sized(y)

    @cached_property
    def name(self) -> bytes:
        return name_of(self.encode())

    @cached_property
    def point(self) -> PublicKey:
        """The ECC key. Raises FormatRefused (attest.format) where it is RSA, key.format off the curve."""
        if self.kind is not Alg.ECC:
            _refuse("public area", "an ECC key on P-256", "an RSA key")
        return PublicKey(P256_SPKI_PREFIX + self.unique)


def decode_public(data: bytes) -> Public:
    """Raises FormatRefused (wire.*, attest.format, key.format)."""
    what = "public area"
    reader = BigEndianReader(data, what)
    kind = _one_of(reader.u16(), (Alg.ECC, Alg.RSA), what)
    _one_of(reader.u16(), (Alg.SHA256,), what)
    attributes = reader.u32()
    if attributes & ~_KNOWN_ATTRIBUTES:
        _refuse(what, "no reserved attribute", f"{attributes:#010x}")
    policy = reader.sized()
    if len(policy) not in (0, DIGEST_SIZE):
        _refuse(what, "a policy of 0 or 32 bytes", f"{len(policy)}")
    symmetric = _form(reader, Symmetric, Symmetric.AES_128_CFB, what)
    scheme = _form(reader, Scheme, Scheme.ECDSA_SHA256, what)
    unique = _point(reader, what) if kind is Alg.ECC else _modulus(reader, scheme, what)
    reader.finish()
    public = Public(kind, ObjectAttributes(attributes), unique, policy, symmetric, scheme)
    if kind is Alg.ECC:
        public.point  # noqa: B018  a key that is not on the curve must not exist
    return public


def name_of(public_area: bytes) -> bytes:
    """TPM2B_NAME's content: nameAlg ‖ H(area)."""
    return be16(Alg.SHA256) + hashlib.sha256(public_area).digest()


def decode_name(data: bytes) -> bytes:
    """The Name of an object or an NV index. Raises FormatRefused (attest.format)."""
    if len(data) != NAME_SIZE or data[:2] != be16(Alg.SHA256):
        _refuse("Name", f"{NAME_SIZE} bytes that begin with {be16(Alg.SHA256).hex()}", _start(data))
    return data


def qualified_name(parent: bytes, name: bytes) -> bytes:
    """Part 1, 26.5. `parent`: the parent's qualified name; of a primary key, its hierarchy's handle."""
    return be16(Alg.SHA256) + hashlib.sha256(parent + name).digest()


@dataclass(frozen=True)
class NvPublic:
    """TPMS_NV_PUBLIC. Its Name stands in policies, so that a fleet's indices are alike in all of it."""

    index: int
    type: NvType
    attributes: NvAttributes
    size: int
    policy: bytes = b""

    def encode(self) -> bytes:
        attributes = self.attributes | self.type << 4
        return b"".join(
            (
                be32(self.index),
                be16(Alg.SHA256),
                be32(attributes),
                be_sized(self.policy),
                be16(self.size),
            )
        )

    @property
    def name(self) -> bytes:
        return name_of(self.encode())


def _one_of(found: int, known: tuple[Alg, ...], what: str) -> Alg:
    if found not in known:
        _refuse(what, " or ".join(alg.name for alg in known), f"algorithm {found:#06x}")
    return Alg(found)


def _form(reader: BigEndianReader, forms: type[_Form], other: _Form, what: str) -> _Form:
    """None, or the other one there is."""
    found = reader.take(2)
    if found == forms.NONE.value:
        return forms.NONE
    found += reader.take(len(other.value) - 2)
    if found != other.value:
        _refuse(what, f"none or {other.name}", found.hex())
    return other


def _point(reader: BigEndianReader, what: str) -> bytes:
    if (curve := reader.u16()) != NIST_P256:
        _refuse(what, "the curve P-256", f"curve {curve:#06x}")
    if (kdf := reader.take(2)) != _NO_KDF:
        _refuse(what, "no key derivation", kdf.hex())
    x, y = reader.sized(), reader.sized()
    if (len(x), len(y)) != (COORDINATE_SIZE, COORDINATE_SIZE):
        _refuse(what, "two coordinates of 32 bytes", f"{len(x)} and {len(y)}")
    return x + y


def _modulus(reader: BigEndianReader, scheme: Scheme, what: str) -> bytes:
    """A key that decrypts: no scheme is known for RSA, ECDSA least of all."""
    if scheme is not Scheme.NONE:
        _refuse(what, "no scheme for RSA", scheme.name)
    bits, exponent = reader.u16(), reader.take(4)
    if bits != RSA_BITS or exponent != _DEFAULT_EXPONENT:
        _refuse(what, "RSA-2048 with the default exponent", f"{bits} bits, exponent {exponent.hex()}")
    modulus = reader.sized()
    if len(modulus) != RSA_SIZE or not modulus[0] & 0x80 or not modulus[-1] & 1:
        _refuse(what, "an odd modulus of 2048 bits", _start(modulus))
    return modulus


def _start(data: bytes) -> str:
    return f"{len(data)} bytes, {data[:8].hex()}…"


def _refuse(what: str, expected: str, found: str) -> NoReturn:
    raise FormatRefused(Code.ATTEST_FORMAT, what, expected=expected, found=found)
