"""device.health: what is counted at each look."""

from dataclasses import replace

import pytest

from cellward.core.health import Observed
from cellward.device.health import looked
from cellward.device.memory import Memory
from tests.fakes.module import HEALTHY
from tests.fakes.store import MemoryStore
from tests.support.calibration import made
from tests.support.maker import NOW

LIMITS = made("1.0.0")  # cells 2,800 to 4,200 mV; discharging -20 to 60 °C, charging 0 to 45 °C
BEFORE = Observed(NOW, looks=5)


@pytest.mark.parametrize(
    ("measured", "counted"),
    [
        ({}, {}),
        ({"cells_mv": (2799, 3700)}, {"deep_discharge": 1}),
        ({"cells_mv": (2800, 4200)}, {}),
        ({"cells_mv": (2799, 2799, 4201)}, {"deep_discharge": 1, "overcharge": 1}),
        ({"temperatures_dc": (601,)}, {"extreme_temperature": 1}),
        ({"temperatures_dc": (500,), "current_ma": 100}, {}),
        ({"temperatures_dc": (500,), "current_ma": -100}, {"extreme_temperature_charging": 1}),
        (
            {"temperatures_dc": (-201,), "current_ma": -100},
            {"extreme_temperature": 1, "extreme_temperature_charging": 1},
        ),
    ],
)
def test_what_a_look_counts(measured: dict[str, object], counted: dict[str, int]) -> None:
    after = looked(BEFORE, LIMITS, replace(HEALTHY, **measured))  # type: ignore[arg-type]
    assert after == replace(BEFORE, looks=6, **counted)  # type: ignore[arg-type]


@pytest.mark.parametrize("damaged", [b"", b"{}", b'{"since":7}'])
def test_a_count_that_was_damaged_begins_anew(damaged: bytes) -> None:
    memory = Memory(MemoryStore())
    memory.store.write("observed/M-1.json", damaged)
    assert memory.observed("M-1") is None
    memory.set_observed("M-1", BEFORE)
    assert memory.observed("M-1") == BEFORE
