"""Firmware into a signed MCUboot image, checked as a device will check it before it is given out.

Three steps, so that the signature can come from elsewhere: `plan` (what is signed), a signature, `attach`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused
from cellward.core.image import (
    MAX_HEADER_SIZE,
    NO_EXTRAS,
    SIGNATURES,
    Extras,
    KeyTlv,
    Trust,
    Unsigned,
    VerifiedImage,
    Version,
    build,
    verify,
)
from cellward.core.keys import PublicKey
from cellward.core.slots import COUNTER_MAX, Hardware, Stage
from cellward.ports.signer import Signer
from cellward.sign.firmware import PLAIN_ROOM, Firmware
from cellward.sign.logged import LoggedSigner

ALGORITHMS = frozenset(SIGNATURES)
VECTOR_TABLE = 128  # bytes that a Cortex-M33's vector table is aligned to, behind the header


@dataclass(frozen=True)
class Label:
    """What an image says of itself, under its signature.

    Raises PolicyRefused (image.counter) for a counter that the module's fuses cannot hold.
    """

    version: Version
    counter: int
    hardware: Hardware
    stage: Stage
    extras: Extras = NO_EXTRAS

    def __post_init__(self) -> None:
        if not 0 <= self.counter <= COUNTER_MAX:
            raise PolicyRefused(
                Code.IMAGE_COUNTER,
                "security counter",
                expected=f"0 to {COUNTER_MAX}, as many as there are fuses",
                found=f"{self.counter}",
            )

    @property
    def subject(self) -> str:
        """In one line, as the signing log has it."""
        return f"{self.stage} {self.version} for {self.hardware.name}, security counter {self.counter}"

    @property
    def ids(self) -> tuple[bytes, bytes]:
        return self.hardware.vendor_id, self.hardware.class_id(self.stage)


def with_header_size(hardware: Hardware, size: int | None) -> Hardware:
    """The hardware for firmware that is linked behind a header of another size.

    Raises FormatRefused (image.header) where its vector table would not be aligned.
    """
    if size is None:
        return hardware
    if not 0 < size <= MAX_HEADER_SIZE or size % VECTOR_TABLE:
        raise FormatRefused(
            Code.IMAGE_HEADER,
            "header size",
            expected=f"a multiple of {VECTOR_TABLE} up to {MAX_HEADER_SIZE}, for the vector table behind it",
            found=f"{size}",
        )
    return replace(hardware, header_size=size)


def plan(firmware: Firmware, label: Label, key: PublicKey, *, encrypted: bool = False) -> Unsigned:
    """Everything that is signed. `encrypted` only says so in the header: see sign.wrapping.

    Raises FormatRefused (key.format) for a key whose signature no MCUboot image has, Refused
    (firmware.too_large) where the label's extras leave too little room.
    """
    key.require(ALGORITHMS, "firmware key")
    unsigned = build(
        firmware.payload,
        version=label.version,
        counter=label.counter,
        hardware=label.ids,
        header_size=label.hardware.header_size,
        encrypted=encrypted,
        extras=label.extras,
        key_hash=key.key_hash,
    )
    room = label.hardware.slot(label.stage).size
    if unsigned.size + PLAIN_ROOM > room:
        raise Refused(
            Code.FIRMWARE_TOO_LARGE,
            "image",
            expected=f"at most {room} bytes in the {label.stage} slot of {label.hardware.name}",
            found=f"{unsigned.size + PLAIN_ROOM}, with the protected TLVs",
        )
    return unsigned


def attach(
    unsigned: Unsigned, label: Label, key: PublicKey, signature: bytes, key_tlv: KeyTlv = KeyTlv.BOTH
) -> VerifiedImage:
    """The image with this signature over `unsigned.digest`, decoded again and verified.

    Raises Refused (image.signature and others of image.*) where it is not the key's.
    """
    image = unsigned.read_back(key, signature, key_tlv)
    trust = Trust({key.key_hash: key}, counter=label.counter, hardware=label.ids, algorithms=ALGORITHMS)
    return verify(image, trust, "new image")


def sign_image(
    firmware: Firmware,
    label: Label,
    signer: Signer,
    key_tlv: KeyTlv = KeyTlv.BOTH,
    *,
    encrypted: bool = False,
) -> VerifiedImage:
    """`plan`, sign, `attach`.

    Raises Unavailable (token.*) from the signer, Refused (image.*) when it answered wrongly.
    """
    key = signer.public_key
    unsigned = plan(firmware, label, key, encrypted=encrypted)
    return attach(unsigned, label, key, signer.sign(unsigned.digest), key_tlv)


TOGETHER = 64  # images whose intents go into the signing log in one write


def sign_images(
    batch: Iterable[tuple[Firmware, Label]],
    signer: Signer,
    key_tlv: KeyTlv = KeyTlv.BOTH,
    *,
    encrypted: bool = False,
) -> Iterator[VerifiedImage]:
    """As `sign_image`, one by one in the batch's order; a signing log is written to 64 at a time.

    One lane, as every token has: threads that take turns with Python's lock cost more than they save
    (bench/sign.py). What has been yielded is whole: after a refusal or a lost token go on with the rest.
    Raises as `sign_image`, for the first image that fails.
    """
    key, waiting = signer.public_key, iter(batch)
    while part := list(islice(waiting, TOGETHER)):
        planned = [(plan(read, label, key, encrypted=encrypted), label) for read, label in part]
        for (unsigned, label), signature in zip(planned, _signatures(signer, planned), strict=True):
            yield attach(unsigned, label, key, signature, key_tlv)


def _signatures(signer: Signer, planned: list[tuple[Unsigned, Label]]) -> Iterator[bytes]:
    if isinstance(signer, LoggedSigner):
        return signer.sign_all([(unsigned.digest, label.subject) for unsigned, label in planned])
    return (signer.sign(unsigned.digest) for unsigned, _ in planned)
