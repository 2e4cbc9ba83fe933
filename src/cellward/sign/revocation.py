"""A slot key's revocation, signed by the root key in its token (docs/formats/revocation.md)."""

from cellward.core.errors import Code, PolicyRefused
from cellward.core.revocation import POINT_SIZE, Quorum, Revocation, raw_signature, signed_digest, verify
from cellward.ports.signer import Signer


def revoke(root: Signer, quorum: Quorum, key_hash: bytes) -> bytes:
    """The revocation of `key_hash` with this root key's signature, verified as a module does.

    Raises PolicyRefused (revocation.signature) for a key that is not of the quorum, FormatRefused
    (revocation.format) for a quorum that one signature does not satisfy, and what the token raises.
    """
    point = root.public_key.spki[-POINT_SIZE:]
    if point not in quorum.points:
        raise PolicyRefused(
            Code.REVOCATION_SIGNATURE,
            root.uri,
            expected="a key of the root quorum",
            found=root.public_key.fingerprint[:16],
        )
    signature = raw_signature(root.sign(signed_digest(quorum, key_hash)))
    data = Revocation(quorum, key_hash, {quorum.points.index(point): signature}).encode()
    verify(data, quorum.digest)
    return data
