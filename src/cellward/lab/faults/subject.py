"""The module's own ROM and loader as what is attacked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cellward.lab.faults.board import Board
from cellward.lab.faults.library import Library
from cellward.lab.faults.module import ModuleBoard
from cellward.lab.faults.scenarios import SCENARIOS, SMOKE, VERSION
from cellward.lab.faults.symbols import Symbols
from cellward.vbms.packaged import packaged

ROM = "rom.elf"
LOADER = f"loader-{VERSION}.elf"


@dataclass(frozen=True)
class ModuleSubject:
    """`rom` and `loader` are ELF files with symbols; empty: the packaged ones."""

    seed: int
    rom: bytes = b""
    loader: bytes = b""

    @property
    def title(self) -> str:
        return "the module's ROM and loader"

    @property
    def scenarios(self) -> Sequence[str]:
        return [scenario.name for scenario in SCENARIOS]

    @property
    def smoke(self) -> Sequence[str]:
        return [scenario.name for scenario in SMOKE]

    @cached_property
    def symbols(self) -> tuple[Symbols, Symbols]:
        return Symbols(self.rom or packaged(ROM), ROM), Symbols(self.loader or packaged(LOADER), LOADER)

    @cached_property
    def _library(self) -> Library:
        return Library(self.symbols)

    @property
    def fingerprint(self) -> str:
        parts = (
            self.rom or packaged(ROM),
            self.loader or packaged(LOADER),
            packaged(f"app-{VERSION}.bin"),
            repr(SCENARIOS).encode(),
        )
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def board(self, scenario: int, *, real: bool) -> Board:
        return ModuleBoard(SCENARIOS[scenario], *self.symbols, self.seed, None if real else self._library)

    def __getstate__(self) -> dict[str, object]:
        return {"seed": self.seed, "rom": self.rom, "loader": self.loader}
