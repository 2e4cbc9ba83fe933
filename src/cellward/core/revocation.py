"""Revocation of a slot key by the root quorum. Normative: docs/formats/revocation.md.

The module's side is firmware/boot/revocation.c.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import DIGEST_SIZE, P256_SPKI_PREFIX, PublicKey, encode_signature

MAGIC = b"CWRV"
FORMAT = 1
MAX_KEYS = 4
POINT_SIZE = 65
SIGNATURE_SIZE = 64
ENTRY_SIZE = 1 + SIGNATURE_SIZE
HEAD_SIZE = 8 + DIGEST_SIZE
MAX_SIZE = HEAD_SIZE + MAX_KEYS * (POINT_SIZE + ENTRY_SIZE)
_UNCOMPRESSED = 4
_QUORUM_LABEL = b"cellward root quorum v1"
_SIGNED_LABEL = b"cellward revocation v1"


@dataclass(frozen=True)
class Quorum:
    """`threshold` of these root keys (uncompressed points, ascending) must sign.

    Raises FormatRefused (revocation.format) unless there are 1 to 4, each once and in order, and
    the threshold is 1 to as many.
    """

    threshold: int
    points: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.points) <= MAX_KEYS:
            raise _malformed(f"1 to {MAX_KEYS} root keys", f"{len(self.points)}")
        if not 1 <= self.threshold <= len(self.points):
            raise _malformed(f"a threshold of 1 to {len(self.points)}", f"{self.threshold}")
        if any(len(point) != POINT_SIZE or point[0] != _UNCOMPRESSED for point in self.points):
            raise _malformed("uncompressed points", "another form")
        if sorted(set(self.points)) != list(self.points):
            raise _malformed("root keys in ascending order, each once", "another order")

    @classmethod
    def of(cls, threshold: int, keys: "tuple[PublicKey, ...]") -> "Quorum":
        """Of ECDSA P-256 keys in any order. Raises as Quorum, and for a key of another kind."""
        if any(not key.spki.startswith(P256_SPKI_PREFIX) for key in keys):
            raise _malformed("ECDSA P-256 root keys", "another kind")
        return cls(threshold, tuple(sorted(key.spki[-POINT_SIZE:] for key in keys)))

    @property
    def digest(self) -> bytes:
        """What OTP_ROOT_QUORUM holds."""
        head = bytes([self.threshold, len(self.points)])
        return hashlib.sha256(_QUORUM_LABEL + head + b"".join(self.points)).digest()


def raw_signature(signature: bytes) -> bytes:
    """r and s as a revocation holds them, from the DER that a Signer returns.

    Raises FormatRefused (revocation.format).
    """
    try:
        r, s = decode_dss_signature(signature)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    except (ValueError, OverflowError) as error:
        raise _malformed("an ECDSA P-256 signature", "another one") from error


def signed_digest(quorum: Quorum, key_hash: bytes) -> bytes:
    """The SHA-256 digest that each root key signs."""
    return hashlib.sha256(_SIGNED_LABEL + quorum.digest + key_hash).digest()


@dataclass(frozen=True)
class Revocation:
    """`signatures` by index of the quorum's key: r and s, 64 bytes."""

    quorum: Quorum
    key_hash: bytes
    signatures: Mapping[int, bytes] = field(repr=False)

    @property
    def digest(self) -> bytes:
        return signed_digest(self.quorum, self.key_hash)

    @property
    def missing(self) -> int:
        """How many signatures a module still wants."""
        return max(0, self.quorum.threshold - len(self.signatures))

    def encode(self, *, partial: bool = False) -> bytes:
        """The bytes that a module takes; `partial`: or that root key holders pass on, who are still too few.

        Raises FormatRefused (revocation.format) below the threshold, and where a hash, signature or index
        has not its size.
        """
        quorum, ordered = self.quorum, sorted(self.signatures.items())
        data = b"".join(
            (
                MAGIC,
                bytes([FORMAT, quorum.threshold, len(quorum.points), len(ordered) & 0xFF]),
                self.key_hash,
                *quorum.points,
                *(bytes([index & 0xFF]) + signature for index, signature in ordered),
            )
        )
        if decode(data, partial=partial) != self:
            raise _malformed("fields of their size", "others")
        return data


def decode(data: bytes, *, partial: bool = False) -> Revocation:
    """Exactly the format; says nothing about who signed. `partial`: fewer signatures than the threshold, or
    none, as holders pass it on; no module takes such a one. Raises FormatRefused (revocation.format)."""
    if len(data) < HEAD_SIZE:
        raise _malformed(f"at least {HEAD_SIZE} bytes", f"{len(data)}")
    magic, (form, threshold, keys, signatures) = data[:4], data[4:8]
    if magic != MAGIC or form != FORMAT:
        raise _malformed(f"magic {MAGIC.hex()}, format {FORMAT}", f"{magic.hex()}, {form}")
    least = 0 if partial else threshold
    if not (1 <= threshold <= keys <= MAX_KEYS and least <= signatures <= keys):
        raise _malformed("m of n keys, m to n signatures", f"{threshold}, {keys}, {signatures}")
    entries = HEAD_SIZE + keys * POINT_SIZE
    size = entries + signatures * ENTRY_SIZE
    if len(data) != size:
        raise _malformed(f"{size} bytes", f"{len(data)}")
    points = tuple(data[at : at + POINT_SIZE] for at in range(HEAD_SIZE, entries, POINT_SIZE))
    signed = [(data[at], data[at + 1 : at + ENTRY_SIZE]) for at in range(entries, size, ENTRY_SIZE)]
    indices = [index for index, _ in signed]
    if sorted(set(indices)) != indices or any(index >= keys for index in indices):
        raise _malformed("signatures in ascending order, each key's once", f"{indices}")
    return Revocation(Quorum(threshold, points), data[8:HEAD_SIZE], dict(signed))


def verify(data: bytes, quorum_digest: bytes) -> Revocation:
    """The revocation, if the quorum of the fuses signed it.

    Raises FormatRefused (revocation.format), TrustRefused (revocation.signature) for another or no
    quorum and for any signature that is not good, even where enough others are.
    """
    return verify_signatures(decode(data), quorum_digest)


def verify_signatures(revocation: Revocation, quorum_digest: bytes) -> Revocation:
    """All that are there are good, few or many. Raises TrustRefused (revocation.signature)."""
    if not any(quorum_digest) or revocation.quorum.digest != quorum_digest:
        raise TrustRefused(
            Code.REVOCATION_SIGNATURE,
            "revocation",
            expected=f"the root quorum {quorum_digest.hex()[:16]}",
            found=revocation.quorum.digest.hex()[:16],
        )
    for index, raw in revocation.signatures.items():
        _root_key(revocation.quorum.points[index]).verify(
            revocation.digest, encode_signature(raw), code=Code.REVOCATION_SIGNATURE, subject="revocation"
        )
    return revocation


def _root_key(point: bytes) -> PublicKey:
    try:
        return PublicKey(P256_SPKI_PREFIX[:-1] + point)
    except FormatRefused as error:
        raise TrustRefused(
            Code.REVOCATION_SIGNATURE, "revocation", expected="root keys on P-256", found="another point"
        ) from error


def _malformed(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.REVOCATION_FORMAT, "revocation", expected=expected, found=found)
