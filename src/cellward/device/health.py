"""What the controller knows of its pack's state of health: counted at each look, read by the owner.

Normative: docs/formats/health.md. Nothing here changes a module, not even a restart: reading is reading.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from cellward.core.calibration import PackCalibration
from cellward.core.envelope import Envelope
from cellward.core.errors import CellwardError
from cellward.core.health import Measured, ModuleHealth, Observed, Parameter, Record
from cellward.core.slots import Lifecycle
from cellward.device.memory import Device, Memory, ModuleEntry
from cellward.ports.module import Module, ModuleStatus, Telemetry
from cellward.ports.signer import Signer

UNCOUNTED = "the modules measure current and voltage, but neither they nor the controller add them up"
UNTESTED = "needs a charge and discharge under test conditions, which nobody has told the pack of"
WHY_ABSENT: Mapping[Parameter, str] = {
    Parameter.CERTIFIED_ENERGY: UNTESTED,
    Parameter.REMAINING_CAPACITY: UNTESTED,
    Parameter.POWER: UNTESTED,
    Parameter.EFFICIENCY: UNTESTED,
    Parameter.SELF_DISCHARGE: "needs weeks of rest that somebody measures",
    Parameter.RESISTANCE: "needs a pulse of current that is measured faster than the controller looks",
    Parameter.MADE: "the maker's records have it, the pack does not",
    Parameter.IN_SERVICE: "the maker's records have it, the pack does not",
    Parameter.ENERGY: UNCOUNTED,
    Parameter.CAPACITY: UNCOUNTED,
    Parameter.HARMFUL: "no look yet with a calibration in force, which says what is harmful",
    Parameter.CYCLES: UNCOUNTED,
}


# --- at each look of the agent ---


def observe(memory: Memory, serial: str, limits: PackCalibration, measured: Telemetry, now: datetime) -> None:
    """One look more, if the cells were measured; with what is outside of the calibration in force."""
    if not measured.front_end_answers:
        return
    found = memory.observed(serial) or Observed(now.replace(microsecond=0))
    memory.set_observed(serial, looked(found, limits, measured))


def looked(before: Observed, limits: PackCalibration, measured: Telemetry) -> Observed:
    cells, sensors, celsius = measured.cells_mv, measured.temperatures_dc, limits.temperatures
    charging = measured.current_ma < 0
    hot_or_cold = not _within(sensors, celsius.discharge_under_dc, celsius.discharge_over_dc)
    wrong_to_charge = not _within(sensors, celsius.charge_under_dc, celsius.charge_over_dc)
    return replace(
        before,
        looks=before.looks + 1,
        deep_discharge=before.deep_discharge + any(cell < limits.cell_under_mv for cell in cells),
        overcharge=before.overcharge + any(cell > limits.cell_over_mv for cell in cells),
        extreme_temperature=before.extreme_temperature + hot_or_cold,
        extreme_temperature_charging=before.extreme_temperature_charging + (charging and wrong_to_charge),
    )


def _within(values: tuple[int, ...], low: int, high: int) -> bool:
    return all(low <= value <= high for value in values)


# --- for the owner ---


def record(
    memory: Memory, device: Device, modules: Mapping[str, Module], nonce: bytes, signer: Signer, now: datetime
) -> Envelope:
    """Signed by the pack's identity key. `modules`: by serial, those that could be reached.

    Raises Unavailable (tpm.*, storage.*), FormatRefused (metadata.format).
    """
    found = tuple(_module(memory, entry, modules.get(entry.serial)) for entry in device.modules)
    absent = dict(WHY_ABSENT)
    if any(module.observed for module in found):
        del absent[Parameter.HARMFUL]
    key = signer.public_key
    made = Record(device.vehicle, now, nonce.hex(), key, found, absent).to_sign()
    return made.signed_by(key, signer.sign(key.to_sign(made.pae)))


def _module(memory: Memory, entry: ModuleEntry, module: Module | None) -> ModuleHealth:
    known = ModuleHealth(
        serial=entry.serial,
        hardware=entry.hardware,
        firmware={str(stage): seen.version for stage, seen in memory.seen(entry.serial).items()},
        calibration=memory.calibrated(entry.serial).get("version", ""),
        silent="the module could not be reached",
        observed=memory.observed(entry.serial),
    )
    if module is None:
        return known
    try:
        status, measured = module.status(), module.telemetry()
    except CellwardError as error:
        return replace(known, silent=f"{error}")
    return _measured(known, status, measured)


def _measured(known: ModuleHealth, status: ModuleStatus, measured: Telemetry) -> ModuleHealth:
    if (status.serial, status.hardware) != (known.serial, known.hardware):
        return replace(known, silent=f"another module is there: {status.serial} ({status.hardware})")
    cells, sensors = measured.cells_mv, measured.temperatures_dc
    tampered = status.lifecycle is Lifecycle.TAMPERED
    if not measured.front_end_answers or not cells or not sensors:
        return replace(
            known, silent="the front end that measures the cells does not answer", tampered=tampered
        )
    now = Measured(
        charge_permille=measured.soc_permille,
        cells=len(cells),
        cell_lowest_mv=min(cells),
        cell_highest_mv=max(cells),
        temperature_lowest_dc=min(sensors),
        temperature_highest_dc=max(sensors),
        pack_mv=measured.pack_mv,
        current_ma=measured.current_ma,
    )
    return replace(known, silent="", tampered=tampered, measured=now)
