"""The laboratory's makers. Keys and signatures come from the seed alone: a campaign must be repeatable.
They sign nothing else.
"""

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core.keys import P256_ORDER, RSA3072_SIGNATURE_SIZE, RSA_EXPONENT, Algorithm, PublicKey

PRIME_BITS = 1536
SMALL_PRIMES = prod(n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2)))
ROUNDS = 8
DIGEST = 32


@lru_cache(maxsize=16)
def signing_key(seed: int, name: str) -> ec.EllipticCurvePrivateKey:
    digest = hashlib.sha512(f"cellward lab {seed} {name}".encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest, "big") % (P256_ORDER - 1) + 1, ec.SECP256R1())


@dataclass(frozen=True)
class RsaKey:
    modulus: int
    exponent: int  # the private one

    @property
    def public(self) -> rsa.RSAPublicKey:
        return rsa.RSAPublicNumbers(RSA_EXPONENT, self.modulus).public_key()


@lru_cache(maxsize=16)
def rsa_key(seed: int, name: str) -> RsaKey:
    """RSA-3072."""
    source = random.Random(f"cellward lab {seed} {name}")  # noqa: S311
    p, q = (_prime(source) for _ in range(2))
    return RsaKey(p * q, pow(RSA_EXPONENT, -1, (p - 1) * (q - 1)))


def _prime(source: random.Random) -> int:
    """Fermat's test is enough for numbers that nobody chose to deceive it."""
    while True:
        number = source.getrandbits(PRIME_BITS) | 3 << PRIME_BITS - 2 | 1
        if gcd(number, SMALL_PRIMES) != 1 or gcd(number - 1, RSA_EXPONENT) != 1:
            continue
        if all(pow(source.randrange(2, number), number - 1, number) == 1 for _ in range(ROUNDS)):
            return number


def public_key(seed: int, name: str, algorithm: Algorithm = Algorithm.P256) -> PublicKey:
    if algorithm is Algorithm.RSA_3072:
        return PublicKey.from_cryptography(rsa_key(seed, name).public)
    return PublicKey.from_cryptography(signing_key(seed, name).public_key())


def sign_digest(seed: int, name: str, digest: bytes, algorithm: Algorithm = Algorithm.P256) -> bytes:
    """RFC 6979, or PSS with a salt made of the digest: another nonce would be another run (facts,
    pitfall 5)."""
    if algorithm is Algorithm.RSA_3072:
        key = rsa_key(seed, name)
        encoded = int.from_bytes(_pss(digest), "big")
        return pow(encoded, key.exponent, key.modulus).to_bytes(RSA3072_SIGNATURE_SIZE, "big")
    deterministic = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
    return signing_key(seed, name).sign(digest, deterministic)


def _pss(digest: bytes) -> bytes:
    """EMSA-PSS (RFC 8017, 9.1.1) with SHA-256, MGF1 and 32 bytes of salt."""
    salt = hashlib.sha256(b"salt" + digest).digest()
    h = hashlib.sha256(bytes(8) + digest + salt).digest()
    size = RSA3072_SIGNATURE_SIZE - DIGEST - 1
    block = bytes(size - DIGEST - 1) + b"\x01" + salt
    mask = b"".join(hashlib.sha256(h + n.to_bytes(4, "big")).digest() for n in range(-(-size // DIGEST)))
    masked = bytes(a ^ b for a, b in zip(block, mask, strict=False))
    return bytes([masked[0] & 0x7F]) + masked[1:] + h + b"\xbc"
