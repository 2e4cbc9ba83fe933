"""A user's own routines: an ELF, the RAM it uses, and how each routine is called with its secret.

The TOML file's fields are in docs/lab.md.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellward.core.errors import Code, FormatRefused, Unavailable
from cellward.lab.leakage.subject import Call, Draw, Firmware, Layout, Run, Subject, random_bytes
from cellward.lab.routines import PAGE, Area, Elf

KNOWN = frozenset(("elf", "ram", "routine"))
KNOWN_OF_ROUTINE = frozenset(("function", "name", "arguments"))
WORD_MOST = 0xFFFF_FFFF
SIZE_MOST = 0x1_0000


def read_target(path: Path) -> Firmware:
    """Raises Unavailable (storage.missing); FormatRefused (config, firmware.format)."""
    try:
        said = tomllib.loads(_read(path).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(path, "a TOML file", str(error)) from error
    _check_known(path, said, KNOWN)
    if not isinstance(said.get("elf"), str):
        raise _invalid(path, "elf: the name of a file", repr(said.get("elf")))
    elf = Elf.read(path.parent / said["elf"])
    ram = _area(path, said.get("ram"))
    routines = said.get("routine")
    if not isinstance(routines, list) or not routines:
        raise _invalid(path, "at least one [[routine]]", "none")
    return Firmware(elf, tuple(_Reader(path, elf, ram, entry).subject() for entry in routines), ram)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(Code.STORAGE_MISSING, str(path), found=error.strerror or "") from error


def _invalid(path: Path, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.CONFIG, str(path), expected=expected, found=found)


def _check_known(path: Path, said: dict[str, Any], known: frozenset[str]) -> None:
    for name in sorted(set(said) - known):
        raise _invalid(path, ", ".join(sorted(known)), name)


def _area(path: Path, said: object) -> Area:
    if not isinstance(said, dict) or set(said) != {"address", "size"}:
        raise _invalid(path, "ram: { address = …, size = … }", repr(said))
    address, size = said["address"], said["size"]
    whole = all(isinstance(n, int) and n >= 0 and n % PAGE == 0 for n in (address, size))
    if not whole or size == 0 or address + size > WORD_MOST + 1:
        raise _invalid(path, f"ram in whole pages of {PAGE} bytes below 4 GiB", repr(said))
    return Area(address, size)


class _Reader:
    """One [[routine]]. Its buffers lie in the middle of the RAM: variables below, the stack above."""

    def __init__(self, path: Path, elf: Elf, ram: Area, said: object) -> None:
        self._path = path
        if not isinstance(said, dict):
            raise _invalid(path, "[[routine]]", repr(said))
        _check_known(path, said, KNOWN_OF_ROUTINE)
        self._said = said
        self._function = said.get("function")
        if not isinstance(self._function, str) or self._function not in elf.symbols:
            raise _invalid(path, f"a function of {elf.name}", repr(self._function))
        self._places = Layout(ram.address + ram.size // 2)
        self._words: list[int] = []
        self._fixed: dict[int, bytes] = {}
        self._secrets: list[tuple[int, int, Draw]] = []

    def subject(self) -> Subject:
        arguments = self._said.get("arguments")
        if not isinstance(arguments, list):
            raise self._wrong(arguments)
        for argument in arguments:
            self._words.append(self._argument(argument))
        if not self._secrets:
            raise _invalid(self._path, "an argument with a secret", "none")
        name = str(self._said.get("name", self._function))
        return Subject(name, "as the target says", _together(self._secrets), self._run)

    def _run(self, secret: bytes) -> Run:
        memory, at = dict(self._fixed), 0
        for place, size, _ in self._secrets:
            memory[place] = secret[at : at + size]
            at += size
        return Run(memory, [Call(str(self._function), tuple(self._words))])

    def _argument(self, said: object) -> int:
        match said:
            case {"secret": int(size), **rest} if 0 < size <= SIZE_MOST and set(rest) <= {"fixed"}:
                fixed = self._hex(rest["fixed"]) if rest else b""
                if fixed and len(fixed) != size:
                    raise _invalid(self._path, f"fixed: {size} bytes", f"{len(fixed)}")
                place = self._places.take(size)
                self._secrets.append((place, size, random_bytes(size, fixed)))
                return place
            case {"public": value, **rest} if not rest:
                data = self._hex(value)
                place = self._places.take(len(data))
                self._fixed[place] = data
                return place
            case {"out": int(size), **rest} if 0 < size <= SIZE_MOST and not rest:
                return self._places.take(size)
            case {"number": int(number), **rest} if 0 <= number <= WORD_MOST and not rest:
                return number
            case _:
                raise self._wrong(said)

    def _hex(self, said: object) -> bytes:
        try:
            data = bytes.fromhex(str(said))
        except ValueError as error:
            raise _invalid(self._path, "bytes in hexadecimal", repr(said)) from error
        if not 0 < len(data) <= SIZE_MOST:
            raise _invalid(self._path, "bytes in hexadecimal", repr(said))
        return data

    def _wrong(self, said: object) -> FormatRefused:
        expected = "arguments of { secret = SIZE }, { public = HEX }, { out = SIZE } and { number = N }"
        return _invalid(self._path, expected, repr(said))


def _together(secrets: Sequence[tuple[int, int, Draw]]) -> Draw:
    draws = [draw for _, _, draw in secrets]
    return lambda random, is_fixed: b"".join(draw(random, is_fixed) for draw in draws)
