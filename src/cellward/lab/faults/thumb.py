"""What one Thumb instruction reads: registers, flags, memory. Capstone decodes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import capstone as untyped_capstone
from capstone import arm as untyped_arm
from unicorn import arm_const

capstone: Any = untyped_capstone
arm: Any = untyped_arm

HALFWORD = 2
WORD = 4
NOP = bytes.fromhex("00bf")
WIDE_NOP = bytes.fromhex("aff30080")
ALWAYS = 0b1110  # the condition AL
# A first halfword with one of these top five bits starts a 32-bit instruction (ARMv8-M, C2.1).
WIDE_PREFIXES = (0b11101, 0b11110, 0b11111)
CARRY_READERS = ("adc", "sbc", "rsc", "rrx")
NAMES = (*(f"r{number}" for number in range(13)), "sp", "lr")
# Unicorn's number of each register that a fault can hit. The program counter is not among them: an
# instruction's own address is hit by flips of its opcode.
REGISTERS: dict[str, int] = {name: getattr(arm_const, f"UC_ARM_REG_{name.upper()}") for name in NAMES}
FLAGS = "flags"
_ALIASES = {"sb": "r9", "sl": "r10", "fp": "r11", "ip": "r12", "r13": "sp", "r14": "lr"}
_LOAD_SIZES = {"ldrd": 8, "ldrb": 1, "ldrsb": 1, "ldrh": 2, "ldrsh": 2, "ldr": 4}


@dataclass(frozen=True)
class Load:
    """Reads `size` bytes at base + index × 2^shift + offset; a base of "pc" is the literal pool's."""

    base: str
    index: str | None
    shift: int
    offset: int
    size: int

    def address(self, at: int, registers: Mapping[str, int]) -> int:
        """Of the first byte, for the instruction at `at`."""
        base = (at + WORD) & ~3 if self.base == "pc" else registers[self.base]
        index = registers[self.index] << self.shift if self.index else 0
        return (base + index + self.offset) & 0xFFFF_FFFF


@dataclass(frozen=True)
class Instruction:
    """`reads`: names of REGISTERS, and FLAGS. `conditions`: of the instructions in the block that an
    IT begins, each by Arm's number."""

    size: int
    text: str
    reads: tuple[str, ...]
    load: Load | None
    conditions: tuple[int, ...] = ()


def size_at(code: bytes) -> int:
    return 2 * HALFWORD if code[1] >> 3 in WIDE_PREFIXES else HALFWORD


def nops(size: int) -> bytes:
    return NOP if size == HALFWORD else WIDE_NOP


def holds(condition: int, flags: int) -> bool:
    """Whether `condition` (ARMv8-M, C1.3) passes with the N, Z, C, V of `flags` (bits 31 to 28)."""
    n, z, c, v = (bool(flags >> bit & 1) for bit in (31, 30, 29, 28))
    passed = (z, c, n, v, c and not z, n == v, n == v and not z, True)[condition >> 1]
    return passed != bool(condition & 1 and condition != 0b1111)


@lru_cache(maxsize=1)
def _decoder() -> Any:
    decoder = capstone.Cs(
        capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
    )
    decoder.detail = True
    return decoder


@lru_cache(maxsize=65536)
def decode(code: bytes, address: int) -> Instruction:
    """The instruction `code` begins with. One that Capstone does not know reads nothing."""
    size = size_at(code)
    found = next(_decoder().disasm(code[:size], address), None)
    if found is None:
        return Instruction(size, "?", (), None)
    return Instruction(
        size,
        f"{found.mnemonic} {found.op_str}".strip(),
        _reads(found),
        _load(found),
        _conditions(code) if size == HALFWORD else (),
    )


def _name(found: Any, register: int) -> str:
    name = str(found.reg_name(register))
    return _ALIASES.get(name, name)


def _reads(found: Any) -> tuple[str, ...]:
    read, _ = found.regs_access()
    names = {_name(found, register) for register in read}
    registers = [name for name in NAMES if name in names]
    conditional = found.cc not in (arm.ARM_CC_AL, arm.ARM_CC_INVALID)
    carry = found.mnemonic.split(".")[0].rstrip("s") in CARRY_READERS
    if conditional or carry or found.mnemonic.startswith("it"):
        registers.append(FLAGS)
    return tuple(registers)


def _load(found: Any) -> Load | None:
    mnemonic = found.mnemonic.split(".")[0]
    if mnemonic.startswith("pop"):
        return Load("sp", None, 0, 0, WORD * len(found.operands))
    if mnemonic.startswith("ldm"):
        count = len(found.operands) - 1
        below = -WORD * count if "db" in mnemonic else 0
        return Load(_name(found, found.operands[0].reg), None, 0, below, WORD * count)
    size = next((size for name, size in _LOAD_SIZES.items() if mnemonic.startswith(name)), None)
    memory = next((operand for operand in found.operands if operand.type == arm.ARM_OP_MEM), None)
    if size is None or memory is None or not mnemonic.startswith("ldr"):
        return None
    return Load(
        base=_name(found, memory.mem.base),
        index=_name(found, memory.mem.index) if memory.mem.index else None,
        shift=memory.shift.value if memory.shift.type else 0,
        offset=0 if "]," in found.op_str else memory.mem.disp,  # post-indexed: afterwards
        size=size,
    )


def _conditions(code: bytes) -> tuple[int, ...]:
    """Of an IT instruction (ARMv8-M, C2.4.96), the condition of each instruction in its block."""
    if code[1] != 0xBF or not code[0] & 0xF:
        return ()
    first, mask = code[0] >> 4, code[0] & 0xF
    length = 4 - (mask & -mask).bit_length() + 1
    rest = (first & ~1 | mask >> 3 - place & 1 for place in range(length - 1))
    return (first, *rest)
