"""Who makes a release, who approves it, who takes it back: each with a key in a token."""

from collections.abc import Collection, Sequence
from datetime import datetime
from operator import eq

from cellward.core import release as releases
from cellward.core.errors import Code, PolicyRefused
from cellward.core.keys import PublicKey
from cellward.core.release import Release
from cellward.ports.signer import Signer
from cellward.sign.documents import sign_document


def sign_release(release: Release, signers: Sequence[Signer]) -> bytes:
    """The release, signed by all of them: one in a token, and at will one with a post-quantum key.

    Raises PolicyRefused (release.keys), FormatRefused (metadata.format), Unavailable (token.*).
    """
    made = releases.to_sign(release, (signer.public_key for signer in signers))
    for signer in signers:
        made = sign_document(made, signer)
    data = made.encode()
    releases.verify(data, [signer.public_key for signer in signers])
    return data


def approve(
    release: Release,
    signer: Signer,
    approver: str,
    statement: str,
    now: datetime,
    same_hand: releases.SameHand = eq,
) -> bytes:
    """Raises PolicyRefused: release.approval for a key of who made the release (four eyes, not two),
    release.keys for a post-quantum one, which no token holds."""
    own = signer.public_key.fingerprint
    made = next((key for key in release.keys if same_hand(own, key)), None)
    if made is not None:
        also = "" if made == own else f", which the key register has under one name or token with {own[:16]}"
        raise PolicyRefused(
            Code.RELEASE_APPROVAL,
            f"release {release.name}",
            expected="the key of another person than who made it",
            found=f"key {made[:16]}, which signed it{also}",
        )
    releases.check_classical([signer.public_key], f"approval of release {release.name}")
    return sign_document(releases.approval(release, approver, statement, now), signer).encode()


def withdraw(
    release: Release, keys: Collection[PublicKey], signer: Signer, reason: str, now: datetime
) -> bytes:
    """Raises PolicyRefused (release.keys) for a signer that is none of the release keys `keys`."""
    if signer.public_key not in keys:
        raise PolicyRefused(
            Code.RELEASE_KEYS,
            f"release {release.name}",
            expected="a release key: " + ", ".join(key.fingerprint[:16] for key in keys),
            found=f"key {signer.public_key.fingerprint[:16]}",
        )
    return sign_document(releases.withdrawal(release, reason, now), signer).encode()
