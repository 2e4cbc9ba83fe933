"""Attack 20 (MCUboot #1708): an older image on every path that MCUboot knows, before the real ROM.

{test, started, confirm, permanent} x {lower, equal, higher}, beside a good bank and alone. Lower never
boots, whatever the trailer says; the state afterwards is looked at, not only the refusal.
"""

import pytest

from cellward.core.errors import Code
from cellward.core.slots import Stage, flag_phrase
from cellward.ports.module import BootReport, Outcome
from tests.firmware.rig import Rig, binary, release, sign

COMMITTED = 8
UNSET = b"\xff" * 8
# copy_done and image_ok, as MCUboot's tools and update paths leave them.
PATHS = {
    "test": (UNSET, UNSET),
    "started": (flag_phrase(), UNSET),
    "confirm": (flag_phrase(), flag_phrase()),
    "permanent": (UNSET, flag_phrase()),
}
RUNS = {"test", "confirm", "permanent"}


def module(path: str, counter: int, *, alone: bool) -> Rig:
    rig = Rig.planted(COMMITTED)
    if not alone:
        rig.stage("a", release("1.3.0", COMMITTED), confirmed=True, started=True)
    rig.stage("b", release("1.4.0", counter))
    rig.trailer("b")[:16] = b"".join(PATHS[path])
    return rig


def refusals(reports: tuple[BootReport, ...]) -> list[tuple[str, Code | None]]:
    return [(event.bank, event.code) for report in reports for event in report.events]


@pytest.mark.parametrize("path", PATHS)
def test_lower_falls_back_to_the_bank_that_is_not(path: str) -> None:
    rig = module(path, COMMITTED - 1, alone=False)
    before = rig.kept()
    reports = rig.boot()
    rig.off()
    said = Code.IMAGE_COUNTER if path in RUNS else Code.BANK_NOT_BOOTABLE
    if path == "permanent" or path == "confirm":
        # Only newer-looking banks come first; this one claims the lower counter and is not even tried.
        assert refusals(reports) == []
    else:
        assert refusals(reports) == [("b", said)]
    assert (reports[-1].bank, reports[-1].outcome) == ("a", Outcome.RUNNING)
    assert reports[-1].counter == COMMITTED
    assert rig.kept() == before


@pytest.mark.parametrize("path", PATHS)
def test_lower_and_nothing_else_is_recovery(path: str) -> None:
    rig = module(path, COMMITTED - 1, alone=True)
    before = rig.kept()
    (report,) = rig.boot()
    rig.off()
    expected = Code.IMAGE_COUNTER if path in RUNS else Code.BANK_NOT_BOOTABLE
    assert refusals((report,))[0] == ("b", expected)
    assert refusals((report,))[-1][1] is Code.BANK_NONE_GOOD
    assert (report.outcome, report.contactors_closed) == (Outcome.RECOVERY, False)
    assert rig.kept() == before


@pytest.mark.parametrize("rise", [0, 1])
@pytest.mark.parametrize("path", sorted(RUNS))
def test_equal_and_higher_boot_and_the_counter_moves_only_for_a_confirmed_one(path: str, rise: int) -> None:
    rig = module(path, COMMITTED + rise, alone=True)
    reports = rig.boot()
    rig.off()
    assert (reports[-1].bank, reports[-1].outcome) == ("b", Outcome.RUNNING)
    assert reports[-1].counter == COMMITTED + rise
    if path == "test":  # one boot on trial, which ends confirmed, before the one that commits
        assert [report.counter for report in reports] == [COMMITTED, COMMITTED + rise]
        assert [milestone.name for milestone in reports[0].milestones][-1] == "confirmed"


def test_an_old_app_beside_a_new_loader_is_refused_by_the_loader() -> None:
    """The loader's counter alone must not vouch for the app."""
    rig = module("permanent", COMMITTED, alone=True)
    rig.put("b", Stage.APP, sign(binary("app-1.3.0.bin"), Stage.APP, "1.3.0", COMMITTED - 1))
    first, second = rig.boot()
    rig.off()
    assert [(event.where, event.code) for event in first.events] == [("loader", Code.IMAGE_COUNTER)]
    assert (second.outcome, second.counter, second.contactors_closed) == (Outcome.RECOVERY, COMMITTED, False)
