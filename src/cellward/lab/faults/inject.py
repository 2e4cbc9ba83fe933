"""One fault at the instruction that the board stands before, and what comes of it."""

from collections.abc import Iterator

from cellward.lab.faults.arm import FLAG_MASK
from cellward.lab.faults.board import Board, Inside
from cellward.lab.faults.models import Attack, Fault, Model, Pair, hit, others, skips
from cellward.lab.faults.outcome import Outcome
from cellward.lab.faults.thumb import ALWAYS, FLAGS, REGISTERS, Instruction, decode, holds, nops


def block(board: Board, at: int) -> list[tuple[int, Instruction]]:
    """The instruction at this address; of an IT, those of its block as well. By address."""
    first = decode(board.code(at), at)
    found = [(at, first)]
    for _ in first.conditions:
        at += found[-1][1].size
        found.append((at, decode(board.code(at), at)))
    return found


def faults_here(board: Board, *, full: bool) -> Iterator[Fault]:
    """Every fault of the instruction to come, and of those in its IT block that will be executed;
    unless `full`, only skips."""
    instructions = block(board, board.core.pc)
    conditions = (ALWAYS, *instructions[0][1].conditions)
    flags = board.core.flags
    for place, ((at, instruction), condition) in enumerate(zip(instructions, conditions, strict=True)):
        if not holds(condition, flags):
            continue
        yield from skips(place)
        if full:
            yield from others(instruction, _readable(board, at, instruction), place)


def _readable(board: Board, at: int, instruction: Instruction) -> bool:
    load = instruction.load
    return load is not None and board.readable(load.address(at, board.core.named()), load.size)


def inject(board: Board, fault: Fault) -> Outcome | None:
    """The fault happens. Not None: it has ended the run already."""
    match fault.model:
        case Model.SKIP_1 | Model.SKIP_2:
            return _skip(board, fault)
        case Model.OPCODE:
            return _flip(board, fault)
        case Model.READ:
            return _misread(board, fault)
        case Model.REGISTER:
            _disturb(board, fault)
            return None
        case Model.INSIDE:
            return board.call_without(Inside(fault.address, fault.place))
        case _:
            raise AssertionError(fault)


def _skip(board: Board, fault: Fault) -> Outcome | None:
    instructions = block(board, board.core.pc)
    count = 2 if fault.model is Model.SKIP_2 else 1
    core = board.core
    if not fault.place:
        for _ in range(count):
            core.pc += decode(board.code(core.pc), core.pc).size
        return None
    at, first = instructions[fault.place]
    size, outside = first.size, False
    if count == 2:
        size += decode(board.code(at + size), at + size).size
        outside = fault.place == len(instructions) - 1
    return _patched(board, at, nops(2) * (size // 2), 2 if outside else 1)


def _flip(board: Board, fault: Fault) -> Outcome | None:
    at, instruction = block(board, board.core.pc)[fault.place]
    code = bytearray(board.code(at)[: instruction.size])
    code[fault.bit // 8] ^= 1 << fault.bit % 8
    return _patched(board, at, bytes(code), 1)


def _patched(board: Board, at: int, code: bytes, steps: int) -> Outcome | None:
    board.patch(at, code)
    try:
        for _ in range(steps):
            outcome = _step(board)
            if outcome is not None:
                return outcome
    finally:
        board.unpatch()
    return None


def _step(board: Board) -> Outcome | None:
    """A Cortex-M that jumps to an even address faults there."""
    outcome = board.step()
    return board.crash() if outcome is None and not board.core.thumb else outcome


def _misread(board: Board, fault: Fault) -> Outcome | None:
    at, instruction = block(board, board.core.pc)[fault.place]
    assert instruction.load is not None  # noqa: S101
    board.disturb(instruction.load.address(at, board.core.named()), fault.bit)
    try:
        return _step(board)
    finally:
        board.calm()


def _disturb(board: Board, fault: Fault) -> None:
    core = board.core
    if fault.register == FLAGS:
        core.flags = hit(core.flags, fault.bit, FLAG_MASK)
    else:
        register = REGISTERS[fault.register]
        core.write(register, hit(core.read(register), fault.bit))


def _twice(board: Board, pair: Pair) -> Outcome | None:
    """The second fault hits the first instruction outside the library that comes after the gap."""
    outcome, left = inject(board, pair.first), pair.gap
    while outcome is None and (left > 0 or not board.is_site(board.core.pc)):
        outcome, left = _step(board), left - 1
    if outcome is not None:
        return outcome
    possible = list(faults_here(board, full=True))
    return inject(board, possible[int(pair.share * len(possible))]) if possible else None


def run(board: Board, attack: Attack) -> Outcome:
    """Inject and see it through."""
    outcome = _twice(board, attack) if isinstance(attack, Pair) else inject(board, attack)
    return board.finish() if outcome is None else outcome
