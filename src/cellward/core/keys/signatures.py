"""ECDSA signatures: DER from a token's r and s, and the one encoding that a module takes."""

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys.algorithms import Algorithm

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_COORDINATES = {Algorithm.P256: 32, Algorithm.P384: 48}


def encode_signature(raw: bytes, algorithm: Algorithm = Algorithm.P256) -> bytes:
    """What PublicKey.verify takes, of what a token returned: ECDSA's r ‖ s (PKCS#11 CKM_ECDSA) as DER,
    every other signature as it is.

    Raises FormatRefused (key.format) for r and s of another length.
    """
    size = _COORDINATES.get(algorithm)
    if size is None:
        return raw
    if len(raw) != 2 * size:
        raise FormatRefused(
            Code.KEY_FORMAT, "token signature", expected=f"{2 * size} bytes r and s", found=f"{len(raw)}"
        )
    return encode_dss_signature(int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big"))


def canonical_signature(signature: bytes) -> bool:
    """Whether the bytes are the one DER encoding of an ECDSA P-256 (r, s) with both in [1, n-1]."""
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    in_range = 0 < r < P256_ORDER and 0 < s < P256_ORDER
    return in_range and encode_dss_signature(r, s) == signature
