"""Public keys: MCUboot's encoding, fingerprints, and verification over a digest.

Only ECDSA P-256 so far; an algorithm is decided by the key, never by the message.
`serialization` is imported where it is used: it costs signing a fifth of its start-up.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from cellward.core.errors import Code, FormatRefused, TrustRefused

DIGEST_SIZE = 32
# SubjectPublicKeyInfo of an uncompressed P-256 point (RFC 5480): everything before the point.
P256_SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
P256_SPKI_SIZE = 91
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# DER of two 256-bit integers (RFC 3279 section 2.2.3): 8 with one byte each, 72 with both padded.
P256_SIGNATURE_SIZES = range(8, 73)


class _OverDigest(ec.ECDSA):
    """ECDSA over a SHA-256 digest: ec.ECDSA(Prehashed(SHA256())).

    Its constructor would import RSA, padding and every cipher, for a check of another option.
    """

    algorithm = Prehashed(hashes.SHA256())
    deterministic_signing = False

    def __init__(self) -> None: ...


@dataclass(frozen=True)
class PublicKey:
    """An ECDSA P-256 public key as SubjectPublicKeyInfo DER, the encoding MCUboot hashes.

    Raises FormatRefused (key.format) unless the bytes are that encoding of a point on the curve.
    """

    spki: bytes

    def __post_init__(self) -> None:
        if len(self.spki) != P256_SPKI_SIZE or not self.spki.startswith(P256_SPKI_PREFIX):
            raise FormatRefused(
                Code.KEY_FORMAT,
                "public key",
                expected="an uncompressed ECDSA P-256 key (SubjectPublicKeyInfo, 91 bytes)",
                found=f"{len(self.spki)} bytes of another form",
            )
        self.cryptography  # noqa: B018  a key that is not on the curve must not exist

    @classmethod
    def from_cryptography(cls, key: ec.EllipticCurvePublicKey) -> "PublicKey":
        from cryptography.hazmat.primitives import serialization

        return cls(
            key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    @classmethod
    def from_pem(cls, pem: bytes) -> "PublicKey":
        """Raises FormatRefused (key.format) for anything but a PEM P-256 public key."""
        from cryptography.hazmat.primitives import serialization

        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise FormatRefused(
                Code.KEY_FORMAT, "public key", expected="a PEM public key", found="something else"
            ) from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise FormatRefused(
                Code.KEY_FORMAT, "public key", expected="ECDSA P-256", found=type(key).__name__
            )
        return cls.from_cryptography(key)

    @cached_property
    def cryptography(self) -> ec.EllipticCurvePublicKey:
        point = self.spki[len(P256_SPKI_PREFIX) - 1 :]
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError as error:
            raise FormatRefused(
                Code.KEY_FORMAT, "public key", expected="a point on P-256", found="another point"
            ) from error

    @cached_property
    def key_hash(self) -> bytes:
        """SHA-256 of the encoding: MCUboot's KEYHASH, and what a slot of the OTP holds."""
        return hashlib.sha256(self.spki).digest()

    @property
    def fingerprint(self) -> str:
        return self.key_hash.hex()

    def pem(self) -> bytes:
        from cryptography.hazmat.primitives import serialization

        return self.cryptography.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verify(self, digest: bytes, signature: bytes, *, code: Code, subject: str) -> bytes:
        """The digest, if `signature` (ECDSA, DER) over this SHA-256 digest is this key's.

        Raises TrustRefused with the caller's `code` and `subject`.
        """
        try:
            self.cryptography.verify(signature, digest, _OverDigest())
        except (InvalidSignature, ValueError) as error:
            raise TrustRefused(
                code,
                subject,
                expected=f"a signature by key {self.fingerprint[:16]}",
                found="one that does not verify",
            ) from error
        return digest


def encode_signature(raw: bytes) -> bytes:
    """DER from the r ‖ s that a token returns (PKCS#11 CKM_ECDSA, 64 bytes for P-256).

    Raises FormatRefused (key.format) for another length.
    """
    if len(raw) != 64:
        raise FormatRefused(
            Code.KEY_FORMAT, "token signature", expected="64 bytes r and s", found=f"{len(raw)}"
        )
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def canonical_signature(signature: bytes) -> bool:
    """Whether the bytes are the one DER encoding of an (r, s) with both in [1, n-1]."""
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    in_range = 0 < r < P256_ORDER and 0 < s < P256_ORDER
    return in_range and encode_dss_signature(r, s) == signature
