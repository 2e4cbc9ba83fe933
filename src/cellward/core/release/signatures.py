"""Whose signatures make a release (docs/formats/release.md, "Whose signatures")."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from cellward.core import envelope
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.release.payload import read, tree
from cellward.core.release.values import MAX_RELEASE_SIZE, RELEASE, Release


def to_sign(release: Release, keys: Iterable[PublicKey]) -> Envelope:
    """The envelope that these keys are to sign.

    Raises FormatRefused (metadata.format) for what would not be read back, PolicyRefused
    (release.keys) without a key that is no post-quantum one.
    """
    named = list(keys)
    check_classical(named, f"release {release.name}")
    whole = replace(release, keys=tuple(sorted(key.fingerprint for key in named)))
    made = envelope.make(RELEASE, tree(whole))
    read(made, "new release")
    return made


def decode(data: bytes, what: str = "release") -> Release:
    """What a release says; nothing of it is verified. Raises FormatRefused (metadata.*, document.kind)."""
    return read(envelope.decode(data, RELEASE, what, MAX_RELEASE_SIZE), what)


def verify(data: bytes, keys: Collection[PublicKey], what: str = "release") -> Release:
    """The release, if everybody that it names has signed it.

    A named key that is not among `keys` cannot be asked, but its signature must be there; one classical
    key must be known. So an older verifier goes by ECDSA. One that knows an ML-DSA key asks for both, and
    takes none that names no ML-DSA key: who can forge ECDSA would otherwise just leave the other out.

    Raises FormatRefused as `decode`; TrustRefused (document.signature); PolicyRefused (release.keys).
    """
    found = envelope.decode(data, RELEASE, what, MAX_RELEASE_SIZE)
    release = read(found, what)
    present = tuple(signature.key_id for signature in found.signatures)
    if present != release.keys:
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE,
            what,
            expected="signatures by all that it names: " + ", ".join(key[:16] for key in release.keys),
            found=", ".join(key[:16] for key in present) or "none",
        )
    known = {key.fingerprint: key for key in keys}
    ours = tuple(signature for signature in found.signatures if signature.key_id in known)
    if not ours:
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE,
            what,
            expected="a release key of " + (", ".join(k[:16] for k in sorted(known)) or "no key"),
            found=", ".join(key[:16] for key in present),
        )
    signers = [known[signature.key_id] for signature in ours]
    check_classical(signers, what)
    _check_post_quantum(signers, known.values(), what)
    replace(found, signatures=ours).signers(known.values(), what)
    return release


def check_classical(keys: Sequence[PublicKey], what: str) -> None:
    """An ML-DSA key is software's until tokens have it: it only ever adds to a token's."""
    if all(key.algorithm.post_quantum for key in keys):
        raise PolicyRefused(
            Code.RELEASE_KEYS,
            what,
            expected="a key in a token, ECDSA or RSA, beside any post-quantum one",
            found=", ".join(key.algorithm.display for key in keys) or "no key",
        )


def _check_post_quantum(signers: Iterable[PublicKey], known: Iterable[PublicKey], what: str) -> None:
    wanted = [key.fingerprint[:16] for key in known if key.algorithm.post_quantum]
    if wanted and not any(key.algorithm.post_quantum for key in signers):
        raise PolicyRefused(
            Code.RELEASE_KEYS,
            what,
            expected=f"post-quantum key {' or '.join(wanted)}, which is known here, among its signers",
            found="classical ones alone",
        )
