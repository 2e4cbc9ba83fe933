"""Steps 2 to 7: is this image the maker's, for this device, and not an old one?"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.image.layout import SIGNATURES, Image, Tlv
from cellward.core.keys import ROM_ALGORITHMS, Algorithm, PublicKey, algorithm_of, canonical_signature


@dataclass(frozen=True)
class Trust:
    """What a verifier holds against an image.

    `keys` maps a key hash to its public key, or to None where, as in the ROM, only the hash is
    known and the image must carry the key. `counter` and `hardware` are not checked where None.
    `algorithms`, of SIGNATURES, are those that the verifier knows: by default our module's. A key or a
    signature of another is to it what bytes of no meaning are.
    """

    keys: Mapping[bytes, PublicKey | None]
    revoked: frozenset[bytes] = frozenset()
    counter: int | None = None
    hardware: tuple[bytes, bytes] | None = None
    algorithms: frozenset[Algorithm] = ROM_ALGORITHMS

    def algorithm_of(self, encoded: bytes) -> Algorithm | None:
        algorithm = algorithm_of(encoded)
        return algorithm if algorithm in self.algorithms else None

    @property
    def names(self) -> str:
        return " or ".join(sorted(algorithm.display for algorithm in self.algorithms))


@dataclass(frozen=True)
class VerifiedImage:
    """An image that passed every check of `trust`; only `verify` makes one."""

    image: Image
    key: PublicKey


def verify(image: Image, trust: Trust, what: str = "image") -> VerifiedImage:
    """Steps 2 to 7 of the order above; step 1 was `decode`.

    Raises TrustRefused with the code of the first check that failed.
    """
    _verify_digest(image, what)
    return verify_stated(image, trust, what)


def verify_stated(image: Image, trust: Trust, what: str = "image") -> VerifiedImage:
    """Steps 3 to 7 over the *stated* digest, for a verifier that cannot see the plaintext.

    What it returns still needs the digest recomputed where the plaintext is (DESIGN section 1, 4
    and 5). Raises as `verify`.
    """
    key = _trusted_key(image, trust, what)
    _verify_signature(image, key, trust, what)
    _verify_counter(image, trust, what)
    _verify_hardware(image, trust, what)
    return VerifiedImage(image, key)


def _verify_digest(image: Image, what: str) -> None:
    stated = image.stated_digest
    if stated != image.digest:
        raise TrustRefused(
            Code.IMAGE_HASH,
            what,
            expected=f"SHA-256 {stated.hex()}" if stated else "a SHA-256 TLV",
            found=image.digest.hex() if stated else "none",
        )


def _trusted_key(image: Image, trust: Trust, what: str) -> PublicKey:
    """Steps 3 and 4."""
    _check_signed(image, trust, what)
    encoded = image.find(Tlv.PUBKEY)
    key_hash = _key_hash(encoded, image.find(Tlv.KEYHASH), trust, what)
    if key_hash not in trust.keys:
        raise TrustRefused(
            Code.IMAGE_KEY_UNKNOWN,
            what,
            expected="a key hash of " + (", ".join(k.hex()[:16] for k in trust.keys) or "no key"),
            found=key_hash.hex()[:16],
        )
    if key_hash in trust.revoked:
        raise TrustRefused(
            Code.IMAGE_KEY_REVOKED, what, expected="a key that is not revoked", found=key_hash.hex()[:16]
        )
    known = trust.keys[key_hash]
    if known is not None:
        return known
    if encoded is None:
        raise _unsigned(
            what, "the full public key in the image: this verifier holds only its hash", "KEYHASH alone"
        )
    # Its algorithm before its value: the module looks at a point with the signature.
    _check_kind(image, trust.algorithm_of(encoded), what)
    try:
        return PublicKey(encoded)
    except FormatRefused as error:
        raise _malformed(what, error.expected, error.found) from error


def _check_signed(image: Image, trust: Trust, what: str) -> None:
    """One signature, and a key that is named before it."""
    known = {SIGNATURES[algorithm] for algorithm in trust.algorithms}
    order = [entry.type for entry in image.entries]
    signatures = [kind for kind in order if kind in known]
    keys = [kind for kind in order if kind in (Tlv.PUBKEY, Tlv.KEYHASH)]
    if not signatures or not keys:
        raise _unsigned(what, f"a key and a signature ({trust.names})", "none")
    if len(signatures) > 1:
        raise _unsigned(what, "one signature, of the key's own algorithm", "two")
    if keys[-1] not in order[: order.index(signatures[0])]:
        # MCUboot ignores a signature whose key has not been named yet.
        raise _unsigned(what, "the key before its signature", "it after")


def _check_kind(image: Image, algorithm: Algorithm | None, what: str) -> None:
    """The key decides what signs, not the image: the other kind's signature is none."""
    wanted = SIGNATURES[algorithm] if algorithm else None
    if wanted is None or image.find(wanted) is None:
        raise _unsigned(
            what, f"a signature of the key's algorithm ({algorithm or 'unknown here'})", "another"
        )


def _key_hash(encoded: bytes | None, stated: bytes | None, trust: Trust, what: str) -> bytes:
    """The hash of the key the image names, by PUBKEY where it is there and by KEYHASH otherwise."""
    if encoded is None:
        return stated or b""
    if trust.algorithm_of(encoded) is None:
        raise _malformed(what, f"a key of {trust.names}, in MCUboot's form", f"{len(encoded)} other bytes")
    key_hash = hashlib.sha256(encoded).digest()
    if stated is not None and stated != key_hash:
        raise _malformed(what, f"PUBKEY to hash to KEYHASH {stated.hex()[:16]}", key_hash.hex()[:16])
    return key_hash


def _unsigned(what: str, expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.IMAGE_NO_SIGNATURE, what, expected=expected, found=found)


def _malformed(what: str, expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.IMAGE_KEY_MALFORMED, what, expected=expected, found=found)


def _verify_signature(image: Image, key: PublicKey, trust: Trust, what: str) -> None:
    _check_kind(image, trust.algorithm_of(key.encoded), what)
    signature, stated = image.find(SIGNATURES[key.algorithm]) or b"", image.stated_digest
    if stated is None:
        raise TrustRefused(Code.IMAGE_HASH, what, expected="a SHA-256 TLV", found="none")
    if key.algorithm is Algorithm.P256 and not canonical_signature(signature):
        raise TrustRefused(
            Code.IMAGE_SIGNATURE, what, expected="the DER of r and s in [1, n-1]", found="another form"
        )
    key.verify(stated, signature, code=Code.IMAGE_SIGNATURE, subject=what)


def _verify_counter(image: Image, trust: Trust, what: str) -> None:
    if trust.counter is None:
        return
    if image.counter is None or image.counter < trust.counter:
        raise TrustRefused(
            Code.IMAGE_COUNTER,
            what,
            expected=f"a security counter of at least {trust.counter}",
            found="none" if image.counter is None else f"{image.counter}",
        )


def _verify_hardware(image: Image, trust: Trust, what: str) -> None:
    if trust.hardware is not None and image.hardware != trust.hardware:
        raise TrustRefused(
            Code.IMAGE_HARDWARE,
            what,
            expected=f"vendor-class {_hardware_name(trust.hardware)}",
            found=_hardware_name(image.hardware),
        )


def _hardware_name(pair: tuple[bytes | None, bytes | None]) -> str:
    return "-".join(part.hex()[:8] if part else "none" for part in pair)
