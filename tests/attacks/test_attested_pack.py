"""A pack controller with its TPM against the running server: real programs, a real swtpm, real TLS.

The battery module is the fake: it is in its ROM's recovery, which measures nothing, unless a test says so.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cellward import bootstrap
from cellward.adapters.sql import SqliteRegistry
from cellward.cli.device import device
from cellward.core.errors import CellwardError, Code
from cellward.core.metadata import verify_manifest
from cellward.ports.module import Outcome
from tests.fakes.module import FakeModule
from tests.support.pack import Pack
from tests.support.running import House, Server, server

VEHICLE = "PACK-7"


@dataclass
class Field:
    """A maker, his server, and a controller with an embedded TPM that nobody knows yet."""

    house: House
    server: Server
    module: FakeModule
    state: Path

    def device(self, *arguments: str, state: Path | None = None, token: str = "") -> Result:
        command, *more = arguments
        fixed = (command, "--state", str(state or self.state))
        return CliRunner().invoke(device, [*fixed, *more], env={"CELLWARD_ENROL_TOKEN": token or None})

    def enrol(self, token: str, *more: str, state: Path | None = None, vehicle: str = VEHICLE) -> Result:
        factory = str(self.house.data.parent / "factory.json")
        fixed = ("enrol", "--factory", factory, "--vehicle", vehicle, "--module", "m1.module")
        return self.device(*fixed, *more, state=state, token=token)

    def token(self, vehicle: str = VEHICLE) -> str:
        return self.house.run("server", "enrol-token", vehicle).strip()

    def once(self, state: Path | None = None) -> Result:
        return self.device("run", "--once", "--json", state=state)

    def shown(self) -> list[dict[str, object]]:
        return json.loads(self.house.run("server", "vehicles", "--json"))  # type: ignore[no-any-return]

    def noted(self) -> str:
        (vehicle,) = self.shown()
        its = vehicle["attestation"]
        assert isinstance(its, dict)
        return its["noted"]["code"] if its["noted"] else ""

    def calibration(self) -> tuple[str, str, str]:
        (module,) = json.loads(self.device("status", "--json").output)["modules"]
        note = module["calibration"]
        return note["version"], note["source"], note["code"]

    def forget_agents(self) -> None:
        shutil.rmtree(self.house.data / "agents")

    def know_agent(self) -> None:
        self.house.run("server", "know-agent")


@pytest.fixture
def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    house = House(tmp_path / "data")
    house.run("keys", "init")
    house.run("repo", "init")
    module = Pack().module
    module.outcome = Outcome.RECOVERY
    monkeypatch.setattr(bootstrap, "connect_module", lambda path: nullcontext(module))
    with server(house) as running:
        urls = {"--url": running.devices, "--enrol-url": running.enrolment}
        options = [part for name, port in urls.items() for part in (name, f"https://127.0.0.1:{port}")]
        house.run("repo", "factory", *options, "-o", "factory.json")
        yield Field(house, running, module, tmp_path / "pack")


def refused(result: Result, code: Code) -> None:
    error = result.exception
    assert isinstance(error, CellwardError), (error, result.output)
    assert error.code is code, str(error)


def test_the_way_of_an_attested_pack(field: Field, tmp_path: Path) -> None:
    token = field.token()
    refused(field.enrol(token), Code.ATTEST_CERTIFICATE)  # nobody's TPM yet
    authorities = str(tmp_path / "authorities.pem")
    assert field.device("tpm", "--authorities", authorities).exit_code == 0
    field.house.run("server", "know-tpm", authorities)
    refused(field.enrol(token), Code.ATTEST_UNKNOWN)  # nobody's agent
    field.know_agent()
    field.module.outcome = Outcome.RUNNING
    refused(field.enrol(token), Code.ATTEST_UNKNOWN)  # an image that was never published
    field.module.outcome = Outcome.RECOVERY
    assert field.shown() == []
    refused(field.device("status"), Code.ENROL_MISSING)

    assert field.enrol(token).exit_code == 0
    (vehicle,) = field.shown()
    assert (vehicle["vehicle"], field.noted()) == (VEHICLE, "")
    assert not (field.state / "identity").exists()  # no key on any disk
    assert not [
        p
        for p in field.state.rglob("*")
        if p.is_file() and b"PRIVATE KEY" in p.read_bytes() and "tpm" not in p.parts
    ]
    refused(field.enrol(field.token()), Code.ENROL_DONE)
    assert "TPM" in field.device("status").output

    assert field.once().exit_code == 0
    with SqliteRegistry(field.house.data / "cellward.db") as registry:
        held, report = registry.attestation(VEHICLE), registry.last_report(VEHICLE)
        assert held is not None
        assert report is not None
        verify_manifest(report.body, held.identity_key, VEHICLE, 0)
        before = len(registry.certificates(VEHICLE))

    field.forget_agents()  # what runs is not the maker's any more
    assert "attest.unknown" in field.device("run", "--once").output
    (vehicle,) = field.shown()
    assert (vehicle["certificate"]["recovery"], field.noted()) == (True, Code.ATTEST_UNKNOWN)  # type: ignore[index]
    field.know_agent()
    assert field.once().exit_code == 0
    assert field.noted() == ""

    field.house.run("server", "revoke", VEHICLE)
    refused(field.once(), Code.TLS_CLIENT_CERTIFICATE)
    with SqliteRegistry(field.house.data / "cellward.db") as registry:
        assert len(registry.certificates(VEHICLE)) == before + 2
        assert all(certificate.revoked for certificate in registry.certificates(VEHICLE)[:1])


def test_copies_are_noticed_and_lost_answers_are_made_good(field: Field, tmp_path: Path) -> None:
    token = enrolled(field, tmp_path)
    (field.state / "device.json").unlink()  # as if the power went before it was written
    assert field.enrol(token).exit_code == 0

    copy = tmp_path / "copy"
    shutil.copytree(field.state, copy)
    for _ in range(2):
        assert field.once().exit_code == 0
    refused(field.once(copy), Code.ENROL_IDENTITY)
    assert field.noted() == Code.ENROL_IDENTITY

    without = tmp_path / "without"  # a copy of everything but the TPM
    shutil.copytree(field.state, without, ignore=shutil.ignore_patterns("tpm"))
    refused(field.once(without), Code.TAMPER_ZEROISED)  # it watches its modules, and nothing more

    second = tmp_path / "second"
    shutil.copytree(field.state / "tpm", second / "tpm")
    refused(field.enrol(field.token("PACK-8"), state=second, vehicle="PACK-8"), Code.ENROL_IDENTITY)
    assert [vehicle["vehicle"] for vehicle in field.shown()] == [VEHICLE]


def test_the_running_agent_goes_by_the_calibration_in_the_vault(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellward.adapters.lockedmemory.forbid_dumps", lambda: None)  # of the test run
    house, vault = field.house, ("--state", str(field.state))
    field.device("tpm", "--authorities", str(tmp_path / "authorities.pem"))
    house.run("server", "know-tpm", "authorities.pem")
    field.know_agent()
    assert field.enrol(field.token()).exit_code == 0
    house.run("vault", "policy", "--counter", "1", "-o", "policy.json")
    house.run("keys", "export", "policy", "-o", "policy.pem")
    house.run("vault", "init", *vault, "--policy-key", "policy.pem", "--policy", "policy.json")
    (tmp_path / "calibration.toml").write_text(house.run("calibration", "example"))
    house.run("calibration", "sign", "calibration.toml", "-o", "calibration.json")
    file = str(tmp_path / "calibration.json")
    refused(field.device("calibrate", file), Code.LINK_STATE)  # no app that says what it has already
    field.module.outcome = Outcome.RUNNING  # with images that nobody published: a certificate for recovery
    assert field.device("calibrate", file).exit_code == 0

    field.once()
    assert field.calibration() == ("1.0.0", "kept", "")
    values = field.state / "vault" / "values"
    damaged = bytearray(values.read_bytes())
    damaged[-1] ^= 1
    values.write_bytes(damaged)
    field.once()
    assert field.calibration() == ("", "safe defaults", Code.CALIBRATION_DEFAULTS)
    results = json.loads(field.device("status", "--json").output)["results"]
    assert {result["code"] for ecu, result in results.items() if "/" in ecu} == {Code.CALIBRATION_DEFAULTS}


def enrolled(field: Field, tmp_path: Path) -> str:
    """Its TPM and agent introduced; the token that did it."""
    authorities = str(tmp_path / "authorities.pem")
    field.device("tpm", "--authorities", authorities)
    field.house.run("server", "know-tpm", authorities)
    field.know_agent()
    token = field.token()
    assert field.enrol(token).exit_code == 0
    return token


def known(field: Field, tmp_path: Path) -> str:
    """Enrolled, and the first cycle run; the token that did it."""
    token = enrolled(field, tmp_path)
    assert field.once().exit_code == 0
    return token


def sensors(field: Field, tmp_path: Path) -> dict[str, Path]:
    chip = tmp_path / "hwmon"
    chip.mkdir()
    found = {name: chip / f"{name}_alarm" for name in ("intrusion0", "in0")}
    for path in found.values():
        path.write_text("0\n")
    (field.state / "tamper.toml").write_text(f'sensors = ["{chip}"]\n')
    return found


def tampering(field: Field) -> str:
    return json.loads(field.device("tamper", "--json").output)["state"]  # type: ignore[no-any-return]


def test_only_a_new_token_of_the_same_maker_lifts_a_lock(field: Field, tmp_path: Path) -> None:
    used = known(field, tmp_path)
    alarm = sensors(field, tmp_path)["in0"]
    assert tampering(field) == "sound"
    alarm.write_text("1\n")
    assert field.once().exit_code == 0  # it goes on, and tells
    (vehicle,) = field.shown()
    assert "tampered pack controller: tamper.locked" in json.dumps(vehicle)
    assert "voltage" in field.device("status").output
    unused = field.token()
    refused(field.enrol(unused, "--again"), Code.TAMPER_ALARM)
    alarm.write_text("0\n")
    assert tampering(field) == "locked"
    refused(field.enrol(used, "--again"), Code.ENROL_TOKEN)  # this answer is not lost, but asked for again
    refused(field.enrol("guessed", "--again"), Code.ENROL_TOKEN)
    assert tampering(field) == "locked"
    factory = field.house.data.parent / "factory.json"
    data = factory.read_bytes()
    factory.write_bytes(data.replace(b"127.0.0.1", b"localhost"))
    refused(field.enrol(unused, "--again"), Code.TAMPER_LOCKED)
    factory.write_bytes(data)
    assert tampering(field) == "locked"
    assert field.enrol(unused, "--again").exit_code == 0
    assert tampering(field) == "sound"
    assert field.once().exit_code == 0


def test_a_zeroised_pack_watches_until_the_maker_enrols_it(field: Field, tmp_path: Path) -> None:
    used = known(field, tmp_path)
    alarm = sensors(field, tmp_path)["intrusion0"]
    shutil.copytree(field.state, tmp_path / "before", ignore=shutil.ignore_patterns("tpm"))
    alarm.write_text("1\n")
    refused(field.once(), Code.TAMPER_ZEROISED)
    assert "contactors open" in field.device("run", "--once").output
    refused(field.once(), Code.TAMPER_ZEROISED)
    assert tampering(field) == "zeroised"
    assert "keeps their contactors open" in field.device("tamper").output
    refused(field.enrol(field.token(), "--again"), Code.TAMPER_ALARM)
    alarm.write_text("0\n")
    refused(field.enrol(used, "--again"), Code.ENROL_TOKEN)
    refused(field.enrol("guessed", "--again"), Code.ENROL_TOKEN)

    shutil.copytree(tmp_path / "before", field.state, dirs_exist_ok=True)  # yesterday's, but for the TPM
    refused(field.once(), Code.TAMPER_ZEROISED)
    refused(field.enrol(used, "--again"), Code.ENROL_TOKEN)

    assert field.enrol(field.token(), "--again").exit_code == 0
    assert tampering(field) == "sound"
    assert field.once().exit_code == 0
    assert field.noted() == ""


def test_a_policy_that_is_weaker_starts_nothing(field: Field, tmp_path: Path) -> None:
    known(field, tmp_path)
    (field.state / "tamper.toml").write_text('[responses]\ncase = "log"\n')
    for command in (("run", "--once"), ("tamper",), ("tpm",)):
        refused(field.device(*command), Code.CONFIG)


def test_a_parked_pack_whose_certificate_ended_gets_in_after_the_server_s_ca_was_changed(
    field: Field, tmp_path: Path
) -> None:
    """It begins with a renewal, which is behind the same CA."""
    field.device("tpm", "--authorities", str(tmp_path / "authorities.pem"))
    field.house.run("server", "know-tpm", str(tmp_path / "authorities.pem"))
    field.know_agent()
    assert field.enrol(field.token()).exit_code == 0
    for arguments in (
        ("new", "server-ca-2"),
        ("state", "server-ca", "server-ca-2"),
        ("export", "-o", "s.json"),
    ):
        field.house.run("server", "ca", *arguments)
    assert field.house.refused("server", "ca", "use", "server-ca-2") is Code.SERVER_CA_BEHIND
    field.house.run("server", "ca", "use", "server-ca-2", "--anyway")
    field.server.stop()
    before = {path: path.read_bytes() for path in field.state.glob("*.json")}
    with server(field.house, "again", str(field.server.devices), str(field.server.enrolment)):
        got = field.once()
        refused(got, Code.TLS_SERVER)
        assert "cellward device server-ca FILE" in str(got.exception)
        assert {path: path.read_bytes() for path in field.state.glob("*.json")} == before
        assert field.device("server-ca", str(tmp_path / "s.json")).exit_code == 0
        assert field.once().exit_code == 0
        assert json.loads(field.device("status", "--json").output)["server_cas"]["version"] == 1
