"""The steps one by one: order, equal versions, limits, what an unfinished state may not do.

What attackers serve is in tests/attacks/test_uptane_cycle.py.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, TargetFile

from cellward.core import trust
from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.metadata import (
    RULES,
    Ecu,
    Repository,
    Role,
    make_snapshot,
    make_targets,
    make_timestamp,
    parse_snapshot,
    tuf_key,
)
from cellward.core.trust import Trusted
from tests.support.uptane import (
    APP,
    DIRECTOR_OWNER,
    ECUS,
    IMAGE_BYTES,
    IMAGE_OWNER,
    LOADER,
    NOW,
    VEHICLE,
    Dates,
    Release,
    director_release,
    follow,
    image_release,
    order,
    release,
    sign,
    start,
    target,
)

TARGET = target()
MADE = image_release(TARGET, version=3)
TRUSTED = follow(start(IMAGE_OWNER), MADE)


LIFE = timedelta(days=1)
TOMORROW = NOW + LIFE


def refusal(call: Callable[[], object], code: Code) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.code is code
    return caught.value


def test_a_whole_cycle() -> None:
    director = follow(start(DIRECTOR_OWNER), director_release(order(TARGET, APP)))
    assignments = trust.check_director_targets(director, NOW, vehicle_id=VEHICLE, ecus=ECUS)
    orders = trust.match(assignments, TRUSTED, {APP.ecu_id: 6}, NOW)
    assert [(o.ecu_id, o.target) for o in orders] == [(APP.ecu_id, TARGET)]


def test_one_image_for_several_ecus() -> None:
    second = Ecu("M-0002/app", "bms-m33")
    director = follow(start(DIRECTOR_OWNER), director_release(order(TARGET, APP, second)))
    assignments = trust.check_director_targets(director, NOW, vehicle_id=VEHICLE, ecus=(*ECUS, second))
    orders = trust.match(assignments, TRUSTED, {}, NOW)
    assert [o.ecu_id for o in orders] == [APP.ecu_id, second.ecu_id]


def test_every_ecu_of_an_order_is_asked_for_its_counter() -> None:
    second = Ecu("M-0002/app", "bms-m33")
    director = follow(start(DIRECTOR_OWNER), director_release(order(TARGET, APP, second)))
    assignments = trust.check_director_targets(director, NOW, vehicle_id=VEHICLE, ecus=(*ECUS, second))
    installed = {APP.ecu_id: 7, second.ecu_id: 8}
    caught = refusal(lambda: trust.match(assignments, TRUSTED, installed, NOW), Code.TARGET_COUNTER)
    assert second.ecu_id in caught.subject


def test_nothing_ordered() -> None:
    director = follow(start(DIRECTOR_OWNER), director_release())
    assert trust.check_director_targets(director, NOW, vehicle_id=VEHICLE, ecus=ECUS) == ()
    assert trust.match((), TRUSTED, {}, NOW) == ()


def test_the_primary_itself_takes_no_image() -> None:
    primary = Ecu(VEHICLE, "bms-m33")
    director = follow(start(DIRECTOR_OWNER), director_release(order(TARGET, primary)))
    refusal(
        lambda: trust.check_director_targets(director, NOW, vehicle_id=VEHICLE, ecus=(*ECUS, primary)),
        Code.TARGET_ECU,
    )


def test_the_hardware_named_by_the_director_is_not_enough() -> None:
    """An image for other hardware, and an ECU entry that says the true hardware."""
    wrong = target(name="bms-m33-18s/app-1.4.0.img", hardware_ids=("bms-m33-18s",))
    director = follow(start(DIRECTOR_OWNER), director_release(order(wrong, APP)))
    refusal(
        lambda: trust.check_director_targets(director, NOW, vehicle_id=VEHICLE, ecus=ECUS),
        Code.TARGET_HARDWARE,
    )


def test_the_same_timestamp_again_changes_nothing() -> None:
    assert trust.update_timestamp(TRUSTED, MADE.timestamp, NOW) is TRUSTED
    refusal(
        lambda: trust.update_timestamp(TRUSTED, MADE.timestamp, NOW + timedelta(days=1)),
        Code.METADATA_EXPIRED,
    )


def test_the_same_timestamp_signed_again_is_no_other_content() -> None:
    """ECDSA signs the same bytes differently each time."""
    metadata = make_timestamp(
        version=3, expires=NOW + timedelta(days=1), snapshot_version=3, snapshot_data=MADE.snapshot
    )
    again = sign(metadata, *IMAGE_OWNER.holders(Role.TIMESTAMP))
    assert again != MADE.timestamp
    assert trust.update_timestamp(TRUSTED, again, NOW) is TRUSTED


def test_needs() -> None:
    state = trust.update_timestamp(start(IMAGE_OWNER), MADE.timestamp, NOW)
    assert trust.needs_snapshot(state)
    state = trust.update_snapshot(state, MADE.snapshot, NOW)
    assert not trust.needs_snapshot(state)
    assert trust.needs_targets(state)
    state = trust.update_targets(state, MADE.targets, NOW)
    assert not trust.needs_targets(state)
    newer = image_release(TARGET, version=4)
    state = trust.update_timestamp(state, newer.timestamp, NOW)
    assert trust.needs_snapshot(state)
    state = trust.update_snapshot(state, newer.snapshot, NOW)
    assert trust.needs_targets(state)


def test_needs_looks_at_the_hash_too() -> None:
    other = image_release(target(counter=8), version=3)
    mixed = replace(TRUSTED, targets=follow(start(IMAGE_OWNER), other).targets)
    assert trust.needs_targets(mixed)
    mixed = replace(TRUSTED, snapshot=follow(start(IMAGE_OWNER), other).snapshot)
    assert trust.needs_snapshot(mixed)


def test_limits_are_those_signed_above() -> None:
    assert trust.snapshot_limit(TRUSTED) == len(MADE.snapshot)
    assert trust.targets_limit(TRUSTED) == len(MADE.targets)


def test_a_signed_length_beyond_the_role_does_not_raise_the_limit() -> None:
    huge = b" " * (RULES[Role.SNAPSHOT].limit + 1)
    metadata = make_timestamp(
        version=1, expires=NOW + timedelta(days=1), snapshot_version=1, snapshot_data=huge
    )
    stamp = sign(metadata, *IMAGE_OWNER.holders(Role.TIMESTAMP))
    state = trust.update_timestamp(start(IMAGE_OWNER), stamp, NOW)
    assert trust.snapshot_limit(state) == RULES[Role.SNAPSHOT].limit
    refusal(lambda: trust.update_snapshot(state, huge, NOW), Code.METADATA_TOO_LARGE)


def test_order_of_the_steps() -> None:
    root_only = start(IMAGE_OWNER)
    stamped = trust.update_timestamp(root_only, MADE.timestamp, NOW)
    calls: list[Callable[[], object]] = [
        lambda: trust.needs_snapshot(root_only),
        lambda: trust.snapshot_limit(root_only),
        lambda: trust.update_snapshot(root_only, MADE.snapshot, NOW),
        lambda: trust.update_targets(root_only, MADE.targets, NOW),
        lambda: trust.needs_targets(stamped),
        lambda: trust.targets_limit(stamped),
        lambda: trust.update_targets(stamped, MADE.targets, NOW),
        lambda: trust.current_targets(root_only, NOW),
        lambda: trust.current_targets(stamped, NOW),
        lambda: trust.current_targets(replace(TRUSTED, targets=None), NOW),
        lambda: trust.current_targets(replace(TRUSTED, timestamp=None), NOW),
        lambda: trust.match((), root_only, {}, NOW),
    ]
    for call in calls:
        refusal(call, Code.METADATA_MISSING)


def test_a_snapshot_that_lists_no_targets() -> None:
    metadata = make_snapshot(
        version=1, expires=NOW + timedelta(days=1), targets_version=1, targets_data=b"{}"
    )
    metadata.signed.meta = {}
    snapshot = sign(metadata, *IMAGE_OWNER.holders(Role.SNAPSHOT))
    stamp = sign(
        make_timestamp(
            version=1, expires=NOW + timedelta(days=1), snapshot_version=1, snapshot_data=snapshot
        ),
        *IMAGE_OWNER.holders(Role.TIMESTAMP),
    )
    state = trust.update_timestamp(start(IMAGE_OWNER), stamp, NOW)
    state = trust.update_snapshot(state, snapshot, NOW)
    assert parse_snapshot(snapshot).signed.meta == {}
    refusal(lambda: trust.needs_targets(state), Code.METADATA_MISSING)


def test_a_new_timestamp_asks_for_its_snapshot_before_targets_are_taken() -> None:
    newer = image_release(TARGET, version=4)
    state = trust.update_timestamp(TRUSTED, newer.timestamp, NOW)
    refusal(lambda: trust.update_targets(state, newer.targets, NOW), Code.METADATA_HASH)
    refusal(lambda: trust.current_targets(state, NOW), Code.METADATA_HASH)


def test_each_step_looks_at_what_is_above_it_again() -> None:
    tomorrow = NOW + timedelta(days=1)
    state = trust.update_timestamp(start(IMAGE_OWNER), MADE.timestamp, NOW)
    refusal(lambda: trust.update_snapshot(state, MADE.snapshot, tomorrow), Code.METADATA_EXPIRED)
    taken = trust.update_snapshot(state, MADE.snapshot, NOW)
    refusal(lambda: trust.update_targets(taken, MADE.targets, tomorrow), Code.METADATA_EXPIRED)
    refusal(lambda: trust.current_targets(TRUSTED, tomorrow), Code.METADATA_EXPIRED)
    refusal(lambda: trust.match((), TRUSTED, {}, tomorrow), Code.METADATA_EXPIRED)


def stamp(snapshot: bytes, snapshot_version: int, version: int) -> bytes:
    """The timestamp's key names this snapshot."""
    metadata = make_timestamp(
        version=version, expires=TOMORROW, snapshot_version=snapshot_version, snapshot_data=snapshot
    )
    return sign(metadata, *IMAGE_OWNER.holders(Role.TIMESTAMP))


