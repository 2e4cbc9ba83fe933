"""Images made to order, well formed or not, with keys that live as long as the process."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from cellward.core import wire
from cellward.core.image import (
    MAGIC,
    SIGNATURES,
    TLV_MAGIC,
    TLV_PROTECTED_MAGIC,
    Tlv,
    Version,
    encode_area,
)
from cellward.core.keys import PublicKey
from cellward.core.slots import BMS_M33, Stage

Tlvs = list[tuple[int, bytes]]

VENDOR = BMS_M33.vendor_id
CLASS = BMS_M33.class_id(Stage.LOADER)
COUNTER = 7
PAYLOAD = bytes(range(64))
VERSION = Version(1, 4, 0)


@dataclass(frozen=True)
class Key:
    """A signing key made now and forgotten."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls) -> "Key":
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @cached_property
    def public(self) -> PublicKey:
        return PublicKey.from_cryptography(self.private.public_key())

    def sign(self, digest: bytes) -> bytes:
        return self.private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))

    def sign_raw(self, digest: bytes) -> tuple[int, int]:
        return decode_dss_signature(self.sign(digest))


@dataclass(frozen=True)
class RsaKey:
    """The same for RSA. With `bits` or `exponent` of its own it is none that a verifier takes."""

    private: rsa.RSAPrivateKey

    @classmethod
    def make(cls, exponent: int = 65537, bits: int = 3072) -> "RsaKey":
        return cls(rsa.generate_private_key(exponent, bits))

    @property
    def encoded(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.PKCS1
        )

    @cached_property
    def public(self) -> PublicKey:
        return PublicKey(self.encoded)

    @cached_property
    def modulus(self) -> int:
        return self.private.public_key().public_numbers().n

    @cached_property
    def exponent(self) -> int:
        return self.private.private_numbers().d

    def sign(self, digest: bytes) -> bytes:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return self.private.sign(digest, pss, Prehashed(hashes.SHA256()))

    def sign_raw(self, encoded_message: bytes) -> bytes:
        """The private operation alone, over any number below the modulus."""
        number = pow(int.from_bytes(encoded_message, "big"), self.exponent, self.modulus)
        return number.to_bytes(len(encoded_message), "big")


@dataclass(frozen=True)
class EdKey:
    """The same for Ed25519, which no module of ours verifies."""

    private: ed25519.Ed25519PrivateKey

    @classmethod
    def make(cls) -> "EdKey":
        return cls(ed25519.Ed25519PrivateKey.generate())

    @cached_property
    def public(self) -> PublicKey:
        return PublicKey.from_cryptography(self.private.public_key())

    def sign(self, digest: bytes) -> bytes:
        return self.private.sign(digest)


AnyKey = Key | RsaKey | EdKey


@dataclass(frozen=True)
class Pss:
    """RFC 8017, 9.1.1, with every part open: the encoding of a digest for a modulus of `size` bytes."""

    salt: bytes = bytes(range(32))
    hash: str = "sha256"
    mask: str = "sha256"
    prime: bytes = bytes(8)
    padding: bytes | None = None
    one: bytes = b"\x01"
    trailer: bytes = b"\xbc"
    unused: int = 0
    size: int = 384

    def encode(self, digest: bytes) -> bytes:
        hashed = hashlib.new(self.hash, self.prime + digest + self.salt).digest()
        rest = self.size - len(hashed) - 1
        zeros = bytes(rest - 1 - len(self.salt)) if self.padding is None else self.padding
        plain = (zeros + self.one + self.salt)[-rest:]
        masked = bytearray(a ^ b for a, b in zip(plain, self._mask(hashed, rest), strict=True))
        masked[0] = (masked[0] & 0x7F) | self.unused
        return bytes(masked) + hashed + self.trailer

    def _mask(self, seed: bytes, size: int) -> bytes:
        blocks = (hashlib.new(self.mask, seed + n.to_bytes(4, "big")).digest() for n in range(size))
        out = b""
        while len(out) < size:
            out += next(blocks)
        return out[:size]


