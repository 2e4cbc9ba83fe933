"""The inventory: who may speak for a vehicle, and what its word is taken for."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cellward.core.errors import CellwardError, Code
from cellward.core.metadata import Ecu, Installed, decode_manifest
from cellward.core.slots import Stage
from cellward.ports.registry import Registry, Vehicle
from cellward.rollout import inventory
from cellward.rollout.orders import order
from tests.fakes.registry import MemoryRegistry
from tests.support.maker import APP, LOADER, NOW, Hand, Maker, enrol, manifest, signed_image

RUNS = Installed("bms-m33/app-1.4.0.img", 1000, "ab" * 32, "1.4.0", 7)


@pytest.fixture
def registry() -> Registry:
    return MemoryRegistry()


def refusal(act: object, *arguments: object) -> Code:
    assert callable(act)
    with pytest.raises(CellwardError) as refused:
        act(*arguments)
    return refused.value.code


def test_a_token_opens_once_it_is_made_and_until_it_expires(registry: Registry) -> None:
    text = inventory.new_token(registry, "PACK-1", NOW)
    assert inventory.open_token(registry, text, NOW).vehicle_id == "PACK-1"
    assert inventory.new_token(registry, "PACK-1", NOW) != text
    last = NOW + inventory.TOKEN_LIFETIME
    inventory.open_token(registry, text, last - timedelta(seconds=1))
    assert refusal(inventory.open_token, registry, text, last) is Code.ENROL_TOKEN


@pytest.mark.parametrize("text", ["", "x", "ä" * 50, "A" * 43])
def test_another_token_does_not_open(registry: Registry, text: str) -> None:
    inventory.new_token(registry, "PACK-1", NOW)
    assert refusal(inventory.open_token, registry, text, NOW) is Code.ENROL_TOKEN


def test_the_token_itself_is_not_kept(registry: MemoryRegistry) -> None:
    text = inventory.new_token(registry, "PACK-1", NOW)
    assert text not in repr(vars(registry))
    assert text.encode() not in repr(vars(registry)).encode()


@pytest.mark.parametrize("vehicle_id", ["", "a b", "../x", "x" * 65, "a\n", "ä", "-a", "a/b"])
def test_vehicle_ids_of_another_form_get_no_token(registry: Registry, vehicle_id: str) -> None:
    assert refusal(inventory.new_token, registry, vehicle_id, NOW) is Code.METADATA_FORMAT


@pytest.mark.parametrize(
    ("ecus", "code"),
    [
        ((), Code.REQUEST_FORMAT),
        ((APP, APP), Code.REQUEST_FORMAT),
        (tuple(Ecu(f"m{n}/app", "bms-m33") for n in range(65)), Code.REQUEST_FORMAT),
        ((Ecu("m1/rom", "bms-m33"),), Code.ENROL_ECU),
        ((Ecu("PACK-1", "bms-m33"),), Code.ENROL_ECU),
        ((Ecu("m1/app", "bms-m99"),), Code.ENROL_ECU),
    ],
)
def test_ecus_that_are_none(ecus: tuple[Ecu, ...], code: Code) -> None:
    assert refusal(inventory.check_ecus, ecus) is code


def test_a_certificate_speaks_for_its_vehicle_until_revoked_or_expired(registry: Registry) -> None:
    enrol(registry, serial="5e")
    assert inventory.authenticate(registry, "5e", "PACK-1", NOW).vehicle_id == "PACK-1"
    for serial, name, days in (("5f", "PACK-1", 0), ("5e", "PACK-2", 0), ("5e", "", 0), ("5e", "PACK-1", 30)):
        code = refusal(inventory.authenticate, registry, serial, name, NOW + timedelta(days=days))
        assert code is Code.TLS_CLIENT_CERTIFICATE
    assert inventory.revoke(registry, "PACK-1") == 1
    assert refusal(inventory.authenticate, registry, "5e", "PACK-1", NOW) is Code.TLS_CLIENT_CERTIFICATE
    assert refusal(inventory.revoke, registry, "PACK-2") is Code.VEHICLE_UNKNOWN


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def vehicle(registry: Registry, hand: Hand) -> Vehicle:
    return enrol(registry, key=hand.public_key)


def send(registry: Registry, vehicle: Vehicle, data: bytes) -> None:
    certificate = registry.certificates(vehicle.vehicle_id)[0]
    inventory.accept_report(registry, certificate, vehicle, data, NOW)


def test_reports_are_kept_and_shown(registry: Registry, vehicle: Vehicle, hand: Hand) -> None:
    send(registry, vehicle, manifest(hand, installed=RUNS))
    status = inventory.status(registry, "PACK-1")
    assert status.last_seen == NOW
    assert [(e.ecu, e.installed, e.ordered) for e in status.ecus] == [(APP, RUNS, None), (LOADER, RUNS, None)]
    last = registry.last_report("PACK-1")
    assert last is not None
    assert decode_manifest(last.body).counter == 1


def test_only_what_is_new_makes_history(registry: Registry, vehicle: Vehicle, hand: Hand) -> None:
    for counter in (1, 2):
        send(registry, vehicle, manifest(hand, counter=counter, now=NOW + timedelta(hours=counter)))
    send(registry, vehicle, manifest(hand, counter=3, installed=RUNS))
    assert [report.counter for report in registry.history("PACK-1")] == [1, 3]


def test_refused_reports_leave_no_trace(registry: Registry, vehicle: Vehicle, hand: Hand) -> None:
    good = manifest(hand, counter=5)
    send(registry, vehicle, good)
    flipped = good.replace(b'"counter":5', b'"counter":6')
    assert flipped != good
    for data, code in (
        (good, Code.REPORT_REPLAYED),
        (manifest(hand, counter=4), Code.REPORT_REPLAYED),
        (flipped, Code.REPORT_SIGNATURE),
        (manifest(Hand(), counter=6), Code.REPORT_SIGNATURE),
        (manifest(hand, "PACK-2", counter=6), Code.TARGET_VEHICLE),
        (manifest(hand, counter=6, ecus=(APP,)), Code.REPORT_ECU),
        (manifest(hand, counter=6, ecus=(APP, LOADER, Ecu("m9/app", "x"))), Code.REPORT_ECU),
        (b"{}", Code.METADATA_FORMAT),
        (b"", Code.METADATA_FORMAT),
    ):
        assert refusal(send, registry, vehicle, data) is code
        last = registry.last_report("PACK-1")
        assert last is not None
        assert (last.counter, last.body) == (5, good)
        assert len(registry.history("PACK-1")) == 1


def test_orders_go_to_the_ecus_they_fit() -> None:
    maker = Maker().init()
    app, loader = maker.publish(signed_image(maker.keys), signed_image(maker.keys, stage=Stage.LOADER))
    three = Ecu("m2/app", "bms-m33")
    other = Ecu("m3/app", "bms-m33-18s")
    enrol(maker.registry, ecus=(APP, LOADER, three, other))
    made = order(maker.registry, "PACK-1", [app, loader])
    assert {(o.ecu_id, o.target) for o in made} == {("m1/app", app), ("m2/app", app), ("m1/loader", loader)}
    ordered = {e.ecu.ecu_id: e.ordered for e in inventory.status(maker.registry, "PACK-1").ecus}
    assert ordered == {"m1/app": app, "m2/app": app, "m1/loader": loader, "m3/app": None}


def test_an_encrypted_order_is_wrapped_for_each_module_first() -> None:
    maker = Maker().init()
    (app,) = maker.publish(signed_image(maker.keys))
    sealed = replace(app, plain_sha256="ab" * 32)
    enrol(maker.registry, ecus=(APP, LOADER, Ecu("m2/app", "bms-m33")))
    assert refusal(order, maker.registry, "PACK-1", [sealed]) is Code.IMAGE_ENCRYPTION
    assert maker.registry.orders("PACK-1") == (1, ())
    wrapped: list[tuple[str, str]] = []
    order(maker.registry, "PACK-1", [sealed], lambda target, serial: wrapped.append((target.sha256, serial)))
    assert wrapped == [(app.sha256, "m1"), (app.sha256, "m2")]
    assert [made.target for made in maker.registry.orders("PACK-1")[1]] == [app, app]


def test_orders_that_fit_nothing_change_nothing() -> None:
    maker = Maker().init()
    app, app2, big = maker.publish(
        signed_image(maker.keys),
        signed_image(maker.keys, "1.5.0"),
        signed_image(maker.keys, hardware="bms-m33-18s"),
    )
    enrol(maker.registry)
    for vehicle_id, targets, code in (
        ("PACK-9", [app], Code.VEHICLE_UNKNOWN),
        ("PACK-1", [app, big], Code.TARGET_HARDWARE),
        ("PACK-1", [app, app2], Code.TARGET_ECU),
    ):
        assert refusal(order, maker.registry, vehicle_id, targets) is code
        assert maker.registry.orders("PACK-1") == (1, ())
