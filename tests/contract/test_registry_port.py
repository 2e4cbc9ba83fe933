"""Every Registry keeps the promises of ports/registry.py: the SQLite one and the fake."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.adapters.sql import SqliteRegistry
from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata.target import Ecu, Target
from cellward.ports.registry import Certificate, Issue, Order, Registry, Report, Token
from tests.fakes.registry import MemoryRegistry

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LOADER, APP = Ecu("m1/loader", "bms-m33"), Ecu("m1/app", "bms-m33")
TARGET = Target("bms-m33/app-1.4.0.img", 1000, "ab" * 32, ("bms-m33",), "app", "1.4.0", 7)


@pytest.fixture(params=["sqlite", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    sqlite = SqliteRegistry(tmp_path / "cellward.db")
    yield sqlite
    sqlite.close()


def a_key() -> PublicKey:
    return PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())


def a_token(registry: Registry, vehicle_id: str, name: str = "t") -> bytes:
    digest = hashlib.sha256(f"{vehicle_id}{name}".encode()).digest()
    registry.add_token(Token(digest, vehicle_id, NOW + timedelta(hours=1)))
    return digest


def enrolled(registry: Registry, vehicle_id: str = "v1", *ecus: Ecu, serial: str = "0a1") -> Certificate:
    certificate = Certificate(serial, vehicle_id, a_key(), NOW + timedelta(days=30))
    registry.enrol(a_token(registry, vehicle_id, serial), certificate, ecus or (LOADER, APP), NOW)
    return certificate


def a_report(counter: int, content: bytes = b"c1", vehicle_id: str = "v1") -> Report:
    return Report(vehicle_id, counter, NOW, content, b"body %d" % counter)


def an_issue(version: int, revision: int = 1, body: bytes = b"t") -> Issue:
    return Issue("v1", version, revision, "k" * 64, NOW + timedelta(hours=12), body, b"s", b"ts")


def test_enrolment_registers_vehicle_ecus_and_certificate(registry: Registry) -> None:
    certificate = enrolled(registry)
    vehicle = registry.vehicle("v1")
    assert vehicle is not None
    assert (vehicle.ecus, vehicle.enrolled, vehicle.revision) == ((APP, LOADER), NOW, 1)
    assert registry.certificate("0a1") == certificate
    assert registry.certificates("v1") == (certificate,)
    assert list(registry.vehicle_ids()) == ["v1"]


def test_unknown_names_are_none(registry: Registry) -> None:
    assert registry.vehicle("v1") is None
    assert registry.certificate("0a1") is None
    assert registry.token(b"x" * 32) is None
    assert registry.last_report("v1") is None
    assert registry.issue("v1") is None
    assert registry.orders("v1") == (0, ())
    assert registry.revoke("v1") == 0
    assert list(registry.vehicle_ids()) == []


def test_token_is_kept_until_used(registry: Registry) -> None:
    digest = a_token(registry, "v1")
    assert registry.token(digest) == Token(digest, "v1", NOW + timedelta(hours=1))
    registry.enrol(digest, Certificate("1", "v1", a_key(), NOW), (APP,), NOW)
    token = registry.token(digest)
    assert token is not None
    assert token.used


@pytest.mark.parametrize("case", ["used", "unknown", "of another vehicle"])
def test_token_is_good_once_and_for_its_vehicle(registry: Registry, case: str) -> None:
    digest = a_token(registry, "v2" if case == "of another vehicle" else "v1")
    if case == "used":
        registry.enrol(digest, Certificate("1", "v1", a_key(), NOW), (APP,), NOW)
    if case == "unknown":
        digest = b"\0" * 32
    before = registry.vehicle("v1"), registry.certificates("v1")
    with pytest.raises(TrustRefused) as refused:
        registry.enrol(digest, Certificate("2", "v1", a_key(), NOW), (LOADER,), NOW)
    assert refused.value.code is Code.ENROL_TOKEN
    assert (registry.vehicle("v1"), registry.certificates("v1")) == before


def test_ecu_of_another_vehicle_is_refused_and_the_token_stays(registry: Registry) -> None:
    enrolled(registry, "v1")
    digest = a_token(registry, "v2")
    with pytest.raises(PolicyRefused) as refused:
        registry.enrol(digest, Certificate("2", "v2", a_key(), NOW), (Ecu("m9/app", "bms-m33"), APP), NOW)
    assert refused.value.code is Code.ENROL_ECU
    assert registry.vehicle("v2") is None
    token = registry.token(digest)
    assert token is not None
    assert not token.used


def test_enrolling_again_replaces_ecus_and_revokes(registry: Registry) -> None:
    first = enrolled(registry, serial="1")
    registry.assign("v1", [Order("m1/app", TARGET)])
    second = enrolled(registry, "v1", APP, Ecu("m2/app", "bms-m33"), serial="2")
    vehicle = registry.vehicle("v1")
    assert vehicle is not None
    assert [ecu.ecu_id for ecu in vehicle.ecus] == ["m1/app", "m2/app"]
    assert registry.certificates("v1") == (second, replace(first, revoked=True))
    revision, orders = registry.orders("v1")
    assert (revision, orders) == (3, (Order("m1/app", TARGET),))  # an ECU that stayed keeps its order
    enrolled(registry, "v1", Ecu("m1/app", "bms-m33-18s"), serial="3")
    assert registry.orders("v1") == (4, ())  # other hardware does not


def test_revoke(registry: Registry) -> None:
    enrolled(registry)
    enrolled(registry, "v2", Ecu("m2/app", "bms-m33"), serial="2")
    assert registry.revoke("v1") == 1
    assert registry.revoke("v1") == 0
    assert [c.revoked for c in registry.certificates("v1") + registry.certificates("v2")] == [True, False]


def test_orders_replace_per_ecu_and_raise_the_revision_on_change(registry: Registry) -> None:
    enrolled(registry)
    assert registry.orders("v1") == (1, ())
    assert registry.assign("v1", [Order("m1/app", TARGET)]) == 2
    assert registry.assign("v1", [Order("m1/app", TARGET)]) == 2
    loader = Target(
        "bms-m33/loader-1.0.0.img", 1, "cd" * 32, ("bms-m33", "bms-m33-18s"), "loader", "1.0.0", 7
    )
    assert registry.assign("v1", [Order("m1/loader", loader)]) == 3
    assert registry.orders("v1") == (3, (Order("m1/app", TARGET), Order("m1/loader", loader)))
    vehicle = registry.vehicle("v1")
    assert vehicle is not None
    assert vehicle.revision == 3


def test_order_for_a_strange_ecu_changes_nothing(registry: Registry) -> None:
    enrolled(registry)
    with pytest.raises(PolicyRefused) as refused:
        registry.assign("v1", [Order("m1/app", TARGET), Order("m2/app", TARGET)])
    assert refused.value.code is Code.TARGET_ECU
    with pytest.raises(PolicyRefused) as refused:
        registry.assign("v9", [])
    assert refused.value.code is Code.VEHICLE_UNKNOWN
    assert registry.orders("v1") == (1, ())


def test_reports_count_upwards(registry: Registry) -> None:
    enrolled(registry)
    registry.record("0a1", a_report(0))
    registry.record("0a1", a_report(5))
    for counter in (5, 4, 0):
        with pytest.raises(TrustRefused) as refused:
            registry.record("0a1", a_report(counter, b"c2"))
        assert refused.value.code is Code.REPORT_REPLAYED
    assert registry.last_report("v1") == a_report(5)
    assert registry.history("v1") == (a_report(0),)


def test_history_keeps_what_is_new(registry: Registry) -> None:
    enrolled(registry)
    for counter, content in enumerate([b"c1", b"c1", b"c2", b"c1"]):
        registry.record("0a1", a_report(counter, content))
    assert [(r.counter, r.content) for r in registry.history("v1")] == [(0, b"c1"), (2, b"c2"), (3, b"c1")]


def test_report_needs_a_certificate_of_its_vehicle(registry: Registry) -> None:
    enrolled(registry)
    for serial, vehicle_id in (("ff", "v1"), ("0a1", "v2")):
        with pytest.raises(TrustRefused) as refused:
            registry.record(serial, a_report(1, vehicle_id=vehicle_id))
        assert refused.value.code is Code.TLS_CLIENT_CERTIFICATE
    assert registry.last_report("v1") is None


def test_counter_belongs_to_the_key(registry: Registry) -> None:
    """A new key starts anew, for nobody can replay its reports; the old key goes on where it was."""
    first = enrolled(registry, serial="1")
    registry.record("1", a_report(9))
    registry.enrol(a_token(registry, "v1", "again"), replace(first, serial="2"), (APP,), NOW)
    with pytest.raises(TrustRefused):
        registry.record("2", a_report(9))
    enrolled(registry, serial="3")
    registry.record("3", a_report(1))
    assert registry.last_report("v1") == a_report(1)


def test_issues_succeed_each_other_and_the_last_two_stay(registry: Registry) -> None:
    enrolled(registry)
    for version in (1, 2, 3):
        assert registry.add_issue(an_issue(version)) == an_issue(version)
    assert registry.issue("v1") == an_issue(3)
    assert [registry.issue_at("v1", version) for version in (1, 2, 3, 4)] == [
        None,
        an_issue(2),
        an_issue(3),
        None,
    ]


def test_a_version_never_changes(registry: Registry) -> None:
    """Two processes sign version 2 at once: one wins, the other serves the winner's."""
    enrolled(registry)
    registry.add_issue(an_issue(1))
    won = registry.add_issue(an_issue(2, body=b"ours"))
    assert registry.add_issue(an_issue(2, body=b"theirs")) == won
    assert registry.issue_at("v1", 2) == won
    assert registry.add_issue(an_issue(7)) == won
