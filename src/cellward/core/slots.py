"""What lies where in a module: banks and their slots in flash, the trailer, the fuses.

A bank is half of a module's flash: loader slot, app slot, one trailer page. The active bank is
remapped to one address, so both banks hold images linked for the same place (S32K3, AURIX and
STM32 do this in hardware). The C headers under firmware/include/generated come from here.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property
from uuid import NAMESPACE_DNS, UUID, uuid5

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused

BANKS = ("a", "b")

# MCUboot's trailer for a write alignment of 8 (image-format, "Trailer").
WRITE_SIZE = 8
TRAILER_MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
FLAG_SET = 0x01
ERASED = 0xFF


class Stage(StrEnum):
    """The two images of a bank; the ROM verifies the loader, the loader verifies the app."""

    LOADER = "loader"
    APP = "app"


@dataclass(frozen=True)
class Region:
    """`size` bytes from `offset` of a bank."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True)
class Hardware:
    """One module hardware: its name, its flash in bytes, and the RAM that a stack may lie in."""

    name: str
    vendor: str
    page_size: int
    bank_size: int
    loader: Region
    app: Region
    trailer: Region
    active_base: int
    header_size: int
    ram_base: int
    ram_size: int

    def slot(self, stage: Stage) -> Region:
        return {Stage.LOADER: self.loader, Stage.APP: self.app}[stage]

    def link_address(self, stage: Stage) -> int:
        """Where the payload of `stage` must be linked: behind the image header of its slot."""
        return self.active_base + self.slot(stage).offset + self.header_size

    @cached_property
    def vendor_id(self) -> bytes:
        """MCUboot's vendor UUID (TLV 0x74): version 5 over the vendor's domain."""
        return uuid5(NAMESPACE_DNS, self.vendor).bytes

    def class_id(self, stage: Stage) -> bytes:
        """MCUboot's class UUID (TLV 0x75): version 5 over hardware and stage.

        The stage is in it so that a signed loader is never taken for an app, or the reverse.
        """
        return self._class_ids[stage]

    @cached_property
    def _class_ids(self) -> dict[Stage, bytes]:
        vendor = UUID(bytes=self.vendor_id)
        return {stage: uuid5(vendor, f"{self.name}/{stage}").bytes for stage in Stage}


KIB = 1024
BMS_M33 = Hardware(
    name="bms-m33",
    vendor="cellward.example",
    page_size=8 * KIB,
    bank_size=2048 * KIB,
    loader=Region(0, 64 * KIB),
    app=Region(64 * KIB, 1976 * KIB),
    trailer=Region(2040 * KIB, 8 * KIB),
    active_base=0x0800_0000,
    header_size=0x200,
    ram_base=0x2000_0000,
    ram_size=64 * KIB,
)
# Same flash, other cell topology: an authentic image for one must not boot on the other.
BMS_M33_18S = Hardware(**{**BMS_M33.__dict__, "name": "bms-m33-18s"})
HARDWARE: dict[str, Hardware] = {h.name: h for h in (BMS_M33, BMS_M33_18S)}


class Mark(Enum):
    """What a flag or the magic of a trailer reads as. The value is its index in the C table."""

    UNSET = 0
    SET = 1
    BAD = 2


# Offsets from the end of the bank; the trailer page ends where the bank ends.
COPY_DONE_FROM_END = 32
IMAGE_OK_FROM_END = 24
MAGIC_FROM_END = 16
TRAILER_SIZE = 32


@dataclass(frozen=True)
class Trailer:
    """MCUboot's swap trailer as direct-XIP with revert uses it."""

    magic: Mark
    copy_done: Mark
    image_ok: Mark


def decode_trailer(data: bytes) -> Trailer:
    """Read the last TRAILER_SIZE bytes of a bank. Any bytes are a trailer, perhaps a bad one.

    Raises FormatRefused unless there are exactly TRAILER_SIZE bytes.
    """
    reader = wire.Reader(data, "trailer")
    copy_done = _flag(reader.take(WRITE_SIZE))
    image_ok = _flag(reader.take(WRITE_SIZE))
    magic = reader.take(len(TRAILER_MAGIC))
    reader.finish()
    return Trailer(_magic(magic), copy_done, image_ok)


def _flag(phrase: bytes) -> Mark:
    if phrase[0] == FLAG_SET:
        return Mark.SET
    return Mark.UNSET if phrase[0] == ERASED else Mark.BAD


def _magic(data: bytes) -> Mark:
    if data == TRAILER_MAGIC:
        return Mark.SET
    return Mark.UNSET if data == bytes([ERASED]) * len(data) else Mark.BAD


