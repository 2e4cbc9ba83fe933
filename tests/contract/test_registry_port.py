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
from cellward.ports.registry import (
    MAX_SESSIONS,
    Attestation,
    Certificate,
    Issue,
    Noted,
    Order,
    Registry,
    Report,
    Session,
    Token,
)
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


def test_who_has_not_heard_of_a_statement_on_server_cas(registry: Registry) -> None:
    for number, vehicle in enumerate(("v1", "v2")):
        certificate = Certificate(str(number), vehicle, a_key(), NOW)
        registry.enrol(a_token(registry, vehicle), certificate, (), NOW)
    registry.took_server_cas("v2", 3)
    registry.took_server_cas("v2", 2)
    registry.took_server_cas("v9", 3)
    assert registry.behind_server_cas(3) == ("v1",)
    assert registry.behind_server_cas(4) == ("v1", "v2")
    again = Token(b"a" * 32, "v2", NOW + timedelta(hours=1))
    registry.add_token(again)
    registry.enrol(again.digest, Certificate("9", "v2", a_key(), NOW), (), NOW)
    assert registry.behind_server_cas(1) == ("v1", "v2")  # other factory data, perhaps


def test_token_is_kept_until_used(registry: Registry) -> None:
    digest = a_token(registry, "v1")
    assert registry.token(digest) == Token(digest, "v1", NOW + timedelta(hours=1))
    alone = Token(b"s" * 32, "v1", NOW, software=True)
    registry.add_token(alone)
    assert registry.token(alone.digest) == alone
    several = [Token(bytes([n]) * 32, f"v{n}", NOW, endorsement=b"e" * 32) for n in range(3)]
    registry.add_token(*several)
    assert [registry.token(each.digest) for each in several] == several
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


# --- attested vehicles


def an_attestation(name: bytes = b"a", moment: bytes = b"m1") -> Attestation:
    return Attestation(b"ek" + name, b"ak" + name, a_key(), b"c" * 32, moment)


def attested(registry: Registry, vehicle_id: str = "v1", serial: str = "1", *, with_: Attestation) -> None:
    certificate = Certificate(serial, vehicle_id, with_.identity_key, NOW + timedelta(hours=12))
    ecus = (Ecu(f"{vehicle_id}m/app", "bms-m33"),)
    registry.enrol(a_token(registry, vehicle_id, serial), certificate, ecus, NOW, with_)


def a_session(name: bytes, vehicle_id: str = "v1", minutes: int = 2) -> Session:
    return Session(name * 32, vehicle_id, b"n" * 32, NOW + timedelta(minutes=minutes), b"context")


def renewed(with_: Attestation, serial: str, hours: int = 18, *, recovery: bool = False) -> Certificate:
    return Certificate(serial, "v1", with_.identity_key, NOW + timedelta(hours=hours), recovery=recovery)


def test_an_attestation_is_kept_with_its_vehicle(registry: Registry) -> None:
    assert (registry.attestation("v1"), registry.owner_of(b"eka")) == (None, None)
    attested(registry, with_=(it := an_attestation()))
    assert (registry.attestation("v1"), registry.owner_of(b"eka")) == (it, "v1")
    enrolled(registry, "v2", Ecu("m2/app", "bms-m33"), serial="2")
    assert registry.attestation("v2") is None


@pytest.mark.parametrize("same", ["endorsement", "attestation_key", "identity_key"])
def test_no_part_of_a_tpm_is_of_two_vehicles(registry: Registry, same: str) -> None:
    attested(registry, with_=(one := an_attestation()))
    other = an_attestation(b"b")
    digest = a_token(registry, "v2")
    changed = replace(other, **{same: getattr(one, same)})
    with pytest.raises(PolicyRefused) as refused:
        registry.enrol(digest, Certificate("2", "v2", other.identity_key, NOW), (APP,), NOW, changed)
    assert refused.value.code is Code.ENROL_IDENTITY
    assert (registry.vehicle("v2"), registry.attestation("v2"), registry.attestation("v1")) == (
        None,
        None,
        one,
    )
    token = registry.token(digest)
    assert token is not None
    assert not token.used


def test_an_attested_vehicle_does_not_come_back_without_its_tpm(registry: Registry) -> None:
    attested(registry, with_=(it := an_attestation()))
    before = registry.certificates("v1")
    with pytest.raises(PolicyRefused) as refused:
        registry.enrol(a_token(registry, "v1"), Certificate("2", "v1", a_key(), NOW), (APP,), NOW)
    assert refused.value.code is Code.ENROL_IDENTITY
    assert (registry.certificates("v1"), registry.attestation("v1")) == (before, it)


