"""A module under test: its state file, as bytes to be rolled back, and boots of it that are watched."""

import hashlib
import mmap
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cellward.core.banks import State, state_of
from cellward.core.slots import (
    BANKS,
    DATA_BANK,
    DATA_PAGE_SIZE,
    ERASED,
    OTP_APP_CLASS,
    OTP_COUNTER,
    OTP_DEVELOPMENT,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_LOADER_CLASS,
    OTP_REVOKED,
    OTP_ROOT_QUORUM,
    OTP_SERIAL,
    OTP_SLOT_KEY_COUNT,
    OTP_SLOT_KEYS,
    OTP_VENDOR_ID,
    TRAILER_MAGIC,
    TRAILER_SIZE,
    WRITE_SIZE,
    DataPage,
    Fuse,
    Lifecycle,
    Stage,
    decode_counter,
    decode_lifecycle,
    decode_trailer,
    flag_phrase,
)
from cellward.lab.hostcrypto import HostCrypto
from cellward.lab.maker import public_key
from cellward.lab.powercut.operations import Log
from cellward.lab.powercut.releases import HARDWARE, Release
from cellward.vbms import registers
from cellward.vbms.bench import VirtualModule
from cellward.vbms.counting import InstructionCounter
from cellward.vbms.cpu import Cpu, Memories
from cellward.vbms.cut import Cuts
from cellward.vbms.peripherals import Action, Peripheral
from cellward.vbms.registers import PACK_BASE, SYS_BASE, Sys
from cellward.vbms.sensors import LATCH_SIZE
from cellward.vbms.state import FLASH_OFFSET, LATCH_OFFSET, OTP_OFFSET, PACK_OFFSET, create

SERIAL = "LAB-1"


