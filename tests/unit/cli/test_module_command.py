"""`cellward module` as a user and as a script meet it."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cellward.cli.calibration import example_source
from cellward.cli.main import cellward
from cellward.core.calibration import from_source
from cellward.core.errors import CellwardError, Code
from cellward.core.slots import BMS_M33, MAGIC_FROM_END, TRAILER_MAGIC, Stage
from cellward.ports.linksocket import socket_path
from cellward.vbms.bench import VirtualModule
from tests.firmware.rig import KEY, STRANGER, release


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cellward, ["module", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
        raise result.exception
    return result


def told(*arguments: str | Path) -> Any:
    result = run(*arguments, "--json")
    assert result.exception is None, result.output
    return json.loads(result.stdout)


def refused(code: Code, *arguments: str | Path) -> Result:
    result = run(*arguments)
    assert isinstance(result.exception, CellwardError)
    assert result.exception.code is code
    return result


def filled(folder: Path) -> Path:
    """With key and images as `keys export` and `image sign` leave them."""
    (folder / "firmware.pem").write_bytes(KEY.public.pem())
    for version, counter in (("1.3.0", 6), ("1.4.0", 7)):
        for stage, image in release(version, counter).items():
            (folder / f"{stage}-{version}.img").write_bytes(image)
    return folder


def made(folder: Path) -> Path:
    state = folder / "m.state"
    assert run("create", "--state", state, "--hardware", "bms-m33", "--serial", "M9").exit_code == 0
    return state


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return made(filled(tmp_path))


def provision(state: Path, *extra: str, key: str | Path | None = None, app: str = "app") -> list[str | Path]:
    folder = state.parent
    loader, image = folder / "loader-1.3.0.img", folder / f"{app}-1.3.0.img"
    key = key or folder / "firmware.pem"
    images: list[str | Path] = ["--loader", loader, "--app", image]
    register: list[str | Path] = ["--register", folder / "m.registration"]
    return ["provision", "--state", state, "--firmware-key", key, *images, *register, *extra]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a module was made and provisioned, to be copied."""
    folder = tmp_path_factory.mktemp("plant")
    assert run(*provision(made(filled(folder)))).exit_code == 0
    return folder


@pytest.fixture
def planted(plant: Path, tmp_path: Path) -> Path:
    shutil.copytree(plant, tmp_path, dirs_exist_ok=True)
    return tmp_path / "m.state"


