"""The image vectors in a loader slot of the emulated module: the ROM's verdict, by its event."""

import pytest

from cellward.ports.module import Outcome
from tests.firmware.slot_vectors import FITTING, IMAGE, in_unicorn, verdict


@pytest.mark.parametrize("name", FITTING)
def test_the_rom_s_verdict(name: str) -> None:
    case, report = FITTING[name], in_unicorn(name)
    assert report.outcome is Outcome.RECOVERY
    assert verdict(report.events[0]) == (case.erased or case.verdict), case.reason


def test_nearly_all_vectors_fit_a_slot() -> None:
    assert len(FITTING) >= len(IMAGE.cases) - 5
