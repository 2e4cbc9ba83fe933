"""Boots without the time that cryptography takes.

SHA-256 over an image, HMAC and HKDF are computed by the host's library. A signature's verdict and a
module's public key are computed once by the firmware's own code, called alone, and remembered for these
very arguments. Code before and after runs as it is. This is for boots without a fault in the code (`lab
faults` has to put back every register too); what a lab reports as broken is run again without it, and so
is a sample of everything else.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import unicorn as untyped_unicorn
from unicorn import arm_const

from cellward.lab.routines import Elf, Routines
from cellward.vbms.counting import InstructionCounter
from cellward.vbms.cpu import Cpu, Halt, Memories
from cellward.vbms.peripherals import Peripheral
from cellward.vbms.registers import RAM_BASE

unicorn: Any = untyped_unicorn
ARGUMENTS = tuple(getattr(arm_const, f"UC_ARM_REG_R{number}") for number in range(4))
R0, R1, R2, R3 = ARGUMENTS
SPKI, DIGEST, DER_MOST = 91, 32, 128
SCALAR, POINT = 32, 65
GUARD = 16  # bytes of a routine that must be there: another image may lie at its address
HASH_LEAST = 256  # shorter ones cost less than a hook
SCRATCH = RAM_BASE + 0x1000


# The result of a call, or None where the routine itself must run.
Model = Callable[[Any, Elf], int | None]


@dataclass(frozen=True)
class Shortcut:
    elf: Elf
    code: bytes
    model: Model

    def take(self, uc: Any, address: int) -> int | None:
        if bytes(uc.mem_read(address, GUARD)) != self.code:
            return None
        return self.model(uc, self.elf)


class HostCrypto:
    """The shortcuts through the stages of `elves`."""

    def __init__(self, elves: tuple[Elf, ...]) -> None:
        self._elves = elves
        self._routines: dict[str, Routines] = {}
        self._verdicts: dict[tuple[str, bytes, bytes, bytes], int] = {}
        self._points: dict[tuple[str, bytes], bytes] = {}

    def cpu(
        self,
        rom: bytes,
        memories: Memories,
        bus: Mapping[int, Peripheral],
        counter: InstructionCounter | None,
    ) -> Cpu:
        """A machine's CpuFactory."""
        return _ShortCutCpu(self.shortcuts, rom, memories, bus, counter)

    @cached_property
    def shortcuts(self) -> Mapping[int, Shortcut]:
        """By the address of the routine."""
        models: dict[str, Model] = {
            "sha256": self._sha256,
            "p256_verify": self._p256_verify,
            "hmac_sha256": self._hmac,
            "hkdf_expand": self._expand,
            "update_public_key": self._update_public_key,
        }
        found = {}
        for elf in self._elves:
            for name, model in models.items():
                start = elf.symbols.get(name, 0) & ~1
                if start:
                    found[start] = Shortcut(elf, elf.code(start, GUARD), model)
        return found

    def _sha256(self, uc: Any, _elf: Elf) -> int | None:
        """(data, size, digest)."""
        data, size, out = (int(uc.reg_read(register)) for register in (R0, R1, R2))
        if size < HASH_LEAST:
            return None
        found = _read(uc, data, size)
        if found is None:
            return None
        uc.mem_write(out, hashlib.sha256(found).digest())
        return out

    def _hmac(self, uc: Any, _elf: Elf) -> int | None:
        """(key, its size, data, size, MAC)."""
        key, data = _argument(uc, 0, 1), _argument(uc, 2, 3)
        if key is None or data is None:
            return None
        uc.mem_write(_stacked(uc, 0), hmac.digest(key, data, "sha256"))
        return 0

    def _expand(self, uc: Any, _elf: Elf) -> int | None:
        """(PRK, info, its size, output, its size); RFC 5869, 2.3."""
        prk, info = _read(uc, uc.reg_read(R0), DIGEST), _argument(uc, 1, 2)
        if prk is None or info is None:
            return None
        size, block, made = _stacked(uc, 0), b"", b""
        while len(made) < size:
            block = hmac.digest(prk, block + info + bytes([len(made) // DIGEST + 1]), "sha256")
            made += block
        uc.mem_write(uc.reg_read(R3), made[:size])
        return 0

    def _p256_verify(self, uc: Any, elf: Elf) -> int | None:
        """(SPKI, digest, DER, its size)."""
        size = uc.reg_read(R3)
        if size > DER_MOST:
            return None
        parts = [
            _read(uc, uc.reg_read(register), length)
            for register, length in ((R0, SPKI), (R1, DIGEST), (R2, size))
        ]
        spki, digest, der = parts
        if spki is None or digest is None or der is None:
            return None
        key = (elf.name, spki, digest, der)
        if key not in self._verdicts:
            self._verdicts[key] = self._verify(elf, spki, digest, der)
        return self._verdicts[key]

    def _update_public_key(self, uc: Any, elf: Elf) -> int | None:
        """(scalar, point)."""
        scalar = _read(uc, uc.reg_read(R0), SCALAR)
        if scalar is None:
            return None
        key = (elf.name, scalar)
        if key not in self._points:
            routines = self._called_alone(elf)
            routines.write(SCRATCH, scalar)
            routines.call("update_public_key", (SCRATCH, SCRATCH + 0x100))
            self._points[key] = routines.read(SCRATCH + 0x100, POINT)
        uc.mem_write(uc.reg_read(R1), self._points[key])
        return 0

    def _called_alone(self, elf: Elf) -> Routines:
        if elf.name not in self._routines:
            self._routines[elf.name] = Routines(elf)
        return self._routines[elf.name]

    def _verify(self, elf: Elf, spki: bytes, digest: bytes, der: bytes) -> int:
        routines = self._called_alone(elf)
        places = SCRATCH, SCRATCH + 0x100, SCRATCH + 0x200
        for place, data in zip(places, (spki, digest, der), strict=True):
            routines.write(place, data)
        return routines.call("p256_verify", (*places, len(der)))


class _ShortCutCpu(Cpu):
    """Stops before each routine that has a shortcut. Nothing is done within the hook: a core whose PC
    is changed there may miss that it was told to stop (unicorn #1579)."""

    def __init__(
        self,
        shortcuts: Mapping[int, Shortcut],
        rom: bytes,
        memories: Memories,
        bus: Mapping[int, Peripheral],
        counter: InstructionCounter | None,
    ) -> None:
        self._shortcuts = shortcuts
        self._hit: list[int] = []
        self._real: int | None = None
        super().__init__(rom, memories, bus, counter)

    def prepare(self, uc: Any) -> None:
        for address in self._shortcuts:
            uc.hook_add(unicorn.UC_HOOK_CODE, self._enter, begin=address, end=address)

    def _enter(self, uc: Any, address: int, _size: int, _data: Any) -> None:
        if address == self._real:
            self._real = None
            return
        self._hit.append(address)
        uc.emu_stop()

    def run(self, instructions: int) -> Halt:
        while True:
            self._hit.clear()
            halt = super().run(instructions)
            if not self._hit or halt is not Halt.BUDGET:
                return halt
            self._call(self._hit[-1])

    def _call(self, address: int) -> None:
        result = self._shortcuts[address].take(self._uc, address)
        if result is None:
            self._real = address
            return
        self._uc.reg_write(R0, result)
        self._pc = self._uc.reg_read(arm_const.UC_ARM_REG_LR) | 1


def _argument(uc: Any, place: int, size: int) -> bytes | None:
    """The bytes that one register points to, as many as another says."""
    return _read(uc, uc.reg_read(ARGUMENTS[place]), uc.reg_read(ARGUMENTS[size]))


def _stacked(uc: Any, index: int) -> int:
    """The argument number 4 + `index`."""
    at = uc.reg_read(arm_const.UC_ARM_REG_SP) + 4 * index
    return int.from_bytes(uc.mem_read(at, 4), "little")


def _read(uc: Any, address: int, size: int) -> bytes | None:
    """None where not all of it is memory: the routine itself then faults as it must."""
    try:
        return bytes(uc.mem_read(address, size))
    except unicorn.UcError:
        return None
