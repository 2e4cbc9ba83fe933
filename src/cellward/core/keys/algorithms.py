"""What a key signs with, and the one encoding by which its public half is known."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

DIGEST_SIZE = 32
# SubjectPublicKeyInfo (RFC 5280, 4.1) up to the key itself. EC points are uncompressed (RFC 5480, 2.2).
P256_SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
P256_SPKI_SIZE = 91
_P384_SPKI_PREFIX = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")
_ED25519_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, 4
_ML_DSA_65_SPKI_PREFIX = bytes.fromhex("308207b2300b0609608648016503040312038207a100")  # RFC 9881, 4
_ML_DSA_87_SPKI_PREFIX = bytes.fromhex("30820a32300b060960864801650304031303820a2100")
# DER of two 256-bit integers (RFC 3279 section 2.2.3): 8 with one byte each, 72 with both padded.
P256_SIGNATURE_SIZES = range(8, 73)
# RSAPublicKey (RFC 8017, A.1.1) of an odd modulus of 3072 bits, before and after the modulus: e = 65537.
RSA3072_PKCS1_PREFIX = bytes.fromhex("3082018a0282018100")
RSA3072_PKCS1_SUFFIX = bytes.fromhex("0203010001")
RSA3072_PKCS1_SIZE = 398
RSA3072_SIGNATURE_SIZE = 384
RSA_EXPONENT = 65537


class Algorithm(StrEnum):
    """What a key signs with, in full: curve or size, padding, hash."""

    P256 = "p256"  # ECDSA, SHA-256, DER
    P384 = "p384"  # ECDSA, SHA-384, DER
    RSA_3072 = "rsa-3072"  # RSASSA-PSS (RFC 8017), SHA-256, MGF1-SHA-256, 32 bytes of salt
    ED25519 = "ed25519"  # RFC 8032, pure
    ML_DSA_65 = "ml-dsa-65"  # FIPS 204, pure, no context
    ML_DSA_87 = "ml-dsa-87"

    @property
    def digest_size(self) -> int | None:
        """Bytes of the digest that is signed; None where the message itself is."""
        return {Algorithm.P256: 32, Algorithm.RSA_3072: 32, Algorithm.P384: 48}.get(self)

    @property
    def display(self) -> str:
        return _DISPLAYS[self]

    @property
    def post_quantum(self) -> bool:
        return self in (Algorithm.ML_DSA_65, Algorithm.ML_DSA_87)

    def to_sign(self, message: bytes) -> bytes:
        """What a Signer is given for this message: its digest, or itself."""
        match self.digest_size:
            case None:
                return message
            case 48:
                return hashlib.sha384(message).digest()
            case _:
                return hashlib.sha256(message).digest()


ROM_ALGORITHMS = frozenset({Algorithm.P256, Algorithm.RSA_3072})
"""What a module's ROM and loader verify; every other signs documents, or images for others' bootloaders."""

_DISPLAYS = {
    Algorithm.P256: "ECDSA P-256",
    Algorithm.P384: "ECDSA P-384",
    Algorithm.RSA_3072: "RSA-3072-PSS",
    Algorithm.ED25519: "Ed25519",
    Algorithm.ML_DSA_65: "ML-DSA-65",
    Algorithm.ML_DSA_87: "ML-DSA-87",
}


@dataclass(frozen=True)
class _Form:
    """A public key's encoding: what stands before and behind the key, and the size of all."""

    prefix: bytes
    size: int
    suffix: bytes = b""

    def fits(self, encoded: bytes) -> bool:
        return len(encoded) == self.size and encoded.startswith(self.prefix) and encoded.endswith(self.suffix)


# MCUboot's choice: SubjectPublicKeyInfo, but PKCS#1 for RSA.
_FORMS = {
    Algorithm.P256: _Form(P256_SPKI_PREFIX, P256_SPKI_SIZE),
    Algorithm.P384: _Form(_P384_SPKI_PREFIX, 120),
    Algorithm.RSA_3072: _Form(RSA3072_PKCS1_PREFIX, RSA3072_PKCS1_SIZE, RSA3072_PKCS1_SUFFIX),
    Algorithm.ED25519: _Form(_ED25519_SPKI_PREFIX, 44),
    Algorithm.ML_DSA_65: _Form(_ML_DSA_65_SPKI_PREFIX, 1974),
    Algorithm.ML_DSA_87: _Form(_ML_DSA_87_SPKI_PREFIX, 2614),
}


SPKI_PREFIXES = {algorithm: form.prefix for algorithm, form in _FORMS.items() if not form.suffix}
"""Of every algorithm but RSA: what stands before the key; an EC point is without its leading 04 then."""


def algorithm_of(encoded: bytes) -> Algorithm | None:
    """Whose key these bytes are by their form alone, which is all that a verifier may go by."""
    found = next((algorithm for algorithm, form in _FORMS.items() if form.fits(encoded)), None)
    if found is Algorithm.RSA_3072 and not _odd_and_full(encoded):
        return None
    return found


def _odd_and_full(encoded: bytes) -> bool:
    """The modulus has all of its 3072 bits, and is odd."""
    first, last = len(RSA3072_PKCS1_PREFIX), -len(RSA3072_PKCS1_SUFFIX) - 1
    return bool(encoded[first] & 0x80 and encoded[last] & 1)
