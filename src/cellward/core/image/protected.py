"""What may stand in the protected area beside counter and UUIDs: boot record, dependencies, a vendor's own.

imgtool's bytes: `--boot-record`, `--dependencies`, `--custom-tlv` of imgtool 2.5.0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.image.layout import TLV_HEADER_SIZE, Tlv, Version
from cellward.core.keys import DIGEST_SIZE

MAX_SOFTWARE_TYPE = 12
DEPENDENCY_SIZE = 12
MAX_EXTRAS = 0x4000  # the area's length has 16 bits
_VENDOR_TYPES = range(0xA0, 0xFF)  # the low byte of a vendor's type, by MCUboot's design document

# Software component claims of Arm's PSA Attestation API 1.0, by the numbers that MCUboot gives them.
_TYPE, _MEASUREMENT, _VERSION, _SIGNER, _DESCRIPTION = 1, 2, 4, 5, 6

_DEPENDENCIES = re.compile(r"\s*\(\s*(\d{1,3})\s*,\s*([0-9.+]{1,32})\s*\)\s*(?:,|$)", re.ASCII)
_TAG = re.compile(r"0[xX][0-9a-fA-F]{1,4}|\d{1,5}", re.ASCII)


@dataclass(frozen=True)
class Dependency:
    """Image number `image` of the same device must have this version or a later one.

    Raises FormatRefused (image.tlv) for a number that is no byte.
    """

    image: int
    version: Version

    def __post_init__(self) -> None:
        if not 0 <= self.image <= 0xFF:
            raise _refused("dependency", "an image number of 0 to 255", f"{self.image}")

    @classmethod
    def parse(cls, text: str) -> tuple["Dependency", ...]:
        """Of `(NUMBER, VERSION), …`, as imgtool takes them; all of the text must be of that form.

        Raises FormatRefused (image.tlv, image.version).
        """
        found: list[Dependency] = []
        at = 0
        while match := _DEPENDENCIES.match(text, at):
            found.append(cls(int(match[1]), Version.parse(match[2])))
            at = match.end()
        if not found or at != len(text) or text.rstrip().endswith(","):
            raise _refused(f"dependencies {text!r}", '"(NUMBER, VERSION), …"', "another form")
        return tuple(found)

    def encode(self) -> bytes:
        return bytes([self.image]) + bytes(3) + self.version.encode()

    @classmethod
    def decode(cls, value: bytes) -> "Dependency":
        """Raises FormatRefused (wire.*) for another size; the three bytes between say nothing."""
        reader = wire.Reader(value, "dependency")
        number = reader.u8()
        reader.take(3)
        version = Version(reader.u8(), reader.u8(), reader.u16(), reader.u32())
        reader.finish()
        return cls(number, version)


@dataclass(frozen=True)
class Custom:
    """A TLV of the vendor's own. Raises FormatRefused (image.tlv) for a type that is MCUboot's to give."""

    type: int
    value: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.type <= 0xFFFF or self.type & 0xFF not in _VENDOR_TYPES:
            raise _refused("custom TLV", "a type that ends in A0 to FE", f"0x{self.type:04x}")

    @classmethod
    def parse(cls, tag: str, value: str) -> "Custom":
        """As imgtool takes them: a number, and text, or bytes as `0x…`. Raises FormatRefused (image.tlv)."""
        if not _TAG.fullmatch(tag):
            raise _refused("custom TLV", "a type as 0xa0 or 160", tag)
        if not value.startswith("0x"):
            return cls(int(tag, 0), value.encode("utf-8", "surrogateescape"))
        try:
            return cls(int(tag, 0), bytes.fromhex(value[2:]))
        except ValueError as error:
            raise _refused(f"custom TLV {tag}", "whole bytes in hex after 0x", value) from error


@dataclass(frozen=True)
class Extras:
    """Protected TLVs that an image need not have. `boot_record` is the software's type, such as `BMS`.

    Raises PolicyRefused (image.tlv_duplicate) where a custom type stands twice, FormatRefused (image.tlv).
    """

    boot_record: str | None = None
    dependencies: Sequence[Dependency] = ()
    custom: Sequence[Custom] = ()

    def __post_init__(self) -> None:
        if self.boot_record is not None:
            _check_type(self.boot_record)
        types = [custom.type for custom in self.custom]
        twice = next((kind for kind in types if types.count(kind) > 1), None)
        if twice is not None:
            raise PolicyRefused(
                Code.IMAGE_TLV_DUPLICATE, "custom TLVs", expected=f"one 0x{twice:04x}", found="two"
            )
        if self.size > MAX_EXTRAS:
            raise _refused("protected TLVs", f"at most {MAX_EXTRAS} bytes of them", f"{self.size}")

    def before_the_uuids(self, version: Version, key_hash: bytes) -> list[tuple[int, bytes]]:
        """Boot record and dependencies: imgtool writes them between the counter and the UUIDs."""
        tlvs: list[tuple[int, bytes]] = []
        if self.boot_record is not None:
            tlvs.append((Tlv.BOOT_RECORD, boot_record(self.boot_record, version, key_hash)))
        return [*tlvs, *((Tlv.DEPENDENCY, needed.encode()) for needed in self.dependencies)]

    def after_the_uuids(self) -> list[tuple[int, bytes]]:
        return [(custom.type, custom.value) for custom in self.custom]

    @property
    def size(self) -> int:
        """Bytes that these take in the slot."""
        tlvs = [*self.before_the_uuids(Version(255, 255, 65535), bytes(DIGEST_SIZE)), *self.after_the_uuids()]
        return sum(TLV_HEADER_SIZE + len(value) for _, value in tlvs)


NO_EXTRAS = Extras()


def boot_record(software_type: str, version: Version, key_hash: bytes) -> bytes:
    """CBOR (RFC 8949) that a bootloader hands on for attestation; `key_hash` says who signs.

    The measurement is zeros: MCUboot fills it in. It is therefore the last item, which no sorted CBOR
    would have, and the version goes without its build number: both as imgtool does it.
    """
    items = (
        (_TYPE, _cbor(3, software_type.encode("ascii"))),
        (_VERSION, _cbor(3, f"{version.major}.{version.minor}.{version.revision}".encode())),
        (_SIGNER, _cbor(2, key_hash)),
        (_DESCRIPTION, _cbor(3, b"SHA256")),
        (_MEASUREMENT, _cbor(2, bytes(DIGEST_SIZE))),
    )
    return bytes([0xA0 | len(items)]) + b"".join(bytes([number]) + value for number, value in items)


def software_type(record: bytes) -> str | None:
    """Of a boot record that begins as `boot_record` makes them."""
    start = bytes([0xA5, _TYPE])
    size = record[2] - 0x60 if len(record) > len(start) else -1
    if not record.startswith(start) or not 0 < size <= MAX_SOFTWARE_TYPE:
        return None
    text = record[3 : 3 + size].decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else None


def _cbor(major: int, value: bytes) -> bytes:
    """A string of bytes (major type 2) or of text (3) of at most 255 bytes."""
    short = len(value) < 24
    return (bytes([major << 5 | len(value)]) if short else bytes([major << 5 | 24, len(value)])) + value


def _check_type(software_type: str) -> None:
    good = software_type.isascii() and software_type.isprintable()
    if not good or not 0 < len(software_type) <= MAX_SOFTWARE_TYPE:
        raise _refused(
            "boot record",
            f"a software type of 1 to {MAX_SOFTWARE_TYPE} printable ASCII characters",
            f"{software_type!r}",
        )


def _refused(subject: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.IMAGE_TLV, subject, expected=expected, found=found)
