"""Steps 2 to 7: is this image the maker's, for this device, and not an old one?"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.image.layout import Image, Tlv
from cellward.core.keys import P256_SPKI_PREFIX, P256_SPKI_SIZE, PublicKey, canonical_signature


@dataclass(frozen=True)
class Trust:
    """What a verifier holds against an image.

    `keys` maps a key hash to its public key, or to None where, as in the ROM, only the hash is
    known and the image must carry the key. `counter` and `hardware` are not checked where None.
    """

    keys: Mapping[bytes, PublicKey | None]
    revoked: frozenset[bytes] = frozenset()
    counter: int | None = None
    hardware: tuple[bytes, bytes] | None = None


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
    _verify_signature(image, key, what)
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
    spki = image.find(Tlv.PUBKEY)
    stated = image.find(Tlv.KEYHASH)
    if image.find(Tlv.ECDSA) is None or (spki is None and stated is None):
        raise TrustRefused(
            Code.IMAGE_NO_SIGNATURE, what, expected="a key and an ECDSA signature", found="none"
        )
    order = [entry.type for entry in image.entries]
    before = order[: order.index(Tlv.ECDSA)]
    if any(kind in order and kind not in before for kind in (Tlv.PUBKEY, Tlv.KEYHASH)):
        # MCUboot ignores a signature whose key has not been named yet.
        raise TrustRefused(
            Code.IMAGE_NO_SIGNATURE, what, expected="the key before its signature", found="it after"
        )
    key_hash = _key_hash(spki, stated, what)
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
    if spki is None:
        raise TrustRefused(
            Code.IMAGE_NO_SIGNATURE,
            what,
            expected="the full public key in the image: this verifier holds only its hash",
            found="KEYHASH alone",
        )
    try:
        return PublicKey(spki)
    except FormatRefused as error:
        raise _malformed(what, error.expected, error.found) from error


def _key_hash(spki: bytes | None, stated: bytes | None, what: str) -> bytes:
    """The hash of the key the image names, by PUBKEY where it is there and by KEYHASH otherwise."""
    if spki is None:
        return stated or b""
    if len(spki) != P256_SPKI_SIZE or not spki.startswith(P256_SPKI_PREFIX):
        raise _malformed(what, "a P-256 key (SubjectPublicKeyInfo, 91 bytes)", f"{len(spki)} other bytes")
    key_hash = hashlib.sha256(spki).digest()
    if stated is not None and stated != key_hash:
        raise _malformed(what, f"PUBKEY to hash to KEYHASH {stated.hex()[:16]}", key_hash.hex()[:16])
    return key_hash


def _malformed(what: str, expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.IMAGE_KEY_MALFORMED, what, expected=expected, found=found)


def _verify_signature(image: Image, key: PublicKey, what: str) -> None:
    signature, stated = image.find(Tlv.ECDSA) or b"", image.stated_digest
    if stated is None:
        raise TrustRefused(Code.IMAGE_HASH, what, expected="a SHA-256 TLV", found="none")
    if not canonical_signature(signature):
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
