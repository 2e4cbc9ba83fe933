"""Single routines of the firmware, called as a function calls them: real code, prepared RAM, nothing else.

No peripheral is mapped: a routine that touches one faults, and the caller hears of it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import unicorn as untyped_unicorn
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from unicorn import arm_const

from cellward.core.errors import Code, FormatRefused, Unavailable
from cellward.vbms.registers import RAM_BASE, RAM_SIZE

unicorn: Any = untyped_unicorn
PAGE = 4096
WORD = 4
RETURN = 0x7FFF_0000  # where a routine returns to; nothing else is there
REGISTERS = tuple(getattr(arm_const, f"UC_ARM_REG_R{number}") for number in range(13))
ARGUMENT_REGISTERS = tuple(getattr(arm_const, f"UC_ARM_REG_R{number}") for number in range(4))
BUDGET = 400_000_000


class Elf:
    """What is loaded where, and the addresses of its functions.

    Raises FormatRefused (firmware.format) unless `data` is an ELF with a symbol table.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        try:
            elf = ELFFile(io.BytesIO(data))
            table = elf.get_section_by_name(".symtab")
            self.segments = tuple(
                (segment["p_paddr"], segment.data())
                for segment in elf.iter_segments()
                if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
            )
        except ELFError as error:
            raise FormatRefused(
                Code.FIRMWARE_FORMAT, name, expected="an ELF file", found=str(error)
            ) from error
        if not isinstance(table, SymbolTableSection):
            raise FormatRefused(
                Code.FIRMWARE_FORMAT, name, expected="an ELF with a symbol table", found="a stripped one"
            )
        self.symbols: dict[str, int] = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}
        # Where data lies when it is used: initialised variables are copied there by start code.
        self.variables = tuple(
            (segment["p_vaddr"], segment.data())
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD"
            and segment["p_filesz"]
            and segment["p_vaddr"] != segment["p_paddr"]
        )
        self.functions: tuple[tuple[int, int, str], ...] = tuple(
            sorted(
                (symbol["st_value"] & ~1, max(symbol["st_size"], 2), symbol.name)
                for symbol in table.iter_symbols()
                if symbol["st_info"]["type"] == "STT_FUNC"
            )
        )

    @classmethod
    def read(cls, path: Path) -> "Elf":
        """Raises Unavailable (storage.missing) as well."""
        try:
            return cls(path.read_bytes(), path.name)
        except OSError as error:
            raise Unavailable(Code.STORAGE_MISSING, str(path), found=error.strerror or "") from error

    def check_linked(self, base: int) -> None:
        """Raises FormatRefused (firmware.format) unless something is loaded at `base`: with another stage's
        file nothing would run, and nothing would get through either."""
        if not self.code(base, 1):
            found = ", ".join(f"0x{address:08x}" for address, _data in self.segments) or "nothing loaded"
            raise FormatRefused(
                Code.FIRMWARE_FORMAT, self.name, expected=f"an ELF linked for 0x{base:08x}", found=found
            )

    def image(self, base: int) -> bytes:
        """What is loaded from `base` on, as a programmer has it; gaps are zeros."""
        parts = [(address - base, data) for address, data in self.segments if address >= base]
        image = bytearray(max((at + len(data) for at, data in parts), default=0))
        for at, data in parts:
            image[at : at + len(data)] = data
        return bytes(image)

    def function(self, address: int) -> str:
        """The name of the function around `address`, or nothing."""
        for start, size, name in self.functions:
            if start <= address < start + size:
                return name
        return ""

    def code(self, address: int, size: int) -> bytes:
        for base, data in self.segments:
            if base <= address < base + len(data):
                return data[address - base : address - base + size]
        return b""


@dataclass(frozen=True)
class Area:
    """Memory, in whole pages of 4 KiB."""

    address: int
    size: int


MODULE_RAM = Area(RAM_BASE, RAM_SIZE)


class Routines:
    """The functions of one ELF, to be called one at a time. `windows`: memory that they only read."""

    def __init__(self, elf: Elf, ram: Area = MODULE_RAM, windows: Sequence[Area] = ()) -> None:
        self.elf = elf
        self._ram = ram
        self.uc: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        pages = {
            page
            for address, data in elf.segments
            for page in range(address - address % PAGE, address + len(data), PAGE)
        }
        for page in sorted(pages):  # two segments may share one
            self.uc.mem_map(page, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        for address, data in elf.segments:
            self.uc.mem_write(address, data)
        for window in windows:
            self.uc.mem_map(window.address, window.size, unicorn.UC_PROT_READ)
        self.uc.mem_map(ram.address, ram.size, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        self.uc.mem_map(RETURN, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self.uc.mem_write(RETURN, b"\x00\xbf" * (PAGE // 2))

    def address(self, name: str) -> int:
        """Raises Unavailable (storage.missing) for a function that this firmware does not have."""
        try:
            return self.elf.symbols[name]
        except KeyError as error:
            raise Unavailable(
                Code.STORAGE_MISSING, self.elf.name, expected=f"a function {name}", found="none"
            ) from error

    def reset(self) -> None:
        """RAM as start code leaves it, registers of zeros: each call then begins alike."""
        self.write(self._ram.address, bytes(self._ram.size))
        for address, data in self.elf.variables:
            self.write(address, data)
        for register in REGISTERS:
            self.uc.reg_write(register, 0)

    def write(self, address: int, data: bytes) -> None:
        self.uc.mem_write(address, data)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.uc.mem_read(address, size))

    def call(self, name: str, arguments: Sequence[int]) -> int:
        """What it returned. Raises Unavailable (module.fault) where it did not return."""
        stack = self._ram.address + self._ram.size - WORD * max(len(arguments) - len(ARGUMENT_REGISTERS), 0)
        stack -= stack % (2 * WORD)
        for register, value in zip(ARGUMENT_REGISTERS, arguments, strict=False):
            self.uc.reg_write(register, value)
        for index, value in enumerate(arguments[len(ARGUMENT_REGISTERS) :]):
            self.write(stack + WORD * index, value.to_bytes(WORD, "little"))
        self.uc.reg_write(arm_const.UC_ARM_REG_SP, stack)
        self.uc.reg_write(arm_const.UC_ARM_REG_LR, RETURN | 1)
        try:
            self.uc.emu_start(self.address(name) | 1, RETURN, count=BUDGET)
        except unicorn.UcError as error:
            raise self._lost(name, str(error)) from error
        if self.uc.reg_read(arm_const.UC_ARM_REG_PC) != RETURN:
            raise self._lost(name, "an endless loop")
        return int(self.uc.reg_read(arm_const.UC_ARM_REG_R0)) & 0xFFFF_FFFF

    def _lost(self, name: str, found: str) -> Unavailable:
        pc = self.uc.reg_read(arm_const.UC_ARM_REG_PC)
        return Unavailable(
            Code.MODULE_FAULT,
            f"{name} of {self.elf.name}",
            expected="a routine that returns",
            found=f"{found} at 0x{pc:08x}",
        )
