"""Names and source lines of addresses, from an ELF file."""

import io
from bisect import bisect_right
from functools import cached_property
from typing import Any

from elftools.elf.elffile import ELFFile

from cellward.lab.routines import Elf

LIBRARY_PREFIX = "br_"


class Symbols(Elf):
    """Raises FormatRefused (firmware.format) unless `data` is an ELF with a symbol table."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data, name)
        self._data = data
        self._starts = [start for start, _size, _name in self.functions]

    @cached_property
    def library(self) -> range:
        """Where the crypto library lies: the linker puts its functions side by side, and the first
        and last have its prefix."""
        ours = [f for f in self.functions if f[2].startswith(LIBRARY_PREFIX)]
        if not ours:
            return range(0)
        return range(min(start for start, _, _ in ours), max(start + size for start, size, _ in ours))

    def function(self, address: int) -> str:
        """The name of the function around `address`, or nothing."""
        start, size, name = self.functions[max(bisect_right(self._starts, address) - 1, 0)]
        return name if start <= address < start + size else ""

    @cached_property
    def _lines(self) -> list[tuple[int, str]]:
        """Address and `file:line` from there on, sorted."""
        elf = ELFFile(io.BytesIO(self._data))
        if not elf.has_dwarf_info():
            return []
        rows: list[tuple[int, str]] = []
        dwarf: Any = elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            files, first = program["file_entry"], program["version"] < 5
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                file = files[state.file - first]
                text = "" if state.end_sequence else f"{file.name.decode()}:{state.line}"
                rows.append((state.address, text))
        return sorted(rows)  # of one address, a line before the end of a sequence

    def line(self, address: int) -> str:
        """`file.c:12`, or nothing where the ELF does not say."""
        index = bisect_right(self._lines, (address, "\uffff")) - 1
        return self._lines[index][1] if index >= 0 else ""

    def where(self, address: int) -> str:
        name, line = self.function(address) or "?", self.line(address)
        return f"{name} ({line})" if line else name
