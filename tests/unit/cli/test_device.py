"""`cellward device` over real TLS and real files; the module is the fake."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from cellward import bootstrap
from cellward.cli.device import device
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import PublicKey
from cellward.core.metadata import encode_factory, verify_manifest
from tests.fakes.tls import Authority, server_context, serving
from tests.support.pack import Pack
from tests.support.uptane import NOW, VEHICLE

TOKEN = "a-secret-that-nobody-prints"


@dataclass
class Bench:
    """A controller's files, and the two listeners behind one port: certificates are not asked for."""

    folder: Path
    pack: Pack
    authority: Authority
    requests: list[str]
    counters: list[int]
    url: str = ""
    public_key: PublicKey | None = None

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(f"{handler.command} {handler.path}")
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        routes = {"/v1/enrol": self._enrol, "/v1/report": self._report}
        route = routes.get(handler.path)
        data = route(body) if route else self.pack.server.files[handler.path]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _enrol(self, body: bytes) -> bytes:
        asked = json.loads(body)
        assert asked["token"] == TOKEN
        key = x509.load_pem_x509_csr(asked["csr"].encode()).public_key()
        self.public_key = PublicKey.from_cryptography(key)
        certificate = self.authority.issue(VEHICLE, key)  # type: ignore[arg-type]
        return json.dumps({"certificate": certificate.decode()}).encode()

    def _report(self, body: bytes) -> bytes:
        assert self.public_key is not None
        last = self.counters[-1] if self.counters else 0
        self.counters.append(verify_manifest(body, self.public_key, VEHICLE, last).counter)
        return json.dumps(
            {str(r): {"root": 1, "timestamp": v} for r, v in self.pack.versions.items()}
        ).encode()

    @property
    def state(self) -> Path:
        return self.folder / "pack"

    def run(self, *arguments: str, token: str | None = None) -> Result:
        environment = {"CELLWARD_ENROL_TOKEN": token} if token else {}
        return CliRunner().invoke(device, arguments, env=environment)

    def enrol(self, *more: str, token: str | None = TOKEN, vehicle: str = VEHICLE) -> Result:
        factory = str(self.folder / "factory.json")
        fixed = ("enrol", "--state", str(self.state), "--factory", factory, "--vehicle", vehicle)
        return self.run(*fixed, "--module", "m1.module", "--software-identity", *more, token=token)

    def once(self, *more: str) -> Result:
        return self.run("run", "--state", str(self.state), "--once", *more)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    pack = Pack()
    authority = Authority()
    made = Bench(tmp_path, pack, authority, [], [])
    names = ["/v1/enrol", "/v1/report"]
    answers = dict.fromkeys([*names, *pack.server.files], made.answer)
    monkeypatch.setattr(bootstrap, "connect_module", lambda path: nullcontext(pack.module))
    monkeypatch.setattr("cellward.cli.device._now", lambda: NOW)
    with serving(server_context(authority, None), answers) as url:
        made.url = url
        factory = replace(
            pack.factory,
            server_ca=authority.pem,
            device_ca=authority.pem,
            director_urls=(url,),
            image_urls=(url,),
            enrol_urls=(url,),
        )
        (tmp_path / "factory.json").write_bytes(encode_factory(factory))
        yield made


def refused(result: Result, code: Code) -> CellwardError:
    error = result.exception
    assert isinstance(error, CellwardError), repr(error)
    assert error.code is code
    return error


@pytest.fixture
def enrolled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("cellward.cli.device._now", lambda: datetime.now(UTC))
    result = bench.enrol()
    assert result.exception is None, repr(result.exception)
    monkeypatch.setattr("cellward.cli.device._now", lambda: NOW)
    return bench


def test_enrol_and_poll(enrolled: Bench) -> None:
    assert enrolled.once().exception is None
    enrolled.requests.clear()
    result = enrolled.once()
    assert result.exception is None
    assert enrolled.requests == ["POST /v1/report"]  # at most 3 with nothing to do
    assert "nothing to do" in result.output
    assert "app 1.3.0" in result.output


