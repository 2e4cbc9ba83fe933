"""Every Store keeps the promises of ports/store.py: the folder and the fake."""

from pathlib import Path

import pytest

from cellward.adapters.files import DirectoryStore
from cellward.core.errors import Code, FormatRefused, Refused
from cellward.ports.store import RangedStore
from tests.fakes.store import MemoryStore


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RangedStore:
    return DirectoryStore(tmp_path / "store") if request.param == "directory" else MemoryStore()


def test_what_is_written_is_read(store: RangedStore) -> None:
    assert store.read("a/b") is None
    store.write("a/b", b"one")
    assert store.read("a/b") == b"one"
    store.write("a/b", b"two")
    assert store.read("a/b") == b"two"


def test_write_once(store: RangedStore) -> None:
    store.write_once("n", b"one")
    store.write_once("n", b"one")
    with pytest.raises(Refused) as refused:
        store.write_once("n", b"two")
    assert refused.value.code is Code.STORAGE_EXISTS
    assert store.read("n") == b"one"


def test_delete(store: RangedStore) -> None:
    store.write("n", b"one")
    store.delete("n")
    store.delete("n")
    assert store.read("n") is None


def test_names_are_sorted(store: RangedStore) -> None:
    assert list(store.names()) == []
    for name in ("b", "a/c", "a/b"):
        store.write(name, b"")
    assert list(store.names()) == ["a/b", "a/c", "b"]


def test_parts(store: RangedStore) -> None:
    store.write("n", b"0123456789")
    assert store.size("n") == 10
    assert store.size("m") is None
    assert store.read_range("n", 3, 4) == b"3456"
    assert store.read_range("n", 8, 4) == b"89"
    assert store.read_range("n", 10, 4) == b""


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "../a",
        "a/../b",
        ".a",
        "-a",
        "a\0b",
        "a b",
        "a\n",
        "ä",
        "a/b/c/d/e",
        "a" * 129,
    ],
)
def test_no_name_leaves_the_store(store: RangedStore, tmp_path: Path, name: str) -> None:
    for act in (store.read, store.delete, store.size, lambda n: store.write(n, b"x")):
        with pytest.raises(FormatRefused) as refused:
            act(name)
        assert refused.value.code is Code.TARGET_NAME
    assert list(store.names()) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["a" * 128, "bms-m33/app-1.4.0+7.img", "a/b/c/d", "1.root.json"])
def test_names_in_use(store: RangedStore, name: str) -> None:
    store.write(name, b"x")
    assert list(store.names()) == [name]
