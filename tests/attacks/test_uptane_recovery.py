"""Fast-forward (M11, K1) and what a power cut leaves: the way back is a rotated key, and only that."""

from datetime import timedelta
from itertools import combinations

import pytest

from cellward.core import trust
from cellward.core.errors import Code, Refused
from cellward.core.metadata import Repository, Role, parse_timestamp
from cellward.core.strictjson import MAX_INTEGER
from cellward.core.trust import TrustedRepository
from tests.support.uptane import (
    DIRECTOR_OWNER,
    IMAGE_OWNER,
    NOW,
    Dates,
    Owner,
    director_release,
    follow,
    image_release,
    order,
    start,
    target,
)

TARGET = target()
LONG = Dates(*[NOW + timedelta(days=30)] * 3)
TRIO = (Role.TIMESTAMP, Role.SNAPSHOT, Role.TARGETS)


def forwarded(owner: Owner) -> TrustedRepository:
    """Somebody held the online keys for a moment and used the highest version there is."""
    if owner.repository is Repository.DIRECTOR:
        made = director_release(order(TARGET), version=MAX_INTEGER, owner=owner)
    else:
        made = image_release(TARGET, version=MAX_INTEGER, owner=owner)
    return follow(start(owner), made)


def test_a_fast_forwarded_vehicle_refuses_honest_files() -> None:
    state = forwarded(DIRECTOR_OWNER)
    with pytest.raises(Refused) as caught:
        follow(state, director_release(order(TARGET), version=8))
    assert caught.value.code is Code.METADATA_VERSION
    assert state.version(Role.TIMESTAMP) == MAX_INTEGER


def test_director_recovers_by_a_rotated_key() -> None:
    rotated = DIRECTOR_OWNER.rekeyed(timestamp=("d2",), snapshot=("d2",), targets=("d2",))
    state = trust.update_root(forwarded(DIRECTOR_OWNER), rotated.root(2))
    assert list(state.files()) == [Role.ROOT]
    state = follow(state, director_release(order(TARGET), version=1, owner=rotated))
    assert [state.version(role) for role in TRIO] == [1, 1, 1]


@pytest.mark.parametrize("role", [Role.TIMESTAMP, Role.SNAPSHOT])
def test_either_key_drops_timestamp_and_snapshot(role: Role) -> None:
    """5.4.4.3 step 4; the targets' key was not touched, so its floor stays."""
    rotated = IMAGE_OWNER.rekeyed(**{str(role): ("new",)})
    state = trust.update_root(forwarded(IMAGE_OWNER), rotated.root(2))
    assert list(state.files()) == [Role.ROOT, Role.TARGETS]
    with pytest.raises(Refused) as caught:
        follow(state, image_release(TARGET, version=1, owner=rotated))
    assert caught.value.code is Code.METADATA_VERSION


def test_rotated_targets_keys_drop_the_targets() -> None:
    rotated = IMAGE_OWNER.rekeyed(targets=("t3", "t4"))
    state = trust.update_root(forwarded(IMAGE_OWNER), rotated.root(2))
    assert list(state.files()) == [Role.ROOT, Role.TIMESTAMP, Role.SNAPSHOT]


def test_one_of_two_keys_withdrawn_is_a_rotation() -> None:
    """The file that is held is signed by the key that stays, yet the withdrawn one may have led there."""
    two = IMAGE_OWNER.rekeyed(timestamp=("timestamp", "lost"))
    one = IMAGE_OWNER.rekeyed(timestamp=("timestamp",))
    state = trust.load(two.repository, {Role.ROOT: two.root()})
    state = follow(state, image_release(TARGET, version=5, owner=two))
    state = trust.update_root(state, one.root(2))
    assert state.timestamp is None
    assert state.snapshot is None


