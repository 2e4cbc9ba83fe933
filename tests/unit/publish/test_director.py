"""The Director: per vehicle, on demand, one content a version."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cellward.core.errors import Code, FormatRefused, Refused, Unavailable
from cellward.core.metadata import (
    Ecu,
    assignments_of,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
    vehicle_id_of,
)
from cellward.ports.registry import Issue, Order, Vehicle
from cellward.rollout.orders import order
from tests.fakes.registry import MemoryRegistry
from tests.support.maker import APP, LOADER, NOW, Maker, enrol, signed_image

PACK2 = (Ecu("m2/app", "bms-m33"), Ecu("m2/loader", "bms-m33"), Ecu("m3/app", "bms-m33"))


@pytest.fixture
def maker() -> Maker:
    made = Maker().init()
    enrol(made.registry)
    made.publish(signed_image(made.keys))
    return made


def vehicle(maker: Maker, vehicle_id: str = "PACK-1") -> Vehicle:
    found = maker.registry.vehicle(vehicle_id)
    assert found is not None
    return found


def test_without_orders_it_names_the_vehicle(maker: Maker) -> None:
    issue = maker.director.current(vehicle(maker), NOW)
    targets = parse_targets(issue.targets).signed
    assert (vehicle_id_of(targets), targets.targets, targets.delegations) == ("PACK-1", {}, None)


def test_orders_name_ecus_and_the_image_repositorys_facts(maker: Maker) -> None:
    enrol(maker.registry, "PACK-2", ecus=PACK2, serial="6f")
    target = maker.images.targets()[0]
    order(maker.registry, "PACK-2", [target])
    issue = maker.director.current(vehicle(maker, "PACK-2"), NOW)
    (assignment,) = assignments_of(parse_targets(issue.targets).signed)
    assert assignment.target == target
    assert assignment.ecu_identifiers == (PACK2[0], PACK2[2])


def test_each_module_gets_its_own_wrapped_key(maker: Maker) -> None:
    """Of ECUs for which none is wrapped nothing is said; other targets' keys are not for this one."""
    enrol(maker.registry, "PACK-2", ecus=PACK2, serial="6f")
    target = maker.images.targets()[0]
    maker.wrapped.write(f"{target.sha256}/m3", b"3" * 113)
    maker.wrapped.write(f"{'ab' * 32}/m2", b"2" * 113)
    order(maker.registry, "PACK-2", [target])
    issue = maker.director.current(vehicle(maker, "PACK-2"), NOW)
    (assignment,) = assignments_of(parse_targets(issue.targets).signed)
    assert assignment.wrapped_keys == (("m3/app", b"3" * 113),)


def test_the_three_files_hang_together_and_last_a_day(maker: Maker) -> None:
    issue = maker.director.current(vehicle(maker), NOW)
    timestamp, snapshot = parse_timestamp(issue.timestamp).signed, parse_snapshot(issue.snapshot).signed
    timestamp.snapshot_meta.verify_length_and_hashes(issue.snapshot)
    snapshot.meta["targets.json"].verify_length_and_hashes(issue.targets)
    targets = parse_targets(issue.targets)
    for signed in (timestamp, snapshot, targets.signed):
        assert (signed.version, signed.expires) == (1, NOW + timedelta(days=1))
    maker.director.roots.newest().signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)


def test_it_is_signed_once_until_half_a_day_is_gone(maker: Maker) -> None:
    first = maker.director.current(vehicle(maker), NOW)
    signatures = maker.keys("director").signatures
    assert maker.director.current(vehicle(maker), NOW + timedelta(hours=11)) == first
    assert maker.keys("director").signatures == signatures
    second = maker.director.current(vehicle(maker), NOW + timedelta(hours=12))
    assert second.version == 2
    assert parse_timestamp(second.timestamp).signed.expires == NOW + timedelta(hours=36)


