"""The state file: created whole, locked, refused when damaged, durable against a killed process."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellward.core.errors import CellwardError, Code, FormatRefused
from cellward.core.slots import BMS_M33, BMS_M33_18S, DATA_BANK, ERASED, OTP_SIZE
from cellward.ports.module import Conditions
from cellward.vbms import state as state_module
from cellward.vbms.cut import Cuts
from cellward.vbms.nor import Nor, flash_size
from cellward.vbms.otp import Otp
from cellward.vbms.pack import CAPACITY_UC, Pack
from cellward.vbms.sensors import LATCH_SIZE
from cellward.vbms.state import FLASH_OFFSET, HEADER, PACK_OFFSET, StateFile, create, file_size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.state"
    create(path, BMS_M33, "M0001")
    return path


@pytest.fixture
def state(path: Path) -> Iterator[StateFile]:
    state = StateFile(path)
    yield state
    state.close()


def refused(code: Code, path: Path) -> CellwardError:
    with pytest.raises(CellwardError) as caught:
        StateFile(path)
    assert caught.value.code is code
    return caught.value


def test_a_new_module_is_blank(state: StateFile, path: Path) -> None:
    assert (state.label.hardware, state.label.serial) == (BMS_M33, "M0001")
    assert bytes(state.flash) == bytes([ERASED]) * flash_size(BMS_M33)
    assert bytes(state.fuses) == bytes(OTP_SIZE)
    assert state.load_pack().soc_permille == 500
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_create_never_replaces(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(CellwardError) as caught:
        create(path, BMS_M33_18S, "M0002")
    assert caught.value.code is Code.STORAGE_EXISTS
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("serial", ["", "M" * 17, "Mü", "M\n", "M\0"])
def test_serials_that_do_not_fit(tmp_path: Path, serial: str) -> None:
    with pytest.raises(CellwardError) as caught:
        create(tmp_path / "x", BMS_M33, serial)
    assert caught.value.code is Code.CONFIG
    assert not list(tmp_path.iterdir())


def test_create_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CellwardError) as caught:
        create(tmp_path / "none" / "x", BMS_M33, "M1")
    assert caught.value.code is Code.STORAGE_MISSING


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CellwardError) as caught:
        create(tmp_path / "x", BMS_M33, "M1")
    assert caught.value.code is Code.STORAGE_FULL
    assert not list(tmp_path.iterdir())


def test_one_process_at_a_time(state: StateFile) -> None:
    refused(Code.MODULE_BUSY, state.path)


def test_unlocked_after_close(path: Path) -> None:
    StateFile(path).close()
    StateFile(path).close()


def test_no_file(tmp_path: Path) -> None:
    assert "module create" in refused(Code.STORAGE_MISSING, tmp_path / "none").advice
    refused(Code.STORAGE_FAILED, tmp_path)


def test_truncated_and_oversized(path: Path) -> None:
    with path.open("r+b") as file:
        for size in (0, 10, HEADER.size, FLASH_OFFSET, file_size(BMS_M33) - 1, file_size(BMS_M33) + 1):
            file.truncate(size)
            refused(Code.MODULE_STATE, path)


def test_another_version_or_hardware(path: Path) -> None:
    for version, name in ((1, b"bms-m33"), (3, b"bms-m33"), (2, b"bms-m34"), (2, b"\xff\xfe")):
        head = HEADER.pack(state_module.MAGIC, version, name, b"M0001")
        with path.open("r+b") as file:
            file.write(head + hashlib.sha256(head).digest())
        refused(Code.MODULE_STATE, path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(at=st.integers(0, HEADER.size + 31), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_header_is_refused(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        original = file.read(HEADER.size + 32)
        flipped = bytearray(original)
        flipped[at] ^= 1 << bit
        file.seek(0)
        file.write(flipped)
        file.flush()
        with pytest.raises(FormatRefused):
            StateFile(path)
        file.seek(0)
        file.write(original)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.binary(min_size=64, max_size=64))
def test_any_bytes_are_a_pack(path: Path, raw: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(PACK_OFFSET)
        file.write(raw)
    state = StateFile(path)
    pack = state.load_pack()
    pack.advance(10)
    assert 0 <= pack.soc_permille <= 1000
    assert len(pack.telemetry().cells_mv) == 12
    state.save_pack(pack)
    state.close()


def test_the_latch_and_the_data_flash_are_kept(path: Path) -> None:
    state = StateFile(path)
    assert bytes(state.latch) == bytes(LATCH_SIZE)
    state.latch[:] = b"\x12\0\0\0"
    Nor(BMS_M33, state.flash, Cuts()).program(DATA_BANK, 8, b"eternity")
    Otp(state.fuses, Cuts()).burn_word(OTP_SIZE - 4, 0xFFFF_FFFF)
    state.close()
    again = StateFile(path)
    assert bytes(again.latch) == b"\x12\0\0\0"
    assert Nor(BMS_M33, again.flash, Cuts()).read(DATA_BANK, 8, 8) == b"eternity"
    again.close()


def test_the_pack_is_carried_over(path: Path) -> None:
    conditions = Conditions(
        load_ma=-5, welded_contactor=True, interlock_open=True, faulty_cell=2, faulty_cell_mv=1
    )
    pack = Pack(CAPACITY_UC // 3)
    pack.set_conditions(conditions)
    state = StateFile(path)
    state.save_pack(pack)
    state.close()
    again = StateFile(path)
    assert again.load_pack().conditions == conditions
    assert again.load_pack().charge_uc == CAPACITY_UC // 3
    again.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from cellward.core.slots import BMS_M33
from cellward.vbms.cut import Cuts
from cellward.vbms.nor import Nor
from cellward.vbms.otp import Otp
from cellward.vbms.state import StateFile
state = StateFile(Path(sys.argv[1]))
Nor(BMS_M33, state.flash, Cuts()).program(1, 64, b"survives")
Otp(state.fuses, Cuts()).burn_word(8, 0xA5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_operations_survive_a_killed_process(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    state = StateFile(path)
    assert bytes(state.flash[BMS_M33.bank_size + 64 :][:8]) == b"survives"
    assert state.fuses[8] == 0xA5
    state.close()
