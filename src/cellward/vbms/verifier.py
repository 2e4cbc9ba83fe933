"""The module's own verifier, asked without a boot: the packaged ROM's `verify_active` on its own core.

The function is called as the ROM calls it, with the image in the active bank and the keys in the fuses
of a module in production. On the bus are those fuses and the random source, nothing else: there is no
register through which a slot could be opened for execution, and no flash that could be written.
"""

import io
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import unicorn as untyped_unicorn
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from unicorn import arm_const

from cellward.core import wire
from cellward.core.errors import CODE_OF_STATUS, STATUS_OK, Code, FormatRefused, ModuleRefused, Unavailable
from cellward.core.image import Version
from cellward.core.keys import DIGEST_SIZE
from cellward.core.slots import (
    BMS_M33,
    ERASED,
    OTP_APP_CLASS,
    OTP_COUNTER,
    OTP_LIFECYCLE,
    OTP_LOADER_CLASS,
    OTP_REVOKED,
    OTP_SIZE,
    OTP_SLOT_KEY_COUNT,
    OTP_SLOT_KEYS,
    OTP_VENDOR_ID,
    Fuse,
    Hardware,
    Lifecycle,
    Stage,
)
from cellward.ports.verifier import Accepted, check_question
from cellward.vbms.controllers import FuseShadow
from cellward.vbms.cpu import Cpu, Memories
from cellward.vbms.cut import Cuts
from cellward.vbms.nor import flash_size
from cellward.vbms.otp import Otp
from cellward.vbms.packaged import ROM, packaged
from cellward.vbms.peripherals import Peripheral, RandomSource
from cellward.vbms.registers import OTP_BASE, RAM_BASE, RAM_SIZE, ROM_BASE, ROM_SIZE, TRNG_BASE

unicorn: Any = untyped_unicorn
ENTRY = "verify_active"
ROM_ELF = "rom.elf"
ROM_HARDWARE = BMS_M33  # whose flash the packaged ROM is linked for; others have the same
WORD = 4
RETURN = ROM_BASE + ROM_SIZE - WORD  # behind all code
BUDGET = 1_000_000_000  # instructions; a full app slot takes about 100 million
# firmware/verify/image.h: what a verification leaves. In RAM that no variable or stack of the ROM reaches.
VERIFIED = RAM_BASE + RAM_SIZE // 2
VERIFIED_SIZE = 6 * WORD + WORD + 2 * DIGEST_SIZE
REFUSAL = VERIFIED + 0x100
REFUSAL_SIZE = 3 * WORD
ARGUMENTS = (arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R1, arm_const.UC_ARM_REG_R2)


@dataclass(frozen=True)
class Rom:
    """What is in the mask ROM, what start code sets up in the RAM, and where the verifier begins."""

    code: bytes
    variables: tuple[tuple[int, bytes], ...]
    entry: int


@cache
def packaged_rom() -> Rom:
    """Raises Unavailable (storage.missing), FormatRefused (firmware.format)."""
    data, code = packaged(ROM_ELF), packaged(ROM)
    try:
        elf = ELFFile(io.BytesIO(data))
        table = elf.get_section_by_name(".symtab")
        found = table.get_symbol_by_name(ENTRY) if isinstance(table, SymbolTableSection) else None
        parts = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
        loaded = b"".join(part.data() for part in parts if part["p_paddr"] == ROM_BASE)
        moved = tuple((s["p_vaddr"], s.data()) for s in parts if s["p_vaddr"] != s["p_paddr"])
    except ELFError as error:
        raise _no_rom(str(error)) from error
    if not found or not loaded or loaded != code[: len(loaded)] or len(code) > RETURN - ROM_BASE:
        raise _no_rom("another")
    return Rom(code, moved, found[0]["st_value"])


def _no_rom(found: str) -> FormatRefused:
    return FormatRefused(
        Code.FIRMWARE_FORMAT,
        f"firmware {ROM_ELF}",
        expected=f"the ELF of {ROM} with a function {ENTRY}",
        found=found,
        advice="build both with `make firmware`",
    )


class RoutineCpu(Cpu):
    """A core that runs one function of its ROM instead of booting."""

    def call(self, entry: int, arguments: Sequence[int]) -> int:
        """What it returns. Raises ModuleRefused (boot.fault, boot.hang)."""
        for register, value in zip(ARGUMENTS, arguments, strict=True):
            self._uc.reg_write(register, value)
        self._uc.reg_write(arm_const.UC_ARM_REG_LR, RETURN | 1)
        try:
            self._uc.emu_start(entry | 1, RETURN, count=BUDGET)
        except unicorn.UcError as error:
            raise self._lost(Code.MODULE_FAULT, str(error)) from error
        if self.fault is not None:  # of the bus
            raise self._lost(Code.MODULE_FAULT, self.fault.what)
        if self._uc.reg_read(arm_const.UC_ARM_REG_PC) & ~1 != RETURN:
            raise self._lost(Code.MODULE_HANG, f"none after {BUDGET} instructions")
        return int(self._uc.reg_read(arm_const.UC_ARM_REG_R0)) & 0xFFFF_FFFF

    def _lost(self, code: Code, found: str) -> ModuleRefused:
        pc = self._uc.reg_read(arm_const.UC_ARM_REG_PC)
        return ModuleRefused(code, f"the ROM's {ENTRY}", expected="an answer", found=f"{found} at 0x{pc:08x}")


