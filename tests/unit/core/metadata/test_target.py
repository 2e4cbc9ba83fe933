from typing import Any

import pytest

from cellward.core.errors import Code, FormatRefused
from cellward.core.metadata import (
    Assignment,
    Ecu,
    assignment_of,
    assignments_of,
    check_vehicle_id,
    make_director_targets,
    target_name,
    target_of,
    targets_of,
)
from cellward.core.metadata.target import assignment_file, target_file
from tests.support.uptane import APP, LOADER, NOW, VEHICLE, order, target

TARGET = target()


def test_names() -> None:
    assert target_name("bms-m33", "app", "1.4.0") == "bms-m33/app-1.4.0.img"
    assert TARGET.stored_name == f"bms-m33/{'a2' * 32}.app-1.4.0.img"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "bms-m33/app-1.5.0.img"}, Code.TARGET_NAME),
        ({"name": "other/app-1.4.0.img"}, Code.TARGET_NAME),
        ({"name": "bms-m33/loader-1.4.0.img"}, Code.TARGET_NAME),
        ({"name": "../app-1.4.0.img"}, Code.TARGET_NAME),
        ({"hardware_ids": ()}, Code.TARGET_NAME),
        ({"name": "../app-1.4.0.img", "hardware_ids": ("..",)}, Code.TARGET_NAME),
        ({"hardware_ids": ("bms-m33", "BMS M33")}, Code.METADATA_FORMAT),
        ({"name": "bms-m33/app-1-2.img", "stage": "app-", "version": "-2"}, Code.METADATA_FORMAT),
        ({"sha256": "A2" * 32}, Code.METADATA_FORMAT),
        ({"length": 0}, Code.METADATA_FORMAT),
        ({"length": 2**32}, Code.METADATA_FORMAT),
        ({"release_counter": -1}, Code.METADATA_FORMAT),
        ({"release_counter": 2**53}, Code.METADATA_FORMAT),
    ],
)
def test_targets_refused(changes: dict[str, Any], code: Code) -> None:
    with pytest.raises(FormatRefused) as caught:
        target(**changes)
    assert caught.value.code is code


def test_a_name_is_checked_where_it_is_made() -> None:
    with pytest.raises(FormatRefused) as caught:
        target_name("..", "app", "1.4.0")
    assert caught.value.code is Code.TARGET_NAME


def test_the_ends_of_the_ranges_are_in_them() -> None:
    assert target(length=1, counter=0).release_counter == 0
    assert target(length=2**32 - 1, counter=2**53 - 1).length == 2**32 - 1


def test_there_and_back() -> None:
    assert target_of(target_file(TARGET)) == TARGET
    assignment = order(TARGET, APP)
    assert assignment_of(assignment_file(assignment)) == assignment
    assert target_of(assignment_file(assignment)) == TARGET


def test_an_encrypted_target_there_and_back() -> None:
    sealed = target(plain_sha256="b3" * 32)
    assert target_of(target_file(sealed)) == sealed
    assert (sealed.encrypted, sealed.installed_sha256) == (True, "b3" * 32)
    ordered = Assignment(TARGET, (APP,), ((APP.ecu_id, bytes(113)),))
    assert assignment_of(assignment_file(ordered)) == ordered
    for bad in ("", "b3" * 31, "B3" * 32, 5, None):
        file = target_file(sealed)
        file.unrecognized_fields["custom"]["plain_sha256"] = bad
        with pytest.raises(FormatRefused):
            target_of(file)


@pytest.mark.parametrize("keys", [((LOADER.ecu_id, bytes(113)),), ((APP.ecu_id, bytes(112)),)])
def test_wrapped_keys_are_whole_and_for_its_ecus(keys: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(FormatRefused):
        Assignment(TARGET, (APP,), keys)


def test_all_of_a_file_sorted_by_name() -> None:
    loader = target(name="bms-m33/loader-1.4.0.img", stage="loader")
    orders = (order(TARGET, APP), order(loader, LOADER))
    metadata = make_director_targets(version=1, expires=NOW, vehicle_id=VEHICLE, assignments=reversed(orders))
    assert assignments_of(metadata.signed) == orders
    assert targets_of(metadata.signed) == (TARGET, loader)


@pytest.mark.parametrize(
    "custom",
    [
        None,
        [],
        {},
        {"hardware_ids": "bms-m33"},
        {"hardware_ids": ["bms-m33", "bms-m33"]},
        {"hardware_ids": ["bms-m33", 5]},
        {"hardware_ids": []},
        {"hardware_ids": [f"h{n}" for n in range(33)]},
        {"stage": None},
        {"stage": "../app"},
        {"version": 1},
        {"release_counter": "7"},
        {"release_counter": True},
    ],
)
def test_custom_fields_are_checked_when_used(custom: object) -> None:
    file = target_file(TARGET)
    merged = {**TARGET.custom(), **custom} if isinstance(custom, dict) and custom else custom
    file.unrecognized_fields = {"custom": merged}
    with pytest.raises(FormatRefused) as caught:
        target_of(file)
    assert caught.value.code is Code.METADATA_FORMAT


@pytest.mark.parametrize(
    "ecus",
    [
        None,
        {},
        ["M-0001/app"],
        {"M-0001/app": "bms-m33"},
        {"M-0001/app": {}},
        {"M-0001/app": {"hardware_id": "../x"}},
        {"M-0001/app": {"hardware_id": "bms-m33", "wrapped_key": "00" * 112}},
        {"M-0001/app": {"hardware_id": "bms-m33", "wrapped_key": "zz" * 113}},
        {"M-0001/app": {"hardware_id": "bms-m33", "wrapped_key": None}},
        {"../app": {"hardware_id": "bms-m33"}},
        {"a/b/c": {"hardware_id": "bms-m33"}},
    ],
)
def test_ecu_identifiers_are_checked(ecus: object) -> None:
    file = target_file(TARGET)
    file.unrecognized_fields = {"custom": {**TARGET.custom(), "ecu_identifiers": ecus}}
    with pytest.raises(FormatRefused) as caught:
        assignment_of(file)
    assert caught.value.code is Code.METADATA_FORMAT


def test_ecus() -> None:
    assert (APP.stage, LOADER.stage, Ecu(VEHICLE, "controller").stage) == ("app", "loader", None)
    for ecu_id, hardware_id in (("", "x"), ("a/../b", "x"), ("a", ""), ("a", "X")):
        with pytest.raises(FormatRefused):
            Ecu(ecu_id, hardware_id)
    with pytest.raises(FormatRefused):
        Assignment(TARGET, ())
    with pytest.raises(FormatRefused):
        assignment_file(order(TARGET, APP, APP))


@pytest.mark.parametrize("vehicle_id", ["", "-x", "a/b", "..", "x" * 65, "a b", "é"])
def test_vehicle_ids(vehicle_id: str) -> None:
    with pytest.raises(FormatRefused):
        check_vehicle_id(vehicle_id)
