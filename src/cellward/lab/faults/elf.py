"""A user's own firmware as what is attacked: an ELF file, an image, and where it must not get to.

The firmware runs in the memories that the TOML file names, which are memory and nothing else: firmware
that waits for a peripheral never gets an answer.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import unicorn as untyped_unicorn
from unicorn import arm_const

from cellward.lab.faults import arm
from cellward.lab.faults.board import Board, Inside, Restore
from cellward.lab.faults.outcome import Outcome
from cellward.lab.faults.symbols import Symbols
from cellward.lab.faults.target import ACCESS, NEVER, Target

unicorn: Any = untyped_unicorn
FILL = 0xA5


class ElfCore:
    """The processor of an ElfBoard."""

    def __init__(self, uc: Any, start: int) -> None:
        self.uc = uc
        self.pc = start

    @property
    def flags(self) -> int:
        return arm.flags(self.uc)

    @flags.setter
    def flags(self, flags: int) -> None:
        arm.set_flags(self.uc, flags)

    @property
    def thumb(self) -> bool:
        return arm.thumb(self.uc)

    def read(self, register: int) -> int:
        return arm.read(self.uc, register)

    def write(self, register: int, value: int) -> None:
        self.uc.reg_write(register, value)

    def named(self) -> dict[str, int]:
        return arm.named(self.uc)

    def run(self, count: int) -> bool:
        """False: a fault of the core."""
        try:
            self.uc.emu_start(self.pc | 1, NEVER, count=count)
        except unicorn.UcError:
            return False
        finally:
            self.pc = self.read(arm_const.UC_ARM_REG_PC) & ~1
        return True


class ElfBoard:
    """Reaching a `success` address is a bypass: the image that was loaded must not get there."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._symbols = Symbols(target.elf, target.name)
        self._library = _library(self._symbols, target.library)
        self._patched: tuple[int, bytes] | None = None
        self._disturbed: tuple[int, bytes] | None = None
        self._arrived: int | None = None
        self._awaited: tuple[int, int] | None = None
        self._returns: set[int] = set()
        self._core: ElfCore | None = None
        self.steps_done = 0

    @property
    def core(self) -> ElfCore:
        assert self._core is not None  # noqa: S101
        return self._core

    def begin(self) -> None:
        uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        for memory in self._target.memories:
            uc.mem_map(memory.address, memory.size, ACCESS[memory.access])
            uc.mem_write(memory.address, bytes([FILL if memory.access == "rw" else 0xFF]) * memory.size)
        for address, data in self._target.load:
            uc.mem_write(address, data)
        for address in (*self._target.success, *self._target.failure):
            uc.hook_add(unicorn.UC_HOOK_CODE, self._arrive, begin=address, end=address)
        uc.reg_write(arm_const.UC_ARM_REG_SP, self._target.stack)
        self._returns.clear()
        self._core = ElfCore(uc, self._target.start)
        self.steps_done = 0

    def _arrive(self, uc: Any, address: int, _size: int, _data: Any) -> None:
        self._arrived = address
        uc.emu_stop()

    def _arrive_back(self, uc: Any, address: int, _size: int, _data: Any) -> None:
        if self._awaited == (address, uc.reg_read(arm_const.UC_ARM_REG_SP)):
            self._awaited = None
            uc.emu_stop()

    def step(self) -> Outcome | None:
        self.steps_done += 1
        core = self.core
        if not self.is_site(core.pc):
            return self._call()
        return self._ended(core.run(1))

    def _call(self) -> Outcome | None:
        """Through a whole call into the library."""
        core = self.core
        back = core.read(arm_const.UC_ARM_REG_LR) & ~1
        if back not in self._returns:
            self._returns.add(back)
            core.uc.hook_add(unicorn.UC_HOOK_CODE, self._arrive_back, begin=back, end=back)
            core.uc.ctl_flush_tb()
        self._awaited = (back, core.read(arm_const.UC_ARM_REG_SP))
        ran = core.run(self._target.budget)
        returned, self._awaited = self._awaited is None, None
        return None if returned else self._ended(ran) or Outcome.HANG

    def finish(self) -> Outcome:
        return self._ended(self.core.run(self._target.budget)) or Outcome.HANG

    def crash(self) -> Outcome:
        return Outcome.CRASH

    def _ended(self, ran: bool) -> Outcome | None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            return Outcome.BYPASS if arrived in self._target.success else Outcome.REFUSED
        return None if ran else Outcome.CRASH

    def save(self) -> Restore:
        uc, pc, steps = self.core.uc, self.core.pc, self.steps_done
        context = uc.context_save()
        writable = [m for m in self._target.memories if m.access == "rw"]
        contents = [(m.address, bytes(uc.mem_read(m.address, m.size))) for m in writable]

        def restore() -> None:
            for address, content in contents:
                uc.mem_write(address, content)
            uc.context_restore(context)
            self.core.pc, self.steps_done = pc, steps
            self._arrived = self._awaited = None

        return restore

    def is_site(self, address: int) -> bool:
        return not any(address in part for part in self._library)

    def decides(self, address: int) -> bool:
        return True

    def trace(self) -> tuple[Inside, ...]:
        """Nothing: a user's library is not looked into."""
        return ()

    def call_without(self, inside: Inside) -> Outcome | None:
        raise AssertionError(inside)

    def code(self, address: int) -> bytes:
        for size in (4, 2):
            try:
                return bytes(self.core.uc.mem_read(address, size))
            except unicorn.UcError:
                continue
        return b"\0\0"

    def _change(self, address: int, data: bytes) -> bytes:
        uc = self.core.uc
        before = bytes(uc.mem_read(address, len(data)))
        uc.mem_write(address, data)
        uc.ctl_remove_cache(address, address + len(data))
        return before

    def patch(self, address: int, code: bytes) -> None:
        self._patched = (address, self._change(address, code))

    def unpatch(self) -> None:
        if self._patched is not None:
            self._change(*self._patched)
            self._patched = None

    def readable(self, address: int, size: int) -> bool:
        return any(m.holds(address, size) for m in self._target.memories if m.access != "rw")

    def disturb(self, address: int, bit: int) -> None:
        at = address + bit // 8
        value = bytes(self.core.uc.mem_read(at, 1))[0]
        self._disturbed = (at, self._change(at, bytes([value ^ 1 << bit % 8])))

    def calm(self) -> None:
        if self._disturbed is not None:
            self._change(*self._disturbed)
            self._disturbed = None

    def where(self, address: int) -> str:
        return self._symbols.where(address)


def _library(symbols: Symbols, patterns: Sequence[str]) -> list[range]:
    return [
        range(start, start + size)
        for start, size, name in symbols.functions
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


@dataclass(frozen=True)
class ElfSubject:
    target: Target

    @property
    def title(self) -> str:
        return self.target.name

    @property
    def scenarios(self) -> Sequence[str]:
        return [self.target.name]

    @property
    def smoke(self) -> Sequence[str]:
        return self.scenarios

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(
            repr(self.target).encode() + self.target.elf + repr(self.target.load).encode()
        ).hexdigest()

    @property
    def symbols(self) -> tuple[Symbols, ...]:
        return (Symbols(self.target.elf, self.target.name),)

    def board(self, scenario: int, *, real: bool) -> Board:  # there is one, and nothing is modelled
        return ElfBoard(self.target)
