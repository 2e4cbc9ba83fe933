"""A module on the bench for the firmware's tests: in memory, planted and signed here."""

import functools
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cellward.core.errors import Code
from cellward.core.image import Version, build
from cellward.core.slots import (
    BANKS,
    BMS_M33,
    DATA_BANK,
    DATA_PAGE_SIZE,
    ERASED,
    OTP_APP_CLASS,
    OTP_BOOT_EPOCH,
    OTP_COUNTER,
    OTP_LIFECYCLE,
    OTP_LOADER_CLASS,
    OTP_REVOKED,
    OTP_SIZE,
    OTP_SLOT_KEYS,
    OTP_VENDOR_ID,
    TRAILER_MAGIC,
    TRAILER_SIZE,
    DataPage,
    Fuse,
    Stage,
    flag_phrase,
)
from cellward.ports.module import BootEvent, BootReport
from cellward.vbms.cpu import Cpu
from cellward.vbms.cut import Cuts
from cellward.vbms.machine import CpuFactory, Machine
from cellward.vbms.nor import Nor, flash_size
from cellward.vbms.otp import Otp
from cellward.vbms.pack import Pack
from vectors.forge import Key, RsaKey

ROOT = Path(__file__).parents[2]
FIRMWARE = ROOT / "firmware"
PACKAGE = ROOT / "src" / "cellward" / "vbms" / "firmware"


@functools.cache
def built(*targets: str) -> None:
    """The firmware, up to date."""
    done = subprocess.run(["make", "-C", FIRMWARE, *targets], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def binary(name: str) -> bytes:
    built("all")
    return (PACKAGE / name).read_bytes()


@functools.cache
def remembering() -> CpuFactory:
    """A core that executes each signature's verification once and digests on the host."""
    from cellward.lab.hostcrypto import HostCrypto
    from cellward.lab.powercut.campaign import Plan, elves, rom_of

    built("all")
    return HostCrypto((rom_of(Plan()), *elves())).cpu


KEY = Key.make()
STRANGER = Key.make()


def sign(
    payload: bytes,
    stage: Stage,
    version: str,
    counter: int,
    key: Key | RsaKey = KEY,
    *,
    header_size: int = BMS_M33.header_size,
) -> bytes:
    unsigned = build(
        payload,
        version=Version.parse(version),
        counter=counter,
        hardware=(BMS_M33.vendor_id, BMS_M33.class_id(stage)),
        header_size=header_size,
    )
    return unsigned.signed(key.public, key.sign(unsigned.digest))


@functools.cache
def release(version: str, counter: int) -> Mapping[Stage, bytes]:
    """Loader and app of one version, both with `counter`."""
    return {
        stage: sign(binary(f"{stage}-{version}.bin"), stage, version, counter)
        for stage in (Stage.LOADER, Stage.APP)
    }


@dataclass
class Rig:
    """Flash, fuses and pack; `boot` gives them power and returns what happened."""

    flash: bytearray = field(default_factory=lambda: bytearray([ERASED]) * flash_size(BMS_M33))
    fuses: bytearray = field(default_factory=lambda: bytearray(OTP_SIZE))
    cuts: Cuts = field(default_factory=Cuts)
    pack: Pack = field(default_factory=Pack)
    machine: Machine | None = None
    entropy: Callable[[], int] = lambda: 4

    @classmethod
    def planted(cls, counter: int = 6, key: Key | RsaKey = KEY) -> "Rig":
        """Fuses burned, both banks empty."""
        rig = cls()
        for fuse, data in (
            (OTP_SLOT_KEYS, key.public.key_hash),
            (OTP_LIFECYCLE, b"\xff"),
            (OTP_COUNTER, ((1 << counter) - 1).to_bytes(OTP_COUNTER.size, "little")),
            (OTP_VENDOR_ID, BMS_M33.vendor_id),
            (OTP_LOADER_CLASS, BMS_M33.class_id(Stage.LOADER)),
            (OTP_APP_CLASS, BMS_M33.class_id(Stage.APP)),
        ):
            rig.fuse(fuse, data)
        return rig

    def fuse(self, fuse: Fuse, data: bytes) -> None:
        self.fuses[fuse.offset : fuse.offset + len(data)] = data

    def revoke(self, slot: int) -> None:
        self.fuse(OTP_REVOKED, (1 << slot).to_bytes(4, "little"))

    def put(self, bank: str, stage: Stage, image: bytes) -> None:
        start = BANKS.index(bank) * BMS_M33.bank_size + BMS_M33.slot(stage).offset
        self.flash[start : start + BMS_M33.slot(stage).size] = image.ljust(BMS_M33.slot(stage).size, b"\xff")

    def stage(
        self, bank: str, images: Mapping[Stage, bytes], *, confirmed: bool = False, started: bool = False
    ) -> None:
        """Both images and a trailer, as an installer (pending) or the plant (confirmed) leaves them."""
        for stage, image in images.items():
            self.put(bank, stage, image)
        erased = bytes([ERASED]) * 8
        trailer = (flag_phrase() if started else erased) + (flag_phrase() if confirmed else erased)
        self.trailer(bank)[:] = trailer + TRAILER_MAGIC

    def trailer(self, bank: str) -> memoryview:
        end = (BANKS.index(bank) + 1) * BMS_M33.bank_size
        return memoryview(self.flash)[end - TRAILER_SIZE : end]

    def boot(
        self, *, exact: bool = False, rom: bytes | None = None, cpu: CpuFactory | None = None
    ) -> tuple[BootReport, ...]:
        """Power on and settle. A machine that runs already loses its power first.

        Without a `cpu` of its own, what the firmware's code has verified once is remembered (lab/hostcrypto);
        where instructions are counted, all are executed.
        """
        self.off()
        nor, otp = Nor(BMS_M33, memoryview(self.flash), self.cuts), Otp(memoryview(self.fuses), self.cuts)
        self.machine = Machine(
            rom or binary("rom.bin"),
            BMS_M33,
            memoryview(self.flash),
            nor,
            otp,
            self.pack,
            self.entropy,
            exact=exact,
            cpu=cpu or (Cpu if exact else remembering()),
        )
        self.machine.power_on()
        return self.machine.reports()

    def kept(self) -> tuple[bytes, bytes]:
        """Flash and fuses, but for the boot count, which every boot that jumps writes."""
        flash, fuses = bytearray(self.flash), bytearray(self.fuses)
        start = DATA_BANK * BMS_M33.bank_size + DataPage.BOOT_COUNT.value * DATA_PAGE_SIZE
        flash[start : start + 2 * DATA_PAGE_SIZE] = bytes(2 * DATA_PAGE_SIZE)
        fuses[OTP_BOOT_EPOCH.offset : OTP_BOOT_EPOCH.offset + OTP_BOOT_EPOCH.size] = bytes(
            OTP_BOOT_EPOCH.size
        )
        return bytes(flash), bytes(fuses)

    def off(self) -> None:
        if self.machine is not None:
            self.machine.close()
            self.machine = None

    def run(self, milliseconds: int) -> None:
        assert self.machine is not None
        self.machine.run(milliseconds)


def names(report: BootReport) -> list[str]:
    return [milestone.name for milestone in report.milestones]


def told(report: BootReport) -> list[tuple[str, str, Code | None]]:
    return [(event.where, event.bank, event.code) for event in report.events]


def last_event(report: BootReport) -> BootEvent:
    return report.events[-1]