def snapshot_of(version: int, targets_version: int = 3) -> bytes:
    metadata = make_snapshot(
        version=version, expires=TOMORROW, targets_version=targets_version, targets_data=MADE.targets
    )
    return sign(metadata, *IMAGE_OWNER.holders(Role.SNAPSHOT))


def test_a_timestamp_may_not_name_an_older_snapshot() -> None:
    older = stamp(snapshot_of(2), 2, 4)
    caught = refusal(lambda: trust.update_timestamp(TRUSTED, older, NOW), Code.METADATA_VERSION)
    assert caught.subject == "image timestamp snapshot"


def test_a_snapshot_is_the_version_that_its_timestamp_says() -> None:
    data = snapshot_of(2)
    state = trust.update_timestamp(start(IMAGE_OWNER), stamp(data, 3, 1), NOW)
    caught = refusal(lambda: trust.update_snapshot(state, data, NOW), Code.METADATA_VERSION)
    assert caught.expected == "version 3, as listed"


def test_a_snapshot_is_not_older_even_when_no_timestamp_was_kept() -> None:
    """A cut, or a hand, has taken the timestamp away; the snapshot still is a floor."""
    data = snapshot_of(2)
    state = replace(TRUSTED, timestamp=None)
    state = trust.update_timestamp(state, stamp(data, 2, 1), NOW)
    caught = refusal(lambda: trust.update_snapshot(state, data, NOW), Code.METADATA_VERSION)
    assert caught.expected == "version 3 or later"


