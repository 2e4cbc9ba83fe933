"""What may enter the Image repository: nothing that a device would refuse (attacks 16, 23).

 1. bytes already published      the same target again, nothing to do
 2. structure                    core.image.decode
 3. hardware and stage           the vendor and class UUIDs of one that is known
 4. key                          no development key; with a key register, one that it lets sign
 5. the device's own verdict     core's verifier and the module's, against the production keys and the
                                 highest counter published for this hardware and stage; of an encrypted
                                 image, over what its content key opens. Both must say the same
 6. counter                      no more than the fuses can hold
 7. place                        linked for its slot, which it fits in
 8. configuration                no page that the device keeps for itself is written over
 9. name                         no other bytes under this hardware, stage and version

What depends on more than one image (`check_counter_rises`, `check_requirements`) is for a release to ask.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cellward.core import image, wire
from cellward.core.errors import CellwardError, Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.image import Flag, Image, Tlv, Version
from cellward.core.image.encryption import decrypt
from cellward.core.image.place import place
from cellward.core.metadata import Target, target_name
from cellward.core.slots import COUNTER_MAX, ERASED, HARDWARE, Hardware, Region, Stage
from cellward.ports.verifier import DeviceVerifier

DEPENDENCY_SIZE = 12  # TLV 0x40
MAX_IMAGE_SIZE = max(hardware.bank_size for hardware in HARDWARE.values())


@dataclass(frozen=True)
class Gate:
    """`keys` and `development` are hashes of firmware keys; `verifier` is the Pair of both verifiers.

    `configuration` has, by the hardware's name, the parts of a bank that its module keeps for itself.
    `judge` refuses the fingerprint of a key that the key register does not let sign firmware.
    """

    keys: Collection[bytes]
    verifier: DeviceVerifier
    development: Collection[bytes] = ()
    configuration: Mapping[str, Sequence[Region]] = field(default_factory=dict)
    judge: Callable[[str], object] = str

    def admit(
        self, data: bytes, published: Sequence[Target], what: str, content_key: bytes | None = None
    ) -> Target:
        """The target these bytes are to be published as; `what` names them in refusals. `content_key`
        opens an encrypted image, to be looked at here and nowhere else on its way to the module.

        Raises FormatRefused, TrustRefused (image.*, publish.development_key, key.unknown),
        PolicyRefused (publish.*, key.*, register.clock, storage.exists), Unavailable where the module's
        verifier is missing.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        for target in published:  # 1
            if target.sha256 == sha256:
                return target
        decoded = image.decode(data, what)  # 2
        hardware, stage = place(decoded, what)  # 3
        self._check_key(decoded, what)  # 4
        highest = max(
            (t.release_counter for t in published if t.stage == stage and hardware.name in t.hardware_ids),
            default=0,
        )
        plain = _opened(decoded, content_key, what)
        found = self.verifier.verify(  # 5
            plain.data, hardware, stage, sorted(self.keys), highest, what=what
        )
        _check_counter(found.counter, what)  # 6
        _check_header(decoded, hardware, what)  # 7
        check_configuration(plain, hardware, stage, self.configuration.get(hardware.name, ()), what)  # 8
        name = target_name(hardware.name, stage, str(found.version))
        _check_name(name, published, hardware, stage, found.version, what)  # 9
        return Target(
            name=name,
            length=len(data),
            sha256=sha256,
            hardware_ids=(hardware.name,),
            stage=stage,
            version=str(found.version),
            release_counter=found.counter,
            plain_sha256="" if plain is decoded else hashlib.sha256(plain.data).hexdigest(),
        )

    def _check_key(self, decoded: Image, what: str) -> None:
        """By either name that the image has for its key: the device goes by the one it likes."""
        encoded, stated = decoded.find(Tlv.PUBKEY), decoded.find(Tlv.KEYHASH)
        for key_hash in (stated, None if encoded is None else hashlib.sha256(encoded).digest()):
            if key_hash is None:
                continue
            if key_hash in self.development:
                raise TrustRefused(
                    Code.PUBLISH_DEVELOPMENT_KEY,
                    what,
                    expected="a production key",
                    found=f"development key {key_hash.hex()[:16]}",
                    advice="sign the image with the production key",
                )
            try:
                self.judge(key_hash.hex())
            except CellwardError as error:
                raise error.about(f"{what}, {error.subject}") from error


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


def _check_counter(counter: int, what: str) -> None:
    if counter > COUNTER_MAX:
        raise TrustRefused(
            Code.IMAGE_COUNTER,
            what,
            expected=f"a security counter of at most {COUNTER_MAX}, which is what the fuses hold",
            found=f"{counter}",
        )