def test_what_is_secret_stays_secret(enrolled: Bench) -> None:
    """The token is nowhere, the key is for its owner alone."""
    files = [path for path in enrolled.state.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.stat().st_mode & 0o077 == 0
        assert TOKEN.encode() not in path.read_bytes()


def test_json(enrolled: Bench) -> None:
    facts = json.loads(enrolled.once("--json").output)
    assert facts["outcome"] == "nothing to do"
    assert facts["refusal"] is None
    status = json.loads(enrolled.run("status", "--state", str(enrolled.state), "--json").output)
    assert status["vehicle"] == VEHICLE
    assert status["trusted"]["director"]["timestamp"] == 1


def test_status_for_people(enrolled: Bench) -> None:
    enrolled.once()
    lines = enrolled.run("status", "--state", str(enrolled.state)).output
    assert f"vehicle      {VEHICLE}" in lines
    assert "loader 1.3.0 (counter 6), app 1.3.0 (counter 6)" in lines


def test_a_token_from_a_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellward.cli.device._now", lambda: datetime.now(UTC))
    (bench.folder / "token").write_text(f"{TOKEN}\n")
    result = bench.enrol("--token-file", str(bench.folder / "token"), token=None)
    assert result.exception is None
    assert TOKEN not in result.output


def test_no_token(bench: Bench) -> None:
    refused(bench.enrol(token=None), Code.ENROL_TOKEN)
    assert not bench.state.exists()
    assert bench.requests == []


def test_a_second_enrolment(enrolled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(enrolled.enrol(), Code.ENROL_DONE)
    refused(enrolled.enrol("--again", vehicle="PACK-0002"), Code.ENROL_DONE)
    assert enrolled.requests == ["POST /v1/enrol"]
    monkeypatch.setattr("cellward.cli.device._now", lambda: datetime.now(UTC))
    assert enrolled.enrol("--again").exception is None


def test_no_enrolment_listener(bench: Bench) -> None:
    data = json.loads((bench.folder / "factory.json").read_text())
    del data["enrolment"]
    (bench.folder / "factory.json").write_text(json.dumps(data))
    assert refused(bench.enrol(), Code.CONFIG).advice


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"x" * 2_000_000])
def test_factory_data_that_is_none(bench: Bench, data: bytes) -> None:
    (bench.folder / "factory.json").write_bytes(data)
    assert isinstance(bench.enrol().exception, CellwardError)
    assert not bench.state.exists()


def test_roots_that_nobody_signed_do_not_cost_a_token(bench: Bench) -> None:
    data = json.loads((bench.folder / "factory.json").read_text())
    data["director_root"]["signed"]["version"] = 2
    (bench.folder / "factory.json").write_text(json.dumps(data))
    refused(bench.enrol(), Code.METADATA_SIGNATURE)
    assert bench.requests == []


def test_nobody_is_enrolled(bench: Bench) -> None:
    refused(bench.once(), Code.ENROL_MISSING)
    assert not bench.state.exists()
    refused(bench.run("status", "--state", str(bench.state)), Code.ENROL_MISSING)


@pytest.mark.parametrize("name", ["device.json", "factory.json", "counter.json"])
def test_a_damaged_state(enrolled: Bench, name: str) -> None:
    """One line, never a traceback."""
    enrolled.once()
    (enrolled.state / name).write_bytes(b"{")
    assert isinstance(enrolled.once().exception, CellwardError)


@pytest.mark.parametrize(
    "name", ["results.json", "attempt/M-0001.json", "rejected/M-0001.json", "installed/M-0001.json"]
)
def test_damaged_notes_do_not_end_all_updates(enrolled: Bench, name: str) -> None:
    path = enrolled.state / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{")
    assert enrolled.once().exception is None


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_damaged_metadata_is_fetched_again(enrolled: Bench, role: str) -> None:
    enrolled.once()
    path = enrolled.state / "trust" / "director" / f"{role}.json"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    enrolled.once()
    assert path.read_bytes() == good


def test_a_refusal_in_json_and_as_exit_status(enrolled: Bench) -> None:
    enrolled.pack.module.serial = "M-0009"
    result = enrolled.once("--json")
    refused(result, Code.PLAN_HARDWARE)
    assert json.loads(result.output)["refusal"]["code"] == "plan.hardware"


# --- what it takes of a controller ---


def test_all_that_the_agent_imports_is_small() -> None:
    """As `cellward device run` has it: bench/agent_idle.py looks at the running one."""
    program = (
        "import cellward.cli.device, cellward.adapters.http, cellward.adapters.tpm2,"
        " cellward.adapters.modulelink, rich.progress\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(said.split()[1]) < 70 * 1024