def test_targets_are_not_older_even_when_no_snapshot_was_kept() -> None:
    older = image_release(TARGET, version=2)
    state = replace(TRUSTED, timestamp=None, snapshot=None)
    state = trust.update_timestamp(state, older.timestamp, NOW)
    state = trust.update_snapshot(state, older.snapshot, NOW)
    caught = refusal(lambda: trust.update_targets(state, older.targets, NOW), Code.METADATA_VERSION)
    assert (caught.subject, caught.expected) == ("image targets", "version 3 or later")


@pytest.mark.parametrize("role", [Role.TIMESTAMP, Role.SNAPSHOT, Role.TARGETS])
def test_each_file_has_its_own_expiry_at_its_own_step(role: Role) -> None:
    """`at` is after the expiry of one file and before that of the two others."""
    at = TOMORROW + timedelta(hours=1)
    dates = Dates(**{**dict.fromkeys(("timestamp", "snapshot", "targets"), at + LIFE), str(role): TOMORROW})
    made = image_release(TARGET, dates=dates)
    fresh = start(IMAGE_OWNER)
    stamped = trust.update_timestamp(fresh, made.timestamp, NOW)
    taken = trust.update_snapshot(stamped, made.snapshot, NOW)
    whole = trust.update_targets(taken, made.targets, NOW)
    steps: dict[Role, Callable[[], object]] = {
        Role.TIMESTAMP: lambda: trust.update_timestamp(fresh, made.timestamp, at),
        Role.SNAPSHOT: lambda: trust.update_snapshot(stamped, made.snapshot, at),
        Role.TARGETS: lambda: trust.update_targets(taken, made.targets, at),
    }
    in_order = list(Role)
    for step, call in steps.items():
        if in_order.index(step) < in_order.index(role):
            call()
        else:
            caught = refusal(call, Code.METADATA_EXPIRED)
            assert caught.subject.startswith(f"image {role}")
    caught = refusal(lambda: trust.current_targets(whole, at), Code.METADATA_EXPIRED)
    assert caught.subject == f"image {role}"


