"""A public key as a value: its encoding, its fingerprint, and verification.

Everything but P-256 is imported where it is used: it costs signing a fifth of its start-up.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core import published
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys.algorithms import (
    DIGEST_SIZE,
    P256_SPKI_PREFIX,
    RSA3072_PKCS1_PREFIX,
    RSA3072_PKCS1_SUFFIX,
    RSA_EXPONENT,
    Algorithm,
    algorithm_of,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

# AlgorithmIdentifier rsaEncryption and the BIT STRING's start (RFC 3279, 2.3.1): PKCS#1 to SPKI.
_RSA3072_SPKI_PREFIX = bytes.fromhex("308201a2300d06092a864886f70d01010105000382018f00")


class _OverDigest(ec.ECDSA):
    """ECDSA over a digest: ec.ECDSA(Prehashed(…)).

    Its constructor would import RSA, padding and every cipher, for a check of another option.
    """

    algorithm = Prehashed(hashes.SHA256())
    deterministic_signing = False

    def __init__(self) -> None: ...


class _OverLongDigest(_OverDigest):
    algorithm = Prehashed(hashes.SHA384())


@dataclass(frozen=True)
class PublicKey:
    """A public key in the encoding that MCUboot hashes; the encoding decides the algorithm.

    RSA-3072: PKCS#1 with the exponent 65537. Every other: SubjectPublicKeyInfo, points uncompressed.
    Raises FormatRefused (key.format) unless the bytes are one of them, and a point on the curve.
    """

    encoded: bytes

    def __post_init__(self) -> None:
        if algorithm_of(self.encoded) is None:
            raise _no_key(
                "an uncompressed ECDSA P-256 or P-384 key, Ed25519 or ML-DSA (SubjectPublicKeyInfo), or "
                "RSA-3072 (PKCS#1, exponent 65537)",
                f"{len(self.encoded)} bytes of another form",
            )
        if self.algorithm is not Algorithm.RSA_3072:
            self.loaded  # noqa: B018  a key that is not on the curve must not exist

    @classmethod
    def from_cryptography(cls, key: "PublicKeyTypes") -> "PublicKey":
        """Raises FormatRefused (key.format) for a kind of key that is none of Algorithm."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        form = serialization.PublicFormat
        pkcs1 = isinstance(key, rsa.RSAPublicKey)
        return cls(
            key.public_bytes(serialization.Encoding.DER, form.PKCS1 if pkcs1 else form.SubjectPublicKeyInfo)
        )

    @classmethod
    def from_pem(cls, pem: bytes) -> "PublicKey":
        """Raises FormatRefused (key.format) for anything but a PEM public key of an Algorithm."""
        return cls._from(pem, "PEM")

    @classmethod
    def from_spki(cls, der: bytes) -> "PublicKey":
        """Raises FormatRefused (key.format) for anything but the DER of a key of an Algorithm."""
        return cls._from(der, "DER")

    @classmethod
    def _from(cls, data: bytes, form: str) -> "PublicKey":
        from cryptography.hazmat.primitives import serialization

        load = {"PEM": serialization.load_pem_public_key, "DER": serialization.load_der_public_key}[form]
        try:
            key = load(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _no_key(f"a {form} public key", "something else") from error
        return cls.from_cryptography(key)

    @cached_property
    def algorithm(self) -> Algorithm:
        found = algorithm_of(self.encoded)
        assert found is not None  # noqa: S101  __post_init__
        return found

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, the form of certificates and PEM files."""
        rsa = self.algorithm is Algorithm.RSA_3072
        return _RSA3072_SPKI_PREFIX + self.encoded if rsa else self.encoded

    @cached_property
    def key_hash(self) -> bytes:
        """SHA-256 of the encoding: MCUboot's KEYHASH, and what a slot of the OTP holds."""
        return hashlib.sha256(self.encoded).digest()

    @property
    def fingerprint(self) -> str:
        return self.key_hash.hex()

    def pem(self) -> bytes:
        from cryptography.hazmat.primitives import serialization

        form = serialization.PublicFormat.SubjectPublicKeyInfo
        pem: bytes = self.loaded.public_bytes(serialization.Encoding.PEM, form)
        return pem

    def unpublished(self, subject: str) -> "PublicKey":
        """This key, if its private half is not known to everybody. Raises TrustRefused (key.published)."""
        published.refuse(self.fingerprint, subject)
        return self

    def require(self, algorithms: Collection[Algorithm], subject: str) -> "PublicKey":
        """This key, if it is of one of these. Raises FormatRefused (key.format)."""
        if self.algorithm not in algorithms:
            raise FormatRefused(
                Code.KEY_FORMAT,
                subject,
                expected="a key of " + " or ".join(sorted(algorithm.display for algorithm in algorithms)),
                found=f"one of {self.algorithm.display}",
            )
        return self

    @cached_property
    def cryptography(self) -> ec.EllipticCurvePublicKey:
        """Raises FormatRefused (key.format) for a key of another algorithm than ECDSA P-256."""
        self.require([Algorithm.P256], "public key")
        point: ec.EllipticCurvePublicKey = self.loaded
        return point

    @cached_property
    def loaded(self) -> Any:
        """As cryptography has it. Raises FormatRefused (key.format) where the bytes are no such key."""
        if self.algorithm is Algorithm.P256:  # without `serialization`, which costs time
            return _point(self.encoded[len(P256_SPKI_PREFIX) - 1 :])
        if self.algorithm is Algorithm.RSA_3072:
            return _rsa(self.encoded)
        from cryptography.hazmat.primitives import serialization

        try:
            return serialization.load_der_public_key(self.encoded)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _no_key(f"a key of {self.algorithm.display}", "another value") from error

    def to_sign(self, message: bytes) -> bytes:
        """What a Signer with this key is given for the message."""
        return self.algorithm.to_sign(message)

    def verify(self, signed: bytes, signature: bytes, *, code: Code, subject: str) -> bytes:
        """`signed`, if the signature over it is this key's: a digest, or where the algorithm hashes by
        itself (Ed25519, ML-DSA) a message.

        Raises TrustRefused with the caller's `code` and `subject`; key.published for a key with which anybody
        could have signed.
        """
        self.unpublished(subject)
        try:
            _VERIFIERS[self.algorithm](self.loaded, signature, signed)
        except (InvalidSignature, ValueError) as error:
            raise TrustRefused(
                code,
                subject,
                expected=f"a signature by key {self.fingerprint[:16]}",
                found="one that does not verify",
            ) from error
        return signed

    def verify_message(self, message: bytes, signature: bytes, *, code: Code, subject: str) -> bytes:
        """The message, if this key signed it. Raises as `verify`."""
        self.verify(self.to_sign(message), signature, code=code, subject=subject)
        return message


def _point(point: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise _no_key("a point on P-256", "another point") from error


def _rsa(encoded: bytes) -> "rsa.RSAPublicKey":
    from cryptography.hazmat.primitives.asymmetric import rsa

    modulus = encoded[len(RSA3072_PKCS1_PREFIX) : -len(RSA3072_PKCS1_SUFFIX)]
    return rsa.RSAPublicNumbers(RSA_EXPONENT, int.from_bytes(modulus, "big")).public_key()


def _no_key(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.KEY_FORMAT, "public key", expected=expected, found=found)


# Each raises InvalidSignature, or ValueError for a digest or signature of no possible size.
Verifier = Callable[[Any, bytes, bytes], object]


def _verify_pss(key: Any, signature: bytes, digest: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric import padding

    pss = padding.PSS(padding.MGF1(hashes.SHA256()), DIGEST_SIZE)
    key.verify(signature, digest, pss, Prehashed(hashes.SHA256()))


def _verify_message(key: Any, signature: bytes, message: bytes) -> None:
    key.verify(signature, message)


_VERIFIERS: dict[Algorithm, Verifier] = {
    Algorithm.P256: lambda key, signature, digest: key.verify(signature, digest, _OverDigest()),
    Algorithm.P384: lambda key, signature, digest: key.verify(signature, digest, _OverLongDigest()),
    Algorithm.RSA_3072: _verify_pss,
    Algorithm.ED25519: _verify_message,
    Algorithm.ML_DSA_65: _verify_message,
    Algorithm.ML_DSA_87: _verify_message,
}
