"""Signing while something else goes wrong: two at once, a full disk. What is there afterwards is whole."""

import json
import os
import resource
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.config import Home
from cellward.core.image import decode
from cellward.core.keys import Role
from tests.support import hsm
from tests.support.hsm import works

APP = str(files("cellward.vbms") / "firmware" / "app-1.4.0.bin")
HARDWARE = ("--counter", "7", "--hardware", "bms-m33")


def start(home: Home, *arguments: str | Path, largest: int | None = None) -> subprocess.Popen[str]:
    """`cellward`; no file of it can grow beyond `largest`, as if the disk were full there."""
    limit = [] if largest is None else ["prlimit", f"--fsize={largest}:{largest}"]
    command = [*limit, sys.executable, "-m", "cellward.cli.main", "--data", str(home.root)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run(home: Home, *arguments: str | Path, largest: int | None = None) -> tuple[int, str, str]:
    return end(start(home, *arguments, largest=largest))


def sign(version: str, output: Path) -> tuple[str | Path, ...]:
    return "image", "sign", APP, "--version", version, *HARDWARE, "-o", output


def logged(home: Home) -> int:
    """How many entries the log has, every one of them verified."""
    status, out, err = run(home, "log", "verify", "--json")
    assert status == 0, err
    return int(json.loads(out)["entries"])


# --- two at once ---


def test_keys_are_made_once_by_whoever_is_first(tmp_path: Path) -> None:
    home = Home(tmp_path / "maker")
    started = [start(home, "keys", "init", "--json") for _ in range(3)]
    done = [end(process) for process in started]
    assert [status for status, _, _ in done] == [0, 0, 0], done
    said = [{row["name"]: row for row in json.loads(out)} for _, out, _ in done]
    for role in (role for role in Role if not role.personal):
        rows = [each[role] for each in said]
        assert len({row["fingerprint"] for row in rows}) == 1, role
        assert [row["created"] for row in rows].count(True) == 1, role
        works(bootstrap.signer(home, f"{hsm.TOKEN};object={role}"))  # two of one label would be refused


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return hsm.make_home(tmp_path_factory.mktemp("maker"), "root", "firmware")


@pytest.fixture
def home(maker: Home, tmp_path: Path) -> Home:
    shutil.copytree(maker.root, tmp_path / "maker")
    home = Home(tmp_path / "maker")
    hsm.store_of(home).labels()  # writes the copy's own configuration, while the disk still has room
    return home


def test_two_sign_into_one_file(home: Home, tmp_path: Path) -> None:
    """One of the images, whole; and an entry for each of them."""
    output = tmp_path / "app.img"
    versions = [f"1.4.{number}" for number in range(4)]
    done = [end(process) for process in [start(home, *sign(version, output)) for version in versions]]
    assert [status for status, _, _ in done] == [0] * 4, done
    assert logged(home) == 4
    key = bootstrap.signer(home, hsm.FIRMWARE).public_key
    assert str(decode(output.read_bytes()).version) in versions
    status, _, err = run(home, "image", "verify", output, "--key", hsm.FIRMWARE)
    assert status == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.img", "maker"]
    assert key.fingerprint in run(home, "log", "show", "--json")[1]


# --- a full disk ---


def refused(code: str, done: tuple[int, str, str]) -> None:
    status, out, err = done
    assert (status, out) == (1, ""), err
    assert f"[{code}]" in err
    assert err.count("\n") == 1


def test_full_where_the_image_goes(home: Home, tmp_path: Path) -> None:
    """The signature was made, and the log says so; the image is not there, not even in part."""
    output = tmp_path / "app.img"
    refused("storage.full", run(home, *sign("1.4.0", output), largest=8000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maker"]
    assert logged(home) == 1
    assert run(home, *sign("1.4.0", output))[0] == 0
    held = output.read_bytes()
    refused("storage.full", run(home, *sign("1.4.1", output), largest=8000))
    assert output.read_bytes() == held
    assert logged(home) == 3


def test_full_where_the_log_is(home: Home, tmp_path: Path) -> None:
    """What cannot be said is not signed; the log ends where it ended."""
    output = tmp_path / "app.img"
    journal = home.signing_log / "journal"
    while not journal.exists() or journal.stat().st_size < 500:
        assert run(home, *sign("1.4.0", output))[0] == 0
    held, entries, image = journal.read_bytes(), logged(home), output.read_bytes()
    done = run(home, *sign("1.4.1", output), largest=len(held) + 20)
    refused("storage.full", done)
    assert "nothing was signed" in done[2]
    assert journal.read_bytes() == held
    assert output.read_bytes() == image
    assert run(home, *sign("1.4.1", output))[0] == 0
    assert logged(home) == entries + 1


@pytest.mark.parametrize("largest", [0, 300])
def test_full_where_the_token_is(home: Home, tmp_path: Path, largest: int) -> None:
    """SoftHSM rewrites token.object at a login: without room it is cut off, and its keys with it."""
    (token,) = home.tokens.glob("*/token.object")
    assert token.stat().st_size > 300
    output = tmp_path / "app.img"
    status, out, err = run(home, *sign("1.4.0", output), largest=largest)
    assert (status, out) == (1, "")
    assert err.startswith("failed [")
    assert not output.exists()
    assert run(home, *sign("1.4.0", output))[0] == 0
    assert logged(home) == 1


@pytest.mark.parametrize("largest", [400, 700])
def test_full_while_keys_are_made(home: Home, largest: int) -> None:
    """SoftHSM says that it made the key. It is no key, and none in half: there is room for its name."""
    new = ("keys", "new", "firmware", "--name", "firmware-2")
    before = sorted(home.tokens.rglob("*.object"))
    refused("token.failed", run(home, *new, largest=largest))
    assert sorted(home.tokens.rglob("*.object")) == before
    assert hsm.store_of(home).labels() == ["firmware", "root"]
    status, _, err = run(home, *new)
    assert status == 0, err
    works(bootstrap.signer(home, f"{hsm.TOKEN};object=firmware-2"))


def test_the_limit_is_one() -> None:
    """`prlimit` did what the tests above take it for."""
    command = [
        "prlimit",
        "--fsize=7:7",
        sys.executable,
        "-c",
        "import resource as r; print(r.getrlimit(r.RLIMIT_FSIZE))",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "(7, 7)"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 7