def bare(targets_data: bytes, version: int = 3, **meta: Any) -> tuple[bytes, bytes]:
    """Timestamp and snapshot as python-tuf makes them by default: no hash of the Targets, no length."""
    metadata = make_snapshot(
        version=version, expires=TOMORROW, targets_version=version, targets_data=targets_data
    )
    metadata.signed.meta = {"targets.json": MetaFile(version, **meta)}
    snapshot = sign(metadata, *IMAGE_OWNER.holders(Role.SNAPSHOT))
    return stamp(snapshot, version, version), snapshot


def test_a_snapshot_without_hashes_still_binds_the_version() -> None:
    timestamp, snapshot = bare(MADE.targets)
    state = trust.update_timestamp(start(IMAGE_OWNER), timestamp, NOW)
    state = trust.update_snapshot(state, snapshot, NOW)
    assert trust.targets_limit(state) == RULES[Role.TARGETS].limit
    newer = image_release(TARGET, version=4).targets
    caught = refusal(lambda: trust.update_targets(state, newer, NOW), Code.METADATA_VERSION)
    assert caught.expected == "version 3, as listed"
    whole = trust.update_targets(state, MADE.targets, NOW)
    assert not trust.needs_targets(whole)
    assert trust.current_targets(whole, NOW).version == 3
    held = replace(whole, targets=follow(start(IMAGE_OWNER), image_release(TARGET, version=2)).targets)
    assert trust.needs_targets(held)
    refusal(lambda: trust.current_targets(held, NOW), Code.METADATA_VERSION)


def test_a_snapshot_with_a_length_alone_binds_it() -> None:
    timestamp, snapshot = bare(MADE.targets, length=len(MADE.targets) - 1)
    state = trust.update_timestamp(start(IMAGE_OWNER), timestamp, NOW)
    state = trust.update_snapshot(state, snapshot, NOW)
    refusal(lambda: trust.update_targets(state, MADE.targets, NOW), Code.METADATA_HASH)


def test_a_state_put_together_by_hand_gives_no_orders() -> None:
    """`current_targets` trusts no earlier step: what disk or a caller's mistake mixes is found here."""
    data = snapshot_of(2)
    disguised = trust.update_timestamp(start(IMAGE_OWNER), stamp(data, 3, 1), NOW)
    mixed = replace(
        TRUSTED, timestamp=disguised.timestamp, snapshot=Trusted(data, parse_snapshot(data).signed)
    )
    refusal(lambda: trust.current_targets(mixed, NOW), Code.METADATA_VERSION)
    old = trust.update_root(start(IMAGE_OWNER), IMAGE_OWNER.root(2, expires=NOW)).root
    refusal(lambda: trust.current_targets(replace(TRUSTED, root=old), NOW), Code.METADATA_EXPIRED)


def test_the_directors_delegations_are_refused_when_taken_and_when_used() -> None:
    owner = DIRECTOR_OWNER
    key = tuf_key(owner.holders(Role.TARGETS)[0].public_key)
    metadata = make_targets(version=3, expires=TOMORROW, targets=[TARGET])
    role = DelegatedRole("supplier", [key.keyid], 1, terminating=False, paths=["*/*"])
    metadata.signed.delegations = Delegations({key.keyid: key}, {"supplier": role})
    made = release(owner, sign(metadata, *owner.holders(Role.TARGETS)), 3)
    state = trust.update_timestamp(start(owner), made.timestamp, NOW)
    state = trust.update_snapshot(state, made.snapshot, NOW)
    refusal(lambda: trust.update_targets(state, made.targets, NOW), Code.TARGET_DELEGATION)
    held = trust.load(owner.repository, {**state.files(), Role.TARGETS: made.targets})
    refusal(lambda: trust.current_targets(held, NOW), Code.TARGET_DELEGATION)


