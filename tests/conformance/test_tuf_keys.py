"""TUF 4.2, 4.3 and 6.1: signatures, thresholds, kinds of keys, unknown fields. See test_tuf_client."""

import json
from collections.abc import Callable

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, SSlibKey

from tests.support.tufrepo import (
    TOP,
    Client,
    Ours,
    Served,
    TufRepository,
    signer,
    started,
    use,
)

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


@pytest.mark.filterwarnings("ignore:keytype:DeprecationWarning")
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
