"""The runbooks' commands do what they say: they are run as they stand."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cellward import bootstrap
from cellward.cli.main import cellward
from cellward.core import register, revocation
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import KeyStage, PublicKey, Role
from cellward.core.register import State
from tests.fakes.module import FakeModule
from tests.support.ceremony import DAY
from tests.support.running import House, server

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
URLS = "--url https://127.0.0.1:DEVICES --enrol-url https://127.0.0.1:ENROLMENT"


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


class Rotation:
    """The runbook's server, which is started anew in the middle, and its two packs."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.servers = ExitStack()
        self.running = self.servers.enter_context(server(house))
        self.ports = {"DEVICES": str(self.running.devices), "ENROLMENT": str(self.running.enrolment)}

    def run(self, line: str) -> Result:
        for word, port in self.ports.items():
            line = line.replace(word, port)
        words = shlex.split(line)
        if words[3:5] != ["server", "run"]:
            return CliRunner().invoke(cellward, words[1:])
        self.running.stop()
        self.running = self.servers.enter_context(server(self.house, "again", *self.ports.values()))
        return Result(CliRunner(), b"", b"", b"", None, 0, None)


@pytest.fixture
def rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rotation]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bootstrap, "connect_module", lambda path: nullcontext(FakeModule(serial=path.name)))
    house = House(tmp_path / "maker")
    house.run("keys", "init")
    house.run("repo", "init")
    made = Rotation(house)
    with made.servers:
        assert made.run(f"cellward --data maker repo factory -o factory.json {URLS}").exit_code == 0
        for number in (1, 2):
            token = house.run("server", "enrol-token", f"PACK-{number}", "--software-identity").strip()
            Path("token").write_text(token)
            line = f"cellward device enrol --state pack{number} --vehicle PACK-{number} --module m{number}"
            got = made.run(f"{line} --factory factory.json --token-file token --software-identity")
            assert got.exit_code == 0, got.exception
        yield made


def test_another_ca_for_the_server(rotation: Rotation) -> None:
    """What is refused on the way is tried where the runbook says that it is."""
    behind = "cellward --data maker server ca use server-ca-2"
    parked = "cellward device run --state pack2 --once"
    refused = {
        "cellward --data maker server ca state server-ca server-ca-2": (behind, Code.SERVER_CA_BEHIND),
        f"{behind} --anyway": (behind, Code.SERVER_CA_BEHIND),
        "cellward --data maker server ca export -o server-cas.json": (parked, Code.TLS_SERVER),
        "cellward --data maker server ca state server-ca-2": (
            "cellward --data maker server ca state server-ca",
            Code.SERVER_CA_BEHIND,
        ),
    }
    said = []
    for line in commands("server-ca-rotation.md"):
        if line in refused:
            early, code = refused.pop(line)
            error = rotation.run(early).exception
            assert isinstance(error, CellwardError), error
            assert error.code is code
            assert code is not Code.TLS_SERVER or "device server-ca FILE" in error.advice
        got = rotation.run(line)
        assert got.exit_code == 0, (line, got.output, got.exception)
        said.append(got.output)
    assert not refused
    assert "PACK-2" in said[5]
    assert "PACK-1" not in said[5]
    assert said[-1].endswith("version 2, which every pack has asked for\n")
    old, new = ((Path("maker/ca") / f"{name}.pem").read_text() for name in ("server-ca", "server-ca-2"))
    assert (json.loads(Path("factory.json").read_text())["server_ca"]) == old
    made = json.loads(Path("factory-2.json").read_text())
    assert (made["server_ca"], made["server_ca_version"]) == (new, 1)

    # Who has the old CA's key: the packs do not know him, nor does a new one by an old statement.
    Path("maker/ca/shown").write_text("server-ca")
    rotation.run("cellward --data maker server run")
    for number in (1, 2):
        error = rotation.run(f"cellward device run --state pack{number} --once").exception
        assert isinstance(error, CellwardError)
        assert error.code is Code.TLS_SERVER
    error = rotation.run("cellward device server-ca server-cas.json --state pack1").exception
    assert isinstance(error, CellwardError)
    assert error.code is Code.METADATA_VERSION
    shown = json.loads(rotation.run("cellward device status --state pack1 --json").output)["server_cas"]
    assert shown["version"] == 2