class ModuleVerifier:
    """A DeviceVerifier. One core per question; `entropy` times the delays of the ROM."""

    def __init__(
        self, rom: Rom | None = None, entropy: Callable[[], int] = lambda: secrets.randbits(32)
    ) -> None:
        """Raises as packaged_rom where `rom` is None."""
        self._rom = packaged_rom() if rom is None else rom
        self._entropy = entropy

    def verify(
        self,
        image: bytes,
        hardware: Hardware,
        stage: Stage,
        keys: Sequence[bytes],
        counter: int,
        *,
        revoked: Collection[bytes] = (),
        what: str = "image",
    ) -> Accepted:
        """Raises as DeviceVerifier; Unavailable (module.absent) for hardware with another ROM."""
        _check_rom(hardware, what)
        check_question(image, hardware, stage, counter, what)
        refusal: ModuleRefused | None = None
        for slots in _in_slots(keys):
            try:
                return self._ask(image, hardware, stage, _fuses(hardware, slots, counter, revoked), what)
            except ModuleRefused as error:
                if error.code is not Code.IMAGE_KEY_UNKNOWN:
                    raise
                refusal = refusal or error
        assert refusal is not None  # noqa: S101
        raise refusal

    def _ask(self, image: bytes, hardware: Hardware, stage: Stage, fuses: bytearray, what: str) -> Accepted:
        flash = bytearray([ERASED]) * flash_size(hardware)
        start = hardware.slot(stage).offset
        flash[start : start + len(image)] = image
        memories = Memories(hardware, memoryview(flash))
        memories.ram.view[:] = bytes(RAM_SIZE)  # as start code leaves it
        for address, data in self._rom.variables:
            memories.ram.view[address - RAM_BASE : address - RAM_BASE + len(data)] = data
        core = RoutineCpu(self._rom.code, memories, self._bus(fuses))
        try:
            status = core.call(self._rom.entry, (list(Stage).index(stage), VERIFIED, REFUSAL))
        except ModuleRefused as error:
            raise error.about(what) from error
        finally:
            core.close()
        if status != STATUS_OK:
            raise _refusal(status, _ram(memories, REFUSAL, REFUSAL_SIZE), what)
        return _accepted(_ram(memories, VERIFIED, VERIFIED_SIZE))

    def _bus(self, fuses: bytearray) -> Mapping[int, Peripheral]:
        otp = Otp(memoryview(fuses), Cuts())
        return {OTP_BASE: FuseShadow(otp), TRNG_BASE: RandomSource(self._entropy)}


def _check_rom(hardware: Hardware, what: str) -> None:
    if replace(hardware, name=ROM_HARDWARE.name, vendor=ROM_HARDWARE.vendor) != ROM_HARDWARE:
        raise Unavailable(
            Code.MODULE_ABSENT,
            what,
            expected=f"hardware with the flash of {ROM_HARDWARE.name}, whose ROM is here",
            found=hardware.name,
        )


def _in_slots(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """As many modules as it takes to hold them; one without a key for none."""
    for start in range(0, max(len(keys), 1), OTP_SLOT_KEY_COUNT):
        yield keys[start : start + OTP_SLOT_KEY_COUNT]


def _fuses(hardware: Hardware, slots: Sequence[bytes], counter: int, revoked: Collection[bytes]) -> bytearray:
    """Of a module in production."""
    fuses = bytearray(OTP_SIZE)
    gone = sum(1 << slot for slot, key in enumerate(slots) if key in revoked)
    burned: dict[Fuse, bytes] = {
        OTP_SLOT_KEYS: b"".join(slots),
        OTP_REVOKED: wire.u32(gone),
        OTP_LIFECYCLE: wire.u32(Lifecycle.PRODUCTION.fuses),
        OTP_COUNTER: ((1 << counter) - 1).to_bytes(OTP_COUNTER.size, "little"),
        OTP_VENDOR_ID: hardware.vendor_id,
        OTP_LOADER_CLASS: hardware.class_id(Stage.LOADER),
        OTP_APP_CLASS: hardware.class_id(Stage.APP),
    }
    for fuse, data in burned.items():
        fuses[fuse.offset : fuse.offset + len(data)] = data
    return fuses


def _ram(memories: Memories, address: int, size: int) -> bytes:
    return bytes(memories.ram.view[address - RAM_BASE : address - RAM_BASE + size])


def _refusal(status: int, left: bytes, what: str) -> ModuleRefused:
    reader = wire.Reader(left, what)
    reader.u32()  # the status again, where the verifier itself has refused
    expected, found = reader.u32(), reader.u32()
    return ModuleRefused(
        CODE_OF_STATUS.get(status, Code.MODULE_FAULT),
        what,
        expected=f"what the module holds, 0x{expected:08x}",
        found=f"0x{found:08x}",
    )


def _accepted(left: bytes) -> Accepted:
    """struct verified of firmware/verify/image.h."""
    reader = wire.Reader(left, "the ROM's answer")
    reader.take(2 * WORD)  # shares of the unlock word; where the payload begins
    payload_size, counter = reader.u32(), reader.u32()
    version = Version(reader.u8(), reader.u8(), reader.u16(), reader.u32())
    reader.u32()  # size of what is signed
    return Accepted(version, counter, payload_size, reader.take(DIGEST_SIZE), reader.take(DIGEST_SIZE))
