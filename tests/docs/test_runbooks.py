"""The runbooks' commands do what they say: they are run as they stand."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from cellward.cli.main import cellward
from cellward.core import register, revocation
from cellward.core.keys import KeyStage, PublicKey, Role
from cellward.core.register import State
from tests.support.ceremony import DAY

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def commands(name: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (RUNBOOKS / name).read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def run(line: str, fingerprint: str) -> str:
    line = line.replace("FINGERPRINT", fingerprint)
    if "FIRST" in line:
        first = Path("key-register.jsonl").read_bytes().splitlines(keepends=True)[0]
        line = line.replace("FIRST", hashlib.sha256(first).hexdigest())
    words = shlex.split(line)
    assert words[0] == "cellward"
    result = CliRunner().invoke(cellward, words[1:])
    assert result.exit_code == 0, (line, result.output, result.exception)
    return result.output


def test_the_key_ceremony(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sheet = "0" * 16
    for line in commands("key-ceremony.md"):
        output = run(line, sheet)
        drafted = re.search(r"-o (\w+\.jsonl)$", line)
        if drafted:  # everybody writes down what the maker's screen says
            shown = run(f"cellward keys ceremony show {drafted[1]} --json", sheet)
            sheet = json.loads(shown)["fingerprint"][:16]
            assert sheet == re.sub(" ", "", output.split("fingerprint")[1])[:16]
    versions = register.split(Path("maker/key-register.jsonl").read_bytes())
    newest = register.verify_chain(versions)
    assert newest.version == len(versions) == 5
    assert {entry.name for entry in newest.roots()} == {"Ada", "Ben", "Dee"}
    assert newest.named("firmware-dev").status.state is State.REVOKED
    later = newest.issued + 31 * DAY
    assert [e.name for e in newest.signing(Role.FIRMWARE, KeyStage.PRODUCTION, later)] == ["firmware-2"]
    assert Path("key-register.jsonl").read_bytes() == versions[0]
    assert Path("transcript.jsonl").read_bytes() == Path("maker/ceremonies/1.jsonl").read_bytes()
    assert len(list(Path("maker/ceremonies").iterdir())) == 5
    quorum = revocation.Quorum.of(
        2, tuple(PublicKey.from_pem(Path(f"{name}.pem").read_bytes()) for name in ("ada", "ben", "cem"))
    )
    taken = revocation.verify(Path("revocation.bin").read_bytes(), quorum.digest)
    assert taken.key_hash == PublicKey.from_pem(Path("stolen.pem").read_bytes()).key_hash
