"""Carry a plan out through the module's own update engine, so that a cut or refusal at any step leaves
it bootable.

The bytes that were verified are the bytes that are sent: they stay in this process's memory. The
module verifies them again where they lie, in its flash, before its trailer makes the bank bootable.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from cellward.core.banks import State
from cellward.core.errors import CellwardError, Code, ModuleRefused, PolicyRefused, Refused
from cellward.core.plan import Plan, Source, Write
from cellward.core.slots import Stage
from cellward.device.confirm import describe
from cellward.device.fetch import Progress
from cellward.device.link import UpdateLink
from cellward.ports.module import Module
from cellward.ports.updatevalues import Answerer, Identity

# Gates are asked again this often while writing: a wake-up of high voltage must not wait for the end.
GUARD_EVERY = 16
Guard = Callable[[], object]


def install(
    module: Module,
    plan: Plan,
    guard: Guard,
    progress: Progress,
    wrapped_keys: Mapping[Stage, bytes] | None = None,
) -> None:
    """Have the bank that does not run written and made pending.

    `guard` raises to stop, until the very end. `wrapped_keys` open the encrypted images among the
    plan's (TLV 0x32 for this module); what is encrypted is sent as it is. Raises ModuleRefused (flash.*,
    image.*, update.contactors, power.cut), PolicyRefused (gate.*, plan.incomplete): the running bank was
    not touched and runs again, and the other one has no trailer, so it is not bootable. Raises
    Unavailable (module.*, link.silent) when the module is silent.
    """
    link = UpdateLink(module, plan.serial)
    guard()
    engine = link.enter()
    try:
        _check_target(plan, engine)
        link.begin()
        _write(link, plan, engine, guard, progress, wrapped_keys or {})
        guard()
        _finish(module, link, plan, guard)
    except CellwardError as error:
        explained = _explained(module, error)
        _leave(link, engine)
        raise explained from error


def _check_target(plan: Plan, engine: Identity) -> None:
    """The plan is as old as its download: the module may have changed banks since."""
    if engine.bank == plan.bank:
        raise PolicyRefused(
            Code.PLAN_INCOMPLETE,
            f"module {plan.serial}",
            expected=f"bank {plan.bank} not to run",
            found="it running",
            advice="the module changed banks since; the next cycle plans anew",
        )


def _write(
    link: UpdateLink,
    plan: Plan,
    engine: Identity,
    guard: Guard,
    progress: Progress,
    wrapped_keys: Mapping[Stage, bytes],
) -> None:
    done, total = 0, sum(len(write.data) for write in plan.writes)
    for write in plan.writes:
        if write.source is Source.COPIED:
            guard()
            link.copy(write.stage)
            continue
        for number, taken in enumerate(_send(link, write, engine, wrapped_keys)):
            done += taken
            progress(f"flash {plan.serial} bank {plan.bank}", done, total)
            if number % GUARD_EVERY == 0:
                guard()


def _send(
    link: UpdateLink, write: Write, engine: Identity, wrapped_keys: Mapping[Stage, bytes]
) -> Iterator[int]:
    return link.send(write.stage, write.data, wrapped_keys.get(write.stage, b""), engine.max_data)


def _finish(module: Module, link: UpdateLink, plan: Plan, guard: Guard) -> None:
    """Pending and still allowed, or the trailer goes again: any reset would try the bank."""
    link.finish()
    try:
        guard()
        state = module.status().bank(plan.bank).state
        if state is not State.PENDING:
            raise ModuleRefused(
                Code.FLASH_READBACK,
                f"module {plan.serial}",
                expected=f"bank {plan.bank} pending",
                found=state.name.lower(),
            )
    except Refused:
        link.begin()
        raise


def _explained(module: Module, error: CellwardError) -> CellwardError:
    """With the two sides of the check, where the module's engine has reported them."""
    if not isinstance(error, ModuleRefused) or error.code is Code.POWER_CUT:
        return error
    with suppress(CellwardError):
        events = [event for report in module.reports() for event in report.events]
        if events and events[-1].code is error.code:
            return ModuleRefused(
                error.code, error.subject, expected=error.expected, found=describe(events[-1])
            )
    return error


def _leave(link: UpdateLink, engine: Identity) -> None:
    """Back to the app. A module that does not even take this comes back by itself: it restarts when
    nobody has asked for half a minute."""
    with suppress(CellwardError):
        link.abort()
        if engine.where is not Answerer.ROM:
            link.restart()
