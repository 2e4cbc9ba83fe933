"""`cellward release` over real tokens: the maker's, and somebody else's who approves."""

import json
import os
from pathlib import Path

import pytest

from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from tests.support import hsm
from tests.support.hsm import code_of
from tests.support.maker import Keys, signed_image
from tests.support.release import sbom_of

ROLES = (
    "firmware",
    "release",
    "root",
    "targets",
    "snapshot",
    "timestamp",
    "director",
    "server-ca",
    "device-ca",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = hsm.make_home(tmp_path_factory.mktemp("maker") / "data", *ROLES)
    run(made, "repo", "init")
    return made


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return hsm.make_home(tmp_path_factory.mktemp("ada") / "data", "approval")


@pytest.fixture
def desk(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the release manager works; what is given to `create`."""
    monkeypatch.chdir(tmp_path)
    image = signed_image(Keys())
    Path("app.img").write_bytes(image)
    Path("notes.md").write_text("What is new.")
    Path("sbom.json").write_bytes(sbom_of(image))
    key = hsm.store_of(home).find("release")
    assert key is not None
    Path("release.pem").write_bytes(key.public_key.pem())
    return tmp_path


def run(home: Home, *arguments: str) -> None:
    cellward.main(["--data", str(home.root), *arguments], standalone_mode=False)


def refused(home: Home, *arguments: str) -> Code:
    with pytest.raises(CellwardError) as error:
        run(home, *arguments)
    assert "\n" not in str(error.value)
    return code_of(error)


def create(home: Home, *more: str, output: str = "r1") -> None:
    parts = "--image", "app.img", "--notes", "notes.md", "--sbom", "sbom.json", "--no-safety-impact"
    run(home, "release", "create", "R1", *parts, *more, "-o", output)


def test_from_create_to_withdraw(
    home: Home, ada: Home, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(home, "--require", "bms-m33:app needs calibration>=2.0.0")
    create(home, "--json", output="r2")
    said = capsys.readouterr().out
    assert "bms-m33 app needs calibration 2.0.0 or later" in said
    assert json.loads(said[said.index("{") :])["parts"][0]["version"] == "1.4.0"
    key = f"{hsm.TOKEN};object=approval"
    run(ada, "release", "approve", "r1", "--key", key, "--name", "Ada", "--release-key", "release.pem")
    assert len(list((desk / "r1" / "approvals").iterdir())) == 1
    run(home, "release", "withdraw", "r1", "--reason", "it does not charge")
    assert refused(home, "release", "withdraw", "r1", "--reason", "again") is Code.RELEASE_WITHDRAWN
    (desk / "r1" / "withdrawal.json").unlink()
    assert refused(home, "repo", "publish", "--release", "r1") is Code.RELEASE_WITHDRAWN
    assert refused(home, "release", "check", "r1") is Code.RELEASE_WITHDRAWN
    assert refused(home, "repo", "publish", "app.img") is Code.RELEASE_WITHDRAWN


def test_two_signatures(home: Home, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(home, "release", "softkey", "pq.key", "--public", "pq.pem")
    assert "software, no HSM" in capsys.readouterr().out
    create(home, "--post-quantum", f"softkey:{desk}/pq.key")
    assert "ML-DSA-65 (software, no HSM)" in capsys.readouterr().out
    run(home, "release", "show", "r1")
    assert "not known here, not verified" in capsys.readouterr().out
    both = "--release-key", "release.pem", "--release-key", "pq.pem"
    run(home, "release", "show", "r1", *both)
    assert "ML-DSA-65 (software, no HSM)" in capsys.readouterr().out
    create(home, output="classical")
    assert refused(home, "release", "show", "classical", *both) is Code.RELEASE_KEYS
    alone = "--key", f"softkey:{desk}/pq.key"
    with pytest.raises(CellwardError) as error:
        create(home, *alone, output="alone")
    assert code_of(error) is Code.RELEASE_KEYS
    assert not (desk / "alone").exists()
    approve = "release", "approve", "classical", "--key", alone[1], "--name", "Eve"
    assert refused(home, *approve) is Code.RELEASE_KEYS


def test_a_folder_that_is_there_is_left_alone(home: Home, desk: Path) -> None:
    create(home)
    before = {path: path.read_bytes() for path in (desk / "r1").iterdir()}
    with pytest.raises(CellwardError) as error:
        create(home)
    assert code_of(error) is Code.STORAGE_EXISTS
    assert {path: path.read_bytes() for path in (desk / "r1").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("--require", "app>=1"), Code.CONFIG),
        (("--image", "none.img"), Code.STORAGE_MISSING),
        (("--image", "app.img"), Code.METADATA_FORMAT),
        (("--image", "notes.md"), Code.IMAGE_SIZE),
        (("--sbom", "notes.md"), Code.METADATA_FORMAT),
        (("--key", "pkcs11:token=cellward;object=none"), Code.TOKEN_KEY_MISSING),
        (("--post-quantum", "softkey:/none"), Code.STORAGE_MISSING),
    ],
)
def test_what_cannot_be_a_release(home: Home, desk: Path, change: tuple[str, ...], code: Code) -> None:
    with pytest.raises(CellwardError) as error:
        create(home, *change)
    assert code_of(error) is code
    assert not os.path.lexists("r1")


def test_nothing_that_is_no_folder(home: Home, desk: Path) -> None:
    for command in (("show",), ("check",), ("withdraw", "--reason", "x")):
        assert refused(home, "release", *command, "none") is Code.RELEASE_PART
