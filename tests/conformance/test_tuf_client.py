"""TUF 1.0.34, section 5, over HTTP: every scenario with our client and with python-tuf's as a witness.

Where the two may differ (what is asked again, what is refused that TUF only leaves alone), a test says
`ours` instead of `client`. Requests and what lies in the folder afterwards are looked at, not only the end.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, SuccinctRoles, Targets

from tests.support.tufrepo import CLIENT, LATER, NOW, Ours, Served, TufRepository, Witness, serve, signer, to

DAY = timedelta(days=1)
FIRST = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
AGAIN = ["2.root.json", "timestamp.json"]
TOP = ("timestamp", "snapshot", "targets")
pytestmark = pytest.mark.filterwarnings("ignore:keytype:DeprecationWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serve(TufRepository()) as served:
        yield served


@pytest.fixture
def repo(server: Served) -> TufRepository:
    return use(server, TufRepository())


def use(server: Served, repository: TufRepository) -> TufRepository:
    server.repository = repository
    server.answers.clear()
    server.requests.clear()
    return repository


@pytest.fixture(params=[Ours, Witness], ids=["ours", "python-tuf"])
def client(request: pytest.FixtureRequest, server: Served, tmp_path: Path) -> Ours | Witness:
    return request.param(server, tmp_path)  # type: ignore[no-any-return]


@pytest.fixture
def ours(server: Served, tmp_path: Path) -> Ours:
    return Ours(server, tmp_path)


Client = Ours | Witness


def started(client: Client) -> Client:
    """With what is published now."""
    assert client.init(client.served.repository.files["metadata/1.root.json"])
    assert client.refresh()
    client.asked()
    return client


# --- the whole way, and nothing more than needed ---------------------------------------------------


def test_the_first_refresh_asks_in_order_and_nothing_else(repo: TufRepository, client: Client) -> None:
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.asked() == FIRST
    assert client.versions() == [1, 1, 1, 1]
    for role in ("root", *TOP):
        held = (client.metadata / f"{role}.json").read_bytes()
        assert held == repo.files[f"metadata/{'' if role == 'timestamp' else '1.'}{role}.json"]


def test_what_is_held_is_not_asked_for_again(repo: TufRepository, client: Client) -> None:
    started(client)
    assert client.refresh()
    assert client.asked() == AGAIN


def test_only_what_changed_is_asked_for(repo: TufRepository, client: Client) -> None:
    started(client)
    repo.next_snapshot()
    assert client.refresh()
    assert client.asked() == [*AGAIN, "2.snapshot.json"]
    repo.next()
    assert client.refresh()
    assert client.asked() == [*AGAIN, "3.snapshot.json", "2.targets.json"]
    assert client.versions() == [1, 3, 3, 2]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("consistent", [True, False])
def test_consistent_snapshots_or_not(server: Served, client: Client, consistent: bool, hashed: bool) -> None:
    repo = use(server, TufRepository(consistent=consistent, hashed=hashed))
    repo.add_target("a/b", b"data", prefixed=consistent)
    repo.publish()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("a/b")
    one = "1." if consistent else ""
    digest = repo.targets.targets["a/b"].hashes["sha256"]
    stored = f"targets/a/{digest}.b" if consistent else "targets/a/b"
    assert client.asked() == [*AGAIN, f"{one}snapshot.json", f"{one}targets.json", stored]
    assert (client.downloads / "a%2Fb").read_bytes() == b"data"


def test_consistent_snapshots_begin_with_a_new_root(server: Served, client: Client) -> None:
    repo = use(server, TufRepository(consistent=False))
    started(client)
    repo.root.consistent_snapshot = True
    repo.new_root()
    repo.next()
    assert client.refresh()
    assert client.asked() == [
        "2.root.json",
        "3.root.json",
        "timestamp.json",
        "2.snapshot.json",
        "2.targets.json",
    ]


@pytest.mark.parametrize("role", TOP)
def test_a_damaged_file_is_fetched_again(repo: TufRepository, client: Client, role: str) -> None:
    started(client)
    (client.metadata / f"{role}.json").write_bytes(b"{")
    assert client.refresh()
    assert client.versions() == [1, 1, 1, 1]


def test_without_a_root_nothing_is_asked(repo: TufRepository, ours: Ours) -> None:
    assert not ours.refresh()
    assert ours.asked() == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_next_root_that_is_not_there(repo: TufRepository, client: Client, status: int) -> None:
    client.served.answers["metadata/2.root.json"] = status
    started(client)


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_a_server_that_fails(repo: TufRepository, ours: Ours, name: str) -> None:
    ours.served.answers[f"metadata/{name}"] = 500
    assert ours.init(repo.files["metadata/1.root.json"])
    assert not ours.refresh()
    assert ours.asked() == FIRST[: FIRST.index(name) + 1]
    ours.served.answers.clear()
    assert ours.refresh()


# --- 5.2 and 5.3, root ---------------------------------------------------------------------------------


def test_a_chain_of_roots(repo: TufRepository, client: Client) -> None:
    for _ in range(4):
        repo.rotate("root", f"root-{repo.root.version}")
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.asked() == [f"{n}.root.json" for n in range(2, 7)] + FIRST[1:]
    assert client.version("root") == 5


def test_a_gap_ends_the_chain(repo: TufRepository, client: Client) -> None:
    for _ in range(3):
        repo.new_root()
    del repo.files["metadata/3.root.json"]
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.version("root") == 2


def test_more_roots_than_a_vehicle_takes_in_a_cycle(repo: TufRepository, client: Client) -> None:
    for _ in range(40):
        repo.new_root()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.version("root") == 41


@pytest.mark.parametrize("signers", ["old", "new", "none"])
def test_a_root_is_signed_by_the_old_and_the_new_keys(
    repo: TufRepository, client: Client, signers: str
) -> None:
    started(client)
    repo.rotate("root", "heir")
    kept = {"old": [signer("root")], "new": [signer("heir")], "none": []}[signers]
    metadata = Metadata(repo.root)
    for key in kept:
        metadata.sign(key, append=True)
    repo.files["metadata/2.root.json"] = metadata.to_bytes()
    assert not client.refresh()
    assert client.asked() == ["2.root.json"]
    assert client.versions() == [1, 1, 1, 1]


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_of_another_version(repo: TufRepository, client: Client, version: int) -> None:
    started(client)
    repo.root.version = version
    repo.files["metadata/2.root.json"] = repo.sign("root", repo.root)
    assert not client.refresh()
    assert client.version("root") == 1


def test_a_root_that_nobody_signed_is_no_start(repo: TufRepository, client: Client) -> None:
    client.init(Metadata(repo.root).to_bytes())
    assert not client.refresh()
    assert client.asked() == []
    assert client.versions()[1:] == [0, 0, 0]


def test_an_expired_root_on_the_way_is_no_fault(repo: TufRepository, client: Client) -> None:
    repo.root.expires = NOW - DAY
    repo.new_root()
    repo.root.expires = LATER
    repo.new_root()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.version("root") == 3


def test_an_expired_root_at_the_end_is_kept_and_ends_the_cycle(repo: TufRepository, client: Client) -> None:
    started(client)
    repo.root.expires = NOW - DAY
    repo.new_root()
    repo.next()
    assert not client.refresh()
    assert client.versions() == [2, 1, 1, 1]
    repo.root.expires = LATER
    repo.new_root()
    assert client.refresh()
    assert client.versions() == [3, 2, 2, 2]


def test_after_an_expired_root_nothing_more_is_asked(repo: TufRepository, ours: Ours) -> None:
    """5.3.10. python-tuf asks for the timestamp first."""
    started(ours)
    repo.root.expires = NOW
    repo.new_root()
    assert not ours.refresh()
    assert ours.asked() == ["2.root.json", "3.root.json"]


# --- thresholds, signatures and keys -----------------------------------------------------------------


def two_keys(repo: TufRepository, role: str, threshold: int = 2) -> None:
    repo.add_key(role, signer(f"{role}-2"))
    repo.root.roles[role].threshold = threshold
    repo.new_root()


@pytest.mark.parametrize("role", TOP)
def test_below_the_threshold(repo: TufRepository, client: Client, role: str) -> None:
    started(client)
    two_keys(repo, role)
    repo.signers[role].pop()
    repo.next()
    assert not client.refresh()
    held = client.version(role)
    assert held in (0, 1)  # the rotation may have deleted it
    repo.signers[role].append(signer(f"{role}-2"))
    repo.next()
    assert client.refresh()
    assert client.versions() == [2, 3, 3, 3]


@pytest.mark.parametrize("role", TOP)
def test_a_threshold_that_nobody_can_meet(repo: TufRepository, client: Client, role: str) -> None:
    started(client)
    repo.root.roles[role].threshold = 2
    repo.new_root()
    repo.next()
    assert not client.refresh()
    assert client.version("root") == 2


@pytest.mark.parametrize("role", TOP)
def test_by_a_stranger(repo: TufRepository, client: Client, role: str) -> None:
    started(client)
    repo.signers[role] = [signer("stranger")]
    repo.next()
    assert not client.refresh()
    assert client.version(role) == 1


def edited(data: bytes, edit: Callable[[dict[str, object]], None]) -> bytes:
    tree = json.loads(data)
    edit(tree)
    return json.dumps(tree).encode()


def twice(tree: dict[str, object]) -> None:
    tree["signatures"] = 2 * tree["signatures"]  # type: ignore[operator]


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_the_same_signature_twice(repo: TufRepository, client: Client, name: str) -> None:
    role = name.split(".")[-2]
    two_keys(repo, role)
    repo.signers[role].pop()
    repo.next()
    repo.files[f"metadata/{name}"] = edited(repo.files[f"metadata/{name}"], twice)
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.refresh()
    assert client.version(role) == 0


def test_the_same_key_id_twice_in_a_role(repo: TufRepository, client: Client) -> None:
    started(client)
    repo.root.roles["snapshot"].keyids *= 2
    repo.root.roles["snapshot"].threshold = 2
    repo.new_root()
    assert not client.refresh()
    assert client.version("root") == 1


def test_one_key_under_two_ids_is_one_signer(repo: TufRepository, ours: Ours) -> None:
    """python-tuf counts ids; the specification says that keys are meant."""
    started(ours)
    key = signer("targets")
    alias = CryptoSigner(key._private_key, public_key(key, "alias"))
    repo.add_key("targets", alias)
    repo.root.roles["targets"].threshold = 2
    repo.new_root()
    repo.next()
    assert not ours.refresh()
    assert ours.versions() == [2, 2, 2, 0]


def public_key(key: CryptoSigner, key_id: str, keytype: str | None = None) -> SSlibKey:
    old = key.public_key
    return SSlibKey(key_id, keytype or old.keytype, old.scheme, old.keyval)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_key_types(server: Served, client: Client, kind: str) -> None:
    repo = use(server, TufRepository(kind))
    started(client)
    repo.next()
    assert client.refresh()
    repo.signers["timestamp"] = [signer("stranger", kind)]
    repo.next()
    assert not client.refresh()
    assert client.versions() == [1, 2, 2, 2]


def test_the_older_name_of_ecdsa_keys(server: Served, client: Client) -> None:
    repo = TufRepository()
    key = signer("older", "ecdsa")
    older = CryptoSigner(key._private_key, public_key(key, "00" * 32, "ecdsa-sha2-nistp256"))
    repo.add_key("snapshot", older)
    repo.root.roles["snapshot"].threshold = 2
    repo.new_root()
    repo.publish()
    use(server, repo)
    started(client)
    assert client.version("root") == 2


def test_a_key_of_an_unknown_kind_counts_for_nothing(repo: TufRepository, ours: Ours) -> None:
    """python-tuf refuses the file for it."""
    unknown = {
        "keytype": "lattice",
        "scheme": "lattice-9",
        "keyval": {"public": "xyz", "more": [1]},
        "note": 1,
    }

    def add(tree: dict[str, object]) -> None:
        signed: dict[str, dict[str, dict[str, object]]] = tree["signed"]  # type: ignore[assignment]
        signed["keys"]["unknown"] = dict(unknown)
        signed["roles"]["targets"]["keyids"] += ["unknown"]  # type: ignore[operator]
        signed["version"] = 2  # type: ignore[assignment]
        tree["signatures"] = []

    data = edited(repo.files["metadata/1.root.json"], add)
    repo.files["metadata/2.root.json"] = resigned(data, signer("root"))
    started(ours)
    assert ours.version("root") == 2

    def ask_for_two(tree: dict[str, object]) -> None:
        add(tree)
        signed: dict[str, dict[str, dict[str, object]]] = tree["signed"]  # type: ignore[assignment]
        signed["roles"]["targets"]["threshold"] = 2
        signed["version"] = 3  # type: ignore[assignment]

    def claim(tree: dict[str, object]) -> None:
        tree["signatures"] += [{"keyid": "unknown", "sig": "00"}]  # type: ignore[operator]

    data = edited(repo.files["metadata/1.root.json"], ask_for_two)
    repo.files["metadata/3.root.json"] = resigned(data, signer("root"))
    repo.next()
    path = "metadata/2.targets.json"
    repo.files[path] = edited(repo.files[path], claim)
    assert not ours.refresh()
    assert ours.versions() == [3, 2, 2, 0]


def resigned(data: bytes, *keys: CryptoSigner) -> bytes:
    """Signed as it stands: python-tuf need not be able to hold it."""
    from securesystemslib.formats import encode_canonical

    tree = json.loads(data)
    canonical = encode_canonical(tree["signed"])
    assert isinstance(canonical, str)
    tree["signatures"] = [key.sign(canonical.encode()).to_dict() for key in keys]
    return json.dumps(tree).encode()


def test_fields_that_nobody_knows(repo: TufRepository, client: Client) -> None:
    for signed in (repo.root, repo.timestamp, repo.snapshot, repo.targets):
        signed.unrecognized_fields["x-note"] = {"a": [1, None, "ä"]}
    for role in repo.root.roles.values():
        role.unrecognized_fields["x-note"] = True
    for key in repo.root.keys.values():
        key.unrecognized_fields["x-owner"] = "@somebody"
    repo.timestamp.snapshot_meta.unrecognized_fields["x"] = 1
    repo.add_target("file", b"1")
    repo.targets.targets["file"].unrecognized_fields["custom"] = {"x": 1}
    repo.publish_root()
    repo.publish()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file")


def test_a_place_for_a_signature_that_is_still_to_come(repo: TufRepository, client: Client) -> None:
    def add(tree: dict[str, object]) -> None:
        tree["signatures"] += [{"keyid": signer("timestamp-2").public_key.keyid, "sig": ""}]  # type: ignore[operator]

    two_keys(repo, "timestamp", threshold=1)
    repo.signers["timestamp"].pop()
    repo.next()
    repo.files["metadata/timestamp.json"] = edited(repo.files["metadata/timestamp.json"], add)
    started(client)


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


# --- delegations -----------------------------------------------------------------------------------------


def roles_asked(client: Client) -> list[str]:
    """Delegated roles in the order in which their files came."""
    names = [name.split(".")[1] for name in client.asked() if name.count(".") == 2]
    return [name for name in names if name not in ("root", "snapshot", "targets")]


def test_a_target_of_a_delegated_role_and_its_file_is_kept(repo: TufRepository, client: Client) -> None:
    repo.delegate("targets", to("role1"))
    repo.add_target("file", b"1", "role1")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file")
    assert roles_asked(client) == ["role1"]
    assert client.version("role1") == 1
    assert client.download("file")
    assert client.asked() == AGAIN


GRAPHS: dict[str, tuple[list[tuple[str, DelegatedRole]], list[str]]] = {
    "in listed order": ([("targets", to("A")), ("targets", to("B"))], ["A", "B"]),
    "depth first": ([("targets", to("A")), ("targets", to("B")), ("A", to("C"))], ["A", "C", "B"]),
    "a terminating role ends it": (
        [("targets", to("A")), ("targets", to("B", terminating=True)), ("targets", to("C"))],
        ["A", "B"],
    ),
    "but not for what is below it": (
        [("targets", to("A", terminating=True)), ("targets", to("B")), ("A", to("C"))],
        ["A", "C"],
    ),
    "a terminating role further down ends all": (
        [("targets", to("A")), ("targets", to("B")), ("A", to("C", terminating=True)), ("A", to("D"))],
        ["A", "C"],
    ),
    "a terminating role for another path ends nothing": (
        [("targets", to("A", "other", terminating=True)), ("targets", to("B"))],
        ["B"],
    ),
    "a cycle": ([("targets", to("A")), ("A", to("B")), ("B", to("A"))], ["A", "B"]),
    "a role that delegates to itself": ([("targets", to("A")), ("A", to("A")), ("A", to("B"))], ["A", "B"]),
    "a diamond": (
        [("targets", to("A")), ("targets", to("B")), ("A", to("C")), ("B", to("C"))],
        ["A", "C", "B"],
    ),
    "paths on the way": (
        [("targets", to("A", "f?le", "x")), ("A", to("B", "g*")), ("A", to("C"))],
        ["A", "C"],
    ),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_who_is_asked_for_a_target_that_nobody_has(repo: TufRepository, client: Client, graph: str) -> None:
    delegations, expected = GRAPHS[graph]
    for delegator, role in delegations:
        repo.delegate(delegator, DelegatedRole.from_dict(role.to_dict()))
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.download("file")
    assert roles_asked(client) == expected
    assert list(client.downloads.iterdir()) == []


def test_the_first_of_two_roles_has_the_word(repo: TufRepository, client: Client) -> None:
    repo.delegate("targets", to("A"), to("B"))
    repo.add_target("file", b"from B", "B")
    repo.add_target("file", b"from A", "A")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file")
    assert (client.downloads / "file").read_bytes() == b"from A"
    repo.add_target("file", b"from the top")
    repo.next()
    assert client.download("file")
    assert (client.downloads / "file").read_bytes() == b"from the top"


def test_a_target_outside_of_the_roles_paths(repo: TufRepository, client: Client) -> None:
    repo.delegate("targets", to("A", "a/*"))
    repo.add_target("b/file", b"1", "A")
    repo.add_target("a/b/file", b"1", "A")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.download("b/file")
    assert not client.download("a/b/file")


def diamond(repo: TufRepository, key_of_b: CryptoSigner) -> None:
    """A and B delegate to C; what B says of its key is not what A says."""
    repo.delegate("targets", to("A", "a*"), to("B", "b*"))
    repo.delegate("A", to("C"))
    repo.delegate("B", to("C"), keys={"C": key_of_b})
    repo.add_target("a", b"1", "C")
    repo.add_target("b", b"2", "C")
    repo.next()


def test_a_diamond_whose_two_sides_agree(repo: TufRepository, client: Client) -> None:
    diamond(repo, signer("C"))
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("a", "b")
    assert roles_asked(client) == ["A", "C", "B"]


def test_a_diamond_is_verified_on_either_side(repo: TufRepository, client: Client) -> None:
    diamond(repo, signer("other"))
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("a")
    assert not client.download("b")
    assert not client.download("a", "b")
    assert [path.name for path in client.downloads.iterdir()] == ["a"]


@pytest.mark.parametrize("wrong", ["signature", "version", "expired", "missing", "unlisted", "hash"])
def test_what_is_wrong_with_a_delegated_file(server: Served, client: Client, wrong: str) -> None:
    repo = use(server, TufRepository(hashed=wrong == "hash"))
    repo.delegate("targets", to("A"), to("B"))
    repo.add_target("file", b"1", "B")
    repo.next()
    if wrong == "signature":
        repo.signers["A"] = [signer("stranger")]
    elif wrong == "expired":
        repo.delegated["A"].expires = NOW
    repo.publish()
    if wrong == "version":
        repo.snapshot.meta["A.json"].version = 2
        repo.put("A", 2, repo.files["metadata/1.A.json"])
    elif wrong == "missing":
        del repo.files["metadata/1.A.json"]
    elif wrong == "unlisted":
        del repo.snapshot.meta["A.json"]
    elif wrong == "hash":
        repo.files["metadata/1.A.json"] += b" "
    repo.publish_snapshot()
    repo.publish_timestamp()
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.download("file")
    assert client.version("A") == 0
    assert list(client.downloads.iterdir()) == []


def test_thresholds_of_a_delegation(repo: TufRepository, client: Client) -> None:
    repo.delegate("targets", to("A"))
    assert repo.targets.delegations is not None
    assert repo.targets.delegations.roles is not None
    repo.targets.add_key(signer("A-2").public_key, "A")
    repo.targets.delegations.roles["A"].threshold = 2
    repo.add_target("file", b"1", "A")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.download("file")
    repo.signers["A"].append(signer("A-2"))
    repo.delegated["A"].version += 1
    repo.next()
    assert client.download("file")


def test_a_delegation_with_a_new_key(repo: TufRepository, client: Client) -> None:
    """What the old key signed is of no use any more, even where the version stays."""
    repo.delegate("targets", to("A"))
    repo.add_target("file", b"1", "A")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file")
    repo.targets.revoke_key(signer("A").public_key.keyid, "A")
    repo.targets.add_key(signer("A-new").public_key, "A")
    repo.targets.version += 1
    repo.next_snapshot()
    assert not client.download("file")
    repo.signers["A"] = [signer("A-new")]
    repo.next_snapshot()
    assert client.download("file")


@pytest.mark.parametrize("count", [31, 32, 40])
def test_how_many_roles_are_asked(repo: TufRepository, client: Client, count: int) -> None:
    repo.delegate("targets", *(to(f"r{n}") for n in range(count)))
    repo.add_target("file", b"1", f"r{count - 1}")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file") is (count <= 32)
    assert len(roles_asked(client)) == min(count, 32)


def test_a_long_chain(repo: TufRepository, client: Client) -> None:
    for n, delegator in enumerate(["targets", *(f"r{n}" for n in range(20))]):
        repo.delegate(delegator, to(f"r{n}"))
    repo.add_target("file", b"1", "r20")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file")
    assert roles_asked(client) == [f"r{n}" for n in range(21)]


@pytest.mark.parametrize(("bits", "name"), [(1, "bin-0"), (8, "bin-06"), (10, "bin-01a"), (32, None)])
def test_hash_bins(repo: TufRepository, client: Client, bits: int, name: str | None) -> None:
    key = signer("bins")
    bins = SuccinctRoles([key.public_key.keyid], 1, bits, "bin")
    name = name or bins.get_role_for_target("file7")
    path = next(f"file{n}" for n in range(4096) if bins.get_role_for_target(f"file{n}") == name)
    repo.targets.delegations = Delegations({key.public_key.keyid: key.public_key}, succinct_roles=bins)
    repo.delegated[name] = Targets(expires=LATER)
    repo.signers[name] = [key]
    repo.add_target(path, b"1", name)
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download(path)
    assert roles_asked(client) == [name]


@pytest.mark.parametrize(("prefix", "found"), [("", True), ("3b9c", True), ("3b9d", False)])
def test_path_hash_prefixes(repo: TufRepository, client: Client, prefix: str, found: bool) -> None:
    """SHA-256 of `file` begins with 3b9c."""
    role = DelegatedRole("A", [], 1, False, path_hash_prefixes=["ffff", prefix])
    repo.delegate("targets", role)
    repo.add_target("file", b"1", "A")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file") is found
    assert roles_asked(client) == (["A"] if found else [])


@pytest.mark.parametrize("role", ["?", "#", "/role", "../role", "a b", "rölle", "%20", "A.B", "."])
def test_strange_names_of_roles(repo: TufRepository, client: Client, role: str) -> None:
    repo.delegate("targets", to(role))
    repo.add_target("file", b"1", role)
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file")
    assert f"1.{quote(role, safe='')}.json" in client.asked()
    assert (client.metadata / f"{quote(role, safe='')}.json").exists()
    assert client.download("file")
    assert client.asked() == AGAIN


# --- 5.7, targets ----------------------------------------------------------------------------------------

NAMES = [
    "file",
    "a/b/c/file",
    "åäö",
    "a b",
    "a+b",
    "(1)",
    "~x",
    "-",
    "a&b=c",
    "100%",
    "a%20b",
    "a%2Fb",
    "[x]",
    "a\u0308",
    "a:b",
]


@pytest.mark.parametrize("name", NAMES)
def test_strange_names_of_targets(repo: TufRepository, client: Client, name: str) -> None:
    repo.add_target(name, b"data")
    # A name with an escape is a part of a URL, which the server decodes; 100% is none.
    repo.files |= {unquote(path): data for path, data in repo.files.items() if path.startswith("targets/")}
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download(name)
    (path,) = client.downloads.iterdir()
    assert (path.name, path.read_bytes()) == (quote(name, ""), b"data")


@pytest.mark.parametrize("name", ["?", "#", "a?b#c", "..", ".", "../../up", "/", "//x", "a\nb"])
def test_names_that_would_be_something_else_in_a_url_or_a_path(
    repo: TufRepository, ours: Ours, name: str
) -> None:
    repo.add_target(name, b"data")
    repo.next()
    assert ours.init(repo.files["metadata/1.root.json"])
    assert ours.download(name)
    (path,) = ours.downloads.iterdir()
    assert path.read_bytes() == b"data"
    assert sorted(each.name for each in ours.downloads.parent.iterdir()) == [
        "metadata",
        "shipped.json",
        "targets",
    ]


def test_several_targets_and_those_that_are_there(repo: TufRepository, client: Client) -> None:
    repo.add_target("one", b"1")
    repo.add_target("two", b"2")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("one", "two")
    client.asked()
    assert client.download("one", "two")
    assert client.asked() == AGAIN
    (client.downloads / "two").write_bytes(b"3")
    assert client.download("one", "two")
    assert [name.rpartition(".")[2] for name in client.asked()] == ["json", "json", "two"]
    assert (client.downloads / "two").read_bytes() == b"2"


@pytest.mark.parametrize("served", [b"DATA", b"data ", b"dat", b""])
def test_other_bytes_than_signed(repo: TufRepository, client: Client, served: bytes) -> None:
    repo.add_target("file", b"data")
    repo.next()
    path = next(path for path in repo.files if path.startswith("targets/"))
    repo.files[path] = served
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.download("file")
    assert list(client.downloads.iterdir()) == []
    repo.files[path] = b"data"
    assert client.download("file")


@pytest.mark.parametrize("length", [3, 5])
def test_a_signed_length_that_is_not_the_files(repo: TufRepository, client: Client, length: int) -> None:
    repo.add_target("file", b"data")
    repo.targets.targets["file"].length = length
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.download("file")
    assert list(client.downloads.iterdir()) == []


def test_an_empty_target(repo: TufRepository, client: Client) -> None:
    repo.add_target("empty", b"")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("empty")
    assert (client.downloads / "empty").read_bytes() == b""


def test_a_target_that_is_not_there(repo: TufRepository, client: Client) -> None:
    assert client.init(repo.files["metadata/1.root.json"])
    assert not client.download("nothing")
    repo.add_target("file", b"data")
    repo.next()
    repo.files = {path: data for path, data in repo.files.items() if not path.startswith("targets/")}
    assert not client.download("file")


def test_a_target_that_changed(repo: TufRepository, client: Client) -> None:
    repo.add_target("file", b"old")
    repo.next()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("file")
    repo.add_target("file", b"newer")
    repo.next()
    assert client.download("file")
    assert (client.downloads / "file").read_bytes() == b"newer"


# --- the executable ----------------------------------------------------------------------------------------


def execute(*words: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run([CLIENT, *words], capture_output=True, text=True, env=environment, check=False)


def test_the_command_line(repo: TufRepository, server: Served, tmp_path: Path) -> None:
    repo.add_target("a/b", b"data")
    repo.next()
    (tmp_path / "shipped").write_bytes(repo.files["metadata/1.root.json"])
    (tmp_path / "there").mkdir()
    common = ("--metadata-dir", str(tmp_path / "there"))
    urls = (*common, "--metadata-url", server.metadata_url)
    targets = ("--target-base-url", server.targets_url, "--target-dir", str(tmp_path / "out"))
    assert execute(*common, "init", str(tmp_path / "shipped")).returncode == 0
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["root.json"]
    done = execute(*urls, "--target-name", "a/b", *targets, "download")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out" / "a%2Fb").read_bytes() == b"data"
    refused = execute(*urls, "--target-name", "c", *targets, "download")
    assert refused.returncode == 1
    assert refused.stderr.startswith("[target.missing]")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", [(), ("refresh",), ("--metadata-dir", ".", "init"), ("--metadata-dir", "no", "refresh")]
)
def test_every_other_end_is_one(words: tuple[str, ...]) -> None:
    done = execute(*words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
