"""The devices' listener behind TLS: who is let in, what is answered, what a refusal leaves behind."""

import json
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta

import pytest

from cellward.core.attestedtime import attestation, encode_request, verify
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.metadata import Target, parse_timestamp
from cellward.core.serverca import verify as verify_cas
from cellward.ports.registry import Attestation, Certificate, Token
from cellward.publish.servercas import Statements
from cellward.rollout.measured import Measured
from cellward.rollout.orders import order
from cellward.server.device_api import DeviceApi, Repositories
from cellward.server.lane import Lane
from cellward.server.requests import Peer
from cellward.sign.documents import sign_document
from tests.fakes.store import MemoryStore
from tests.fakes.tls import Authority
from tests.support.asgi import Client
from tests.support.maker import APP, LOADER, NOW, Hand, Keys, Maker, enrol, gate, manifest, signed_image
from tests.support.serverca import NEW, OLD

PEER = Peer("5e", "PACK-1")


class World:
    """A maker, a vehicle with its key, and the API between them at a time of the test's choice."""

    def __init__(self) -> None:
        self.maker = Maker().init()
        self.hand, self.time = Hand(), Hand()
        self.now = NOW
        enrol(self.maker.registry, key=self.hand.public_key)
        enrol(self.maker.registry, "PACK-2", ecus=(), serial="6f")
        self.target = self.maker.publish(signed_image(self.maker.keys))[0]
        self.lane = Lane()
        self.statements = MemoryStore()
        repositories = Repositories(
            self.maker.registry,
            self.maker.director,
            self.maker.images,
            self.maker.metadata,
            self.maker.artefacts,
            Measured(lambda serial: None, MemoryStore(), lambda installed: None),
            lambda nonce, at: sign_document(attestation(nonce, at), self.time).encode(),
            Statements(self.statements, self.maker.images.roots, self.maker.keys),
        )
        self.client = Client(DeviceApi(repositories, self.lane, self.clock).app(), PEER)

    def clock(self) -> datetime:
        return self.now


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.lane.close()


def test_a_report_is_kept_and_answered_with_hints(world: World) -> None:
    got = world.client.post("/v1/report", manifest(world.hand))
    assert got.status_code == 200
    assert got.json() == {"director": {"root": 1, "timestamp": 1}, "image": {"root": 1, "timestamp": 2}}
    last = world.maker.registry.last_report("PACK-1")
    assert last is not None
    assert (last.counter, last.received) == (1, NOW)


def test_the_time_in_answer_to_a_nonce(world: World) -> None:
    got = world.client.post("/v1/time", encode_request(bytes(32)))
    assert (got.status_code, got.headers["cache-control"]) == (200, "no-store")
    assert verify(got.content, [world.time.public_key], bytes(32)) == NOW
    for body in (b"", b'{"nonce":"00"}', encode_request(bytes(32))[:-1] + b',"at":1}'):
        assert world.client.post("/v1/time", body).status_code == 400
    world.maker.registry.revoke("PACK-1")
    assert world.client.post("/v1/time", encode_request(bytes(32))).status_code == 403


def test_hints_follow_an_order(world: World) -> None:
    world.client.post("/v1/report", manifest(world.hand))
    order(world.maker.registry, "PACK-1", [world.target])
    got = world.client.post("/v1/report", manifest(world.hand, counter=2))
    assert got.json()["director"] == {"root": 1, "timestamp": 2}


def test_metadata_is_served_as_it_lies(world: World) -> None:
    for name in ("timestamp.json", "1.root.json", "2.targets.json", "2.snapshot.json"):
        got = world.client.get(f"/v1/image/{name}")
        assert (got.status_code, got.content) == (200, world.maker.metadata.read(name))
        assert ("immutable" in got.headers["cache-control"]) == (name != "timestamp.json")
    issued = world.client.get("/v1/director/timestamp.json")
    assert parse_timestamp(issued.content).signed.version == 1
    assert "immutable" not in issued.headers["cache-control"]
    private = world.client.get("/v1/director/1.targets.json").headers["cache-control"]
    assert private.startswith("private")
    assert world.client.ask("HEAD", "/v1/image/1.root.json").status_code == 200


