"""The images of the laboratory's maker. Keys, signatures and padding come from the seed alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cellward.core.image import Version, build
from cellward.core.slots import BMS_M33, Stage
from cellward.lab.maker import public_key, sign_digest
from cellward.vbms.packaged import packaged

HARDWARE = BMS_M33


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
