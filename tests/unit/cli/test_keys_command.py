"""`cellward keys`: made once, listed with what the token says, public halves exported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cellward.cli.main import cellward
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import PublicKey
from cellward.ports.signer import Role


def run(home: Path, *arguments: str | Path) -> Result:
    result = CliRunner().invoke(cellward, ["--data", str(home), "keys", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
        raise result.exception
    return result


def told(home: Path, *arguments: str | Path) -> Any:
    return json.loads(run(home, *arguments, "--json").stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maker") / "data"
    rows = told(folder, "init")
    assert [row["role"] for row in rows] == [role.value for role in Role if not role.personal]
    assert all(row["created"] for row in rows)
    return folder


def test_init_keeps_what_is_there(home: Path) -> None:
    before = told(home, "list")
    rows = told(home, "init")
    assert not any(row["created"] for row in rows)
    assert [row["fingerprint"] for row in rows] == [row["fingerprint"] for row in before]


def test_every_key_is_confined(home: Path) -> None:
    good = {
        "SENSITIVE": True,
        "ALWAYS_SENSITIVE": True,
        "EXTRACTABLE": False,
        "NEVER_EXTRACTABLE": True,
        "LOCAL": True,
    }
    assert [row["attributes"] for row in told(home, "list")] == [good] * (len(Role) - 1)


def test_the_table_has_every_role_and_fingerprint(home: Path) -> None:
    rows = told(home, "list")
    for command, word in (("list", "never"), ("init", "kept")):
        output = run(home, command).output
        assert word in output
        for row in rows:
            assert row["role"] in output
            assert row["fingerprint"][:32] in output
            assert row["fingerprint"][32:] in output


def test_export(home: Path, tmp_path: Path) -> None:
    (fingerprint,) = (row["fingerprint"] for row in told(home, "list") if row["role"] == "firmware")
    printed = run(home, "export", "firmware").output.encode()
    assert PublicKey.from_pem(printed).fingerprint == fingerprint
    run(home, "export", "firmware", "-o", tmp_path / "x.pem")
    assert (tmp_path / "x.pem").read_bytes() == printed
    assert run(home, "export", "nobody").exit_code == 1


def test_a_further_firmware_key_signs_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    told(folder, "init")
    (made,) = told(folder, "new", "firmware", "--name", "firmware-2", "--algorithm", "rsa-3072")
    assert (made["role"], made["name"], made["algorithm"]) == ("firmware", "firmware-2", "rsa-3072")
    assert made["attributes"] == told(folder, "list")[0]["attributes"]
    again = run(folder, "new", "firmware", "--name", "firmware-2").exception
    assert isinstance(again, CellwardError)
    assert again.code is Code.KEY_EXISTS
    assert [row["name"] for row in told(folder, "list") if row["role"] == "firmware"] == [
        "firmware",
        "firmware-2",
    ]
    run(folder, "export", "firmware-2", "-o", tmp_path / "2.pem")
    assert PublicKey.from_pem((tmp_path / "2.pem").read_bytes()).fingerprint == made["fingerprint"]
    (tmp_path / "app.bin").write_bytes(bytes(100))
    common = ["--data", str(folder), "image"]
    options = ["--version", "1.0.0", "--counter", "1", "--hardware", "bms-m33", "--key", "firmware-2"]
    for arguments in (
        ["sign", str(tmp_path / "app.bin"), *options, "-o", str(tmp_path / "app.img")],
        ["verify", str(tmp_path / "app.img"), "--key", str(tmp_path / "2.pem")],
    ):
        result = CliRunner().invoke(cellward, [*common, *arguments])
        assert result.exit_code == 0, result.exception


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    for arguments in (["list"], ["export", "root"]):
        error = run(tmp_path / "data", *arguments).exception
        assert isinstance(error, CellwardError)
        assert error.code is Code.TOKEN_ABSENT
    assert not (tmp_path / "data").exists()


def test_init_makes_no_token_of_another_name(tmp_path: Path) -> None:
    error = run(tmp_path / "data", "init", "--token", "pkcs11:token=theirs").exception
    assert isinstance(error, CellwardError)
    assert error.code is Code.TOKEN_ABSENT


def test_no_pin_in_what_is_printed(home: Path) -> None:
    pin = (home / "pin").read_text().strip()
    for arguments in (["init"], ["list"], ["list", "--json"]):
        assert pin not in run(home, *arguments).output


def test_an_output_that_is_full_or_closed(home: Path) -> None:
    """One line and exit 1, no traceback; a closed output is nobody's loss."""
    path = os.pathsep.join(filter(None, [str(Path("src").absolute()), os.environ.get("PYTHONPATH")]))
    command = f"{sys.executable} -m cellward.cli.main --data {home} keys list"
    for redirection, status, said in (
        (">/dev/full", 1, "failed [storage.full] output: found No space left on device\n"),
        (">&-", 0, ""),
    ):
        done = subprocess.run(
            ["sh", "-c", f"{command} {redirection}"],
            env=os.environ | {"PYTHONPATH": path},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (status, said)