@pytest.fixture
def running(planted: Path) -> Iterator[Path]:
    arguments = [sys.executable, "-m", "cellward.cli.main", "module", "run", "--state", str(planted)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "ready" in process.stdout.readline()
    yield planted
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()


def test_create_refuses_a_name_that_is_taken(state: Path) -> None:
    before = state.read_bytes()
    refused(Code.STORAGE_EXISTS, "create", "--state", state, "--hardware", "bms-m33", "--serial", "M1")
    assert state.read_bytes() == before


def test_a_blank_module_does_not_boot(state: Path) -> None:
    result = refused(Code.BANK_NONE_GOOD, "boot", "--state", state)
    assert "recovery" in result.stdout
    assert "bank.none_good" in result.stdout


def test_provision_and_boot(planted: Path) -> None:
    boot = told("boot", "--state", planted)
    assert boot["outcome"] == "running"
    (report,) = boot["boots"]
    assert [m["name"] for m in report["milestones"]][:2] == ["rom_entered", "loader_entered"]
    assert (report["bank"], report["counter"]) == ("a", 6)
    assert [event["code"] for event in report["events"]] == [Code.VAULT_MISSING]
    assert len(boot["pack"]["cells_mv"]) == 12
    table = run("boot", "--state", planted).stdout
    assert "verified by the ROM" in table
    assert "verified by the loader" in table
    assert "contactors open" in table


def test_provision_by_hash_and_again(state: Path) -> None:
    by_hash = provision(state, "--json", "--keep-open", key=KEY.public.key_hash.hex())
    assert json.loads(run(*by_hash).stdout)["changed"] is True
    facts = json.loads(run(*by_hash).stdout)
    assert facts["changed"] is False
    assert (facts["serial"], facts["lifecycle"]) == ("M9", "provisioned")
    assert facts["outcome"] == "off"  # looking at a finished module does not boot it
    assert facts["banks"]["a"]["app"]["version"] == "1.3.0"
    assert facts["banks"]["b"] == {"state": "empty", "loader": None, "app": None}


def test_provision_closes_the_module(planted: Path) -> None:
    facts = told("status", "--state", planted)
    assert (facts["lifecycle"], facts["debug"], facts["counter"]) == ("production", "locked", 6)
    assert facts["banks"]["a"] == {"state": "confirmed", "loader": None, "app": None}  # it shows no flash
    assert "was provisioned already" in run(*provision(planted)).stdout


def test_calibration_before_the_module_is_closed(state: Path) -> None:
    """The module takes and applies what a signed calibration says (core.calibration)."""
    source = example_source().replace("gain_ppm = 0", "gain_ppm = -1200")
    made = from_source(source.encode(), datetime.now(UTC), "example")
    wanted, version = made.block, made.block_version
    cells = ("--cell-over-mv", f"{wanted.cell_over_mv}", "--cell-under-mv", f"{wanted.cell_under_mv}")
    limits = (*cells, "--current-gain-ppm", f"{wanted.current_gain_ppm}")
    calibrate = ("calibrate", "--state", state, "--version", f"{version}", *limits)
    assert run(*provision(state, "--keep-open")).exit_code == 0
    facts = told(*calibrate)
    assert (facts["changed"], facts["version"], facts["counter"]) == (True, 0x01000000, 1)
    assert (facts["cell_over_mv"], facts["current_gain_ppm"]) == (4200, -1200)
    assert "was there already" in run(*calibrate).stdout
    assert run(*provision(state)).exit_code == 0
    assert told("boot", "--state", state)["boots"][0]["events"] == []
    assert told(*calibrate)["changed"] is False
    refused(Code.LIFECYCLE_CLOSED, *calibrate[:4], "4", *limits)
    refused(Code.VAULT_SEAL, *calibrate, "--cell-over-mv", "9000")


def test_provision_refuses_and_changes_nothing(state: Path) -> None:
    folder, before = state.parent, state.read_bytes()
    (folder / "stranger.pem").write_bytes(STRANGER.public.pem())
    (folder / "bad.pem").write_bytes(b"no key")
    for arguments, code in (
        (provision(state, key=folder / "stranger.pem"), Code.IMAGE_KEY_UNKNOWN),
        (provision(state, key=folder / "bad.pem"), Code.KEY_FORMAT),
        (provision(state, key="z" * 64), Code.KEY_FORMAT),
        (provision(state, key=folder / "none.pem"), Code.STORAGE_MISSING),
        (provision(state, app="loader"), Code.IMAGE_HARDWARE),
    ):
        refused(code, *arguments)
    assert state.read_bytes() == before


def test_status_of_a_module_at_rest(state: Path) -> None:
    planted = state
    assert run(*provision(planted, "--keep-open")).exit_code == 0
    facts = told("status", "--state", planted)
    assert (facts["outcome"], facts["active_bank"], facts["counter"]) == ("off", "a", 6)
    assert facts["slot_keys"] == [KEY.public.key_hash.hex()]
    assert facts["banks"]["a"]["state"] == "confirmed"
    assert facts["banks"]["a"]["loader"]["digest_holds"] is True
    assert KEY.public.key_hash.hex() in "".join(run("status", "--state", planted).stdout.split())


def test_a_fallback_is_shown_with_its_reason(state: Path) -> None:
    planted = state
    assert run(*provision(planted, "--keep-open")).exit_code == 0
    module = VirtualModule(planted)
    module.power_on()
    image = bytearray((planted.parent / "app-1.4.0.img").read_bytes())
    image[0x300] ^= 1
    for offset in range(BMS_M33.app.offset, BMS_M33.app.offset + len(image), BMS_M33.page_size):
        module.erase_page("b", offset)
    loader = (planted.parent / "loader-1.4.0.img").read_bytes()
    for stage, data in ((Stage.LOADER, loader), (Stage.APP, bytes(image))):
        module.program("b", BMS_M33.slot(stage).offset, data + b"\xff" * (-len(data) % 8))
    module.program("b", BMS_M33.bank_size - MAGIC_FROM_END, TRAILER_MAGIC)
    module.close()
    boot = told("boot", "--state", planted)
    assert (boot["outcome"], boot["boots"][-1]["bank"]) == ("running", "a")
    events = [event for report in boot["boots"] for event in report["events"]]
    assert ("loader", "b", "image.hash") in [(e["where"], e["bank"], e["code"]) for e in events]


def test_a_running_module(running: Path) -> None:
    refused(Code.MODULE_BUSY, "run", "--state", running)
    pack = told("pack", "--state", running, "--close", "--load-ma", "9000")
    assert (pack["contactors_closed"], pack["current_ma"]) == (True, 9000)
    assert "closed" in run("pack", "--state", running).stdout
    pack = told("pack", "--state", running, "--faulty-cell", "3", "1500")
    assert (pack["cells_mv"][3], pack["contactors_closed"]) == (1500, False)
    assert told("pack", "--state", running, "--healthy", "--open")["cells_mv"][3] > 3000
    assert told("reset", "--state", running)["boots"][0]["cause"] == "pin"
    assert told("status", "--state", running)["outcome"] == "running"
    assert "operation 5" in run("power-cut", "--state", running, "--operation", "5", "--torn", "half").stdout
    assert run("power-cut", "--state", running).exit_code == 0
    refused(Code.MODULE_ABSENT, "reset", "--state", running)
    assert told("boot", "--state", running)["outcome"] == "running"
    time.sleep(0.2)
    assert socket_path(running).exists()


@pytest.mark.parametrize("command", ["reset", "power-cut", "pack"])
def test_what_needs_a_running_module(planted: Path, command: str) -> None:
    result = refused(Code.MODULE_ABSENT, command, "--state", planted)
    assert "module run" in str(result.exception)


def test_the_packaged_firmware_is_copied(tmp_path: Path) -> None:
    assert run("firmware", tmp_path / "build").exit_code == 0
    names = {path.name for path in (tmp_path / "build").iterdir()}
    assert {"rom.bin", "loader-1.3.0.elf", "app-1.3.0.hex", "app-1.4.0.elf"} <= names
