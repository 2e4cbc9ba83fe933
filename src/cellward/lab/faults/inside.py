"""Skips inside the crypto library: which there are in a call, and one of them done."""

from cellward.lab.faults.board import Board, Inside
from cellward.lab.faults.inject import block
from cellward.lab.faults.probe import Probe
from cellward.lab.faults.thumb import ALWAYS, Instruction, decode, holds, nops
from cellward.vbms.cpu import Halt


def traced(board: Board, core: Probe, limit: int) -> list[Inside]:
    """Every instruction that the call executes which the core stands before, by address. One in an IT
    block whose condition never held is none: to leave it out changes nothing."""
    restore = board.save()
    alone: dict[int, Instruction] = {}
    for start, size in core.trace_call(limit):
        at = start
        while at < start + size:
            alone[at] = decode(board.code(at), at)
            at += alone[at].size
    restore()
    blocks = {at: block(board, at) for at, instruction in alone.items() if instruction.conditions}
    met = core.flags_at(blocks, limit)
    found = []
    for head, instructions in blocks.items():
        for place, condition in enumerate(instructions[0][1].conditions, 1):
            alone.pop(instructions[place][0], None)
            if any(holds(condition, flags) for flags in met[head]):
                found.append(Inside(head, place))
    return sorted([*(Inside(at) for at in alone), *found])


def skipped(board: Board, core: Probe, inside: Inside, limit: int) -> Halt:
    """Through the call without that instruction, the first time that it would have been executed.
    Not `returned`: it did not come back."""
    instructions = block(board, inside.address)
    condition = (ALWAYS, *instructions[0][1].conditions)[inside.place]
    core.run_into_call(inside.address, condition, limit)
    at, instruction = instructions[inside.place]
    if inside.place:  # Unicorn ends no run within an IT block
        board.patch(at, nops(instruction.size))
        halt = core.step()
        board.unpatch()
    else:
        core.pc += instruction.size
        halt = Halt.BUDGET
    if halt is Halt.BUDGET:
        halt = core.run(limit)
    return halt
