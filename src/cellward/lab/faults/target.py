"""What the TOML file of a user's firmware says. Its fields are in docs/lab.md."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellward.core.errors import Code, FormatRefused, Unavailable
from cellward.lab.faults.symbols import Symbols

NEVER = 0xFFFF_FFFF
PAGE = 0x1000
MOST = 64 * 1024 * 1024
ACCESS = {"rx": 5, "r": 1, "rw": 3}  # Unicorn's bits
DEFAULT_BUDGET = 1_000_000


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
