"""TUF 5.3.11 and 5.4 to 5.6.6: expiry, rollback, mix and match, fast-forward. See test_tuf_client."""

from datetime import timedelta

import pytest
from tuf.api.metadata import MetaFile

from tests.support.tufrepo import (
    AGAIN,
    LATER,
    NOW,
    TOP,
    Client,
    Ours,
    Served,
    TufRepository,
    started,
    to,
    use,
)

DAY = timedelta(days=1)


# --- 5.4 to 5.6, expiry and rollback -------------------------------------------------------------------


@pytest.mark.parametrize("role", TOP)
def test_expired(repo: TufRepository, client: Client, role: str) -> None:
    started(client)
    getattr(repo, role).expires = NOW - DAY
    repo.next()
    assert not client.refresh()
    assert client.version(role) == 1
    above = TOP[: TOP.index(role)]
    assert [client.version(each) for each in above] == [2] * len(above)


@pytest.mark.parametrize("role", TOP)
def test_expired_at_the_very_second(repo: TufRepository, client: Client, role: str) -> None:
    getattr(repo, role).expires = NOW
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.refresh(NOW)
    assert client.refresh(NOW - timedelta(seconds=1))


@pytest.mark.parametrize("role", TOP)
def test_what_is_held_expires_too(repo: TufRepository, client: Client, role: str) -> None:
    getattr(repo, role).expires = NOW + DAY
    repo.publish()
    started(client)
    assert not client.refresh(NOW + 2 * DAY)
    getattr(repo, role).expires = LATER
    repo.next()
    assert client.refresh(NOW + 2 * DAY)
    assert client.versions() == [1, 2, 2, 2]


def test_a_timestamp_goes_back(repo: TufRepository, client: Client) -> None:
    old = repo.files["metadata/timestamp.json"]
    repo.next()
    started(client)
    repo.files["metadata/timestamp.json"] = old
    assert not client.refresh()
    assert client.versions() == [1, 2, 2, 2]


def test_an_expired_timestamp_still_forbids_older_ones(repo: TufRepository, client: Client) -> None:
    old = repo.files["metadata/timestamp.json"]
    repo.timestamp.expires = NOW + DAY
    repo.next()
    started(client)
    repo.files["metadata/timestamp.json"] = old
    assert not client.refresh(NOW + 2 * DAY)
    assert client.version("timestamp") == 2


def test_another_timestamp_of_the_same_version_is_left_alone(repo: TufRepository, client: Client) -> None:
    started(client)
    held = (client.metadata / "timestamp.json").read_bytes()
    repo.timestamp.snapshot_meta.version = 100
    repo.publish_timestamp()
    assert client.refresh()
    assert (client.metadata / "timestamp.json").read_bytes() == held
    assert client.asked() == AGAIN


def test_a_timestamp_that_names_an_older_snapshot(repo: TufRepository, client: Client) -> None:
    repo.next()
    started(client)
    repo.timestamp.version += 1
    repo.timestamp.snapshot_meta = MetaFile(1)
    repo.publish_timestamp()
    assert not client.refresh()
    assert client.version("timestamp") == 2


@pytest.mark.parametrize("listed", [1, 3])
def test_a_snapshot_of_another_version_than_named(repo: TufRepository, client: Client, listed: int) -> None:
    repo.next()
    repo.put("snapshot", listed, repo.sign("snapshot", repo.snapshot))
    repo.timestamp.snapshot_meta.version = listed
    repo.publish_timestamp()
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.refresh()
    assert client.versions() == [1, 2, 0, 0]


@pytest.mark.parametrize("meta", [None, 1])
def test_a_snapshot_that_forgets(repo: TufRepository, client: Client, meta: int | None) -> None:
    """It lists older Targets, or a delegated role no more."""
    repo.delegate("targets", to("role1"))
    repo.delegated["role1"].version = 2
    repo.next()
    started(client)
    repo.next_snapshot()
    del repo.snapshot.meta["role1.json"]
    if meta is not None:
        repo.snapshot.meta["role1.json"] = MetaFile(meta)
    repo.publish_snapshot()
    repo.publish_timestamp()
    assert not client.refresh()
    assert client.versions() == [1, 3, 2, 2]


