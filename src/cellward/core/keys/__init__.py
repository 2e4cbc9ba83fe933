"""Public keys: what encodes, names and verifies them. The key decides the algorithm, never the message.

P-256 and RSA-3072 are what a module's ROM knows. P-384, Ed25519 and ML-DSA sign documents.
"""

from cellward.core.keys.algorithms import (
    DIGEST_SIZE,
    P256_SIGNATURE_SIZES,
    P256_SPKI_PREFIX,
    P256_SPKI_SIZE,
    ROM_ALGORITHMS,
    RSA3072_PKCS1_PREFIX,
    RSA3072_PKCS1_SIZE,
    RSA3072_PKCS1_SUFFIX,
    RSA3072_SIGNATURE_SIZE,
    RSA_EXPONENT,
    SPKI_PREFIXES,
    Algorithm,
    algorithm_of,
)
from cellward.core.keys.public import PublicKey
from cellward.core.keys.roles import KeyAttributes, KeyStage, Role, TokenFacts
from cellward.core.keys.signatures import P256_ORDER, canonical_signature, encode_signature

__all__ = [
    "DIGEST_SIZE",
    "P256_ORDER",
    "P256_SIGNATURE_SIZES",
    "P256_SPKI_PREFIX",
    "P256_SPKI_SIZE",
    "ROM_ALGORITHMS",
    "RSA3072_PKCS1_PREFIX",
    "RSA3072_PKCS1_SIZE",
    "RSA3072_PKCS1_SUFFIX",
    "RSA3072_SIGNATURE_SIZE",
    "RSA_EXPONENT",
    "SPKI_PREFIXES",
    "Algorithm",
    "KeyAttributes",
    "KeyStage",
    "PublicKey",
    "Role",
    "TokenFacts",
    "algorithm_of",
    "canonical_signature",
    "encode_signature",
]
