"""Reset the module and see whether the new bank stayed: committed, fell back, or still on trial.

::

    bank active?  its state   counter      verdict
    yes           CONFIRMED   reached      COMMITTED   the ROM raised the counter: nothing older boots
    yes           CONFIRMED   below        ON_TRIAL    the next reset commits
    yes           TRIAL       any          ON_TRIAL    the self-test runs
    no            TRIAL       any          FELL_BACK   started once, never confirmed
    no            any         any          FELL_BACK   if the reset we asked for refused it
    no            PENDING     any          ON_TRIAL    where nothing runs: the next boot decides
    no            any         any          UNFINISHED  cut before the trailer, or never reset
"""

from dataclasses import dataclass
from enum import Enum

from cellward.core.banks import State
from cellward.core.errors import CODE_OF_STATUS, CellwardError, Code, ModuleRefused
from cellward.device.memory import Attempt
from cellward.ports.module import BootEvent, BootReport, Module, ModuleStatus, Outcome

# Told in passing: safe defaults apply, or a revocation was not taken. No bank is judged by them.
NOTES = (
    Code.VAULT_MISSING,
    Code.VAULT_SEAL,
    Code.VAULT_COUNTER,
    Code.REVOCATION_FORMAT,
    Code.REVOCATION_SIGNATURE,
    Code.REVOCATION_IN_USE,
    Code.REVOCATION_LAST_KEY,
)


class Verdict(Enum):
    COMMITTED = "committed"
    ON_TRIAL = "on trial"
    FELL_BACK = "fell back"
    UNFINISHED = "unfinished"  # nothing to conclude: flash it again


@dataclass(frozen=True)
class Conclusion:
    verdict: Verdict
    status: ModuleStatus
    reason: BootEvent | None  # the first verdict of the boot chain about the new bank

    def refusal(self, attempt: Attempt) -> CellwardError:
        """What is said about an attempt that did not commit."""
        status = self.status
        if self.verdict is Verdict.ON_TRIAL:
            return ModuleRefused(
                Code.UPDATE_ON_TRIAL,
                f"module {attempt.serial}",
                expected=f"bank {attempt.bank} confirmed, counter {attempt.counter}",
                found=f"it {status.bank(attempt.bank).state.name.lower()}, counter {status.counter}",
                advice="the next boot decides",
            )
        runs = f"bank {status.active_bank} runs as before" if status.outcome is Outcome.RUNNING else ""
        return ModuleRefused(
            Code.UPDATE_FELL_BACK,
            f"module {attempt.serial}",
            expected=f"bank {attempt.bank} to confirm itself",
            found=describe(self.reason) if self.reason else f"it {status.outcome}",
            advice=runs or "no bank is good: order loader and app for its recovery",
        )


def describe(event: BootEvent) -> str:
    """The boot chain's own words: code, then its two sides where they say something."""
    code = CODE_OF_STATUS.get(event.status)
    name = str(code) if code else f"status 0x{event.status:08x}"
    sides = f", expected {_word(event.expected)}, found {_word(event.found)}"
    return f"{name} in the {event.where}{sides if (event.expected, event.found) != (0, 0) else ''}"


def _word(value: int) -> str:
    """A register: signed where it is small and negative, hexadecimal where it is no quantity."""
    signed = value - (1 << 32) if value >> 31 else value
    return f"{signed}" if abs(signed) < 1_000_000 else f"0x{value:08x}"


def judge(
    status: ModuleStatus, reports: tuple[BootReport, ...], attempt: Attempt, *, ours: bool
) -> Conclusion:
    """Pure. `ours`: these reports are of the reset that this attempt asked for."""
    events = (event for report in reports for event in report.events if event.bank == attempt.bank)
    reason = next((event for event in events if event.code not in NOTES), None)
    state = status.bank(attempt.bank).state
    if status.outcome is Outcome.RUNNING and status.active_bank == attempt.bank:
        done = state is State.CONFIRMED and status.counter >= attempt.counter
        return Conclusion(Verdict.COMMITTED if done else Verdict.ON_TRIAL, status, None)
    if state is State.TRIAL or (ours and reason is not None):
        return Conclusion(Verdict.FELL_BACK, status, reason)
    if state is State.PENDING and status.outcome is not Outcome.RUNNING:
        return Conclusion(Verdict.ON_TRIAL, status, None)
    return Conclusion(Verdict.UNFINISHED, status, reason)


def confirm(module: Module, attempt: Attempt) -> Conclusion:
    """Reset, and once more where the counter waits for it (the app resets itself when it can)."""
    reports = module.reset()
    conclusion = judge(module.status(), reports, attempt, ours=True)
    waiting = conclusion.status.bank(attempt.bank).state is State.CONFIRMED
    if conclusion.verdict is Verdict.ON_TRIAL and waiting:
        reports += module.reset()
        conclusion = judge(module.status(), reports, attempt, ours=True)
    return conclusion


def conclude(module: Module, attempt: Attempt) -> Conclusion:
    """The same for an attempt that a power cut or a restart of the agent left open; no reset."""
    return judge(module.status(), module.reports(), attempt, ours=False)
