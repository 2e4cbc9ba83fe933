"""docs/signers.md: the package in it is installed as it stands there, and does what the text says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from cellward.core.errors import Code
from cellward.ports.token_uri import _PATH, _QUERY

TEXT = (Path(__file__).parents[2] / "docs" / "signers.md").read_text()
APP = files("cellward.vbms") / "firmware" / "app-1.4.0.bin"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of site packages with the example's in it."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "pyproject.toml").write_text(block("toml"))
    (folder / "cellward_sshagent.py").write_text(block("python"))
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *install]
    subprocess.run([*command, "--target", str(folder / "site"), str(folder)], check=True)
    return folder / "site"


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """With an ssh-agent of its own."""
    socket = f"{tmp_path}/a"
    if len(socket) > 100:
        pytest.fail("the name of a socket has 107 bytes at most: run with a shorter --basetemp")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "cellward"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cellward.cli.main "$@"\n')
    program.chmod(0o755)
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        agent.stdout.readline()
        path = [str(installed), *(entry for entry in sys.path if entry)]
        yield {
            **os.environ,
            "SSH_AUTH_SOCK": socket,
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(path),
            "CELLWARD_DATA": str(tmp_path / "maker"),
        }
        agent.terminate()


def shell(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "app.bin").write_bytes(APP.read_bytes())
    return subprocess.run(
        ["sh", "-ec", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_worked_example(tmp_path: Path, environment: dict[str, str]) -> None:
    done = shell(block("sh"), tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert "sshagent:build%20key" in done.stdout
    assert (tmp_path / "signed.bin").stat().st_size > len(APP.read_bytes())


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("ssh-add -qD", "no Ed25519 key"),
        ("ssh-keygen -q -t ed25519 -N '' -C 'build key' -f other; ssh-add -q other", "build key, build key"),
        ("unset SSH_AUTH_SOCK", "none"),
        ("SSH_AUTH_SOCK=/nonexistent", "none"),
    ],
)
def test_what_the_example_refuses(
    tmp_path: Path, environment: dict[str, str], before: str, found: str
) -> None:
    *make, sign, _ = block("sh").splitlines()
    done = shell("\n".join([*make, before, sign]), tmp_path, environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(rf"^(refused|failed) \[signer\.failed\] ssh-agent: .*found {found}", done.stderr)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "signed.bin").exists()


def test_every_attribute_of_a_uri_is_explained() -> None:
    for name in (*_PATH, *_QUERY, "pin-value"):
        assert f"`{name}`" in TEXT, name


def test_every_code_in_the_text_is_one() -> None:
    codes = set(re.findall(r"`((?:token|signer|key)\.[a-z_]+)`", TEXT))
    assert len(codes) > 8
    assert codes - {"token.object", "token.spare"} <= {str(code) for code in Code}
