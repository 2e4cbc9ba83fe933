"""Delegated roles, one step at a time: what is asked for next, what is kept, what sets a floor.

What attackers serve is in tests/attacks/test_uptane_delegations.py.
"""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from tuf.api.metadata import TargetFile

from cellward.core import trust
from cellward.core.errors import Code, Refused, TrustRefused
from cellward.core.metadata import RULES, Repository, Role, file_name
from cellward.core.trust import TrustedRepository, Wanted
from tests.support.delegated import EXPIRES, Delegate, delegating
from tests.support.uptane import IMAGE_OWNER, NOW, Served, order, start, target

TARGET = target()
SUPPLIER = Delegate("supplier", (TARGET,))
ONE = delegating(SUPPLIER)


def follow(state: TrustedRepository, served: Served, version: int = 1) -> TrustedRepository:
    state = trust.update_timestamp(state, served["timestamp.json"], NOW)
    state = trust.update_snapshot(state, served[file_name(Role.SNAPSHOT, version)], NOW)
    if trust.needs_targets(state):
        state = trust.update_targets(state, served[file_name(Role.TARGETS, version)], NOW)
    return state


def resolve(
    state: TrustedRepository, served: Served, hardware: str | None = None, now: datetime = NOW
) -> tuple[TrustedRepository, TargetFile | None, list[str]]:
    asked = []
    while isinstance(found := trust.search(state, TARGET.name, now, hardware), Wanted):
        asked.append(found.role)
        state = trust.update_delegated(state, found, served[file_name(found.role, found.version)], now)
    return state, found, asked


def reloaded(state: TrustedRepository, **delegated: bytes) -> TrustedRepository:
    return trust.load(state.repository, state.files(), {**state.delegated_files(), **delegated})


def taken() -> TrustedRepository:
    return resolve(follow(start(IMAGE_OWNER), ONE), ONE)[0]


def test_what_is_wanted_is_bounded_by_what_the_snapshot_says() -> None:
    state = follow(start(IMAGE_OWNER), ONE)
    wanted = trust.search(state, TARGET.name, NOW)
    assert isinstance(wanted, Wanted)
    assert (wanted.role, wanted.version, wanted.limit) == ("supplier", 1, len(ONE["1.supplier.json"]))
    assert wanted.limit < RULES[Role.TARGETS].limit
    assert trust.wanted([order(TARGET)], state, NOW) == wanted


def test_a_match_before_the_file_is_there_says_which_one() -> None:
    state = follow(start(IMAGE_OWNER), ONE)
    with pytest.raises(TrustRefused) as caught:
        trust.match([order(TARGET)], state, {}, NOW)
    assert caught.value.code is Code.METADATA_MISSING
    assert caught.value.subject == "image supplier"
    (found,) = trust.match([order(TARGET)], taken(), {}, NOW)
    assert found.target == TARGET
    assert trust.wanted([order(TARGET)], taken(), NOW) is None


def test_a_target_of_the_top_asks_nobody() -> None:
    served = delegating(SUPPLIER, targets=(TARGET,))
    _, found, asked = resolve(follow(start(IMAGE_OWNER), served), served)
    assert found is not None
    assert asked == []


@pytest.mark.parametrize(("hardware", "asked"), [(None, True), ("bms-m33", True), ("bms-m33-18s", False)])
def test_hardware_of_a_delegation(hardware: str | None, asked: bool) -> None:
    served = delegating(replace(SUPPLIER, hardware=("bms-m33",)))
    _, found, roles = resolve(follow(start(IMAGE_OWNER), served), served, hardware)
    assert (found is not None, roles) == (asked, ["supplier"] if asked else [])


def test_each_hardware_of_an_order_is_looked_up_for_itself() -> None:
    """One name, two ECUs, and a delegation for the first one's hardware only."""
    other = replace(order(TARGET).ecu_identifiers[0], ecu_id="M-0002/app", hardware_id="bms-m33-18s")
    both = order(TARGET, *order(TARGET).ecu_identifiers, other)
    served = delegating(replace(SUPPLIER, hardware=("bms-m33",)))
    state, _, _ = resolve(follow(start(IMAGE_OWNER), served), served, "bms-m33")
    with pytest.raises(TrustRefused) as caught:
        trust.match([both], state, {}, NOW)
    assert caught.value.code is Code.TARGET_MISSING


def test_states_are_values() -> None:
    before = follow(start(IMAGE_OWNER), ONE)
    resolve(before, ONE)
    assert before.delegated_files() == {}


# --- persisted --------------------------------------------------------------------------------------


def test_loading_is_the_reverse_of_files() -> None:
    state = taken()
    assert list(state.delegated_files()) == ["supplier"]
    loaded = reloaded(state)
    assert loaded == state
    assert resolve(loaded, {})[2] == []


