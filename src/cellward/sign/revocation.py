"""A slot key's revocation, signed by root keys in their tokens (docs/formats/revocation.md)."""

from dataclasses import replace

from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.revocation import (
    POINT_SIZE,
    Quorum,
    Revocation,
    decode,
    raw_signature,
    verify,
    verify_signatures,
)
from cellward.ports.signer import Signer


def start(quorum: Quorum, key_hash: bytes) -> bytes:
    """A revocation that nobody has signed yet."""
    return Revocation(quorum, key_hash, {}).encode(partial=True)


def add_signature(begun: bytes, key_hash: bytes, root: Signer) -> tuple[bytes, int]:
    """What holders pass on, with this root key's signature too, and how many are still missing.

    `key_hash` is the key that this holder means to revoke: a file about another is not signed. Raises
    FormatRefused (revocation.format), PolicyRefused (revocation.signature) for a key that is not of the
    quorum, TrustRefused (revocation.signature) for an earlier signature that is not good, and what the token
    raises.
    """
    held = verify_signatures(decode(begun, partial=True), decode(begun, partial=True).quorum.digest)
    if held.key_hash != key_hash:
        raise FormatRefused(
            Code.REVOCATION_FORMAT,
            "revocation",
            expected=f"one of key {key_hash.hex()[:16]}",
            found=held.key_hash.hex()[:16],
            advice="do not sign it; ask where it comes from",
        )
    point = root.public_key.spki[-POINT_SIZE:]
    if point not in held.quorum.points:
        raise PolicyRefused(
            Code.REVOCATION_SIGNATURE,
            root.uri,
            expected="a key of the root quorum",
            found=root.public_key.fingerprint[:16],
        )
    signature = raw_signature(root.sign(held.digest))
    signatures = {**held.signatures, held.quorum.points.index(point): signature}
    made = replace(held, signatures=dict(sorted(signatures.items())))
    verify_signatures(made, made.quorum.digest)
    return made.encode(partial=True), made.missing


def revoke(root: Signer, quorum: Quorum, key_hash: bytes) -> bytes:
    """The revocation of `key_hash` with this root key's signature alone, verified as a module does.

    Raises as `add_signature`, and FormatRefused (revocation.format) for a quorum that one signature does not
    satisfy.
    """
    data, _ = add_signature(start(quorum, key_hash), key_hash, root)
    verify(data, quorum.digest)
    return data