def test_an_image_that_nobody_orders_may_have_fields_that_we_do_not_understand() -> None:
    def made(version: int) -> Release:
        metadata = make_targets(version=version, expires=TOMORROW, targets=[TARGET])
        foreign = TargetFile(1, {"sha256": "00" * 32}, "other/tool-1.img", {"custom": {"note": "x"}})
        metadata.signed.targets[foreign.path] = foreign
        return release(IMAGE_OWNER, sign(metadata, *IMAGE_OWNER.holders(Role.TARGETS)), version)

    state = follow(follow(start(IMAGE_OWNER), made(1)), made(2))
    assert state.version(Role.TARGETS) == 2


def test_roots_in_a_row_and_their_expiry_at_the_end() -> None:
    state = start(IMAGE_OWNER)
    for version in (2, 3):
        expired = IMAGE_OWNER.root(version, expires=NOW - timedelta(days=9))
        state = trust.update_root(state, expired)
    refusal(lambda: trust.check_root(state, NOW), Code.METADATA_EXPIRED)
    refusal(lambda: trust.update_timestamp(state, MADE.timestamp, NOW), Code.METADATA_EXPIRED)
    state = trust.update_root(state, IMAGE_OWNER.root(4))
    assert trust.check_root(state, NOW) is state
    assert follow(state, MADE).version(Role.ROOT) == 4


def test_a_root_handed_over_to_other_people() -> None:
    heirs = IMAGE_OWNER.rekeyed(root=("root-4", "root-5", "root-6"))
    both = [*IMAGE_OWNER.holders(Role.ROOT)[:2], *heirs.holders(Role.ROOT)[:2]]
    state = trust.update_root(start(IMAGE_OWNER), heirs.root(2, signers=both))
    refusal(lambda: trust.update_root(state, IMAGE_OWNER.root(3)), Code.METADATA_SIGNATURE)
    assert trust.update_root(state, heirs.root(3)).version(Role.ROOT) == 3


def test_loading_needs_a_root_that_signs_itself() -> None:
    lonely = IMAGE_OWNER.root(1, signers=IMAGE_OWNER.holders(Role.ROOT)[:1])
    refusal(lambda: trust.load(Repository.IMAGE, {Role.ROOT: lonely}), Code.METADATA_SIGNATURE)
    with pytest.raises(FormatRefused):
        trust.load(Repository.IMAGE, {Role.ROOT: b""})


@pytest.mark.parametrize("role", [Role.TIMESTAMP, Role.SNAPSHOT, Role.TARGETS])
def test_a_damaged_file_is_as_good_as_none_and_updates_go_on(role: Role) -> None:
    state = trust.load(Repository.IMAGE, {**TRUSTED.files(), role: TRUSTED.files()[role][:-1]})
    assert state.files() == {name: data for name, data in TRUSTED.files().items() if name is not role}
    assert follow(state, image_release(TARGET, version=4)).version(role) == 4


def test_loading_is_the_reverse_of_files_and_expiry_is_no_matter() -> None:
    assert list(TRUSTED.files()) == list(Role)
    assert trust.load(Repository.IMAGE, TRUSTED.files()) == TRUSTED
    assert [TRUSTED.version(role) for role in Role] == [1, 3, 3, 3]
    assert [start(IMAGE_OWNER).version(role) for role in Role] == [1, 0, 0, 0]


def test_refusals_name_repository_and_role() -> None:
    caught = refusal(lambda: follow(TRUSTED, image_release(TARGET, version=2)), Code.METADATA_VERSION)
    assert caught.subject == "image timestamp"
    assert (caught.expected, caught.found) == ("version 3 or later", "version 2")


def test_download() -> None:
    item = target(sha256=hashlib.sha256(IMAGE_BYTES).hexdigest())
    assert trust.verify_download(item, IMAGE_BYTES) is IMAGE_BYTES
    assert trust.verify_digest(item, len(IMAGE_BYTES), item.sha256) is item
    for data, code in (
        (IMAGE_BYTES + b"\0", Code.TARGET_LENGTH),
        (IMAGE_BYTES[:-1], Code.TARGET_LENGTH),
        (b"", Code.TARGET_LENGTH),
        (b"\0" + IMAGE_BYTES[1:], Code.TARGET_HASH),
    ):
        with pytest.raises(TrustRefused) as caught:
            trust.verify_download(item, data)
        assert caught.value.code is code


def test_states_are_values() -> None:
    before = start(IMAGE_OWNER)
    files = before.files()
    follow(before, MADE)
    assert before.files() == files
    assert before.timestamp is None
    with pytest.raises(AttributeError):
        before.timestamp = TRUSTED.timestamp  # type: ignore[misc]
    assert LOADER in ECUS
