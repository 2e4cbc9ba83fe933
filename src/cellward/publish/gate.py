"""What may enter the Image repository: nothing that a device would refuse (attacks 16, 23).

1. bytes already published      the same target again, nothing to do
2. structure                    core.image.decode
3. hardware and stage           the vendor and class UUIDs of one that is known
4. digest, key, signature       core.image.verify against the production firmware keys; of an encrypted
                                image, over what its content key opens
5. counter                      not below the highest published for this hardware and stage, and
                                no more than the fuses can hold
6. place                        linked for, and not larger than, its slot
7. name                         no other bytes under this hardware, stage and version
"""

import hashlib
from collections.abc import Mapping, Sequence

from cellward.core import image
from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.image import Flag, Image, Trust
from cellward.core.image.encryption import decrypt
from cellward.core.keys import PublicKey
from cellward.core.metadata import Target, target_name
from cellward.core.slots import COUNTER_MAX, HARDWARE, Hardware, Stage

MAX_IMAGE_SIZE = max(hardware.bank_size for hardware in HARDWARE.values())


def admit(
    data: bytes,
    keys: Mapping[bytes, PublicKey | None],
    published: Sequence[Target],
    what: str,
    content_key: bytes | None = None,
) -> Target:
    """The target these bytes are to be published as; `what` names them in refusals. `content_key` opens
    an encrypted image, to be looked at here and nowhere else on its way to the module.

    Raises FormatRefused, TrustRefused (image.*), PolicyRefused (storage.exists).
    """
    sha256 = hashlib.sha256(data).hexdigest()
    for target in published:  # 1
        if target.sha256 == sha256:
            return target
    decoded = image.decode(data, what)  # 2
    hardware, stage = _place(decoded, what)  # 3
    highest = max(
        (t.release_counter for t in published if t.stage == stage and hardware.name in t.hardware_ids),
        default=0,
    )
    trust = Trust(keys=keys, counter=highest, hardware=(hardware.vendor_id, hardware.class_id(stage)))
    plain = _opened(decoded, content_key, what)
    image.verify(plain, trust, what)  # 4, 5
    _check_counter(decoded, what)
    _check_size(decoded, hardware, stage, what)  # 6
    name = target_name(hardware.name, stage, str(decoded.version))
    if any(target.name == name for target in published):  # 7
        raise PolicyRefused(
            Code.STORAGE_EXISTS,
            what,
            expected=f"a version of {hardware.name} {stage} that is not published yet",
            found=f"{decoded.version} with other bytes",
            advice="raise the version: published names never change",
        )
    return Target(
        name=name,
        length=len(data),
        sha256=sha256,
        hardware_ids=(hardware.name,),
        stage=stage,
        version=str(decoded.version),
        release_counter=decoded.counter or 0,
        plain_sha256="" if plain is decoded else hashlib.sha256(plain.data).hexdigest(),
    )


def _opened(decoded: Image, content_key: bytes | None, what: str) -> Image:
    if not decoded.flags:
        return decoded
    if decoded.flags != Flag.ENC_AES128 or content_key is None:
        raise PolicyRefused(
            Code.IMAGE_ENCRYPTION,
            what,
            expected="an image whose content key is here",
            found=f"one encrypted elsewhere (flags 0x{decoded.flags:x})",
            advice="publish from the data directory that `cellward image sign --encrypt` used",
        )
    return image.decode(decrypt(decoded.data, content_key, what), what)


def _place(decoded: Image, what: str) -> tuple[Hardware, Stage]:
    for hardware in HARDWARE.values():
        for stage in Stage:
            if decoded.hardware == (hardware.vendor_id, hardware.class_id(stage)):
                return hardware, stage
    _, klass = decoded.hardware
    raise TrustRefused(
        Code.IMAGE_HARDWARE,
        what,
        expected=f"vendor and class of {', '.join(HARDWARE)}, loader or app",
        found=f"class {klass.hex()[:8]}" if klass else "no class",
    )


def _check_counter(decoded: Image, what: str) -> None:
    if (decoded.counter or 0) > COUNTER_MAX:
        raise TrustRefused(
            Code.IMAGE_COUNTER,
            what,
            expected=f"a security counter of at most {COUNTER_MAX}, which is what the fuses hold",
            found=f"{decoded.counter}",
        )


def _check_size(decoded: Image, hardware: Hardware, stage: Stage, what: str) -> None:
    slot = hardware.slot(stage)
    if decoded.header_size != hardware.header_size:
        raise FormatRefused(
            Code.IMAGE_HEADER,
            what,
            expected=f"a header of {hardware.header_size} bytes, for which {hardware.name} is linked",
            found=f"{decoded.header_size}",
        )
    if len(decoded.data) > slot.size:
        raise FormatRefused(
            Code.FIRMWARE_TOO_LARGE,
            what,
            expected=f"at most {slot.size} bytes in the {stage} slot of {hardware.name}",
            found=f"{len(decoded.data)}, {len(decoded.data) - slot.size} too many",
        )