def test_a_delegated_role_s_file_is_served_from_the_image_repository_only(world: World) -> None:
    world.maker.metadata.write("4.supplier.json", b"signed by somebody")
    got = world.client.get("/v1/image/4.supplier.json")
    assert (got.status_code, got.content) == (200, b"signed by somebody")
    assert "immutable" in got.headers["cache-control"]
    assert world.client.get("/v1/director/timestamp.json").status_code == 200  # version 1 is issued
    for path in ("/v1/director/1.supplier.json", "/v1/image/supplier.json", "/v1/image/1.timestamp.json"):
        assert world.client.get(path).status_code == 404


def test_an_artefact_is_served(world: World) -> None:
    got = world.client.get(f"/v1/artefacts/{world.target.stored_name}", {"Range": "bytes=0-3"})
    assert (got.status_code, got.content) == (206, (0x96F3B83D).to_bytes(4, "little"))


def test_a_release_is_served_as_an_artefact(world: World) -> None:
    image = {"1.5.0": signed_image(world.maker.keys, "1.5.0", 8)}
    (made,) = world.maker.images.publish(image, gate(world.maker.keys), NOW, release=b"what was approved")
    got = world.client.get(f"/v1/artefacts/{made.release_name}")
    assert (got.status_code, got.content) == (200, b"what was approved")
    assert (got.headers["etag"], "immutable" in got.headers["cache-control"]) == (f'"{made.release}"', True)


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/artefacts/releases/{'0' * 64}.json",
        "/v1/artefacts/releases/.json",
        "/v1/artefacts/bms-m33/" + "0" * 64 + ".json",
        "/v1/image/2.root.json",
        "/v1/image/9.targets.json",
        "/v1/image/root.json",
        "/v1/image/0.root.json",
        "/v1/image/..%2f..%2fcellward.db",
        "/v1/image/%2e%2e",
        "/v1/director/7.targets.json",
        "/v1/director/targets.json",
        "/v1/director/" + "9" * 3000,
        "/v1/artefacts/x/y",
        "/v1/nothing",
        "/",
        "/v1/report/",
    ],
)
def test_what_is_not_there(world: World, path: str) -> None:
    got = world.client.get(path)
    assert (got.status_code, got.json()["code"]) == (404, Code.NOT_FOUND)
    assert got.headers["content-type"] == "application/problem+json"


def test_another_method(world: World) -> None:
    for method, path in (("GET", "/v1/report"), ("POST", "/v1/image/1.root.json"), ("DELETE", "/v1/report")):
        got = world.client.ask(method, path)
        assert (got.status_code, got.json()["code"]) == (405, Code.REQUEST_METHOD)
        assert "allow" in got.headers


PATHS = [
    ("POST", "/v1/report"),
    ("GET", "/v1/director/timestamp.json"),
    ("GET", "/v1/image/timestamp.json"),
    ("GET", "/v1/artefacts/{stored}"),
]


@pytest.mark.parametrize("case", ["unknown serial", "another name", "revoked", "expired"])
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_nobody_else_is_let_in_anywhere(world: World, case: str, method: str, path: str) -> None:
    if case == "unknown serial":
        world.client.peer = Peer("5f", "PACK-1")
    elif case == "another name":
        world.client.peer = Peer("5e", "PACK-2")
    elif case == "revoked":
        world.maker.registry.revoke("PACK-1")
    else:
        world.now = NOW + timedelta(days=31)
    signatures = world.maker.keys("director").signatures
    body = manifest(world.hand) if method == "POST" else None
    got = world.client.ask(method, path.format(stored=world.target.stored_name), body=body)
    assert (got.status_code, got.json()["code"]) == (403, Code.TLS_CLIENT_CERTIFICATE)
    assert got.headers["connection"] == "close"
    assert world.maker.registry.last_report("PACK-1") is None
    assert world.maker.registry.issue("PACK-1") is None
    assert world.maker.keys("director").signatures == signatures