def test_a_changed_order_is_a_new_version_at_once(maker: Maker) -> None:
    first = maker.director.current(vehicle(maker), NOW)
    order(maker.registry, "PACK-1", maker.images.targets())
    second = maker.director.current(vehicle(maker), NOW)
    assert (first.version, second.version) == (1, 2)
    order(maker.registry, "PACK-1", maker.images.targets())
    assert maker.director.current(vehicle(maker), NOW) == second


def test_another_director_key_is_a_new_version_too(maker: Maker) -> None:
    """A rotated key (K1): what the old one signed must not be served on."""
    issue = maker.director.current(vehicle(maker), NOW)
    maker.registry.add_issue(replace(issue, version=2, signed_by="0" * 64))
    assert maker.director.current(vehicle(maker), NOW).version == 3


def test_a_stale_vehicle_value_gets_todays_orders(maker: Maker) -> None:
    stale = vehicle(maker)
    order(maker.registry, "PACK-1", maker.images.targets())
    issue = maker.director.current(stale, NOW)
    assert len(assignments_of(parse_targets(issue.targets).signed)) == 1
    assert issue.revision == vehicle(maker).revision


def test_files_by_name(maker: Maker) -> None:
    who = vehicle(maker)
    issue = maker.director.current(who, NOW)
    assert maker.director.file(who, "timestamp.json", NOW) == issue.timestamp
    assert maker.director.file(who, "1.snapshot.json", NOW) == issue.snapshot
    assert maker.director.file(who, "1.targets.json", NOW) == issue.targets
    assert maker.director.file(who, "1.root.json", NOW) == maker.roots.read("1.root.json")
    for name in ("2.root.json", "2.targets.json", "9.snapshot.json"):
        assert maker.director.file(who, name, NOW) is None
    with pytest.raises(FormatRefused):
        maker.director.file(who, "../1.root.json", NOW)


def test_a_cycle_under_way_can_finish(maker: Maker) -> None:
    who = vehicle(maker)
    first = maker.director.current(who, NOW)
    maker.director.current(who, NOW + timedelta(hours=13))
    assert maker.director.file(who, "1.targets.json", NOW) == first.targets
    maker.director.current(who, NOW + timedelta(hours=26))
    assert maker.director.file(who, "1.targets.json", NOW) is None


class Racing(MemoryRegistry):
    """Another server signs the same version first."""

    def __init__(self) -> None:
        super().__init__()
        self.rival: Issue | None = None

    def add_issue(self, issue: Issue) -> Issue:
        if self.rival is None:
            self.rival = replace(issue, targets=b"the rival's")
            super().add_issue(self.rival)
        return super().add_issue(issue)


def test_of_two_servers_one_wins_and_both_serve_it() -> None:
    maker = Maker(registry=Racing()).init()
    enrol(maker.registry)
    issue = maker.director.current(vehicle(maker), NOW)
    assert issue.targets == b"the rival's"
    assert maker.registry.issue_at("PACK-1", 1) == issue


def test_without_the_token_what_stands_is_served_and_nothing_new(maker: Maker) -> None:
    first = maker.director.current(vehicle(maker), NOW)
    maker.keys.lose()
    assert maker.director.current(vehicle(maker), NOW) == first
    with pytest.raises(Unavailable) as refused:
        maker.director.current(vehicle(maker), NOW + timedelta(hours=13))
    assert refused.value.code is Code.TOKEN_ABSENT
    assert maker.registry.issue("PACK-1") == first


def test_one_name_has_one_content(maker: Maker) -> None:
    target = maker.images.targets()[0]
    other = replace(target, sha256="0" * 64, stage=target.stage)
    maker.registry.assign("PACK-1", [Order(APP.ecu_id, target), Order(LOADER.ecu_id, other)])
    with pytest.raises(Refused) as refused:
        maker.director.current(vehicle(maker), NOW)
    assert refused.value.code is Code.TARGET_MISMATCH
