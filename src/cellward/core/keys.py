"""Public keys: MCUboot's encoding, fingerprints, and verification over a digest.

ECDSA P-256, and RSA-3072-PSS for firmware. The algorithm is decided by the key, never by the message.
`serialization` and RSA are imported where they are used: they cost signing a fifth of its start-up.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from cellward.core.errors import Code, FormatRefused, TrustRefused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

DIGEST_SIZE = 32
# SubjectPublicKeyInfo of an uncompressed P-256 point (RFC 5480): everything before the point.
P256_SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
P256_SPKI_SIZE = 91
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# DER of two 256-bit integers (RFC 3279 section 2.2.3): 8 with one byte each, 72 with both padded.
P256_SIGNATURE_SIZES = range(8, 73)
# RSAPublicKey (RFC 8017, A.1.1) of an odd modulus of 3072 bits, before and after the modulus: e = 65537.
RSA3072_PKCS1_PREFIX = bytes.fromhex("3082018a0282018100")
RSA3072_PKCS1_SUFFIX = bytes.fromhex("0203010001")
RSA3072_PKCS1_SIZE = 398
RSA3072_SIGNATURE_SIZE = 384
RSA_EXPONENT = 65537
# AlgorithmIdentifier rsaEncryption and the BIT STRING's start (RFC 3279, 2.3.1): PKCS#1 to SPKI.
_RSA3072_SPKI_PREFIX = bytes.fromhex("308201a2300d06092a864886f70d01010105000382018f00")


class Algorithm(StrEnum):
    """What a key signs with, in full: curve or size, padding, hash."""

    P256 = "p256"  # ECDSA, SHA-256, DER
    RSA_3072 = "rsa-3072"  # RSASSA-PSS (RFC 8017), SHA-256, MGF1-SHA-256, 32 bytes of salt


class _OverDigest(ec.ECDSA):
    """ECDSA over a SHA-256 digest: ec.ECDSA(Prehashed(SHA256())).

    Its constructor would import RSA, padding and every cipher, for a check of another option.
    """

    algorithm = Prehashed(hashes.SHA256())
    deterministic_signing = False

    def __init__(self) -> None: ...


@dataclass(frozen=True)
class PublicKey:
    """A public key in the encoding that MCUboot hashes; the encoding decides the algorithm.

    ECDSA P-256: SubjectPublicKeyInfo with the uncompressed point, 91 bytes. RSA-3072: PKCS#1 with the
    exponent 65537, 398 bytes. Raises FormatRefused (key.format) unless the bytes are one of them, and a
    point on the curve.
    """

    encoded: bytes

    def __post_init__(self) -> None:
        if algorithm_of(self.encoded) is None:
            raise FormatRefused(
                Code.KEY_FORMAT,
                "public key",
                expected="an uncompressed ECDSA P-256 key (SubjectPublicKeyInfo, 91 bytes) or "
                "an RSA-3072 key (PKCS#1, 398 bytes, exponent 65537)",
                found=f"{len(self.encoded)} bytes of another form",
            )
        if self.algorithm is Algorithm.P256:
            self._point  # noqa: B018  a key that is not on the curve must not exist

    @classmethod
    def from_cryptography(cls, key: "ec.EllipticCurvePublicKey | rsa.RSAPublicKey") -> "PublicKey":
        from cryptography.hazmat.primitives import serialization

        p256 = isinstance(key, ec.EllipticCurvePublicKey)
        form = serialization.PublicFormat
        return cls(
            key.public_bytes(serialization.Encoding.DER, form.SubjectPublicKeyInfo if p256 else form.PKCS1)
        )

    @classmethod
    def from_pem(cls, pem: bytes) -> "PublicKey":
        """Raises FormatRefused (key.format) for anything but a PEM public key of an Algorithm."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise FormatRefused(
                Code.KEY_FORMAT, "public key", expected="a PEM public key", found="something else"
            ) from error
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise FormatRefused(
                Code.KEY_FORMAT,
                "public key",
                expected="ECDSA P-256 or RSA-3072",
                found=type(key).__name__,
            )
        return cls.from_cryptography(key)

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm.P256 if len(self.encoded) == P256_SPKI_SIZE else Algorithm.RSA_3072

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, the form of certificates and PEM files."""
        p256 = self.algorithm is Algorithm.P256
        return self.encoded if p256 else _RSA3072_SPKI_PREFIX + self.encoded

    @cached_property
    def key_hash(self) -> bytes:
        """SHA-256 of the encoding: MCUboot's KEYHASH, and what a slot of the OTP holds."""
        return hashlib.sha256(self.encoded).digest()

    @property
    def fingerprint(self) -> str:
        return self.key_hash.hex()

    def pem(self) -> bytes:
        from cryptography.hazmat.primitives import serialization

        key = self._point if self.algorithm is Algorithm.P256 else self._rsa
        return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def require(self, algorithm: Algorithm, subject: str) -> "PublicKey":
        """This key, if it is of that algorithm. Raises FormatRefused (key.format)."""
        if self.algorithm is not algorithm:
            raise FormatRefused(
                Code.KEY_FORMAT, subject, expected=f"a key of {algorithm}", found=f"one of {self.algorithm}"
            )
        return self

    @cached_property
    def cryptography(self) -> ec.EllipticCurvePublicKey:
        """Raises FormatRefused (key.format) for a key of another algorithm than ECDSA P-256."""
        self.require(Algorithm.P256, "public key")
        return self._point

    @cached_property
    def _point(self) -> ec.EllipticCurvePublicKey:
        point = self.encoded[len(P256_SPKI_PREFIX) - 1 :]
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError as error:
            raise FormatRefused(
                Code.KEY_FORMAT, "public key", expected="a point on P-256", found="another point"
            ) from error

    @cached_property
    def _rsa(self) -> "rsa.RSAPublicKey":
        from cryptography.hazmat.primitives.asymmetric import rsa

        modulus = self.encoded[len(RSA3072_PKCS1_PREFIX) : -len(RSA3072_PKCS1_SUFFIX)]
        return rsa.RSAPublicNumbers(RSA_EXPONENT, int.from_bytes(modulus, "big")).public_key()

    def verify(self, digest: bytes, signature: bytes, *, code: Code, subject: str) -> bytes:
        """The digest, if `signature` over this SHA-256 digest is this key's.

        Raises TrustRefused with the caller's `code` and `subject`.
        """
        try:
            if self.algorithm is Algorithm.P256:
                self._point.verify(signature, digest, _OverDigest())
            else:
                self._verify_pss(digest, signature)
        except (InvalidSignature, ValueError) as error:
            raise TrustRefused(
                code,
                subject,
                expected=f"a signature by key {self.fingerprint[:16]}",
                found="one that does not verify",
            ) from error
        return digest

    def _verify_pss(self, digest: bytes, signature: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric import padding

        pss = padding.PSS(padding.MGF1(hashes.SHA256()), DIGEST_SIZE)
        self._rsa.verify(signature, digest, pss, Prehashed(hashes.SHA256()))


def algorithm_of(encoded: bytes) -> Algorithm | None:
    """Whose key these bytes are by their form alone, which is all that a verifier may go by."""
    if len(encoded) == P256_SPKI_SIZE and encoded.startswith(P256_SPKI_PREFIX):
        return Algorithm.P256
    if (
        len(encoded) == RSA3072_PKCS1_SIZE
        and encoded.startswith(RSA3072_PKCS1_PREFIX)
        and encoded.endswith(RSA3072_PKCS1_SUFFIX)
        and encoded[len(RSA3072_PKCS1_PREFIX)] & 0x80
        and encoded[-len(RSA3072_PKCS1_SUFFIX) - 1] & 1
    ):
        return Algorithm.RSA_3072
    return None


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
    """Whether the bytes are the one DER encoding of an ECDSA P-256 (r, s) with both in [1, n-1]."""
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    in_range = 0 < r < P256_ORDER and 0 < s < P256_ORDER
    return in_range and encode_dss_signature(r, s) == signature
