"""The module on QEMU's mps2-an505: the same ROM, loader and app sources on a core with real exceptions,
an MPU and resets of its own. firmware/boards/an505 is the hardware there; one QEMU boots many modules.
"""

import functools
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from cellward.core import wire
from cellward.core.errors import Code
from cellward.core.slots import BANKS, BMS_M33, DATA_BANK, DATA_SIZE, ERASED
from cellward.ports.module import BootEvent
from cellward.vbms.registers import EXEC_APP_KEY, EXEC_LOADER_KEY, Milestone, ResetCause, Where
from tests.firmware.rig import FIRMWARE, built

OUT = FIRMWARE / "build" / "an505"
QEMU = (
    "qemu-system-arm",
    *("-M", "mps2-an505", "-display", "none", "-monitor", "none", "-serial", "none"),
    *("-semihosting-config", "enable=on,target=native"),
)
CHUNK = 4096  # what a module's file leaves out where it is erased


class Inject(IntEnum):
    """A fault of the stage that passes a milestone (firmware/boards/an505/module.h)."""

    NOTHING = 0
    UNDEFINED = 1
    BUS = 2
    STACK = 3
    RAM_CODE = 4
    FLASH_STORE = 5
    OTHER_BANK = 6


@dataclass(frozen=True)
class Board:
    """One module: flash as tests/firmware/rig.py has it, fuses, and what its surroundings do."""

    flash: bytes = field(repr=False)
    fuses: bytes = field(repr=False)
    tamper: int = 0
    close: bool = False
    boots: int = 8
    inject: Inject = Inject.NOTHING
    inject_at: Milestone = Milestone.ROM_ENTERED
    exec_loader: int = EXEC_LOADER_KEY
    exec_app: int = EXEC_APP_KEY

    def to_bytes(self) -> bytes:
        head = (self.exec_loader, self.exec_app, 0x1234_5678, self.tamper, int(self.close), self.boots)
        areas = list(self._areas())
        return b"".join(
            (
                *map(wire.u32, (*head, self.inject, self.inject_at)),
                self.fuses,
                wire.u32(len(areas)),
                *(b"".join((*map(wire.u32, (bank, at, len(data))), data)) for bank, at, data in areas),
            )
        )

    def _areas(self) -> Iterator[tuple[int, int, bytes]]:
        erased = bytes([ERASED]) * CHUNK
        for bank in range(DATA_BANK + 1):
            start = bank * BMS_M33.bank_size
            size = DATA_SIZE if bank == DATA_BANK else BMS_M33.bank_size
            for at in range(0, size, CHUNK):
                chunk = self.flash[start + at : start + at + CHUNK]
                if chunk != erased:
                    yield bank, at, chunk


@dataclass
class Boot:
    """From one reset to the next."""

    cause: str
    outcome: str = ""
    bank: str = ""
    contactors_closed: bool = False
    milestones: list[str] = field(default_factory=list)
    events: list[BootEvent] = field(default_factory=list)

    @property
    def told(self) -> list[tuple[str, str, Code | None]]:
        return [(event.where, event.bank, event.code) for event in self.events]


@dataclass
class Run:
    """What became of one module."""

    boots: list[Boot] = field(default_factory=list)
    trailers: list[bytes] = field(default_factory=list)
    fuses: bytes = b""


@functools.cache
def firmware() -> Path:
    built("an505")
    return OUT


def binary(name: str) -> bytes:
    return (firmware() / name).read_bytes()


def run(modules: Iterable[Board], timeout: float = 60) -> list[Run]:
    """Boot each of them from no power until it is settled, in one QEMU."""
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "modules").open("wb") as file:
            for module in modules:
                file.write(module.to_bytes())
                count += 1
        command = (*QEMU, "-kernel", str(firmware() / "rom.elf"))
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
        )
        told = Path(folder) / "told"
        lines = told.read_text().splitlines() if told.exists() else []
    assert done.returncode == 0, (done.stderr, lines[-20:])
    runs = list(_runs(lines))
    assert len(runs) == count, lines[-20:]
    return runs


def _runs(lines: Iterable[str]) -> Iterator[Run]:
    current: Run | None = None
    for line in lines:
        what, *words = line.split()
        if what == "module":
            if current is not None:
                yield current
            current = Run()
        else:
            assert current is not None
            _read(current, what, [int(word, 16) for word in words])
    if current is not None:
        yield current


def _read(run_: Run, what: str, values: list[int]) -> None:
    match what:
        case "boot":
            run_.boots.append(Boot(ResetCause(values[0]).name.lower()))
        case "trailer":
            run_.trailers.append(b"".join(map(wire.u32, values)))
        case "fuses":
            run_.fuses += b"".join(map(wire.u32, values))
        case "milestone":
            run_.boots[-1].milestones.append(Milestone(values[0]).name.lower())
        case "event":
            where, bank, status, expected, found = values
            name = Where(where).name.lower()
            run_.boots[-1].events.append(BootEvent(name, BANKS[bank], status, expected, found, 0))
        case _:
            assert re.fullmatch("running|recovery|reset|hang", what), what
            boot = run_.boots[-1]
            boot.outcome, boot.bank, boot.contactors_closed = what, BANKS[values[0]], bool(values[1])
