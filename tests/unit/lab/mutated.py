"""The firmware with a line of its source changed: a campaign that finds nothing there finds nothing."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cellward.lab.routines import Elf

ROOT = Path(__file__).parents[3]
FIRMWARE = ROOT / "firmware"
BUILT = FIRMWARE / "build" / "arm"
EXAMPLES = ROOT / "src" / "cellward" / "lab" / "examples"
COMPILE = (
    "arm-none-eabi-gcc -std=c11 -Os -mcpu=cortex-m33 -mthumb -mfloat-abi=soft -ffreestanding -fno-common "
    "-ffunction-sections -fdata-sections -w -nostdlib -Wl,-n -Wl,--gc-sections -Wl,--no-warn-rwx-segments "
    "-I. -Iinclude -isystem ../.cache/bearssl/inc -Llink -Linclude/generated"
)

Edits = Sequence[tuple[str, str]]


def _linked(folder: Path, source: str, edits: Edits, objects: Sequence[Path], link: str) -> Path:
    text = (FIRMWARE / source).read_text()
    for old, new in edits:
        assert text.count(old) == 1, f"{source} has changed: {old}"
        text = text.replace(old, new)
    changed, made = folder / Path(source).name, folder / "changed.elf"
    changed.write_text(text)
    command = [*COMPILE.split(), f"-I{Path(source).parent}", *link.split(), str(changed), *map(str, objects)]
    subprocess.run([*command, "-lgcc", "-o", str(made)], cwd=FIRMWARE, check=True, capture_output=True)
    return made


def _objects(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((BUILT / folder).rglob("*.o"))]


def rom(folder: Path, source: str, edits: Edits) -> Path:
    """A whole ROM."""
    objects = _objects("rom", "boot", "verify", "update", "bearssl")
    objects = [path for path in objects if path != (BUILT / source).with_suffix(".o")]
    return _linked(folder, source, edits, objects, "-Tlink/rom.ld")


def routine(folder: Path, source: str, edits: Edits, function: str) -> Elf:
    """One function, with what it calls, at the examples' addresses."""
    needed = [BUILT / "boot" / "kdf.o", BUILT / "boot" / "mem.o", *_objects("bearssl")]
    objects = [path for path in needed if path != (BUILT / source).with_suffix(".o")]
    link = f"-Wl,-u,{function} -T{EXAMPLES / 'example.ld'}"
    return Elf.read(_linked(folder, source, edits, objects, link))
