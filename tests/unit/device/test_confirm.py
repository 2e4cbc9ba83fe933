"""device.confirm: every row of its table, and the boot chain's words."""

from itertools import product

import pytest

from cellward.core.banks import State
from cellward.core.errors import STATUS_WORDS, Code
from cellward.core.slots import BMS_M33, TRAILER_MAGIC, Lifecycle, flag_phrase
from cellward.device.confirm import Verdict, describe, judge
from cellward.device.memory import Attempt
from cellward.ports.module import BankStatus, BootEvent, BootReport, ModuleStatus, Outcome

UNSET = b"\xff" * 8
TRAILERS = {
    State.EMPTY: UNSET * 2 + b"\xff" * 16,
    State.PENDING: UNSET * 2 + TRAILER_MAGIC,
    State.TRIAL: flag_phrase() + UNSET + TRAILER_MAGIC,
    State.CONFIRMED: flag_phrase() * 2 + TRAILER_MAGIC,
}
ATTEMPT = Attempt("M0001", "b", 7, (("M0001/app", "ab" * 32),), "")


def status(active: str, state: State, counter: int, outcome: Outcome = Outcome.RUNNING) -> ModuleStatus:
    return ModuleStatus(
        serial="M0001",
        hardware=BMS_M33.name,
        lifecycle=Lifecycle.PROVISIONED,
        outcome=outcome,
        active_bank=active,
        counter=counter,
        slot_keys=(),
        revoked=0,
        vendor_id=b"",
        loader_class=b"",
        app_class=b"",
        banks=(BankStatus("a", TRAILERS[State.CONFIRMED]), BankStatus("b", TRAILERS[state])),
        operations=0,
    )


def event(bank: str, code: Code = Code.IMAGE_SIGNATURE, expected: int = 0, found: int = 0) -> BootEvent:
    return BootEvent("rom", bank, STATUS_WORDS[code], expected, found, 1)


def report(*events: BootEvent) -> BootReport:
    return BootReport("pin", "a", Outcome.RUNNING, 6, False, (), events)


def test_the_trailers_of_this_test_are_those_states() -> None:
    for state, raw in TRAILERS.items():
        assert BankStatus("b", raw).state is state


@pytest.mark.parametrize(
    ("active", "state", "counter", "verdict"),
    [
        ("b", State.CONFIRMED, 7, Verdict.COMMITTED),
        ("b", State.CONFIRMED, 9, Verdict.COMMITTED),
        ("b", State.CONFIRMED, 6, Verdict.ON_TRIAL),
        ("b", State.TRIAL, 7, Verdict.ON_TRIAL),
        ("a", State.TRIAL, 6, Verdict.FELL_BACK),
        ("a", State.EMPTY, 6, Verdict.UNFINISHED),
        ("a", State.PENDING, 6, Verdict.UNFINISHED),
        ("a", State.CONFIRMED, 6, Verdict.UNFINISHED),
    ],
)
@pytest.mark.parametrize("ours", [True, False])
def test_without_events(active: str, state: State, counter: int, verdict: Verdict, ours: bool) -> None:
    assert judge(status(active, state, counter), (), ATTEMPT, ours=ours).verdict is verdict


@pytest.mark.parametrize("state", [State.PENDING, State.CONFIRMED])
def test_a_bank_that_our_reset_refused(state: State) -> None:
    boots = (report(event("b", Code.IMAGE_SIGNATURE), event("b", Code.BANK_NOT_BOOTABLE)),)
    conclusion = judge(status("a", state, 6), boots, ATTEMPT, ours=True)
    assert conclusion.verdict is Verdict.FELL_BACK
    assert "image.signature" in conclusion.refusal(ATTEMPT).found
    older = judge(status("a", state, 6), boots, ATTEMPT, ours=False)
    assert older.verdict is Verdict.UNFINISHED  # those events may be about what lay there before


def test_what_is_told_in_passing_is_no_reason() -> None:
    """A sold module without a calibration says so at every boot, before its self-test fails."""
    boots = (report(event("b", Code.VAULT_MISSING), event("b", Code.SELFTEST_CELL_SUM)),)
    conclusion = judge(status("a", State.TRIAL, 6), boots, ATTEMPT, ours=True)
    assert conclusion.reason == event("b", Code.SELFTEST_CELL_SUM)
    only = (report(event("b", Code.VAULT_MISSING)),)
    assert judge(status("a", State.PENDING, 6), only, ATTEMPT, ours=True).verdict is Verdict.UNFINISHED


def test_events_of_the_other_bank_say_nothing() -> None:
    boots = (report(event("a", Code.IMAGE_SIGNATURE)),)
    assert judge(status("a", State.EMPTY, 6), boots, ATTEMPT, ours=True).verdict is Verdict.UNFINISHED


@pytest.mark.parametrize("outcome", [Outcome.OFF, Outcome.POWER_CUT, Outcome.RECOVERY])
def test_a_pending_bank_without_power_is_not_given_up(outcome: Outcome) -> None:
    assert judge(status("a", State.PENDING, 6, outcome), (), ATTEMPT, ours=False).verdict is Verdict.ON_TRIAL


@pytest.mark.parametrize(
    ("outcome", "active"), list(product([o for o in Outcome if o is not Outcome.RUNNING], "ab"))
)
def test_nothing_is_committed_that_does_not_run(outcome: Outcome, active: str) -> None:
    for state, ours in product(State, (True, False)):
        conclusion = judge(status(active, state, 9, outcome), (), ATTEMPT, ours=ours)
        assert conclusion.verdict is not Verdict.COMMITTED


def test_recovery_is_said_as_such() -> None:
    boots = (report(event("b", Code.SELFTEST_CELL_SUM, 44_400, 43_000)),)
    found = status("a", State.TRIAL, 6, Outcome.RECOVERY)
    refusal = judge(found, boots, ATTEMPT, ours=True).refusal(ATTEMPT)
    assert refusal.code is Code.UPDATE_FELL_BACK
    assert "recovery" in refusal.advice


def test_the_boot_chains_words() -> None:
    assert describe(event("b", Code.SELFTEST_CELL_SUM, 44_400, 43_000)).endswith(
        "expected 44400, found 43000"
    )
    assert describe(event("b", Code.SELFTEST_TEMPERATURE, 0, 0xFFFF_FFF6)).endswith("found -10")
    assert describe(event("b", Code.SELFTEST_FRONT_END, 0xAFE0_1200, 0)).endswith(
        "expected 0xafe01200, found 0"
    )
    assert describe(event("b", Code.BANK_NOT_BOOTABLE)) == "bank.not_bootable in the rom"
    assert describe(BootEvent("app", "b", 0x1234, 1, 2, 0)).startswith("status 0x00001234")
