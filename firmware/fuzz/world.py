"""What the fuzz targets' module is: fuses, the images of the running bank, the update key. Made anew for
each run, with keys that live as long."""

from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core import wire
from cellward.core.image import Version, build
from cellward.core.revocation import Quorum
from cellward.core.slots import (
    BMS_M33,
    OTP_APP_CLASS,
    OTP_COUNTER,
    OTP_DEVELOPMENT,
    OTP_LIFECYCLE,
    OTP_LOADER_CLASS,
    OTP_ROOT_QUORUM,
    OTP_SIZE,
    OTP_SLOT_KEYS,
    OTP_VENDOR_ID,
    Fuse,
    Lifecycle,
    Stage,
)
from cellward.vbms.registers import RAM_BASE, RAM_SIZE
from vectors.forge import Key

COUNTER = 6
DEVELOPMENT = 0b0100  # slot 2 holds a development key


@dataclass(frozen=True)
class World:
    """Slot 3 is not burned. Two of the three root keys must sign."""

    keys: tuple[Key, Key, Key] = field(default_factory=lambda: (Key.make(), Key.make(), Key.make()))
    roots: tuple[Key, Key, Key] = field(default_factory=lambda: (Key.make(), Key.make(), Key.make()))
    update: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @cached_property
    def slot_keys(self) -> tuple[bytes, ...]:
        return (*(key.public.key_hash for key in self.keys), bytes(32))

    @cached_property
    def quorum(self) -> Quorum:
        return Quorum.of(2, tuple(key.public for key in self.roots))

    @cached_property
    def scalar(self) -> bytes:
        return self.update.private_numbers().private_value.to_bytes(32, "big")

    @property
    def fuses(self) -> bytes:
        memory = bytearray(OTP_SIZE)
        values: tuple[tuple[Fuse, bytes], ...] = (
            (OTP_SLOT_KEYS, b"".join(self.slot_keys)),
            (OTP_LIFECYCLE, wire.u32(Lifecycle.PROVISIONED.fuses)),
            (OTP_DEVELOPMENT, wire.u32(DEVELOPMENT)),
            (OTP_ROOT_QUORUM, self.quorum.digest),
            (OTP_COUNTER, ((1 << COUNTER) - 1).to_bytes(OTP_COUNTER.size, "little")),
            (OTP_VENDOR_ID, BMS_M33.vendor_id),
            (OTP_LOADER_CLASS, BMS_M33.class_id(Stage.LOADER)),
            (OTP_APP_CLASS, BMS_M33.class_id(Stage.APP)),
        )
        for fuse, value in values:
            memory[fuse.offset : fuse.offset + fuse.size] = value
        return bytes(memory)

    def signed(
        self,
        stage: Stage,
        counter: int = COUNTER,
        *,
        slot: int = 0,
        encrypted: bool = False,
        entry: int = 0x41,
        stack: int = RAM_BASE + RAM_SIZE,
    ) -> bytes:
        """A small image that the engine stages."""
        link = BMS_M33.link_address(stage)
        unsigned = build(
            (wire.u32(stack) + wire.u32(link + entry)).ljust(0x100, b"\x5a"),
            version=Version.parse("1.4.0"),
            counter=counter,
            hardware=(BMS_M33.vendor_id, BMS_M33.class_id(stage)),
            encrypted=encrypted,
        )
        key = self.keys[slot]
        return unsigned.signed(key.public, key.sign(unsigned.digest))

    @cached_property
    def running(self) -> dict[Stage, bytes]:
        """The images of bank a."""
        return {stage: self.signed(stage) for stage in Stage}

    def to_bytes(self) -> bytes:
        """The file that firmware/fuzz/tell.c loads."""
        images = (self.running[stage] for stage in (Stage.LOADER, Stage.APP))
        return self.fuses + b"".join(wire.u32(len(data)) + data for data in images) + self.scalar