def test_a_vehicle_sees_only_its_own_orders(world: World) -> None:
    """The Director's answer depends on the certificate alone: no path names a vehicle."""
    order(world.maker.registry, "PACK-1", [world.target])
    mine = world.client.get("/v1/director/timestamp.json").content
    world.client.peer = Peer("6f", "PACK-2")
    theirs = world.client.get("/v1/director/timestamp.json").content
    assert mine != theirs
    targets = world.client.get("/v1/director/1.targets.json").json()["signed"]
    assert (targets["custom"], targets["targets"]) == ({"vehicle_id": "PACK-2"}, {})


def recovering(world: World) -> None:
    """PACK-1 has its TPM, and a certificate for recovery."""
    registry, key = world.maker.registry, world.hand.public_key
    token = Token(b"t" * 32, "PACK-1", NOW + timedelta(days=1))
    registry.add_token(token)
    held = Certificate("a1", "PACK-1", key, NOW + timedelta(hours=12), recovery=True)
    attestation = Attestation(b"ek", b"ak", key, bytes(32), b"m0")
    registry.enrol(token.digest, held, (APP, LOADER), NOW, attestation)
    world.client.peer = Peer("a1", "PACK-1")


def test_a_recovery_certificate_gets_what_is_ordered_and_nothing_else(world: World) -> None:
    registry = world.maker.registry
    recovering(world)
    artefact = f"/v1/artefacts/{world.target.stored_name}"
    got = world.client.get(artefact)
    assert (got.status_code, got.json()["code"]) == (403, Code.ATTEST_RECOVERY)
    assert world.client.post("/v1/report", manifest(world.hand)).status_code == 200
    assert world.client.post("/v1/time", encode_request(bytes(32))).status_code == 200
    for name in ("/v1/director/timestamp.json", "/v1/image/timestamp.json"):
        assert world.client.get(name).status_code == 200
    order(registry, "PACK-1", [world.target])
    assert world.client.get(artefact).status_code == 200
    for other in ("bms-m33/" + "0" * 64 + ".app-1.4.0.img", f"releases/{'0' * 64}.json", "releases/.json"):
        assert world.client.get(f"/v1/artefacts/{other}").json()["code"] == Code.ATTEST_RECOVERY


def test_a_recovery_certificate_gets_the_release_of_what_is_ordered(world: World) -> None:
    made: list[Target] = []
    for version, counter in (("1.5.0", 8), ("1.6.0", 9)):
        image = {version: signed_image(world.maker.keys, version, counter)}
        release = version.encode()
        made += world.maker.images.publish(image, gate(world.maker.keys), NOW, release=release)
    recovering(world)
    order(world.maker.registry, "PACK-1", [made[0]])
    got = world.client.get(f"/v1/artefacts/{made[0].release_name}")
    assert (got.status_code, got.content) == (200, b"1.5.0")
    got = world.client.get(f"/v1/artefacts/{made[1].release_name}")
    assert got.json()["code"] == Code.ATTEST_RECOVERY


def test_another_vehicles_manifest(world: World) -> None:
    got = world.client.post("/v1/report", manifest(world.hand, "PACK-2"))
    assert (got.status_code, got.json()["code"]) == (403, Code.TARGET_VEHICLE)
    assert world.maker.registry.last_report("PACK-2") is None


def test_a_replayed_manifest(world: World) -> None:
    data = manifest(world.hand)
    assert world.client.post("/v1/report", data).status_code == 200
    got = world.client.post("/v1/report", data)
    assert (got.status_code, got.json()["code"]) == (409, Code.REPORT_REPLAYED)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"signed": 1}', b"[" * 100_000])
def test_a_body_that_is_no_manifest(world: World, data: bytes) -> None:
    got = world.client.post("/v1/report", data)
    assert (got.status_code, got.json()["code"]) == (400, Code.METADATA_FORMAT)
    assert world.maker.registry.last_report("PACK-1") is None


def test_a_body_beyond_the_limit_is_not_read_to_its_end(world: World) -> None:
    chunks = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal chunks
        while True:
            chunks += 1
            yield bytes(64 * 1024)

    got = world.client.post("/v1/report", endless())
    assert (got.status_code, got.json()["code"]) == (413, Code.REQUEST_TOO_LARGE)
    assert chunks <= 18


def test_a_stated_length_beyond_the_limit(world: World) -> None:
    got = world.client.post("/v1/report", bytes(1024 * 1024 + 1))
    assert (got.status_code, got.json()["code"]) == (413, Code.REQUEST_TOO_LARGE)


