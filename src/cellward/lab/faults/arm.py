"""The registers of a Cortex-M in Unicorn."""

from typing import Any

from unicorn import arm_const

from cellward.lab.faults.thumb import REGISTERS

CPSR = arm_const.UC_ARM_REG_CPSR
THUMB_BIT = 1 << 5
FLAG_MASK = 0xF000_0000


def read(uc: Any, register: int) -> int:
    value: int = uc.reg_read(register)
    return value & 0xFFFF_FFFF


def named(uc: Any) -> dict[str, int]:
    return {name: read(uc, register) for name, register in REGISTERS.items()}


def flags(uc: Any) -> int:
    return read(uc, CPSR) & FLAG_MASK


def set_flags(uc: Any, value: int) -> None:
    uc.reg_write(CPSR, read(uc, CPSR) & ~FLAG_MASK | value & FLAG_MASK)


def thumb(uc: Any) -> bool:
    """A Cortex-M without its Thumb bit faults at the next instruction."""
    return bool(read(uc, CPSR) & THUMB_BIT)