def test_a_snapshot_that_forgets_against_one_that_is_not_named_any_more(
    server: Served, client: Client
) -> None:
    """The held snapshot is a floor even where the new timestamp has another hash of that version."""
    repo = use(server, TufRepository(hashed=True))
    repo.next()
    started(client)
    repo.snapshot.version += 1
    repo.timestamp.version += 1
    repo.snapshot.meta["targets.json"].version = 1
    repo.publish_snapshot()
    repo.publish_timestamp()
    assert not client.refresh()
    assert client.version("snapshot") == 2


@pytest.mark.parametrize("change", ["hash", "length"])
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_mix_and_match(server: Served, client: Client, role: str, change: str) -> None:
    repo = use(server, TufRepository(hashed=True))
    started(client)
    repo.next()
    meta = repo.timestamp.snapshot_meta if role == "snapshot" else repo.snapshot.meta["targets.json"]
    if change == "hash":
        meta.hashes = {"sha256": "00" * 32}
    else:
        assert meta.length is not None
        meta.length -= 1
    if role == "targets":
        repo.publish_snapshot()
    repo.publish_timestamp()
    assert not client.refresh()
    assert client.versions() == ([1, 2, 1, 1] if role == "snapshot" else [1, 2, 2, 1])


def test_targets_of_another_version_than_listed(repo: TufRepository, client: Client) -> None:
    started(client)
    repo.next()
    repo.put("targets", 3, repo.sign("targets", repo.targets))
    repo.snapshot.meta["targets.json"].version = 3
    repo.publish_snapshot()
    repo.publish_timestamp()
    assert not client.refresh()
    assert client.versions() == [1, 2, 2, 1]


@pytest.mark.parametrize("algorithms", [["sha512"], ["sha256", "sha512"]])
def test_other_hashes(repo: TufRepository, client: Client, algorithms: list[str]) -> None:
    data = repo.files["metadata/1.snapshot.json"]
    repo.timestamp.snapshot_meta = MetaFile.from_data(1, data, algorithms)
    repo.publish_timestamp()
    started(client)
    wrong = {**(repo.timestamp.snapshot_meta.hashes or {}), algorithms[-1]: "00" * 64}
    repo.timestamp.snapshot_meta.hashes = wrong
    repo.timestamp.version += 1
    repo.publish_timestamp()
    (client.metadata / "snapshot.json").unlink()
    assert not client.refresh()


# --- fast forward --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotated", [("timestamp",), ("snapshot",), ("timestamp", "snapshot")])
def test_fast_forward_of_timestamp_and_snapshot(
    repo: TufRepository, ours: Ours, rotated: tuple[str, ...]
) -> None:
    """5.3.11: either key brings both back. python-tuf keeps the one whose key was not rotated."""
    repo.timestamp.version = repo.snapshot.version = 99999
    repo.publish()
    started(ours)
    repo.timestamp.version = repo.snapshot.version = 2
    repo.publish()
    assert not ours.refresh()
    for role in rotated:
        repo.rotate(role, f"{role}-new")
    repo.publish()
    assert ours.refresh()
    assert ours.versions()[1:] == [2, 2, 1]


def test_fast_forward_of_all_online_keys(repo: TufRepository, client: Client) -> None:
    repo.timestamp.version = repo.snapshot.version = 99999
    repo.publish()
    started(client)
    repo.timestamp.version = repo.snapshot.version = 1
    for role in ("timestamp", "snapshot"):
        repo.rotate(role, f"{role}-new")
    repo.publish()
    assert client.refresh()
    assert client.versions() == [3, 1, 1, 1]


def test_fast_forward_of_targets_ends_with_the_snapshots_key(repo: TufRepository, client: Client) -> None:
    repo.targets.version = 99999
    repo.next_snapshot()
    started(client)
    repo.targets.version = 2
    repo.next_snapshot()
    assert not client.refresh()
    repo.rotate("snapshot", "snapshot-new")
    repo.next_snapshot()
    assert client.refresh()
    assert client.version("targets") == 2
