"""The module's own ROM and loader as what is attacked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from cellward.core.keys import Algorithm
from cellward.core.slots import Stage
from cellward.lab.faults.board import Board
from cellward.lab.faults.library import Library
from cellward.lab.faults.module import ModuleBoard
from cellward.lab.faults.scenarios import HARDWARE, SCENARIOS, SMOKE, VERSION, Kind, Place, Scenario
from cellward.lab.faults.symbols import Symbols
from cellward.vbms.packaged import packaged
from cellward.vbms.registers import ROM_BASE

ROM = "rom.elf"
LOADER = f"loader-{VERSION}.elf"


@dataclass(frozen=True)
class ModuleSubject:
    """`rom` and `loader` are ELF files with symbols; empty: the packaged ones.

    Raises FormatRefused (firmware.format).
    """

    seed: int
    rom: bytes = b""
    loader: bytes = b""

    def __post_init__(self) -> None:
        rom, loader = self.symbols  # what is none is refused here, not in every worker
        rom.check_linked(ROM_BASE)
        loader.check_linked(HARDWARE.link_address(Stage.LOADER))

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


@dataclass(frozen=True)
class InsideSubject(ModuleSubject):
    """Its crypto library: images whose signature is another image's, by keys of each algorithm."""

    SIGNATURES: ClassVar[int] = 3
    ATTACKED: ClassVar[tuple[Scenario, ...]] = (
        Scenario(Kind.FORGED, Stage.LOADER, Place.ALONE),
        Scenario(Kind.FORGED, Stage.LOADER, Place.ALONE, Algorithm.RSA_3072),
    )

    @property
    def title(self) -> str:
        return "the crypto library in the module's ROM"

    @property
    def scenarios(self) -> Sequence[str]:
        numbers = range(1, self.SIGNATURES + 1)
        return [f"{scenario.name}, signature {n}" for scenario in self.ATTACKED for n in numbers]

    def board(self, scenario: int, *, real: bool) -> Board:
        which, number = divmod(scenario, self.SIGNATURES)
        library = None if real else self._library
        return ModuleBoard(self.ATTACKED[which], *self.symbols, self.seed + number, library)
