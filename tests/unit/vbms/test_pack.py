"""The pack: plausible, deterministic, and broken where it is told to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.ports.module import Conditions
from cellward.vbms.pack import CAPACITY_UC, OCV_MV, SPREAD_MV, Pack
from cellward.vbms.registers import CELLS, FRONT_END_ID_VALUE
from cellward.vbms.registers import Pack as Register


def closed(load_ma: int = 0) -> Pack:
    pack = Pack()
    pack.set_conditions(Conditions(load_ma=load_ma))
    pack.command(closed=True)
    return pack


def test_a_healthy_pack_is_plausible() -> None:
    telemetry = Pack().telemetry()
    assert len(telemetry.cells_mv) == CELLS >= 12
    assert all(3700 < mv < 3720 for mv in telemetry.cells_mv)
    assert len(set(telemetry.cells_mv)) > 1
    assert telemetry.pack_mv == sum(telemetry.cells_mv)
    assert telemetry.soc_permille == 500
    assert not telemetry.contactors_closed
    assert telemetry.current_ma == 0


@given(st.integers(0, CAPACITY_UC), st.integers(0, CAPACITY_UC))
def test_voltage_rises_with_charge(one: int, other: int) -> None:
    low, high = (Pack(charge).cell_mv(0) for charge in sorted((one, other)))
    assert OCV_MV[0] <= low <= high <= OCV_MV[-1]


def test_current_flows_only_through_closed_contactors() -> None:
    pack = closed(load_ma=30_000)
    assert pack.current_ma == 30_000
    assert pack.cell_mv(0) == Pack().cell_mv(0) - 24  # 30 A over 0.8 mΩ
    pack.command(closed=False)
    assert pack.current_ma == 0


@pytest.mark.parametrize(("load_ma", "left"), [(50_000, 0), (25_000, 250), (-25_000, 750), (-60_000, 1000)])
def test_half_an_hour_moves_the_charge(load_ma: int, left: int) -> None:
    pack = closed(load_ma)
    for _ in range(1800):
        pack.advance(1000)
    assert pack.soc_permille == left
    assert pack.at_ms == 1_800_000


def test_small_steps_lose_nothing() -> None:
    coarse, fine = closed(1), closed(1)
    coarse.advance(3_600_000)
    for _ in range(360):
        fine.advance(10_000)
    assert coarse.charge_uc == fine.charge_uc == CAPACITY_UC // 2 - 3_600_000


def test_current_heats() -> None:
    pack = closed(100_000)
    before = pack.temperature_dc(0)
    for _ in range(600):
        pack.advance(1000)
    assert before + 50 < pack.temperature_dc(0) < before + 201


def test_reset_opens_and_forgets_limits() -> None:
    pack = closed()
    pack.set_limit(Register.LIMIT_OV_MV, 4250)
    assert pack.limits[Register.LIMIT_OV_MV] == 4250
    pack.reset()
    assert not pack.contactors_closed
    assert set(pack.limits.values()) == {0}


def test_a_welded_contactor_stays_closed_through_everything() -> None:
    pack = Pack()
    pack.set_conditions(Conditions(welded_contactor=True))
    pack.command(closed=False)
    pack.reset()
    pack.power_off()
    assert pack.contactors_closed


def test_a_dead_front_end_shows_nothing_and_keeps_nothing() -> None:
    pack = Pack()
    assert pack.front_end_id == FRONT_END_ID_VALUE
    pack.set_conditions(Conditions(front_end_dead=True))
    pack.set_limit(Register.LIMIT_UV_MV, 2800)
    assert pack.front_end_id == 0
    assert pack.limits[Register.LIMIT_UV_MV] == 0
    assert set(pack.telemetry().cells_mv) == {0}
    assert pack.pack_mv > 40_000  # measured apart


def test_single_faults_are_single() -> None:
    pack, healthy = Pack(), Pack()
    pack.set_conditions(Conditions(faulty_cell=3, faulty_cell_mv=900, faulty_sensor=2, faulty_sensor_dc=-400))
    differing = [i for i in range(CELLS) if pack.cell_mv(i) != healthy.cell_mv(i)]
    assert differing == [3]
    assert pack.pack_mv == healthy.pack_mv - healthy.cell_mv(3) + 900
    assert pack.temperature_dc(2) == -400
    assert pack.temperature_dc(1) == healthy.temperature_dc(1)
    pack.set_conditions(Conditions(pack_sense_offset_mv=700))
    assert pack.pack_mv == healthy.pack_mv + 700


def test_stuck_limits() -> None:
    pack = Pack()
    pack.set_conditions(Conditions(limits_stuck=True))
    pack.set_limit(Register.LIMIT_OT_DC, 600)
    assert pack.limits[Register.LIMIT_OT_DC] == 0


def test_charge_is_set_once() -> None:
    pack = closed(50_000)
    pack.set_conditions(Conditions(soc_permille=900, load_ma=50_000))
    assert pack.soc_permille == 900
    pack.advance(360_000)
    pack.set_conditions(pack.conditions)
    assert pack.soc_permille == 800
    assert len(SPREAD_MV) >= CELLS
