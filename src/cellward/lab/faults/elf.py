"""A user's own firmware as what is attacked: an ELF file, an image, and where it must not get to.

The TOML file's fields are in docs/lab.md. The firmware runs in the memories that the file names, which
are memory and nothing else: firmware that waits for a peripheral never gets an answer.
"""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import unicorn as untyped_unicorn
from unicorn import arm_const

from cellward.core.errors import Code, FormatRefused, Unavailable
from cellward.lab.faults import arm
from cellward.lab.faults.board import Board, Restore
from cellward.lab.faults.outcome import Outcome
from cellward.lab.faults.symbols import Symbols

unicorn: Any = untyped_unicorn
NEVER = 0xFFFF_FFFF
PAGE = 0x1000
MOST = 64 * 1024 * 1024
ACCESS = {"rx": 5, "r": 1, "rw": 3}  # Unicorn's bits
DEFAULT_BUDGET = 1_000_000
FILL = 0xA5


@dataclass(frozen=True)
class Memory:
    address: int
    size: int
    access: str

    def holds(self, address: int, size: int) -> bool:
        return self.address <= address and address + size <= self.address + self.size


@dataclass(frozen=True)
class Target:
    """What the TOML file says, with every name resolved."""

    name: str
    elf: bytes = field(repr=False)
    start: int
    stack: int
    success: tuple[int, ...]
    failure: tuple[int, ...]
    memories: tuple[Memory, ...]
    load: tuple[tuple[int, bytes], ...] = field(repr=False)
    library: tuple[str, ...]
    budget: int


def read_target(path: Path) -> Target:
    """Raises Unavailable (storage.missing), FormatRefused (config.invalid, firmware.format)."""
    try:
        said = tomllib.loads(read_file(path).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(path, "a TOML file", str(error)) from error
    return _Reader(path, said).target()


def read_file(path: Path) -> bytes:
    """Raises Unavailable (storage.missing)."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(Code.STORAGE_MISSING, str(path), found=error.strerror or "") from error


def _invalid(path: Path, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.CONFIG, str(path), expected=expected, found=found)


class _Reader:
    """Turns what the file says into a Target, and refuses what it does not understand."""

    KNOWN = frozenset(
        ("elf", "vectors", "start", "stack", "success", "failure", "memory", "image", "library", "budget")
    )

    def __init__(self, path: Path, said: dict[str, Any]) -> None:
        unknown = sorted(set(said) - self.KNOWN)
        if unknown:
            raise _invalid(path, f"{', '.join(sorted(self.KNOWN))}", unknown[0])
        self._path = path
        self._said = said
        self._elf = self._file("elf", said.get("elf"))
        self._symbols = Symbols(self._elf, str(said["elf"]))

    def target(self) -> Target:
        memories = tuple(self._memory(entry) for entry in self._list("memory", self._said.get("memory")))
        load = [
            *self._symbols.segments,
            *map(self._image, self._list("image", self._said.get("image", []))),
        ]
        self._check(memories, load)
        start, stack = self._entry(load)
        return Target(
            name=str(self._said["elf"]),
            elf=self._elf,
            start=start,
            stack=stack,
            success=self._addresses("success"),
            failure=self._addresses("failure"),
            memories=memories,
            load=tuple(load),
            library=tuple(str(name) for name in self._list("library", self._said.get("library", []))),
            budget=self._number("budget", self._said.get("budget", DEFAULT_BUDGET)),
        )

    def _check(self, memories: Sequence[Memory], load: Sequence[tuple[int, bytes]]) -> None:
        for address, data in load:
            if not any(memory.holds(address, len(data)) for memory in memories):
                raise _invalid(
                    self._path, "memories for all that is loaded", f"0x{address:x}, {len(data)} bytes"
                )

    def _entry(self, load: Sequence[tuple[int, bytes]]) -> tuple[int, int]:
        """Start and stack: as given, or from the vector table."""
        words = {"stack": 0, "start": 0}
        if "vectors" in self._said:
            table = self._address("vectors", self._said["vectors"])
            for offset, name in ((0, "stack"), (4, "start")):
                at = next((d[table + offset - a :] for a, d in load if a <= table + offset < a + len(d)), b"")
                words[name] = int.from_bytes(at[:4], "little")
        for name in words:
            if name in self._said:
                words[name] = self._address(name, self._said[name])
        if not words["start"] or not words["stack"]:
            raise _invalid(self._path, "vectors, or start and stack", "neither")
        return words["start"] & ~1, words["stack"]

    def _addresses(self, name: str) -> tuple[int, ...]:
        found = tuple(self._address(name, entry) & ~1 for entry in self._list(name, self._said.get(name)))
        if not found:
            raise _invalid(self._path, f"addresses or symbols in {name}", "none")
        return found

    def _address(self, name: str, value: Any) -> int:
        if isinstance(value, str):
            if value not in self._symbols.symbols:
                raise _invalid(self._path, f"{name}: a symbol of the ELF", value)
            return self._symbols.symbols[value]
        return self._number(name, value)

    def _number(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= NEVER:
            raise _invalid(self._path, f"{name}: a number of 32 bits", repr(value))
        return value

    def _list(self, name: str, value: Any) -> list[Any]:
        if value is None:
            raise _invalid(self._path, name, "nothing")
        return value if isinstance(value, list) else [value]

    def _table(self, name: str, value: Any, keys: Sequence[str]) -> dict[str, Any]:
        if not isinstance(value, dict) or sorted(value) != sorted(keys):
            raise _invalid(self._path, f"{name}: {', '.join(keys)}", repr(value))
        return value

    def _memory(self, value: Any) -> Memory:
        entry = self._table("memory", value, ("address", "size", "access"))
        memory = Memory(
            self._number("address", entry["address"]),
            self._number("size", entry["size"]),
            str(entry["access"]),
        )
        if memory.access not in ACCESS or memory.address % PAGE or memory.size % PAGE or memory.size > MOST:
            raise _invalid(self._path, f"{', '.join(ACCESS)}; whole pages of {PAGE} bytes", repr(value))
        return memory

    def _image(self, value: Any) -> tuple[int, bytes]:
        entry = self._table("image", value, ("file", "address"))
        return self._number("address", entry["address"]), self._file("image", entry["file"])

    def _file(self, name: str, value: Any) -> bytes:
        if not isinstance(value, str):
            raise _invalid(self._path, f"{name}: a file's name", repr(value))
        return read_file(self._path.parent / value)


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

    def trace(self) -> tuple[int, ...]:
        """Nothing: a user's library is not looked into."""
        return ()

    def call_without(self, address: int) -> Outcome | None:
        raise AssertionError(address)

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
