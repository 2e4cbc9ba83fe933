"""`cellward device calibrate` from the maker's token to the vault in a real swtpm; the module is the fake."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cellward import bootstrap
from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import PublicKey
from cellward.core.metadata import encode_factory
from cellward.core.slots import BMS_M33, OTP_LIFECYCLE, Lifecycle
from cellward.device.memory import Attested, Device, Memory, ModuleEntry
from tests.fakes.module import FakeModule
from tests.support import calibration, hsm
from tests.support.pack import ADDRESS, SERIAL, Pack
from tests.support.uptane import VEHICLE

DEVICE = Device(VEHICLE, (ModuleEntry(SERIAL, BMS_M33.name, ADDRESS),), Attested("https://server", "0" * 64))
Desk = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A maker, and a controller that left his plant with a vault."""
    desk = tmp_path_factory.mktemp("desk")
    home = hsm.make_home(desk / "maker", "policy", "calibration")
    for arguments in (
        ("vault", "policy", "--counter", "1", "-o", f"{desk}/policy.json"),
        ("keys", "export", "policy", "-o", f"{desk}/policy.pem"),
        ("keys", "export", "calibration", "-o", f"{desk}/calibration.pem"),
    ):
        done(run(home, *arguments))
    key = PublicKey.from_pem((desk / "calibration.pem").read_bytes())
    factory = encode_factory(replace(Pack().factory, calibration_keys=(key,)))
    Memory(bootstrap.device_store(desk / "state")).set_device(DEVICE, factory)
    keys = "--policy-key", f"{desk}/policy.pem", "--policy", f"{desk}/policy.json"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cellward.adapters.lockedmemory.forbid_dumps", lambda: None)
        done(run(home, "vault", "init", "--state", f"{desk}/state", *keys))
    return desk


@pytest.fixture
def module() -> FakeModule:
    found = Pack().module
    start = OTP_LIFECYCLE.offset
    found.fuses[start : start + 4] = Lifecycle.PROVISIONED.fuses.to_bytes(4, "little")
    return found


@pytest.fixture
def desk(made: Path, module: FakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("cellward.adapters.lockedmemory.forbid_dumps", lambda: None)  # of the test run
    monkeypatch.setattr(bootstrap, "connect_module", lambda path: nullcontext(module))
    found = tmp_path / "desk"
    shutil.copytree(made, found)
    monkeypatch.chdir(found)
    return found


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cellward, ["--data", str(home.root), *arguments])


def done(result: Result) -> str:
    assert result.exit_code == 0, result.exception
    return result.output


def sign(version: str, over_mv: int = 4200) -> None:
    home, source = Home(Path("maker").absolute()), Path("calibration.toml")
    text = done(run(home, "calibration", "example"))
    source.write_text(
        text.replace('"1.0.0"', f'"{version}"').replace("over_mv = 4200", f"over_mv = {over_mv}")
    )
    done(run(home, "calibration", "sign", str(source), "-o", f"{version}.json"))


def calibrate(file: str, *more: str) -> Result:
    return run(Home(Path("maker").absolute()), "device", "calibrate", "--state", "state", file, *more)


def refused(result: Result, code: Code) -> None:
    assert isinstance(result.exception, CellwardError), result.output
    assert result.exception.code is code, str(result.exception)


def test_from_the_maker_s_token_to_the_module(desk: Path, module: FakeModule) -> None:
    sign("1.1.0")
    sign("1.2.0", 4190)
    assert "calibration 1.1.0 kept; in the module from its next start on" in done(calibrate("1.1.0.json"))
    assert "kept already; as in the module" in done(calibrate("1.1.0.json"))
    module.reset()
    facts = json.loads(done(calibrate("1.2.0.json", "--json")))
    assert facts["version"] == "1.2.0"
    assert facts["modules"] == [
        {"serial": SERIAL, "changed": True, "module": "in the module from its next start on"}
    ]
    vault = (desk / "state/vault/values").read_bytes()
    refused(calibrate("1.1.0.json"), Code.CALIBRATION_VERSION)
    Path("strange.json").write_bytes(calibration.signed("9.0.0"))
    refused(calibrate("strange.json"), Code.DOCUMENT_SIGNATURE)
    assert (desk / "state/vault/values").read_bytes() == vault


def test_a_module_that_was_swapped(desk: Path, module: FakeModule) -> None:
    sign("1.1.0")
    vault, flash = (desk / "state/vault/values").read_bytes(), bytes(module.data_flash)
    module.serial = "M-0666"
    refused(calibrate("1.1.0.json"), Code.PLAN_HARDWARE)
    assert (desk / "state/vault/values").read_bytes() == vault
    assert bytes(module.data_flash) == flash


def test_a_controller_without_a_tpm_has_no_vault_made(desk: Path) -> None:
    shutil.rmtree("state/tpm")
    shutil.rmtree("state/vault")
    sign("1.1.0")
    memory = Memory(bootstrap.device_store(Path("state")))
    memory.set_device(replace(DEVICE, attested=None), memory.factory_data())
    refused(calibrate("1.1.0.json"), Code.TPM_ABSENT)
    assert not Path("state/tpm").exists()


def test_status_says_what_is_in_force(desk: Path) -> None:
    memory = Memory(bootstrap.device_store(Path("state")))
    note = {"source": "safe defaults", "version": "", "module": "", "code": "calibration.defaults"}
    memory.set_calibrated(SERIAL, {**note, "expected": "the kept one", "found": "[vault.seal] vault"})
    # The identity of a controller with a TPM is in its running agent: nothing else is needed.
    said = done(run(Home(Path("maker").absolute()), "device", "status", "--state", "state"))
    line = next(line for line in said.splitlines() if line.startswith("calibration"))
    assert line == (
        f"calibration  {SERIAL}: safe defaults; calibration.defaults: expected the kept one, "
        "found [vault.seal] vault"
    )
