"""TUF 5.7: targets, their names, and what is there already. See test_tuf_client."""

from urllib.parse import quote, unquote

import pytest

from tests.support.tufrepo import (
    AGAIN,
    Client,
    Ours,
    TufRepository,
)

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
