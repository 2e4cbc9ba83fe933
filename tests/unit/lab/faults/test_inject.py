"""Each model on instructions whose faults can be counted by hand: what is expected to get through does,
and nothing else."""

import pytest

from cellward.lab.faults.elf import ElfBoard
from cellward.lab.faults.inject import faults_here, run
from cellward.lab.faults.models import STUCK_0, Fault, Model
from cellward.lab.faults.outcome import Outcome
from tests.unit.lab.faults.benches import board, decide, halfwords

MOVS_R0_1 = 0x2001


def through(bench: ElfBoard, model: Model, steps: int = 0) -> list[Fault]:
    """The model's faults, after so many steps, that end in a bypass."""
    for _ in range(steps):
        assert bench.step() is None
    restore = bench.save()
    found = []
    for fault in [fault for fault in faults_here(bench, full=True) if fault.model is model]:
        if run(bench, fault) is Outcome.BYPASS:
            found.append(fault)
        restore()
    assert bench.finish() is Outcome.REFUSED, "no fault outlives its run"
    return found


def test_a_run_without_a_fault_is_refused() -> None:
    assert board(halfwords(MOVS_R0_1) + decide(2)).finish() is Outcome.REFUSED


def test_skip_1() -> None:
    assert through(board(halfwords(MOVS_R0_1) + decide(2)), Model.SKIP_1) == [Fault(Model.SKIP_1)]


def test_skip_1_is_not_enough_where_skip_2_is() -> None:
    code = halfwords(MOVS_R0_1, MOVS_R0_1) + decide(4)
    assert through(board(code), Model.SKIP_1) == []
    assert through(board(code), Model.SKIP_2) == [Fault(Model.SKIP_2)]


def test_skips_know_the_width_of_instructions() -> None:
    code = halfwords(0xF04F, 0x0001, MOVS_R0_1) + decide(6)  # mov.w r0, #1
    assert through(board(code), Model.SKIP_2) == [Fault(Model.SKIP_2)]


def test_a_skipped_branch_falls_through() -> None:
    # movs r0, #1 | cmp r0, #0 | bne +4 (over the jump to success)
    code = halfwords(MOVS_R0_1, 0x2800, 0xD100, 0xE07B) + decide(8)
    assert through(board(code), Model.SKIP_1, steps=2) == [Fault(Model.SKIP_1)]


def test_opcode_flip() -> None:
    found = through(board(halfwords(MOVS_R0_1) + decide(2)), Model.OPCODE)
    # #0 instead of #1; into r1 to r7's neighbours, so that r0 keeps its 0; cmp instead of mov…
    assert Fault(Model.OPCODE, 0) in found
    assert {Fault(Model.OPCODE, bit) for bit in (8, 9, 10)} <= set(found)
    assert Fault(Model.OPCODE, 1) not in found  # #3


def test_opcode_flip_lasts_for_one_execution() -> None:
    # Twice round: subs r1, #1 | movs r0, #1 | bne back: the second round puts it right again.
    code = halfwords(0x2102, MOVS_R0_1, 0x3901, 0xD1FC) + decide(8)
    assert Fault(Model.OPCODE, 0) not in through(board(code), Model.OPCODE, steps=1)
    assert Fault(Model.OPCODE, 0) in through(board(code), Model.OPCODE, steps=4)


def test_register_flip_and_stuck_at() -> None:
    found = through(board(halfwords(MOVS_R0_1) + decide(2)), Model.REGISTER, steps=1)
    assert found == [Fault(Model.REGISTER, 0, "r0"), Fault(Model.REGISTER, STUCK_0, "r0")]


def test_a_register_fault_stays() -> None:
    # movs r0, #1 | mov r1, r0 | …: what is hit at the copy is what is decided on.
    found = through(board(halfwords(MOVS_R0_1, 0x4601) + decide(4)), Model.REGISTER, steps=1)
    assert Fault(Model.REGISTER, 0, "r0") in found


def test_flags_are_a_register() -> None:
    # movs r0, #1 (Z clear) | beq SUCCESS | b FAILURE
    found = through(board(halfwords(MOVS_R0_1, 0xD07D, 0xE0FC)), Model.REGISTER, steps=1)
    assert Fault(Model.REGISTER, 30, "flags") in found
    assert all(fault.register == "flags" for fault in found)


def test_flash_read_flip() -> None:
    # ldr r0, [pc, #4] (at 8) | decide | the literal 0x00000100 at 8
    code = halfwords(0x4801) + decide(2) + halfwords(0x0100, 0x0000)
    assert through(board(code), Model.READ) == [Fault(Model.READ, 8)]


def test_reads_of_ram_are_not_flash_reads() -> None:
    code = halfwords(0x9800) + decide(2)  # ldr r0, [sp]
    bench = board(code)
    bench.core.write(_sp(), 0x2000_0800)
    assert not [fault for fault in faults_here(bench, full=True) if fault.model is Model.READ]


def _sp() -> int:
    from unicorn import arm_const

    return int(arm_const.UC_ARM_REG_SP)


@pytest.mark.parametrize(("flag", "place"), [(0, 1), (1, 2)])
def test_instructions_in_an_it_block(flag: int, place: int) -> None:
    # movs r0, #0 | movs r1, #flag | cmp r1, #0 | ite eq | moveq r0, #1 | movne r0, #3 | decide
    code = halfwords(0x2000, 0x2100 | flag, 0x2900, 0xBF0C, 0x2001, 0x2003) + decide(12)
    found = through(board(code), Model.SKIP_1, steps=3)
    # Only the one that is executed; and the IT itself: then both are, the last wins.
    assert found == [Fault(Model.SKIP_1, place=place)]
    assert Fault(Model.OPCODE, flag, place=place) not in through(board(code), Model.SKIP_2, steps=3)


def test_skip_2_over_the_end_of_an_it_block() -> None:
    # movs r0, #0 | cmp r0, #0 | it eq | moveq r0, #1 | movs r0, #1 | decide
    code = halfwords(0x2000, 0x2800, 0xBF08, 0x2001, MOVS_R0_1) + decide(10)
    assert through(board(code), Model.SKIP_2, steps=2) == [Fault(Model.SKIP_2, place=1)]


def test_a_jump_to_arm_code_is_a_crash() -> None:
    # movw r1, #0x100 (even) | bx r1
    assert board(halfwords(0xF240, 0x1100, 0x4708)).finish() is Outcome.CRASH


def test_a_hang_is_judged_by_the_budget() -> None:
    assert board(halfwords(0xE7FE)).finish() is Outcome.HANG
