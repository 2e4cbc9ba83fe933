"""Boards for firmware of a few instructions."""

import struct
from pathlib import Path

from cellward.lab.faults.elf import ElfBoard
from cellward.lab.faults.target import Memory, Target

EXAMPLES = Path(__file__).parents[4] / "src" / "cellward" / "lab" / "examples"
SUCCESS, FAILURE, RAM = 0x100, 0x200, 0x2000_0000


def halfwords(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def board(code: bytes, budget: int = 1000) -> ElfBoard:
    """`code` at 0, a success at 0x100 and a failure at 0x200, which both loop."""
    memory = bytearray(0x1000)
    memory[: len(code)] = code
    for at in (SUCCESS, FAILURE):
        memory[at : at + 2] = halfwords(0xE7FE)
    made = ElfBoard(
        Target(
            name="test",
            elf=(EXAMPLES / "naive" / "naive.elf").read_bytes(),  # for its symbol table
            start=0,
            stack=RAM + 0x1000,
            success=(SUCCESS,),
            failure=(FAILURE,),
            memories=(Memory(0, 0x1000, "rx"), Memory(RAM, 0x1000, "rw")),
            load=((0, bytes(memory)),),
            library=(),
            budget=budget,
        )
    )
    made.begin()
    return made


def branch(at: int, to: int) -> int:
    """b"""
    return 0xE000 | (to - at - 4) // 2 & 0x7FF


def decide(at: int) -> bytes:
    """Two instructions at `at`: to SUCCESS when r0 is 0, else to FAILURE."""
    # cbz r0, +2 | b FAILURE | b SUCCESS
    return halfwords(0xB100, branch(at + 2, FAILURE), branch(at + 4, SUCCESS))