def _check_header(decoded: Image, hardware: Hardware, what: str) -> None:
    if decoded.header_size != hardware.header_size:
        raise FormatRefused(
            Code.IMAGE_HEADER,
            what,
            expected=f"a header of {hardware.header_size} bytes, for which {hardware.name} is linked",
            found=f"{decoded.header_size}",
        )


def _check_name(
    name: str, published: Sequence[Target], hardware: Hardware, stage: Stage, version: Version, what: str
) -> None:
    if any(target.name == name for target in published):
        raise PolicyRefused(
            Code.STORAGE_EXISTS,
            what,
            expected=f"a version of {hardware.name} {stage} that is not published yet",
            found=f"{version} with other bytes",
            advice="raise the version: published names never change",
        )


def check_configuration(
    decoded: Image, hardware: Hardware, stage: Stage, pages: Sequence[Region], what: str
) -> None:
    """Refuse an image over pages of the bank that the module keeps for itself (emulated EEPROM between
    two segments of a hex file): installing erases whole pages up to the image's end.

    Raises PolicyRefused (publish.configuration), which says whether a filled gap lies there.
    """
    start = hardware.slot(stage).offset
    end = start + len(decoded.data)
    end += -end % hardware.page_size
    for page in pages:
        first, last = max(start, page.offset), min(end, page.end)
        if first >= last:
            continue
        inside = decoded.data[first - start : last - start]
        filled = inside.count(ERASED) == len(inside)
        raise PolicyRefused(
            Code.PUBLISH_CONFIGURATION,
            what,
            expected=f"nothing over the configuration pages, 0x{page.offset:x} to 0x{page.end:x} of the bank",
            found=("a filled gap" if filled else "bytes of the image") + f" from 0x{first:x} to 0x{last:x}",
            advice="link the firmware around them; a gap that was filled erases what the device keeps there",
        )


# --- for a release: what one image does not show ---


def check_counter_rises(previous: int, new: int, *, security_fix: bool, what: str) -> None:
    """A security counter never falls, and a release that mends a vulnerability raises it: otherwise
    the vulnerable image boots again (attack 20). `previous` is the highest of what was released before.

    Raises PolicyRefused (publish.counter).
    """
    least = previous + 1 if security_fix else previous
    if new < least:
        raise PolicyRefused(
            Code.PUBLISH_COUNTER,
            what,
            expected=f"a security counter of at least {least}"
            + (f": a security fix raises it from {previous}" if security_fix else ""),
            found=f"{new}",
        )


@dataclass(frozen=True)
class Requirement:
    """`of` works only with `name` (a stage, or `calibration`) of this version or later."""

    of: str
    name: str
    at_least: Version


def requirements_of(decoded: Image, stage: Stage, what: str = "image") -> tuple[Requirement, ...]:
    """MCUboot's dependencies (TLV 0x40): number of the image, three zeros, least version. Images are
    numbered in the order of Stage.

    Raises FormatRefused (image.tlv).
    """
    found = []
    for entry in decoded.entries:
        if entry.type != Tlv.DEPENDENCY:
            continue
        reader = wire.Reader(entry.value, what)
        if reader.remaining != DEPENDENCY_SIZE:
            raise _bad_dependency(what, f"{DEPENDENCY_SIZE} bytes", f"{reader.remaining}")
        number, padding = reader.u8(), reader.take(3)
        version = Version(reader.u8(), reader.u8(), reader.u16(), reader.u32())
        if any(padding) or number >= len(Stage):
            raise _bad_dependency(what, f"image 0 to {len(Stage) - 1} and three zeros", f"{number}")
        found.append(Requirement(stage, list(Stage)[number], version))
    return tuple(found)


def _bad_dependency(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.IMAGE_TLV, f"dependency of {what}", expected=expected, found=found)


def check_requirements(held: Mapping[str, Version], wanted: Sequence[Requirement], what: str) -> None:
    """Refuse parts that do not work together (attack 24). `held`: what the release brings, or what it
    relies on being there, by name.

    Raises PolicyRefused (publish.dependency).
    """
    for requirement in wanted:
        version = held.get(requirement.name)
        if version is None or version < requirement.at_least:
            raise PolicyRefused(
                Code.PUBLISH_DEPENDENCY,
                what,
                expected=f"{requirement.name} {requirement.at_least} or later, which {requirement.of} needs",
                found="none" if version is None else str(version),
            )
