"""Who says whether a device would run an image: the publish gate asks two that share no code."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cellward.core.errors import Code, FormatRefused
from cellward.core.image import Version
from cellward.core.slots import COUNTER_MAX, Hardware, Stage


@dataclass(frozen=True)
class Accepted:
    """What a device has read in an image that it would run. Digests are SHA-256."""

    version: Version
    counter: int
    payload_size: int
    digest: bytes
    key_hash: bytes


class DeviceVerifier(Protocol):
    """The verdict of a device in production."""

    def verify(
        self,
        image: bytes,
        hardware: Hardware,
        stage: Stage,
        keys: Sequence[bytes],
        counter: int,
        *,
        revoked: Collection[bytes] = (),
        what: str = "image",
    ) -> Accepted:
        """Judge `image` in the slot of `stage`, erased behind it.

        `keys` are the hashes in the slots of the fuses, `revoked` those of them that are, `counter` the
        security counter of the fuses (0 to COUNTER_MAX). More keys than a device has slots are as many
        devices: one that takes the image is enough. A hash of zeros is no key.

        Raises Refused with the code of the first check that fails, as the boot chain has it;
        FormatRefused (firmware.too_large) for more than the slot holds; Unavailable where there is
        nobody to ask.
        """
        ...


def check_question(image: bytes, hardware: Hardware, stage: Stage, counter: int, what: str) -> None:
    """What no fuses and no slot could hold. Raises FormatRefused (firmware.too_large, image.counter)."""
    size = hardware.slot(stage).size
    if len(image) > size:
        raise FormatRefused(
            Code.FIRMWARE_TOO_LARGE,
            what,
            expected=f"at most {size} bytes in the {stage} slot of {hardware.name}",
            found=f"{len(image)}, {len(image) - size} too many",
        )
    if not 0 <= counter <= COUNTER_MAX:
        raise FormatRefused(
            Code.IMAGE_COUNTER, what, expected=f"fuses from 0 to {COUNTER_MAX}", found=f"{counter}"
        )