def test_a_chain_is_loaded_whatever_the_order_of_its_files() -> None:
    served = delegating(Delegate("b", below=(Delegate("c", below=(replace(SUPPLIER, name="a"),)),)))
    state, _, asked = resolve(follow(start(IMAGE_OWNER), served), served)
    assert asked == ["b", "c", "a"]
    files = dict(sorted(state.delegated_files().items()))
    assert set(trust.load(Repository.IMAGE, state.files(), files).delegated) == {"a", "b", "c"}
    del files["c"]  # and what nobody delegates to any more goes
    assert set(trust.load(Repository.IMAGE, state.files(), files).delegated) == {"b"}


THIEF = replace(SUPPLIER, keys=("thief",))


@pytest.mark.parametrize("data", [b"", b"{}", SUPPLIER.file()[:-1], THIEF.file()])
def test_what_is_damaged_or_somebody_elses_is_as_good_as_none(data: bytes) -> None:
    state = reloaded(taken(), supplier=data, unknown=SUPPLIER.file())
    assert state.delegated_files() == {}
    assert resolve(state, ONE)[2] == ["supplier"]


def test_rotated_targets_keys_drop_what_they_delegated() -> None:
    rotated = IMAGE_OWNER.rekeyed(targets=("t3", "t4"))
    state = trust.update_root(taken(), rotated.root(2))
    assert state.delegated_files() == {}
    files = {**taken().files(), Role.ROOT: state.root.data}
    half = trust.load(Repository.IMAGE, files, taken().delegated_files())
    assert half == state


# --- step 4 of 5.4.4.6, and fast-forward ---------------------------------------------------------------


def after_a_rotated_snapshot_key(role: Delegate) -> TrustedRepository:
    """Version 99 of the supplier was trusted; then the snapshot's key is exchanged, and its floor is gone."""
    far = delegating(replace(SUPPLIER, version=99))
    state, _, _ = resolve(follow(start(IMAGE_OWNER), far), far)
    owner = IMAGE_OWNER.rekeyed(snapshot=("s2",), timestamp=("t2",))
    state = trust.update_root(state, owner.root(2))
    served = delegating(role, version=2, owner=owner)
    return resolve(follow(state, served, 2), served)[0]


def test_the_roles_own_floor_outlives_the_snapshots() -> None:
    with pytest.raises(Refused) as caught:
        after_a_rotated_snapshot_key(SUPPLIER)
    assert caught.value.code is Code.METADATA_VERSION
    assert caught.value.expected == "version 99 or later"


def test_a_new_key_of_the_role_ends_its_floor() -> None:
    state = after_a_rotated_snapshot_key(replace(SUPPLIER, keys=("heir",)))
    assert state.delegated["supplier"].signed.version == 1


# --- time ------------------------------------------------------------------------------------------------


def test_a_held_file_expires() -> None:
    short = delegating(replace(SUPPLIER, expires=NOW + timedelta(hours=1)))
    state, found, _ = resolve(follow(start(IMAGE_OWNER), short), short)
    assert found is not None
    for now in (NOW + timedelta(hours=1), EXPIRES):
        with pytest.raises(TrustRefused) as caught:
            trust.search(state, TARGET.name, now)
        assert caught.value.code is Code.METADATA_EXPIRED


def test_a_file_is_not_taken_under_a_snapshot_that_has_expired() -> None:
    long = delegating(replace(SUPPLIER, expires=EXPIRES + timedelta(days=30)))
    state = follow(start(IMAGE_OWNER), long)
    wanted = trust.search(state, TARGET.name, NOW)
    assert isinstance(wanted, Wanted)
    with pytest.raises(TrustRefused) as caught:
        trust.update_delegated(state, wanted, long["1.supplier.json"], EXPIRES)
    assert caught.value.code is Code.METADATA_EXPIRED


# --- bounded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "answered"), [(trust.MAX_ROLES, True), (trust.MAX_ROLES + 1, False)])
def test_how_many_roles_are_asked(count: int, answered: bool) -> None:
    served = delegating(*(Delegate(f"r{n}") for n in range(count)))
    state = follow(start(IMAGE_OWNER), served)
    if answered:
        assert resolve(state, served)[1] is None
        return
    with pytest.raises(TrustRefused) as caught:
        resolve(state, served)
    assert caught.value.code is Code.TARGET_DELEGATION


def test_a_role_that_is_there_twice_is_asked_once() -> None:
    inner = Delegate("c")
    served = delegating(Delegate("a", below=(inner,)), Delegate("b", below=(inner,)), Delegate("c"))
    state, found, asked = resolve(follow(start(IMAGE_OWNER), served), served)
    assert found is None
    assert asked == ["a", "c", "b"]
    assert sorted(state.delegated_files()) == ["a", "b", "c"]
