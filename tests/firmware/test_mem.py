"""What the compiler and BearSSL call, as compiled: every size and alignment, and not a byte around it."""

import random
from functools import cache

import pytest

from cellward.vbms.registers import RAM_BASE
from tests.firmware.rig import binary

pytest.importorskip("unicorn")

from cellward.lab.routines import Elf, Routines

PLACE, GUARD, MOST = RAM_BASE + 0x1000, 16, 70
SHAPES = [(to, from_, size) for to in range(5) for from_ in range(5) for size in range(MOST)]


@cache
def rom() -> Routines:
    binary("rom.bin")
    from cellward.vbms.packaged import packaged

    return Routines(Elf(packaged("rom.elf"), "rom.elf"))


def after(name: str, memory: bytes, *arguments: int) -> bytes:
    rom().write(PLACE, memory)
    assert rom().call(name, arguments) == arguments[0]
    return rom().read(PLACE, len(memory))


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("name", ["memcpy", "memmove"])
def test_copies(name: str) -> None:
    room = GUARD + MOST + GUARD
    memory = noise(2 * room)
    for to, from_, size in SHAPES:
        at, source = GUARD + to, room + GUARD + from_
        wanted = memory[:at] + memory[source : source + size] + memory[at + size :]
        assert after(name, memory, PLACE + at, PLACE + source, size) == wanted, (to, from_, size)


def test_moves_over_itself() -> None:
    memory = noise(GUARD + MOST + GUARD)
    for gap in (1, 4, 16, 20):
        for at, source in ((32, 32 - gap), (32 - gap, 32)):
            for size in range(MOST):
                if max(at, source) + size <= len(memory):
                    wanted = memory[:at] + memory[source : source + size] + memory[at + size :]
                    assert after("memmove", memory, PLACE + at, PLACE + source, size) == wanted


@pytest.mark.parametrize("value", [0, 0xA5, 0x1FF])
def test_fills(value: int) -> None:
    memory = noise(GUARD + MOST + GUARD)
    for to in range(5):
        for size in range(MOST):
            at = GUARD + to
            wanted = memory[:at] + bytes([value & 0xFF]) * size + memory[at + size :]
            assert after("memset", memory, PLACE + at, value, size) == wanted, (to, size)
