"""`cellward calibration` over a real token, and a calibration in a release."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cellward.cli.calibration import example_source
from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core.calibration import PackCalibration, from_source
from cellward.core.errors import CellwardError, Code
from cellward.sign.documents import sign_document
from tests.support import hsm
from tests.support.maker import NOW, Hand
from tests.support.release import sbom_of

ROLES = ("calibration", "firmware", "release", "root", "targets", "snapshot", "timestamp", "director")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = hsm.make_home(tmp_path_factory.mktemp("maker"), *ROLES, "server-ca", "device-ca")
    assert run(made, "repo", "init").exit_code == 0
    return made


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("pack.toml").write_text(example_source())
    return tmp_path


def run(home: Home, *arguments: str) -> Result:
    result = CliRunner().invoke(cellward, ["--data", str(home.root), *arguments])
    if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
        raise result.exception
    return result


def code(result: Result) -> Code:
    assert isinstance(result.exception, CellwardError), result.output
    return result.exception.code


def logged(home: Home) -> int:
    """How many calibrations the signing log has."""
    return run(home, "log", "show", "--json").output.count('"kind": "calibration"')


def signed(home: Home, name: str = "pack.json", *, old: str = "", new: str = "") -> str:
    Path("other.toml").write_text(example_source().replace(old, new, 1))
    assert run(home, "calibration", "sign", "other.toml", "-o", name).exit_code == 0
    return name


def test_sign_show_verify(home: Home, desk: Path) -> None:
    made = run(home, "calibration", "sign", "pack.toml", "-o", "pack.json", "--json")
    key = hsm.store_of(home).find("calibration")
    assert key is not None
    assert json.loads(made.output)["signed_by"] == key.public_key.fingerprint
    assert "not verified" in run(home, "calibration", "show", "pack.json").output
    said = run(home, "calibration", "verify", "pack.json", "--hardware", "bms-m33", "--counter", "1").output
    assert "2800 to 4200 mV" in said
    assert key.public_key.fingerprint in said
    Path("ours.pem").write_bytes(key.public_key.pem())
    Path("other.pem").write_bytes(Hand().public_key.pem())
    verify = "calibration", "verify", "pack.json", "--calibration-key"
    assert run(home, *verify, "ours.pem").exit_code == 0
    assert code(run(home, *verify, "other.pem")) is Code.DOCUMENT_SIGNATURE


def test_the_use_of_the_key_is_in_the_log(home: Home, desk: Path) -> None:
    before = logged(home)
    signed(home)
    assert logged(home) == before + 1


def test_a_bad_source_is_not_signed(home: Home, desk: Path) -> None:
    Path("pack.toml").write_text(example_source().replace("over_mv = 4200", "over_mv = 4500"))
    before = logged(home)
    assert code(run(home, "calibration", "sign", "pack.toml", "-o", "pack.json")) is Code.CALIBRATION_RANGE
    assert not Path("pack.json").exists()
    assert logged(home) == before


def test_what_it_is_not_for(home: Home, desk: Path) -> None:
    one = signed(home, old='# serial = "M0001"', new='serial = "M0001"')
    verify = "calibration", "verify", one
    assert code(run(home, *verify, "--serial", "M0002")) is Code.CALIBRATION_SERIAL
    assert code(run(home, *verify, "--hardware", "bms-m33-18s")) is Code.CALIBRATION_HARDWARE
    assert code(run(home, *verify, "--counter", "2")) is Code.CALIBRATION_COUNTER
    assert run(home, *verify, "--serial", "M0001").exit_code == 0
    assert code(run(home, "calibration", "show", "pack.toml")) is Code.METADATA_FORMAT


# In a release -----------------------------------------------------------------------------------------


def create(home: Home, file: str) -> Result:
    Path("notes.md").write_text("What is new.")
    Path("sbom.json").write_bytes(sbom_of())
    beside = "--notes", "notes.md", "--sbom", "sbom.json", "--no-safety-impact", "-o", "r1"
    assert run(home, "release", "create", "C1", "--calibration", file, *beside).exit_code == 0
    return run(home, "release", "check", "r1")


def test_a_release_with_a_calibration(home: Home, desk: Path) -> None:
    checked = create(home, signed(home))
    assert checked.exit_code == 0, checked.output
    assert "bms-m33 calibration 1.0.0" in run(home, "release", "show", "r1").output


def test_one_by_another_key_is_in_no_release(home: Home, desk: Path) -> None:
    made: PackCalibration = from_source(example_source().encode(), NOW, "pack.toml")
    Path("pack.json").write_bytes(sign_document(made.to_sign(), Hand()).encode())
    assert code(create(home, "pack.json")) is Code.DOCUMENT_SIGNATURE


def test_one_for_a_single_module_is_in_no_release(home: Home, desk: Path) -> None:
    one = signed(home, old='# serial = "M0001"', new='serial = "M0001"')
    assert code(create(home, one)) is Code.CALIBRATION_SERIAL