def test_a_lost_token_is_our_trouble_and_passes(world: World) -> None:
    world.maker.keys.lose()
    got = world.client.post("/v1/report", manifest(world.hand))
    problem = got.json()
    assert (got.status_code, problem["code"], problem["subject"]) == (503, Code.TOKEN_ABSENT, "server")
    assert "token of the test" not in got.text
    assert got.headers["retry-after"]
    world.maker.keys.lose(lost=False)
    assert world.client.post("/v1/report", manifest(world.hand, counter=2)).status_code == 200


def test_a_lost_token_does_not_stop_what_is_signed_already(world: World) -> None:
    world.client.post("/v1/report", manifest(world.hand))
    world.maker.keys.lose()
    world.now += timedelta(days=4)  # the image repository is due, and cannot be renewed
    world.client.peer = PEER
    assert world.client.get("/v1/image/timestamp.json").status_code == 200


def test_expiring_metadata_is_renewed_by_asking(world: World) -> None:
    world.now += timedelta(days=4)
    got = world.client.get("/v1/image/timestamp.json")
    assert parse_timestamp(got.content).signed.expires == world.now + timedelta(days=7)


def test_a_bug_is_a_plain_500(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(serial: str) -> None:
        raise ZeroDivisionError("a secret of the server")

    monkeypatch.setattr(world.maker.registry, "certificate", broken)
    with caplog.at_level(logging.ERROR):
        got = world.client.get("/v1/image/1.root.json")
    assert (got.status_code, got.json()["title"]) == (500, "Internal Server Error")
    assert "secret" not in got.text
    monkeypatch.undo()
    assert world.client.get("/v1/image/1.root.json").status_code == 200


def test_a_problem_has_the_documented_members(world: World) -> None:
    problem = world.client.get("/v1/image/9.root.json").json()
    assert set(problem) == {"status", "title", "code", "subject", "expected", "found", "advice"}
    assert json.dumps(problem)


# --- server CAs


def test_the_newest_statement_is_promised_and_given_and_noted(world: World) -> None:
    path, registry = "/v1/server-cas", world.maker.registry
    assert world.client.get(path).status_code == 404
    statements = Statements(world.statements, world.maker.images.roots, world.maker.keys)  # another process
    statements.state([OLD.pem])
    newest = statements.state([OLD.pem, NEW.pem])
    assert world.client.post("/v1/report", manifest(world.hand)).json()["server_cas"] == 2
    assert registry.behind_server_cas(2) == ("PACK-1", "PACK-2")
    got = world.client.get(path)
    assert (got.status_code, got.content, got.headers["cache-control"]) == (200, newest.data, "no-cache")
    assert registry.behind_server_cas(2) == ("PACK-2",)
    root = world.maker.images.roots.newest().signed
    assert verify_cas(got.content, root).certificates == (OLD.pem, NEW.pem)
    registry.revoke("PACK-1")
    assert world.client.get(path).status_code == 403


def test_what_is_accepted_without_a_break(world: World) -> None:
    statements = Statements(world.statements, world.maker.images.roots, world.maker.keys)
    assert statements.accepted_since(OLD.pem) is None
    for cas in ([OLD.pem, NEW.pem], [OLD.pem], [OLD.pem, NEW.pem], [NEW.pem, OLD.pem]):
        statements.state(cas)
    assert (statements.accepted_since(OLD.pem), statements.accepted_since(NEW.pem)) == (1, 3)
    assert statements.accepted_since(Authority("third").pem) is None


def test_no_statement_is_made_that_packs_would_refuse(world: World) -> None:
    statements = Statements(world.statements, world.maker.images.roots, world.maker.keys)
    held = statements.state([OLD.pem])
    with pytest.raises(FormatRefused):
        statements.state([])
    with pytest.raises(TrustRefused) as refused:
        Statements(world.statements, world.maker.images.roots, Keys()).state([NEW.pem])  # another root key
    assert refused.value.code is Code.DOCUMENT_SIGNATURE
    assert (statements.newest(), list(world.statements.names())) == (held, ["1.json"])
