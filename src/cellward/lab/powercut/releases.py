"""The images of the laboratory's maker. Keys, signatures and padding come from the seed alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core.image import Version, build
from cellward.core.keys import PublicKey
from cellward.core.slots import BMS_M33, Stage
from cellward.vbms.packaged import packaged

HARDWARE = BMS_M33
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@lru_cache(maxsize=16)
def signing_key(seed: int, name: str) -> ec.EllipticCurvePrivateKey:
    """A key of the laboratory's: a campaign must be repeatable. It signs nothing else."""
    digest = hashlib.sha512(f"cellward lab {seed} {name}".encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest, "big") % (P256_ORDER - 1) + 1, ec.SECP256R1())


def public_key(seed: int, name: str) -> PublicKey:
    return PublicKey.from_cryptography(signing_key(seed, name).public_key())


def sign_digest(seed: int, name: str, digest: bytes) -> bytes:
    """RFC 6979: another nonce would be another run (facts, pitfall 5)."""
    algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
    return signing_key(seed, name).sign(digest, algorithm)


@dataclass(frozen=True)
class Recipe:
    """`firmware`: whose loader and app; `key`: the name of the signing key; `padding`: bytes that
    nothing executes, behind the app, to make it as long as real ones are."""

    name: str
    firmware: str
    version: str
    counter: int
    key: str = "maker"
    padding: int = 0


@dataclass(frozen=True)
class Release:
    recipe: Recipe
    key_hash: bytes
    images: Mapping[Stage, bytes] = field(repr=False)

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def counter(self) -> int:
        return self.recipe.counter


def make(recipe: Recipe, seed: int) -> Release:
    images = {}
    for stage in Stage:
        payload = packaged(f"{stage}-{recipe.firmware}.bin")
        if stage is Stage.APP:
            payload += hashlib.shake_128(f"{seed} {recipe.name}".encode()).digest(recipe.padding)
        unsigned = build(
            payload,
            version=Version.parse(recipe.version),
            counter=recipe.counter,
            hardware=(HARDWARE.vendor_id, HARDWARE.class_id(stage)),
        )
        key = public_key(seed, recipe.key)
        images[stage] = unsigned.signed(key, sign_digest(seed, recipe.key, unsigned.digest))
    return Release(recipe, public_key(seed, recipe.key).key_hash, images)
