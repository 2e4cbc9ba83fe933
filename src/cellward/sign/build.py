"""Firmware into a signed MCUboot image, checked as a device will check it before it is given out."""

from dataclasses import dataclass

from cellward.core.errors import Code, PolicyRefused
from cellward.core.image import KeyFormat, Trust, VerifiedImage, Version, build, decode, verify
from cellward.core.slots import COUNTER_MAX, Hardware, Stage
from cellward.ports.signer import Signer
from cellward.sign.firmware import Firmware


@dataclass(frozen=True)
class Label:
    """What an image says of itself, under its signature.

    Raises PolicyRefused (image.counter) for a counter that the module's fuses cannot hold.
    """

    version: Version
    counter: int
    hardware: Hardware
    stage: Stage

    def __post_init__(self) -> None:
        if not 0 <= self.counter <= COUNTER_MAX:
            raise PolicyRefused(
                Code.IMAGE_COUNTER,
                "security counter",
                expected=f"0 to {COUNTER_MAX}, as many as there are fuses",
                found=f"{self.counter}",
            )


def sign_image(
    firmware: Firmware,
    label: Label,
    signer: Signer,
    key_format: KeyFormat = KeyFormat.BOTH,
    *,
    encrypted: bool = False,
) -> VerifiedImage:
    """Build, sign, decode again and verify. `encrypted` only says so in the header: see sign.wrapping.

    Raises Unavailable (token.*) from the signer, Refused (image.*) when it answered wrongly.
    """
    ids = (label.hardware.vendor_id, label.hardware.class_id(label.stage))
    unsigned = build(
        firmware.payload,
        version=label.version,
        counter=label.counter,
        hardware=ids,
        header_size=label.hardware.header_size,
        encrypted=encrypted,
    )
    key = signer.public_key
    data = unsigned.signed(key, signer.sign(unsigned.digest), key_format)
    trust = Trust({key.key_hash: key}, counter=label.counter, hardware=ids)
    return verify(decode(data, "new image"), trust, "new image")
