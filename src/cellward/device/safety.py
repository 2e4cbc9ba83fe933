"""Safety gates: what the pack itself measures must allow an update. One table.

The device decides, with measured values that go into its report; a server can only mirror them
(UN R156 7.1.3.5, Uptane 5.4.3.5). They are asked before the first erase, again while writing (a
wake-up of high voltage stops the update) and before the reset.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cellward.core.errors import Code, PolicyRefused
from cellward.ports.module import Telemetry


@dataclass(frozen=True)
class Limits:
    """Windows, both ends included. Millivolts, milliamperes, tenths of a degree, permille."""

    current_ma: int = 500  # zero, with the sensor's offset
    temperature_dc: tuple[int, int] = (0, 450)
    cell_mv: tuple[int, int] = (3000, 4200)
    soc_permille: tuple[int, int] = (200, 950)
    supply_mv: tuple[int, int] = (11_500, 16_000)


PARKED = Limits()


@dataclass(frozen=True)
class Gate:
    """One condition: what is measured, in words for the report, and when it holds."""

    code: Code
    expected: Callable[[Limits], str]
    found: Callable[[Telemetry], str]
    holds: Callable[[Telemetry, Limits], bool]


def _within(values: tuple[int, ...], window: tuple[int, int]) -> bool:
    """No measurement is not a good measurement."""
    return bool(values) and window[0] <= min(values) and max(values) <= window[1]


def _span(values: tuple[int, ...], scale: int, unit: str) -> str:
    if not values:
        return "nothing measured"
    return f"{min(values) / scale:g} to {max(values) / scale:g} {unit}"


def _faults(t: Telemetry) -> str:
    seen = {
        "no answer of the front end": not t.front_end_answers,
        "an isolation fault": t.isolation_fault,
        "the interlock open": t.interlock_open,
        "balancing on": t.balancing,
    }
    return ", ".join(name for name, present in seen.items() if present) or "none"


GATES: dict[str, Gate] = {
    "contactors": Gate(
        Code.GATE_CONTACTORS,
        lambda _: "contactors read back open, and nobody asking to close them",
        lambda t: (
            ("closed" if t.contactors_closed else "open") + (", asked to close" if t.close_requested else "")
        ),
        lambda t, _: not t.contactors_closed and not t.close_requested,
    ),
    "current": Gate(
        Code.GATE_CURRENT,
        lambda m: f"at most {m.current_ma} mA either way",
        lambda t: f"{t.current_ma} mA",
        lambda t, m: abs(t.current_ma) <= m.current_ma,
    ),
    "temperature": Gate(
        Code.GATE_TEMPERATURE,
        lambda m: _span(m.temperature_dc, 10, "degC"),
        lambda t: _span(t.temperatures_dc, 10, "degC"),
        lambda t, m: _within(t.temperatures_dc, m.temperature_dc),
    ),
    "cells": Gate(
        Code.GATE_CHARGE,
        lambda m: _span(m.cell_mv, 1, "mV"),
        lambda t: _span(t.cells_mv, 1, "mV"),
        lambda t, m: _within(t.cells_mv, m.cell_mv),
    ),
    "charge": Gate(
        Code.GATE_CHARGE,
        lambda m: _span(m.soc_permille, 10, "%"),
        lambda t: f"{t.soc_permille / 10:g} %",
        lambda t, m: _within((t.soc_permille,), m.soc_permille),
    ),
    "supply": Gate(
        Code.GATE_SUPPLY,
        lambda m: _span(m.supply_mv, 1, "mV"),
        lambda t: f"{t.supply_mv} mV",
        lambda t, m: _within((t.supply_mv,), m.supply_mv),
    ),
    "faults": Gate(
        Code.GATE_FAULT,
        lambda _: "none",
        _faults,
        lambda t, _: _faults(t) == "none",
    ),
}


def measured(telemetry: Telemetry) -> str:
    """All gates' values on one line, for the report."""
    return "; ".join(f"{name} {gate.found(telemetry)}" for name, gate in GATES.items())


def check(telemetry: Telemetry, subject: str, limits: Limits = PARKED) -> str:
    """The measured values, if every gate holds.

    Raises PolicyRefused (gate.*) for the first one that does not.
    """
    for name, gate in GATES.items():
        if not gate.holds(telemetry, limits):
            raise PolicyRefused(
                gate.code,
                f"{subject} {name}",
                expected=gate.expected(limits),
                found=gate.found(telemetry),
            )
    return measured(telemetry)
