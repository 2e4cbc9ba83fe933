"""The enrolment listener: one token, one certificate."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellward.core.errors import Code
from cellward.rollout import inventory
from cellward.server.ca import open_authority
from cellward.server.enrolment import MAX_BODY, EnrolmentApi
from cellward.server.lane import Lane
from tests.fakes.registry import MemoryRegistry
from tests.fakes.store import MemoryStore
from tests.support.asgi import Client
from tests.support.attestedpack import NOTHING_KNOWN
from tests.support.maker import NOW, Hand
from tests.unit.server.test_ca import csr

ECUS = [{"ecu_id": "m1/app", "hardware_id": "bms-m33"}]
CSR = csr(ec.generate_private_key(ec.SECP256R1()), "PACK-9").decode()


class World:
    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.hand = Hand()
        self.ca = open_authority(MemoryStore(), "device-ca", self.hand, NOW)
        self.lane = Lane()
        self.client = Client(
            EnrolmentApi(self.registry, self.ca, NOTHING_KNOWN, self.lane, lambda: NOW).app()
        )
        self.token = inventory.new_token(self.registry, "PACK-1", NOW, software=True)
        self.signatures = self.hand.signatures

    def body(self, **changes: Any) -> bytes:
        return json.dumps({"token": self.token, "csr": CSR, "ecus": ECUS, **changes}).encode()

    def untouched(self) -> bool:
        """Nothing registered, nothing signed, the token as good as before."""
        inventory.open_token(self.registry, self.token, NOW)
        return not list(self.registry.vehicle_ids()) and self.hand.signatures == self.signatures


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.lane.close()


def test_a_token_gets_a_certificate_for_its_vehicle_whatever_the_request_says(world: World) -> None:
    got = world.client.post("/v1/enrol", world.body())
    assert got.status_code == 200
    made = x509.load_pem_x509_certificate(got.json()["certificate"].encode())
    assert made.subject.rfc4514_string() == "CN=PACK-1"
    made.verify_directly_issued_by(world.ca.certificate)
    vehicle = world.registry.vehicle("PACK-1")
    assert vehicle is not None
    assert [ecu.ecu_id for ecu in vehicle.ecus] == ["m1/app"]
    assert world.registry.certificate(f"{made.serial_number:x}") is not None


def test_a_token_that_introduces_a_tpm_is_not_enough_by_itself(world: World) -> None:
    token = inventory.new_token(world.registry, "PACK-1", NOW)
    got = world.client.post("/v1/enrol", world.body(token=token))
    assert (got.status_code, got.json()["code"]) == (409, Code.ENROL_IDENTITY)
    assert world.untouched()
    inventory.open_token(world.registry, token, NOW)


def test_a_token_is_good_once(world: World) -> None:
    world.client.post("/v1/enrol", world.body())
    before = world.registry.certificates("PACK-1")
    got = world.client.post("/v1/enrol", world.body())
    assert (got.status_code, got.json()["code"]) == (403, Code.ENROL_TOKEN)
    assert world.registry.certificates("PACK-1") == before


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"token": "x"}, 403, Code.ENROL_TOKEN),
        ({"token": ""}, 403, Code.ENROL_TOKEN),
        ({"token": 1}, 400, Code.REQUEST_FORMAT),
        ({"token": "x" * 200}, 400, Code.REQUEST_FORMAT),
        ({"csr": "x"}, 400, Code.KEY_FORMAT),
        ({"csr": CSR.replace("A", "B", 3)}, 400, Code.KEY_FORMAT),
        ({"ecus": []}, 400, Code.REQUEST_FORMAT),
        ({"ecus": ECUS * 2}, 400, Code.REQUEST_FORMAT),
        ({"ecus": ECUS * 65}, 400, Code.REQUEST_FORMAT),
        ({"ecus": {}}, 400, Code.REQUEST_FORMAT),
        ({"ecus": [{"ecu_id": "m1/app"}]}, 400, Code.REQUEST_FORMAT),
        ({"ecus": [{"ecu_id": "../app", "hardware_id": "bms-m33"}]}, 400, Code.REQUEST_FORMAT),
        ({"ecus": [{**ECUS[0], "more": 1}]}, 400, Code.REQUEST_FORMAT),
        ({"ecus": [{"ecu_id": "m1/rom", "hardware_id": "bms-m33"}]}, 409, Code.ENROL_ECU),
        ({"more": 1}, 400, Code.REQUEST_FORMAT),
    ],
)
def test_a_refused_enrolment_leaves_nothing(
    world: World, changes: dict[str, Any], status: int, code: Code
) -> None:
    got = world.client.post("/v1/enrol", world.body(**changes))
    assert (got.status_code, got.json()["code"]) == (status, code)
    assert world.untouched()


def test_an_ecu_of_another_vehicle(world: World) -> None:
    world.client.post("/v1/enrol", world.body())
    other = inventory.new_token(world.registry, "PACK-2", NOW, software=True)
    got = world.client.post("/v1/enrol", world.body(token=other))
    assert (got.status_code, got.json()["code"]) == (409, Code.ENROL_ECU)
    assert world.registry.vehicle("PACK-2") is None
    inventory.open_token(world.registry, other, NOW)


def test_a_body_beyond_the_limit(world: World) -> None:
    got = world.client.post("/v1/enrol", world.body() + b" " * MAX_BODY)
    assert (got.status_code, got.json()["code"]) == (413, Code.REQUEST_TOO_LARGE)
    assert world.untouched()


def test_no_answer_repeats_a_token(world: World) -> None:
    for body in (world.body(csr="x"), world.body(more=1), world.body()[:-1], world.body(ecus=[])):
        assert world.token not in world.client.post("/v1/enrol", body).text


def test_a_lost_token_of_ours_keeps_theirs_good(world: World) -> None:
    world.hand.lost = True
    got = world.client.post("/v1/enrol", world.body())
    assert (got.status_code, got.json()["code"]) == (503, Code.TOKEN_ABSENT)
    assert world.untouched()
    world.hand.lost = False
    assert world.client.post("/v1/enrol", world.body()).status_code == 200


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.binary(max_size=100)
    | ANY.map(lambda tree: json.dumps(tree).encode())
    | st.fixed_dictionaries({"token": ANY, "csr": ANY, "ecus": ANY}).map(lambda t: json.dumps(t).encode())
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_body_is_refused(world: World, data: bytes) -> None:
    got = world.client.post("/v1/enrol", data)
    assert got.status_code in (400, 403)
    assert world.untouched()
