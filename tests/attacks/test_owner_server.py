"""The owner's key at the maker's server: it opens no endpoint of either listener."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from cellward.adapters.http import ClientCertificate, HttpTransport
from cellward.core.errors import CellwardError, Code
from cellward.server.device_api import DeviceApi
from cellward.server.enrolment import EnrolmentApi
from tests.fakes.tls import Authority, key_pem
from tests.support.maker import APP
from tests.support.running import House, Server, server

VEHICLE = "PACK-1"
THIEF = Authority("Cellward device-ca")  # its key is the owner's
DEVICES = {
    "/v1/report": "POST",
    "/v1/time": "POST",
    "/v1/server-cas": "GET",
    "/v1/director/{name}": "GET",
    "/v1/image/{name}": "GET",
    "/v1/artefacts/{hardware}/{file}": "GET",
}
ENROLMENT = {
    "/v1/enrol": Code.ENROL_TOKEN,
    "/v1/enrol/tpm": Code.REQUEST_FORMAT,
    "/v1/enrol/prove": Code.REQUEST_FORMAT,
    "/v1/renew": Code.REQUEST_FORMAT,
    "/v1/renew/prove": Code.REQUEST_FORMAT,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    house = House(tmp_path_factory.mktemp("house") / "data")
    house.run("keys", "init")
    house.run("repo", "init")
    with server(house) as found:
        yield found


@pytest.fixture(scope="module")
def grant(running: Server) -> bytes:
    folder = running.house.data.parent
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = THIEF.key.public_key().public_bytes(serialization.Encoding.PEM, form)
    (folder / "owner.pem").write_bytes(pem)
    running.house.run("server", "owner", VEHICLE, "--key", "owner.pem", "-o", "grant.json")
    return (folder / "grant.json").read_bytes()


def test_every_endpoint_is_tried() -> None:
    nothing = None
    devices = DeviceApi(nothing, nothing, nothing).app().routes  # type: ignore[arg-type]
    enrolment = EnrolmentApi(nothing, nothing, nothing, nothing, nothing).app().routes  # type: ignore[arg-type]
    assert {route.path for route in devices} == set(DEVICES)  # type: ignore[attr-defined]
    assert {route.path for route in enrolment} == set(ENROLMENT)  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", DEVICES)
def test_no_endpoint_for_vehicles_opens(running: Server, path: str) -> None:
    """With a certificate of his own making, on his key, in the vehicle's name."""
    certificate = THIEF.issue(VEHICLE, THIEF.key.public_key())
    pair = ClientCertificate(certificate, key_pem(THIEF.key))
    url = f"https://127.0.0.1:{running.devices}"
    with (
        HttpTransport(url, running.house.server_ca, pair) as transport,
        pytest.raises(CellwardError) as refused,
    ):
        transport.post(path, b"{}", 4096) if DEVICES[path] == "POST" else list(transport.get(path, 4096))
    assert refused.value.code is Code.TLS_CLIENT_CERTIFICATE


@pytest.mark.parametrize("path", ENROLMENT)
def test_no_enrolment_opens(running: Server, grant: bytes, path: str) -> None:
    """The grant is no token, and no word of a TPM."""
    body = grant
    if path == "/v1/enrol":
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        request = builder.sign(THIEF.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        ecus = [{"ecu_id": APP.ecu_id, "hardware_id": APP.hardware_id}]
        token = json.loads(grant)["signatures"][0]["sig"]
        body = json.dumps({"token": token, "csr": request.decode(), "ecus": ecus}).encode()
    url = f"https://127.0.0.1:{running.enrolment}"
    with (
        HttpTransport(url, running.house.server_ca) as transport,
        pytest.raises(CellwardError) as refused,
    ):
        transport.post(path, body, 65536)
    assert refused.value.code is ENROLMENT[path]
    assert json.loads(running.house.run("server", "vehicles", "--json")) == []


def test_a_grant_is_for_a_vehicle_s_name(running: Server, grant: bytes) -> None:
    arguments = "server", "owner", "PACK 1", "--key", str(running.house.data.parent / "owner.pem"), "-o", "x"
    assert running.house.refused(*arguments) is Code.METADATA_FORMAT
    assert not Path("x").exists()