def test_it_comes_back_later_or_with_another_tpm(registry: Registry) -> None:
    attested(registry, with_=(it := an_attestation(moment=b"m2")))
    for serial, moment in (("2", b"m0"), ("5", b"m1")):
        with pytest.raises(TrustRefused) as refused:
            attested(registry, serial=serial, with_=replace(it, moment=moment))
        assert refused.value.code is Code.ENROL_IDENTITY
        assert registry.attestation("v1") == it
    attested(registry, serial="3", with_=(later := replace(it, moment=b"m3")))
    assert registry.attestation("v1") == later
    attested(registry, serial="4", with_=(other := an_attestation(b"b", b"m0")))
    assert registry.attestation("v1") == other
    assert registry.owner_of(b"eka") is None


def test_a_session_is_taken_once(registry: Registry) -> None:
    registry.open_session(a_session(b"a"), NOW)
    assert registry.take_session(b"b" * 32, NOW) is None
    assert registry.take_session(b"a" * 32, NOW) == a_session(b"a")
    assert registry.take_session(b"a" * 32, NOW) is None


def test_a_session_expires(registry: Registry) -> None:
    registry.open_session(a_session(b"a"), NOW)
    assert registry.take_session(b"a" * 32, NOW + timedelta(minutes=2)) is None
    assert registry.take_session(b"a" * 32, NOW) is None


def test_sessions_are_bounded_for_each_vehicle(registry: Registry) -> None:
    registry.open_session(a_session(b"z", "v2"), NOW)
    for number in range(MAX_SESSIONS + 1):
        registry.open_session(a_session(bytes([number])), NOW)
    assert registry.take_session(bytes(32), NOW) is None
    assert registry.take_session(b"\1" * 32, NOW) is not None
    assert registry.take_session(b"z" * 32, NOW) is not None


def test_a_renewal_leaves_the_last_certificate_good_and_forgets_what_expired(registry: Registry) -> None:
    attested(registry, with_=(it := an_attestation()))
    registry.record("1", a_report(7))
    registry.renew(renewed(it, "2"), b"m2", NOW + timedelta(hours=6))
    assert [c.serial for c in registry.certificates("v1")] == ["2", "1"]
    assert not any(c.revoked for c in registry.certificates("v1"))
    registry.record("2", a_report(8))
    with pytest.raises(TrustRefused) as refused:  # the key's counter, not the certificate's
        registry.record("1", a_report(8))
    assert refused.value.code is Code.REPORT_REPLAYED
    registry.renew(renewed(it, "3", 24), b"m3", NOW + timedelta(hours=20))
    assert [c.serial for c in registry.certificates("v1")] == ["3"]
    with pytest.raises(TrustRefused):
        registry.record("3", a_report(8))
    assert registry.attestation("v1") == replace(it, moment=b"m3")


def test_no_renewal_behind_the_last_quote_after_a_revocation_or_unattested(registry: Registry) -> None:
    attested(registry, with_=(it := an_attestation(moment=b"m2")))
    for moment in (b"m0", b"m1"):
        with pytest.raises(TrustRefused) as refused:
            registry.renew(renewed(it, "2"), moment, NOW)
        assert refused.value.code is Code.ENROL_IDENTITY
    registry.revoke("v1")
    enrolled(registry, "v2", serial="9")
    for certificate in (renewed(it, "2"), replace(renewed(it, "2"), vehicle_id="v2")):
        with pytest.raises(TrustRefused) as refused:
            registry.renew(certificate, b"m3", NOW)
        assert refused.value.code is Code.TLS_CLIENT_CERTIFICATE
    assert registry.attestation("v1") == it
    assert [c.serial for c in registry.certificates("v1") + registry.certificates("v2")] == ["1", "9"]


def test_what_is_noted_stays_until_a_certificate_that_is_none_for_recovery(registry: Registry) -> None:
    attested(registry, with_=(it := an_attestation()))
    noted = Noted("attest.unknown", "an agent", NOW)
    registry.note("v1", noted)
    registry.note("v9", noted)
    registry.renew(renewed(it, "2", recovery=True), b"m2", NOW)
    assert registry.attestation("v1") == replace(it, moment=b"m2", noted=noted)
    assert [c.recovery for c in registry.certificates("v1")] == [True, False]
    registry.renew(renewed(it, "3"), b"m3", NOW)
    assert registry.attestation("v1") == replace(it, moment=b"m3")
    assert registry.attestation("v9") is None
