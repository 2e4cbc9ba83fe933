"""The physical pack: cells, temperatures, current, contactors, and what can go wrong with them.

Deterministic: the same steps give the same values. Small on purpose: open-circuit voltage by state
of charge, one internal resistance, first-order self-heating. It is there to be measured and
switched by real firmware, not to age.
"""

from dataclasses import replace
from itertools import pairwise

from cellward.ports.module import Conditions, Telemetry
from cellward.vbms.registers import CELLS, FRONT_END_ID_VALUE, TEMPERATURES
from cellward.vbms.registers import Pack as Register

CAPACITY_MAH = 50_000
RESISTANCE_UOHM = 800  # of one cell
HEAT_TIME_MS = 600_000
HEAT_DC_PER_A2 = 0.02  # tenths of a degree per ampere squared, settled
# Open-circuit millivolts of an NMC cell at every tenth of its charge.
OCV_MV = (3000, 3450, 3540, 3600, 3650, 3710, 3790, 3880, 3970, 4070, 4190)
SPREAD_MV = (0, 2, -1, 3, -2, 1, -3, 2, 0, -1, 1, -2)
CAPACITY_UC = CAPACITY_MAH * 3_600_000  # microcoulombs: milliamperes times milliseconds


# The front end's protection registers; volatile, so the app writes them at every start.
LIMITS = (Register.LIMIT_OV_MV, Register.LIMIT_UV_MV, Register.LIMIT_OT_DC)


class Pack:
    """One pack. `charge_uc` and `conditions` outlive a power cut; the rest is volatile."""

    def __init__(self, charge_uc: int = CAPACITY_UC // 2) -> None:
        self.charge_uc = charge_uc
        self.conditions = Conditions()
        self.limits = dict.fromkeys(LIMITS, 0)
        self.close_requested = False
        self.at_ms = 0
        self._commanded = False
        self._heat_dc = 0.0

    def reset(self) -> None:
        """The driver falls: contactors open, protection registers forget."""
        self._commanded = False
        self.limits = dict.fromkeys(LIMITS, 0)

    def power_off(self) -> None:
        self.reset()
        self.close_requested = False
        self.at_ms = 0

    def command(self, closed: bool) -> None:
        self._commanded = closed

    def set_limit(self, register: Register, value: int) -> None:
        """A dead or stuck front end keeps what it has."""
        if not (self.conditions.limits_stuck or self.conditions.front_end_dead):
            self.limits[register] = value

    def set_conditions(self, conditions: Conditions) -> None:
        if conditions.soc_permille >= 0:
            self.charge_uc = min(conditions.soc_permille, 1000) * CAPACITY_UC // 1000
        self.conditions = replace(conditions, soc_permille=-1)

    def advance(self, milliseconds: int) -> None:
        self.at_ms += milliseconds
        self.charge_uc = min(max(self.charge_uc - self.current_ma * milliseconds, 0), CAPACITY_UC)
        settled = HEAT_DC_PER_A2 * (self.current_ma / 1000) ** 2
        self._heat_dc += (settled - self._heat_dc) * min(milliseconds / HEAT_TIME_MS, 1.0)

    @property
    def contactors_closed(self) -> bool:
        """The auxiliary contacts: a welded contactor reads closed whatever the driver says."""
        return self._commanded or self.conditions.welded_contactor

    @property
    def current_ma(self) -> int:
        return self.conditions.load_ma if self.contactors_closed else 0

    @property
    def soc_permille(self) -> int:
        return self.charge_uc * 1000 // CAPACITY_UC

    def cell_mv(self, index: int) -> int:
        """What the cell has; the front end only shows it while it answers."""
        if index == self.conditions.faulty_cell:
            return self.conditions.faulty_cell_mv
        drop = self.current_ma * RESISTANCE_UOHM // 1_000_000
        return _open_circuit_mv(self.charge_uc) + SPREAD_MV[index % len(SPREAD_MV)] - drop

    def measured_mv(self, index: int) -> int:
        return 0 if self.conditions.front_end_dead else self.cell_mv(index)

    def temperature_dc(self, index: int) -> int:
        if index == self.conditions.faulty_sensor:
            return self.conditions.faulty_sensor_dc
        return self.conditions.ambient_dc + round(self._heat_dc) + index % 3

    @property
    def pack_mv(self) -> int:
        """At the terminals: measured apart from the cells, so it can disagree with their sum."""
        return sum(self.cell_mv(index) for index in range(CELLS)) + self.conditions.pack_sense_offset_mv

    @property
    def front_end_id(self) -> int:
        return 0 if self.conditions.front_end_dead else FRONT_END_ID_VALUE

    def telemetry(self) -> Telemetry:
        conditions = self.conditions
        return Telemetry(
            at_ms=self.at_ms,
            cells_mv=tuple(self.measured_mv(index) for index in range(CELLS)),
            temperatures_dc=tuple(self.temperature_dc(index) for index in range(TEMPERATURES)),
            pack_mv=self.pack_mv,
            current_ma=self.current_ma,
            soc_permille=self.soc_permille,
            supply_mv=conditions.supply_mv,
            contactors_closed=self.contactors_closed,
            close_requested=self.close_requested,
            front_end_answers=not conditions.front_end_dead,
            isolation_fault=conditions.isolation_fault,
            interlock_open=conditions.interlock_open,
            balancing=False,
        )


def _open_circuit_mv(charge_uc: int) -> int:
    """Straight lines between the points of OCV_MV."""
    steps = list(pairwise(OCV_MV))
    scaled = charge_uc * len(steps)
    index = min(scaled // CAPACITY_UC, len(steps) - 1)
    low, high = steps[index]
    return low + (high - low) * (scaled - index * CAPACITY_UC) // CAPACITY_UC