def hardware_tlvs(counter: int = COUNTER, vendor: bytes = VENDOR, klass: bytes = CLASS) -> Tlvs:
    return [
        (Tlv.SECURITY_COUNTER, wire.u32(counter)),
        (Tlv.UUID_VENDOR, vendor),
        (Tlv.UUID_CLASS, klass),
    ]


@dataclass(frozen=True)
class Draft:
    """Everything under the digest. A field of None is what a correct encoder would write."""

    payload: bytes = PAYLOAD
    protected: bytes = encode_area(TLV_PROTECTED_MAGIC, hardware_tlvs())
    magic: int = MAGIC
    load_address: int = 0
    header_size: int = 0x200
    protected_size: int | None = None
    payload_size: int | None = None
    flags: int = 0
    version: Version = VERSION
    pad: int = 0
    padding: bytes = b"\xff"

    def but(self, **fields: object) -> "Draft":
        return replace(self, **fields)  # type: ignore[arg-type]

    def with_tlvs(self, tlvs: Sequence[tuple[int, bytes]]) -> "Draft":
        return replace(self, protected=encode_area(TLV_PROTECTED_MAGIC, tlvs))

    @property
    def header(self) -> bytes:
        sizes = (
            len(self.protected) if self.protected_size is None else self.protected_size,
            len(self.payload) if self.payload_size is None else self.payload_size,
        )
        return b"".join(
            (
                wire.u32(self.magic),
                wire.u32(self.load_address),
                wire.u16(self.header_size),
                wire.u16(sizes[0]),
                wire.u32(sizes[1]),
                wire.u32(self.flags),
                self.version.encode(),
                wire.u32(self.pad),
            )
        )

    @property
    def body(self) -> bytes:
        return self.header.ljust(self.header_size, self.padding) + self.payload + self.protected

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.body).digest()

    def seal(self, key: AnyKey) -> "Sealed":
        """Hash, both key TLVs and the signature over the hash, as a correct signer writes them."""
        tlvs = [
            (Tlv.SHA256, self.digest),
            (Tlv.KEYHASH, key.public.key_hash),
            (Tlv.PUBKEY, key.public.encoded),
            (SIGNATURES[key.public.algorithm], key.sign(self.digest)),
        ]
        return Sealed(self.body, tuple(tlvs))


@dataclass(frozen=True)
class Sealed:
    """A body and the TLVs outside the digest, to be changed before they are written."""

    body: bytes
    tlvs: tuple[tuple[int, bytes], ...]

    def value(self, kind: int) -> bytes:
        return dict(self.tlvs)[kind]

    def without(self, *kinds: int) -> "Sealed":
        return replace(self, tlvs=tuple(tlv for tlv in self.tlvs if tlv[0] not in kinds))

    def having(self, kind: int, value: bytes) -> "Sealed":
        """With another value in place of the one of `kind`."""
        return replace(self, tlvs=tuple((k, value if k == kind else v) for k, v in self.tlvs))

    def plus(self, *tlvs: tuple[int, bytes]) -> "Sealed":
        return replace(self, tlvs=self.tlvs + tlvs)

    def after(self, *tlvs: tuple[int, bytes]) -> "Sealed":
        """With `tlvs` before the others."""
        return replace(self, tlvs=tlvs + self.tlvs)

    def ordered(self, *kinds: int) -> "Sealed":
        """Only `kinds`, in this order."""
        return replace(self, tlvs=tuple((kind, self.value(kind)) for kind in kinds))

    def write(self, magic: int = TLV_MAGIC, total: int | None = None) -> bytes:
        area = encode_area(magic, self.tlvs)
        return self.body + (area if total is None else area[:2] + wire.u16(total) + area[4:])


def der_integer(number: int, padding: int = 0) -> bytes:
    """DER of a non-negative INTEGER; `padding` zero bytes too many make it BER."""
    value = bytes(padding) + number.to_bytes(number.bit_length() // 8 + 1, "big")
    return bytes([0x02, len(value)]) + value


def der_sequence(body: bytes, size: bytes | None = None) -> bytes:
    return b"\x30" + (bytes([len(body)]) if size is None else size) + body


def flip(data: bytes, at: int) -> bytes:
    """With the lowest bit of one byte inverted."""
    return data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
