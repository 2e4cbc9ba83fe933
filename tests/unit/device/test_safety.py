"""device.safety: every gate closes on its own, and every refusal carries what was measured."""

from dataclasses import replace
from typing import Any

import pytest

from cellward.core.errors import Code, PolicyRefused
from cellward.device import safety
from cellward.ports.module import Telemetry

PARKED = Telemetry(
    at_ms=1000,
    cells_mv=(3700,) * 12,
    temperatures_dc=(250, 251, 249, 250),
    pack_mv=44400,
    current_ma=0,
    soc_permille=600,
    supply_mv=12600,
    contactors_closed=False,
    close_requested=False,
    front_end_answers=True,
    isolation_fault=False,
    interlock_open=False,
    balancing=False,
)


def test_a_parked_pack_passes_with_its_values() -> None:
    line = safety.check(PARKED, "module M0001")
    for part in ("contactors open", "0 mA", "24.9 to 25.1 degC", "3700 to 3700 mV", "60 %", "12600 mV"):
        assert part in line


@pytest.mark.parametrize(
    ("change", "code", "found"),
    [
        ({"contactors_closed": True}, Code.GATE_CONTACTORS, "closed"),
        ({"close_requested": True}, Code.GATE_CONTACTORS, "open, asked to close"),
        ({"current_ma": 501}, Code.GATE_CURRENT, "501 mA"),
        ({"current_ma": -501}, Code.GATE_CURRENT, "-501 mA"),
        ({"temperatures_dc": (250, -1)}, Code.GATE_TEMPERATURE, "-0.1 to 25 degC"),
        ({"temperatures_dc": (451, 250)}, Code.GATE_TEMPERATURE, "25 to 45.1 degC"),
        ({"temperatures_dc": ()}, Code.GATE_TEMPERATURE, "nothing measured"),
        ({"cells_mv": (3700, 2999)}, Code.GATE_CHARGE, "2999 to 3700 mV"),
        ({"cells_mv": (3700, 4201)}, Code.GATE_CHARGE, "3700 to 4201 mV"),
        ({"cells_mv": ()}, Code.GATE_CHARGE, "nothing measured"),
        ({"soc_permille": 199}, Code.GATE_CHARGE, "19.9 %"),
        ({"soc_permille": 951}, Code.GATE_CHARGE, "95.1 %"),
        ({"supply_mv": 11_499}, Code.GATE_SUPPLY, "11499 mV"),
        ({"supply_mv": 16_001}, Code.GATE_SUPPLY, "16001 mV"),
        ({"front_end_answers": False}, Code.GATE_FAULT, "no answer of the front end"),
        ({"isolation_fault": True}, Code.GATE_FAULT, "an isolation fault"),
        ({"interlock_open": True}, Code.GATE_FAULT, "the interlock open"),
        ({"balancing": True}, Code.GATE_FAULT, "balancing on"),
    ],
)
def test_each_gate(change: dict[str, Any], code: Code, found: str) -> None:
    telemetry = replace(PARKED, **change)
    with pytest.raises(PolicyRefused) as refused:
        safety.check(telemetry, "module M0001")
    assert refused.value.code is code
    assert refused.value.found == found
    assert refused.value.expected
    assert found in safety.measured(telemetry)


@pytest.mark.parametrize(
    "edge",
    [
        {"current_ma": 500},
        {"temperatures_dc": (0, 450)},
        {"cells_mv": (3000, 4200)},
        {"soc_permille": 200},
        {"soc_permille": 950},
        {"supply_mv": 11_500},
    ],
)
def test_the_edges_are_inside(edge: dict[str, Any]) -> None:
    safety.check(replace(PARKED, **edge), "module M0001")
