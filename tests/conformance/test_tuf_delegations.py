"""TUF 5.6.7 and TAP 15: which delegated roles are asked, and what is believed. See test_tuf_client."""

from urllib.parse import quote

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, Targets

from tests.support.tufrepo import (
    AGAIN,
    LATER,
    NOW,
    Client,
    Served,
    TufRepository,
    signer,
    to,
    use,
)

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
