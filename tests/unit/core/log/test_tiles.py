"""The tree as files: names, the edge, and proofs that read few of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellward.core.errors import CellwardError, Code, FormatRefused, TrustRefused
from cellward.core.log.merkle import (
    EMPTY_ROOT,
    leaf_hash,
    tree_hash,
    verify_consistency,
    verify_inclusion,
)
from cellward.core.log.tiles import Growth, Tile, TileTree, decode_bundle, edge_of, encode_bundle

LEAVES = [leaf_hash(b"entry %d" % number) for number in range(70_000)]


class Files:
    """Tiles in memory, and which were read."""

    def __init__(self, sizes: list[int]) -> None:
        self.held: dict[str, bytes] = {}
        self.read: list[str] = []
        growth = Growth()
        self.roots = {0: growth.root()}
        for size in sizes:
            for leaf in LEAVES[growth.size : size]:
                self.held |= {tile.path: data for tile, data in growth.append(leaf)}
            self.held |= {tile.path: data for tile, data in growth.partial()}
            self.roots[size] = growth.root()

    def __call__(self, tile: Tile) -> bytes | None:
        self.read.append(tile.path)
        return self.held.get(tile.path)


@pytest.fixture(scope="module")
def files() -> Files:
    return Files([1, 300, 65_536, 70_000])


def test_the_names_of_the_specification() -> None:
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(1, 0, 17).path == "tile/1/000.p/17"
    assert Tile(None, 999).path == "tile/entries/999"
    assert Tile(None, 1000, 1).path == "tile/entries/x001/000.p/1"


def test_the_specification_s_example_of_70000(files: Files) -> None:
    """273 full level-0 tiles, a partial of 112; one full level-1 tile, a partial of 17; level 2 of 1."""
    full = [path for path in files.held if ".p/" not in path]
    assert sum(path.startswith("tile/0/") for path in full) == 273
    assert [path for path in full if path.startswith("tile/1/")] == ["tile/1/000"]
    assert [tile.path for tile in edge_of(70_000)] == [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert all(tile.path in files.held for tile in edge_of(70_000))
    assert all(len(data) == 8192 for path, data in files.held.items() if path in full)


def test_256_leaves_are_a_full_tile_and_one_of_one() -> None:
    held = Files([256]).held
    assert set(held) == {"tile/0/000", "tile/1/000.p/1"}
    assert held["tile/1/000.p/1"] == tree_hash(LEAVES[:256])


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000])
def test_the_edge_knows_the_root(size: int) -> None:
    growth = Growth()
    for leaf in LEAVES[:size]:
        growth.append(leaf)
    assert growth.root() == tree_hash(LEAVES[:size])


@pytest.mark.parametrize("size", [0, 1, 300, 65_536, 70_000])
def test_growth_goes_on_from_the_files(size: int, files: Files) -> None:
    growth = Growth.resume(size, files)
    assert (growth.size, growth.root()) == (size, files.roots[size])
    growth.append(LEAVES[size % 70_000])
    assert growth.root() == tree_hash([*LEAVES[:size], LEAVES[size % 70_000]])


@settings(max_examples=60)
@given(st.data())
def test_proofs_from_tiles_verify(data: st.DataObject) -> None:
    files = FILES
    size = data.draw(st.sampled_from([1, 300, 65_536, 70_000]))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    tree = TileTree(size, files)
    assert tree.root() == files.roots[size]
    assert tree.leaf(index) == LEAVES[index]
    verify_inclusion(LEAVES[index], index, size, files.roots[size], tree.inclusion(index), "test")
    before = tree_hash(LEAVES[:old]) if old else EMPTY_ROOT
    verify_consistency(old, before, size, files.roots[size], tree.consistency(old), "test")


FILES = Files([1, 300, 65_536, 70_000])


def test_a_proof_reads_few_tiles(files: Files) -> None:
    files.read.clear()
    TileTree(70_000, files).inclusion(12_345)
    assert len(files.read) <= 2 * 3  # one of its own and the edge, on each of three levels


def test_a_full_tile_serves_for_a_partial_one_that_is_gone() -> None:
    files = Files([100, 300])
    del files.held["tile/0/000.p/100"]
    assert TileTree(100, files).root() == tree_hash(LEAVES[:100])


@pytest.mark.parametrize("data", [None, b"", bytes(31)])
def test_a_missing_or_short_tile_is_refused(data: bytes | None) -> None:
    with pytest.raises(TrustRefused) as error:
        TileTree(1, lambda _: data).root()
    assert error.value.code is Code.LOG_TILE


# --- bundles ---


@given(st.lists(st.binary(max_size=600), max_size=10))
def test_a_bundle_says_what_went_in(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries), "test") == entries


@given(st.binary(max_size=60))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    try:
        entries = decode_bundle(data, "test")
    except FormatRefused as error:
        assert error.code is Code.LOG_FORMAT
    else:
        assert encode_bundle(entries) == data


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.integers(1, 20))
def test_a_bundle_cut_short_never_reads_as_the_whole(entries: list[bytes], cut: int) -> None:
    whole = encode_bundle(entries)
    try:
        assert len(decode_bundle(whole[:-cut], "test")) < len(entries)
    except CellwardError as error:
        assert error.code is Code.LOG_FORMAT
