"""The fault models, and the faults that each has for one instruction."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cellward.lab.faults.thumb import FLAGS, Instruction


class Model(StrEnum):
    SKIP_1 = "skip 1"
    SKIP_2 = "skip 2"
    OPCODE = "opcode bit flip"
    REGISTER = "register"
    READ = "flash-read flip"
    INSIDE = "skip in the library"
    PAIR = "two faults"


SKIPS = (Model.SKIP_1, Model.SKIP_2)
WORD_BITS = 32
FLAG_BITS = (31, 30, 29, 28)  # N, Z, C, V
STUCK_0, STUCK_1 = 32, 33  # in place of a bit's number


@dataclass(frozen=True)
class Fault:
    """`bit` of the opcode, of the register `register` (or STUCK_*), or of the bytes that were read.

    `place`: which instruction of the block that an IT begins, 0 for any instruction by itself.
    `address`: of the instruction (or its IT) in the library that is skipped when it is first executed.
    """

    model: Model
    bit: int = 0
    register: str = ""
    place: int = 0
    address: int = 0

    def __str__(self) -> str:
        kind = {STUCK_0: "stuck at 0", STUCK_1: "stuck at 1"}.get(self.bit, f"bit {self.bit}")
        names = {Model.OPCODE: f"opcode {kind}", Model.READ: f"read {kind}"}
        names[Model.REGISTER] = f"{self.register} {kind}"
        names[Model.INSIDE] = f"skip at 0x{self.address:08x}"
        said = names.get(self.model, str(self.model))
        return f"{said} (+{self.place} of the IT block)" if self.place else said


@dataclass(frozen=True)
class Pair:
    """A second fault after `gap` steps: of those possible there, the one at `share` of their list."""

    first: Fault
    gap: int
    share: float

    @property
    def model(self) -> Model:
        return Model.PAIR

    def __str__(self) -> str:
        return f"{self.first}, then fault {self.share:.6f} after {self.gap} steps"


Attack = Fault | Pair


def skips(place: int = 0) -> Iterator[Fault]:
    for model in SKIPS:
        yield Fault(model, place=place)


def others(instruction: Instruction, readable: bool, place: int = 0) -> Iterator[Fault]:
    """All but the skips. `readable`: what the instruction loads comes from flash, ROM or fuses."""
    for bit in range(8 * instruction.size):
        yield Fault(Model.OPCODE, bit, place=place)
    for register in instruction.reads:
        bits = FLAG_BITS if register == FLAGS else range(WORD_BITS)
        for bit in (*bits, STUCK_0, STUCK_1):
            yield Fault(Model.REGISTER, bit, register, place)
    if readable and instruction.load is not None:
        for bit in range(8 * instruction.load.size):
            yield Fault(Model.READ, bit, place=place)


def hit(value: int, bit: int, mask: int = 0xFFFF_FFFF) -> int:
    """`value` with the fault in it; stuck bits are those of `mask`."""
    if bit == STUCK_0:
        return value & ~mask
    return value | mask if bit == STUCK_1 else value ^ 1 << bit
