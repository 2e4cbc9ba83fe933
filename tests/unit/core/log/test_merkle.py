"""RFC 6962's tree against its published vectors, and against the RFC's own recursive words as a witness."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, TrustRefused
from cellward.core.log.merkle import (
    EMPTY_ROOT,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    tree_hash,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves and roots of Certificate Transparency's own tests.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


# --- the witness: RFC 6962, section 2.1, word by word ---


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole=whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


def entries(count: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(count)]


def flipped(data: bytes, bit: int) -> bytes:
    return (int.from_bytes(data, "big") ^ (1 << bit % (8 * len(data)))).to_bytes(len(data), "big")


# --- roots ---


@pytest.mark.parametrize("size", range(9))
def test_the_published_roots(size: int) -> None:
    assert tree_hash([leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == ROOTS[size]
    assert mth(LEAVES[:size]).hex() == ROOTS[size]


def test_pairs_from_below_are_the_rfc_s_split() -> None:
    for size in range(70):
        assert tree_hash([leaf_hash(entry) for entry in entries(size)]) == mth(entries(size))


def test_a_leaf_is_no_node() -> None:
    """Without the prefixes a node's two hashes would be an entry with the same hash."""
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert tree_hash([left, right]) != leaf_hash(left + right)


# --- proofs ---


@given(st.data())
def test_inclusion_is_the_rfc_s_path_and_no_bit_is_free(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    leaves = entries(size)
    ranges, root, leaf = inclusion_ranges(index, size), mth(leaves), leaf_hash(leaves[index])
    proof = tuple(mth(leaves[first:end]) for first, end in ranges)
    assert list(proof) == path(index, leaves)
    assert verify_inclusion(leaf, index, size, root, proof, "test") == leaf

    bit, at = data.draw(st.integers(0, 255)), data.draw(st.integers(0, len(proof)))
    damaged = list(proof)
    if at < len(proof):
        damaged[at] = flipped(proof[at], bit)
        refused_inclusion(leaf, index, size, root, damaged)
    refused_inclusion(flipped(leaf, bit), index, size, root, proof)
    refused_inclusion(leaf, index, size, flipped(root, bit), proof)
    refused_inclusion(leaf, index, size, root, [*proof, root])
    refused_inclusion(leaf, index, size, root, proof[:-1] if proof else [root])
    other = data.draw(st.integers(-1, size).filter(lambda number: number != index))
    refused_inclusion(leaf, other, size, root, proof)


def refused_inclusion(leaf: bytes, index: int, size: int, root: bytes, proof: object) -> None:
    with pytest.raises(TrustRefused) as error:
        verify_inclusion(leaf, index, size, root, list(proof), "test")  # type: ignore[call-overload]
    assert error.value.code is Code.LOG_PROOF


@given(st.data())
def test_consistency_is_the_rfc_s_proof_and_no_bit_is_free(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    old = data.draw(st.integers(1, size))
    leaves = entries(size)
    proof = tuple(mth(leaves[first:end]) for first, end in consistency_ranges(old, size))
    before, after = mth(leaves[:old]), mth(leaves)
    assert list(proof) == subproof(old, leaves, whole=True)
    assert verify_consistency(old, before, size, after, proof, "test") == after

    bit = data.draw(st.integers(0, 255))
    refused_consistency(old, flipped(before, bit), size, after, proof)
    refused_consistency(old, before, size, flipped(after, bit), proof)
    refused_consistency(old, before, size, after, (*proof, before))
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        refused_consistency(
            old, before, size, after, (*proof[:at], flipped(proof[at], bit), *proof[at + 1 :])
        )
        refused_consistency(old, before, size, after, proof[:-1])


def refused_consistency(old: int, before: bytes, size: int, after: bytes, proof: tuple[bytes, ...]) -> None:
    with pytest.raises(TrustRefused) as error:
        verify_consistency(old, before, size, after, proof, "test")
    assert error.value.code is Code.LOG_PROOF


def test_consistency_from_nothing_needs_the_root_of_nothing() -> None:
    root = mth(entries(5))
    assert verify_consistency(0, EMPTY_ROOT, 5, root, (), "test") == root
    refused_consistency(0, root, 5, root, ())
    refused_consistency(0, EMPTY_ROOT, 5, root, (root,))


def test_a_tree_does_not_shrink() -> None:
    refused_consistency(5, mth(entries(5)), 4, mth(entries(4)), ())
    refused_inclusion(leaf_hash(b"entry 0"), 0, 0, EMPTY_ROOT, ())
