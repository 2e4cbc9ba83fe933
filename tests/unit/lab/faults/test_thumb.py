import pytest

from cellward.lab.faults.thumb import FLAGS, Instruction, Load, decode, holds, nops, size_at
from tests.unit.lab.faults.benches import halfwords

N, Z, C, V = (1 << bit for bit in (31, 30, 29, 28))


def of(*code: int) -> Instruction:
    return decode(halfwords(*code), 0x100)


def test_widths() -> None:
    assert size_at(halfwords(0x2001)) == 2
    assert size_at(halfwords(0xF04F, 0x0001)) == 4
    assert (len(nops(2)), len(nops(4))) == (2, 4)


@pytest.mark.parametrize(
    ("code", "reads"),
    [
        ((0x2001,), ()),  # movs r0, #1
        ((0x1888,), ("r1", "r2")),  # adds r0, r1, r2
        ((0xB510,), ("r4", "sp", "lr")),  # push {r4, lr}
        ((0x4770,), ("lr",)),  # bx lr
        ((0xD0FE,), (FLAGS,)),  # beq
        ((0x4148,), ("r0", "r1", FLAGS)),  # adcs r0, r1
        ((0xBF08,), (FLAGS,)),  # it eq
    ],
)
def test_what_is_read(code: tuple[int, ...], reads: tuple[str, ...]) -> None:
    assert of(*code).reads == reads


@pytest.mark.parametrize(
    ("code", "load"),
    [
        ((0x6848,), Load("r1", None, 0, 4, 4)),  # ldr r0, [r1, #4]
        ((0x7808,), Load("r1", None, 0, 0, 1)),  # ldrb r0, [r1]
        ((0x4801,), Load("pc", None, 0, 4, 4)),  # ldr r0, [pc, #4]
        ((0xF850, 0x2022), Load("r0", "r2", 2, 0, 4)),  # ldr.w r2, [r0, r2, lsl #2]
        ((0xF811, 0x4B01), Load("r1", None, 0, 0, 1)),  # ldrb r4, [r1], #1
        ((0xF813, 0x4D01), Load("r3", None, 0, -1, 1)),  # ldrb r4, [r3, #-1]!
        ((0xE9D1, 0x0102), Load("r1", None, 0, 8, 8)),  # ldrd r0, r1, [r1, #8]
        ((0xBD10,), Load("sp", None, 0, 0, 8)),  # pop {r4, pc}
        ((0xC903,), Load("r1", None, 0, 0, 8)),  # ldm r1!, {r0, r1}
        ((0x6048,), None),  # str r0, [r1, #4]
    ],
)
def test_what_is_loaded(code: tuple[int, ...], load: Load | None) -> None:
    assert of(*code).load == load


def test_literals_are_relative_to_the_word_after_next() -> None:
    assert Load("pc", None, 0, 4, 4).address(0x102, {}) == 0x108
    assert Load("r1", "r2", 2, -4, 4).address(0, {"r1": 0x1000, "r2": 3}) == 0x1008


@pytest.mark.parametrize(
    ("code", "conditions"),
    [(0xBF08, (0,)), (0xBF0C, (0, 1)), (0xBF04, (0, 0)), (0xBFC1, (12, 12, 12, 12)), (0xBF00, ())],
)
def test_it_blocks(code: int, conditions: tuple[int, ...]) -> None:
    """it eq, ite eq, itt eq, itttt gt (its mask ends in the last place), nop"""
    assert of(code).conditions == conditions


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        (0, Z, 0), (1, 0, Z), (2, C, 0), (3, 0, C), (4, N, 0), (5, 0, N), (6, V, 0), (7, 0, V),
        (8, C, C | Z), (9, Z, C), (10, N | V, N), (11, N, N | V), (12, 0, Z), (13, Z, 0),
    ],
)  # fmt: skip
def test_conditions(condition: int, yes: int, no: int) -> None:
    assert holds(condition, yes)
    assert not holds(condition, no)
    assert holds(14, yes)
    assert holds(14, no)
