"""A dozen Thumb-2 instructions (ARMv8-M, C2.4), to write firmware of a few lines in a test."""

import struct

from cellward.vbms.registers import RAM_BASE, RAM_SIZE, ROM_BASE, SYS_BASE, Sys

R0, R1, R2, R3 = range(4)
VECTORS = struct.Struct("<II")
SPIN = struct.pack("<H", 0xE7FE)  # b .
NOP = struct.pack("<H", 0xBF00)
UNDEFINED = struct.pack("<H", 0xDE00)  # udf #0


def mov(register: int, value: int) -> bytes:
    """movw, movt: two instructions, 8 bytes."""
    return _mov16(0xF240, register, value & 0xFFFF) + _mov16(0xF2C0, register, value >> 16 & 0xFFFF)


def _mov16(opcode: int, register: int, value: int) -> bytes:
    high = opcode | (value >> 11 & 1) << 10 | value >> 12
    low = (value >> 8 & 7) << 12 | register << 8 | value & 0xFF
    return struct.pack("<HH", high, low)


def store(register: int, base: int) -> bytes:
    return struct.pack("<H", 0x6000 | base << 3 | register)


def load(register: int, base: int) -> bytes:
    return struct.pack("<H", 0x6800 | base << 3 | register)


def load_byte(register: int, base: int) -> bytes:
    return struct.pack("<H", 0x7800 | base << 3 | register)


def jump(register: int) -> bytes:
    return struct.pack("<H", 0x4700 | register << 3)


def back(size: int) -> bytes:
    """b to `size` bytes before this instruction."""
    return struct.pack("<H", 0xE000 | (-(size + 4) // 2) & 0x7FF)


def unless_zero(register: int, body: bytes) -> bytes:
    """cbz: passes over `body` (at most 128 bytes) when `register` holds 0."""
    ahead = (len(body) - 2) // 2
    assert 0 <= ahead < 64
    return struct.pack("<H", 0xB100 | (ahead >> 5) << 9 | (ahead & 31) << 3 | register) + body


def poke(address: int, value: int) -> bytes:
    """Five instructions."""
    return mov(R0, address) + mov(R1, value) + store(R1, R0)


def copy(source: int, target: int) -> bytes:
    """Read one word and write it elsewhere: six instructions."""
    return mov(R0, source) + load(R1, R0) + mov(R2, target) + store(R1, R2)


def loop(body: bytes) -> bytes:
    return body + back(len(body))


def idle() -> bytes:
    return loop(poke(SYS_BASE + Sys.IDLE, 0))


def milestone(number: int) -> bytes:
    return poke(SYS_BASE + Sys.MILESTONE, number)


def tell(address: int, where: int = 1) -> bytes:
    """Report the word at `address` as an event's `found`."""
    return poke(SYS_BASE + Sys.EVENT_WHAT, where << 8) + copy(address, SYS_BASE + Sys.EVENT_FOUND)


def rom(*code: bytes) -> bytes:
    return VECTORS.pack(RAM_BASE + RAM_SIZE, ROM_BASE + VECTORS.size + 1) + b"".join(code)
