"""What the update link's frames carry. Normative: docs/formats/update-link.md. Pure."""

from dataclasses import dataclass
from enum import IntEnum

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused
from cellward.core.image import Version
from cellward.core.keys import DIGEST_SIZE
from cellward.core.revocation import POINT_SIZE
from cellward.core.slots import BANKS, OTP_SERIAL, Lifecycle, Stage
from cellward.ports.updatelink import DATA_UNIT, MAX_DATA, PROTOCOL, WRAPPED_KEY_SIZE


class Answerer(IntEnum):
    """Who answers."""

    ROM = 1
    LOADER = 2
    APP = 3


@dataclass(frozen=True)
class Identity:
    """Who answers, of which module. `update_key` is an uncompressed point; zeros where the stage does
    not hold it."""

    where: Answerer
    bank: str
    lifecycle: Lifecycle
    counter: int
    revoked: int
    max_data: int
    serial: str
    update_key: bytes

    def encode(self) -> bytes:
        return b"".join(
            (
                bytes([PROTOCOL, self.where, BANKS.index(self.bank), list(Lifecycle).index(self.lifecycle)]),
                wire.u32(self.counter) + wire.u32(self.revoked) + wire.u16(self.max_data) + wire.u16(0),
                self.serial.encode("ascii").ljust(OTP_SERIAL.size, b"\0"),
                self.update_key,
            )
        )


def decode_identity(payload: bytes) -> Identity:
    """Raises FormatRefused (link.frame, wire.*)."""
    reader = wire.Reader(payload, "identity of the module")
    protocol, where, bank, lifecycle = reader.take(4)
    counter, revoked, max_data, reserved = reader.u32(), reader.u32(), reader.u16(), reader.u16()
    serial, update_key = reader.take(OTP_SERIAL.size).rstrip(b"\0"), reader.take(POINT_SIZE)
    reader.finish()
    states = list(Lifecycle)
    if protocol != PROTOCOL or where not in list(Answerer) or bank >= len(BANKS) or lifecycle >= len(states):
        raise _refused("identity", f"protocol {PROTOCOL} with its fields in range", payload[:4].hex())
    if reserved or not 0 < max_data <= MAX_DATA or max_data % DATA_UNIT or not _printable(serial):
        raise _refused("identity", "a size of data, and a serial in ASCII", payload[12:32].hex())
    return Identity(
        Answerer(where),
        BANKS[bank],
        states[lifecycle],
        counter,
        revoked,
        max_data,
        serial.decode("ascii"),
        update_key,
    )


@dataclass(frozen=True)
class StageDigest:
    """What a slot holds: the whole image's length and SHA-256, and what it claims. Nothing is verified."""

    length: int
    sha256: bytes
    version: Version
    counter: int

    def encode(self) -> bytes:
        return wire.u32(self.length) + self.sha256 + self.version.encode() + wire.u32(self.counter)


def decode_digest(payload: bytes) -> StageDigest:
    """Raises FormatRefused (wire.*)."""
    reader = wire.Reader(payload, "digest of the module")
    found = StageDigest(
        reader.u32(),
        reader.take(DIGEST_SIZE),
        Version(reader.u8(), reader.u8(), reader.u16(), reader.u32()),
        reader.u32(),
    )
    reader.finish()
    return found


def encode_digest_request(other: bool, stage: Stage) -> bytes:
    """Of the running bank, or of the other one."""
    return bytes([other, list(Stage).index(stage), 0, 0])


def encode_image_request(stage: Stage, length: int, wrapped_key: bytes = b"") -> bytes:
    """Raises FormatRefused (link.frame) for a wrapped key of another size than TLV 0x32's."""
    if len(wrapped_key) not in (0, WRAPPED_KEY_SIZE):
        raise _refused("wrapped key", f"0 or {WRAPPED_KEY_SIZE} bytes", f"{len(wrapped_key)}")
    head = bytes([list(Stage).index(stage), len(wrapped_key), 0, 0])
    return head + wire.u32(length) + wrapped_key


def _printable(serial: bytes) -> bool:
    return serial.isascii() and serial.decode("ascii", "replace").isprintable()


def _refused(subject: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.LINK_FRAME, f"{subject} of the module", expected=expected, found=found)