@pytest.mark.parametrize("added", ["timestamp", "snapshot", "targets"])
def test_a_key_that_is_only_added_keeps_every_floor(added: str) -> None:
    """Or else an old key's holder could go back the moment a second key is named."""
    wider = IMAGE_OWNER.rekeyed(**{added: (*IMAGE_OWNER.keys[Role(added)], "second")})
    before = follow(start(IMAGE_OWNER), image_release(TARGET, version=5))
    state = trust.update_root(before, wider.root(2))
    assert [state.version(role) for role in TRIO] == [5, 5, 5]
    with pytest.raises(Refused) as caught:
        follow(state, image_release(TARGET, version=4))
    assert caught.value.code is Code.METADATA_VERSION


def test_a_raised_threshold_drops_what_no_longer_meets_it() -> None:
    two = IMAGE_OWNER.rekeyed(timestamp=("timestamp", "second"))
    both = Owner(two.repository, two.keys, {**two.thresholds, Role.TIMESTAMP: 2})
    state = trust.load(two.repository, {Role.ROOT: two.root()})
    alone = image_release(TARGET, version=5)  # signed by `timestamp` only
    state = trust.update_root(follow(state, alone), both.root(2))
    assert state.timestamp is None


def test_a_root_that_rotates_nothing_keeps_everything() -> None:
    before = follow(start(IMAGE_OWNER), image_release(TARGET, version=5))
    state = trust.update_root(before, IMAGE_OWNER.root(2))
    assert {**before.files(), Role.ROOT: state.root.data} == state.files()


# Which of the new files a power cut may have left beside the old ones: every subset.
CUTS = [written for count in range(len(TRIO) + 1) for written in combinations(TRIO, count)]


@pytest.mark.parametrize("written", CUTS, ids=lambda written: "+".join(written) or "none")
def test_any_mixture_of_two_persisted_states_loads_and_goes_on(written: tuple[Role, ...]) -> None:
    old = follow(start(IMAGE_OWNER), image_release(TARGET, version=5))
    new = follow(old, image_release(TARGET, version=6))
    mixture = {**old.files(), **{role: new.files()[role] for role in written}}
    state = trust.load(Repository.IMAGE, mixture)
    state = follow(state, image_release(TARGET, version=7))
    assert [state.version(role) for role in TRIO] == [7, 7, 7]


@pytest.mark.parametrize("written", CUTS, ids=lambda written: "+".join(written) or "none")
def test_a_mixture_gives_no_order_that_neither_state_gave(written: tuple[Role, ...]) -> None:
    old = follow(start(IMAGE_OWNER), image_release(TARGET, version=5))
    new = follow(old, image_release(TARGET, target("1.5.0", 9), version=6))
    mixture = {**old.files(), **{role: new.files()[role] for role in written}}
    state = trust.load(Repository.IMAGE, mixture)
    if len(written) in (0, 3):
        assert trust.current_targets(state, NOW) in (old.targets.signed, new.targets.signed)  # type: ignore[union-attr]
        return
    with pytest.raises(Refused) as caught:
        trust.current_targets(state, NOW)
    assert caught.value.code is Code.METADATA_HASH


def test_a_cut_between_a_rotated_root_and_the_deletion_it_asks_for() -> None:
    rotated = IMAGE_OWNER.rekeyed(timestamp=("new",), snapshot=("new",), targets=("t3", "t4"))
    old = follow(start(IMAGE_OWNER), image_release(TARGET, version=5))
    after = trust.update_root(old, rotated.root(2))
    half = trust.load(Repository.IMAGE, {**old.files(), Role.ROOT: after.root.data})
    assert half == after


def test_a_flipped_bit_in_what_is_kept_is_never_trusted() -> None:
    state = follow(start(IMAGE_OWNER), image_release(TARGET, version=5))
    files = state.files()
    data = files[Role.TIMESTAMP]
    version = data.index(b'"version":5}}')
    forged = {**files, Role.TIMESTAMP: data[:version] + b'"version":9}}' + data[version + 13 :]}
    assert parse_timestamp(forged[Role.TIMESTAMP]).signed != state.timestamp
    assert trust.load(Repository.IMAGE, forged).timestamp is None
    root = files[Role.ROOT].replace(b'"threshold":2', b'"threshold":1')
    with pytest.raises(Refused) as caught:
        trust.load(Repository.IMAGE, {**files, Role.ROOT: root})
    assert caught.value.code is Code.METADATA_SIGNATURE