def flag_phrase() -> bytes:
    """The write unit that sets a flag."""
    return bytes([FLAG_SET]) + bytes([ERASED]) * (WRITE_SIZE - 1)


def whole_phrases(data: bytes) -> bytes:
    """`data` filled up to whole write units, as erased flash reads."""
    return data + bytes([ERASED]) * (-len(data) % WRITE_SIZE)


@dataclass(frozen=True)
class Fuse:
    """`size` bytes from `offset` of the OTP; every bit reads 0 until it is burned to 1."""

    offset: int
    size: int


# OTP map. Four slot keys (SHA-256 of the public key), a revocation bit for each, and a
# thermometer-coded security counter: a burn that is cut leaves a value between old and new.
OTP_SIZE = 0x200
OTP_SLOT_KEY_COUNT = 4
OTP_SLOT_KEYS = Fuse(0x000, 32 * OTP_SLOT_KEY_COUNT)
OTP_REVOKED = Fuse(0x080, 4)  # bit n: slot n
OTP_LIFECYCLE = Fuse(0x084, 4)  # a byte a state, see Lifecycle
OTP_DEBUG_LOCK = Fuse(0x088, 4)  # any bit: the debug port is closed
OTP_DEVELOPMENT = Fuse(0x08C, 4)  # bit n: slot n holds a development key
OTP_ROOT_QUORUM = Fuse(0x0A0, 32)  # SHA-256 of the root quorum (docs/formats/revocation.md)
OTP_COUNTER = Fuse(0x0C0, 128)
OTP_VENDOR_ID = Fuse(0x140, 16)
OTP_LOADER_CLASS = Fuse(0x150, 16)
OTP_APP_CLASS = Fuse(0x160, 16)
OTP_SERIAL = Fuse(0x170, 16)
OTP_VAULT_CALIBRATION = Fuse(0x180, 32)  # thermometer: no older block of this name is taken
OTP_VAULT_KEYS = Fuse(0x1A0, 32)
OTP_BOOT_EPOCH = Fuse(0x1C0, 32)  # thermometer: BOOTS_PER_EPOCH boots each
OTP_DEVICE_SECRET = Fuse(0x1E0, 32)
COUNTER_MAX = OTP_COUNTER.size * 8
BOOTS_PER_EPOCH = 4096


class Lifecycle(StrEnum):
    """Forward only. Every state has a byte of OTP_LIFECYCLE; the highest byte that is not 0 counts,
    so that a torn burn is a step forward or none."""

    BLANK = "blank"
    PROVISIONED = "provisioned"  # keys and identity are burned; the programmer's port is open
    PRODUCTION = "production"  # the programmer's port is closed, development keys count as revoked
    TAMPERED = "tampered"  # no secret is left; monitors with open contactors
    RETIRED = "retired"

    @property
    def fuses(self) -> int:
        """The word that says this state when it is burned over any earlier one."""
        index = list(Lifecycle).index(self)
        return 0xFF << (8 * (index - 1)) if index else 0

    @property
    def closed(self) -> bool:
        """Whether the programmer's port (read, write, burn) is closed."""
        return self not in (Lifecycle.BLANK, Lifecycle.PROVISIONED)


def decode_lifecycle(word: int) -> Lifecycle:
    return list(Lifecycle)[(word.bit_length() + 7) // 8]


# Data flash: small pages for what changes in the field. Two pages a use, written in turn; the boot
# count's are locked by the ROM. `Flash.BANK` 2 of the controller.
DATA_BANK = 2
DATA_BANK_NAME = "data"  # what the programmer's port calls it
DATA_PAGE_SIZE = 2 * KIB
DATA_SIZE = 16 * DATA_PAGE_SIZE


class DataPage(Enum):
    """First of the two pages (one for REVOCATION) of each use of the data flash."""

    BOOT_COUNT = 0
    VAULT_CALIBRATION = 2
    VAULT_KEYS = 4
    REVOCATION = 6
    PLANT = 15  # the plant's note while it burns the device secret


def decode_counter(fuses: bytes) -> int:
    """The security counter: how many fuses are burned from bit 0 upwards without a gap.

    Raises FormatRefused unless `fuses` is OTP_COUNTER.size bytes.
    """
    if len(fuses) != OTP_COUNTER.size:
        raise FormatRefused(
            Code.TRUNCATED, "counter fuses", expected=f"{OTP_COUNTER.size} bytes", found=f"{len(fuses)}"
        )
    bits = int.from_bytes(fuses, "little")
    return ((bits + 1) & ~bits).bit_length() - 1