class Bench:
    """`crypto` None: every boot with real cryptography. `rom` None: the packaged one."""

    def __init__(self, folder: Path, crypto: HostCrypto | None, rom: bytes | None = None) -> None:
        self.path = folder / "module"
        self.crypto = crypto
        self._rom = rom
        if not self.path.exists():
            create(self.path, HARDWARE, SERIAL)
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.memory = memoryview(self._map)
        self.log = Log(self.memory[LATCH_OFFSET : LATCH_OFFSET + LATCH_SIZE])
        self._watched = Cuts(watch=self.log.watch)
        self.closings: list[str] = []
        self.releases: tuple[Release, ...] = ()
        self.entropy = random.Random(0)  # noqa: S311

    @contextmanager
    def module(self, *, real: bool = False) -> Iterator[VirtualModule]:
        """With no power yet; what it changes goes to the log."""
        self.closings = []
        self.entropy.seed(0)
        pack = bytes(self.memory[PACK_OFFSET:OTP_OFFSET])
        crypto = None if real else self.crypto

        def cpu(
            rom: bytes, memories: Memories, bus: Mapping[int, Peripheral], counter: InstructionCounter | None
        ) -> Cpu:
            watched = {**bus, PACK_BASE: _Contactors(bus[PACK_BASE], bus[SYS_BASE], self)}
            make = Cpu if crypto is None else crypto.cpu
            return make(rom, memories, watched, counter)

        module = VirtualModule(
            self.path,
            self._rom,
            entropy=lambda: self.entropy.getrandbits(32),
            cpu=cpu,
            cuts=self._watched,
        )
        try:
            yield module
        finally:
            module.close()
            self.memory[PACK_OFFSET:OTP_OFFSET] = pack

    def image(self) -> bytes:
        return bytes(self.memory)

    def load(self, image: bytes) -> None:
        self.memory[:] = image
        self.log.begin()

    # --- what there is, without asking the firmware ---

    def fuse(self, fuse: Fuse) -> bytes:
        return bytes(self.memory[OTP_OFFSET + fuse.offset : OTP_OFFSET + fuse.offset + fuse.size])

    @property
    def counter(self) -> int:
        return decode_counter(self.fuse(OTP_COUNTER))

    @property
    def lifecycle(self) -> Lifecycle:
        return decode_lifecycle(int.from_bytes(self.fuse(OTP_LIFECYCLE), "little"))

    @property
    def revoked(self) -> int:
        return int.from_bytes(self.fuse(OTP_REVOKED), "little")

    @property
    def slot_keys(self) -> tuple[bytes, ...]:
        """The hash in each slot; zeros in one that is not burned."""
        fuses, size = self.fuse(OTP_SLOT_KEYS), OTP_SLOT_KEYS.size // OTP_SLOT_KEY_COUNT
        return tuple(fuses[start : start + size] for start in range(0, len(fuses), size))

    def slot_of(self, release: Release) -> int:
        return self.slot_keys.index(release.key_hash)

    @property
    def latched(self) -> bool:
        return any(self.log.latch)

    def state(self, bank: str) -> State:
        end = FLASH_OFFSET + (BANKS.index(bank) + 1) * HARDWARE.bank_size
        return state_of(decode_trailer(bytes(self.memory[end - TRAILER_SIZE : end])))

    def release_in(self, bank: str) -> Release | None:
        """The release that is in the bank byte for byte, loader and app; None for anything else."""
        for release in self.releases:
            if all(self._holds(bank, stage, image) for stage, image in release.images.items()):
                return release
        return None

    def _holds(self, bank: str, stage: Stage, image: bytes) -> bool:
        start = FLASH_OFFSET + BANKS.index(bank) * HARDWARE.bank_size + HARDWARE.slot(stage).offset
        return self.memory[start : start + len(image)] == image

    def may_close(self, bank: str) -> bool:
        """Whether what is in the bank is released, confirmed and committed, on a module that is whole."""
        release = self.release_in(bank)
        return (
            release is not None
            and self.state(bank) is State.CONFIRMED
            and release.counter <= self.counter
            and not self.latched
            and self.lifecycle not in (Lifecycle.BLANK, Lifecycle.TAMPERED, Lifecycle.RETIRED)
        )

    # --- a module as its history left it ---

    def burn(self, fuse: Fuse, value: bytes) -> None:
        start = OTP_OFFSET + fuse.offset
        self.memory[start : start + fuse.size] = value.ljust(fuse.size, b"\0")

    def plant(
        self, seed: int, keys: tuple[str, ...], counter: int, lifecycle: Lifecycle, quorum: bytes = b""
    ) -> None:
        """Fuses as the plant and some years leave them."""
        for fuse, value in (
            (OTP_SLOT_KEYS, b"".join(public_key(seed, name).key_hash for name in keys)),
            (OTP_DEVELOPMENT, b""),
            (OTP_ROOT_QUORUM, quorum),
            (OTP_LIFECYCLE, lifecycle.fuses.to_bytes(OTP_LIFECYCLE.size, "little")),
            (OTP_COUNTER, ((1 << counter) - 1).to_bytes(OTP_COUNTER.size, "little")),
            (OTP_VENDOR_ID, HARDWARE.vendor_id),
            (OTP_LOADER_CLASS, HARDWARE.class_id(Stage.LOADER)),
            (OTP_APP_CLASS, HARDWARE.class_id(Stage.APP)),
            (OTP_SERIAL, SERIAL.encode()),
            (OTP_DEVICE_SECRET, device_secret(seed)),
        ):
            self.burn(fuse, value)

    def put(self, bank: str, release: Release, *, confirmed: bool = True) -> None:
        """Images and trailer, as an update of years ago left them."""
        start = FLASH_OFFSET + BANKS.index(bank) * HARDWARE.bank_size
        content = bytearray([ERASED]) * HARDWARE.bank_size
        for stage, image in release.images.items():
            offset = HARDWARE.slot(stage).offset
            content[offset : offset + len(image)] = image
        erased = bytes([ERASED]) * WRITE_SIZE
        flags = flag_phrase() + flag_phrase() if confirmed else erased + erased
        content[-TRAILER_SIZE:] = flags + TRAILER_MAGIC
        self.memory[start : start + len(content)] = content

    def write_data(self, page: DataPage, content: bytes) -> None:
        """Into the data flash, from the first of the pages of that use on."""
        start = FLASH_OFFSET + DATA_BANK * HARDWARE.bank_size + page.value * DATA_PAGE_SIZE
        self.memory[start : start + len(content)] = content


def device_secret(seed: int) -> bytes:
    return hashlib.sha256(f"cellward lab {seed} secret".encode()).digest()


class _Contactors:
    """The pack's registers; every command to close is looked at when it is given."""

    def __init__(self, inner: Peripheral, system: Peripheral, bench: Bench) -> None:
        self._inner = inner
        self._system = system
        self._bench = bench

    def read(self, offset: int) -> int:
        return self._inner.read(offset)

    def write(self, offset: int, value: int) -> Action:
        if offset == registers.Pack.CONTACTOR_CONTROL and value == registers.CONTACTOR_CLOSE:
            bank = BANKS[self._system.read(Sys.BANK)]
            if not self._bench.may_close(bank):
                self._bench.closings.append(f"bank {bank}, {self._bench.state(bank).name.lower()}")
        return self._inner.write(offset, value)

    def reset(self) -> None:
        self._inner.reset()
