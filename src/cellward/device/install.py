"""Carry a plan out on the module, so that a cut or refusal at any step leaves it bootable.

The bytes that were verified are the bytes that are written: they stay in this process's memory, and
what the flash holds is compared with them before the trailer makes the bank bootable.
"""

from collections.abc import Callable

from cellward.core.banks import State
from cellward.core.errors import Code, ModuleRefused, PolicyRefused, Refused
from cellward.core.plan import Do, Plan, Step
from cellward.core.slots import ERASED, TRAILER_SIZE
from cellward.device.fetch import Progress
from cellward.ports.module import Module

CHUNK = 8 * 1024
# Gates are asked again this often while writing: a wake-up of high voltage must not wait for the end.
GUARD_EVERY = 16


def install(module: Module, plan: Plan, guard: Callable[[], object], progress: Progress) -> None:
    """Write the bank that does not run and make it pending.

    `guard` raises to stop, until the very end. Raises ModuleRefused (flash.*, power.cut),
    PolicyRefused (gate.*, plan.incomplete): the running bank was not touched, and the other one has no
    trailer, so it is not bootable. Raises Unavailable (module.*) when the module is silent.
    """
    _check_target(module, plan)
    steps = list(plan.steps())
    for number, step in enumerate(steps):
        if number % GUARD_EVERY == 0 or step.do is Do.STAGE:
            guard()
        _run(module, plan, step)
        progress(f"flash {plan.serial} bank {plan.bank}", number + 1, len(steps))
    _check_pending(module, plan, guard)


def _run(module: Module, plan: Plan, step: Step) -> None:
    if step.do is Do.CLEAR:
        module.erase_page(plan.bank, step.offset)
        _check_cleared(module, plan)
    elif step.do is Do.ERASE:
        module.erase_page(plan.bank, step.offset)
    elif step.do is Do.READ_BACK:
        _read_back(module, plan, step)
    else:
        module.program(plan.bank, step.offset, step.data)


def _check_target(module: Module, plan: Plan) -> None:
    """The plan is as old as its download: the module may have changed banks since."""
    active = module.status().active_bank
    if active == plan.bank:
        raise PolicyRefused(
            Code.PLAN_INCOMPLETE,
            f"module {plan.serial}",
            expected=f"bank {plan.bank} not to run",
            found="it running",
            advice="the module changed banks since; the next cycle plans anew",
        )


def _check_cleared(module: Module, plan: Plan) -> None:
    """An erase that did not take would leave the old valid mark over new bytes (VW Simos18)."""
    end = plan.hardware.bank_size
    trailer = module.read(plan.bank, end - TRAILER_SIZE, TRAILER_SIZE)
    if set(trailer) != {ERASED}:
        raise _differs(plan, f"an erased trailer in bank {plan.bank}", trailer.hex())


def _read_back(module: Module, plan: Plan, step: Step) -> None:
    for at in range(0, len(step.data), CHUNK):
        wanted = step.data[at : at + CHUNK]
        found = module.read(plan.bank, step.offset + at, len(wanted))
        if found != wanted:
            first = next((i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), 0)
            raise _differs(
                plan,
                f"{wanted[first : first + 8].hex()} at offset 0x{step.offset + at + first:x}",
                found[first : first + 8].hex() or "nothing",
            )


def _check_pending(module: Module, plan: Plan, guard: Callable[[], object]) -> None:
    """Pending and still allowed, or the trailer goes again: any reset would try the bank."""
    try:
        guard()
        state = module.status().bank(plan.bank).state
        if state is not State.PENDING:
            raise _differs(plan, f"bank {plan.bank} pending", state.name.lower())
    except Refused:
        module.erase_page(plan.bank, plan.hardware.trailer.offset)
        raise


def _differs(plan: Plan, expected: str, found: str) -> ModuleRefused:
    return ModuleRefused(Code.FLASH_READBACK, f"module {plan.serial}", expected=expected, found=found)
