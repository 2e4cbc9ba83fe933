"""The Merkle tree of RFC 6962, section 2.1, over SHA-256: hashes, and proofs as they are verified.

A proof is a tuple of hashes, from the leaves up. `tiles` makes them.
"""

from collections.abc import Sequence
from hashlib import sha256

from cellward.core.errors import Code, TrustRefused

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()
MAX_SIZE = 1 << 48  # of a tree; far beyond any disk, and small enough for every count here


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def tree_hash(nodes: Sequence[bytes]) -> bytes:
    """The root over nodes of one height, of which only the last may be an incomplete subtree.

    Pairs from below, the odd one carried up, meet the RFC's split at the largest power of two.
    """
    if not nodes:
        return EMPTY_ROOT
    while len(nodes) > 1:
        pairs = zip(nodes[::2], nodes[1::2], strict=False)  # the odd one stays
        paired = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        if len(nodes) % 2:
            paired.append(nodes[-1])
        nodes = paired
    return nodes[0]


Range = tuple[int, int]
"""Leaves from, and up to but without."""


def inclusion_ranges(index: int, size: int) -> tuple[Range, ...]:
    """What the hashes of the proof for a leaf cover (2.1.1, PATH)."""
    first, end, found = 0, size, []
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((first, middle))
            first = middle
    return tuple(reversed(found))


def consistency_ranges(old: int, size: int) -> tuple[Range, ...]:
    """What the hashes of the proof from an older size cover (2.1.2, PROOF); none for 0 and for `size`."""
    if old == 0:
        return ()
    first, end, found = 0, size, []
    while end > old:
        middle = first + _split(end - first)
        if old <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((first, middle))
            first = middle
    if first:  # else it is the old tree itself, whose root the verifier has
        found.append((first, end))
    return tuple(reversed(found))


def _split(count: int) -> int:
    """The largest power of two below `count`, for 2 and more."""
    return 1 << (count - 1).bit_length() - 1


def verify_inclusion(
    leaf: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes], subject: str
) -> bytes:
    """The leaf's hash, if it is the one at `index` of the tree. Raises TrustRefused (log.proof)."""
    ranges = inclusion_ranges(index, size) if 0 <= index < size <= MAX_SIZE else None
    if ranges is None or len(ranges) != len(proof):
        raise _unproven(subject, f"a proof for index {index} of {size}", f"one of {len(proof)} hashes")
    found = leaf
    for (first, _), sibling in zip(ranges, proof, strict=True):
        found = node_hash(found, sibling) if first > index else node_hash(sibling, found)
    if found != root:
        raise _unproven(subject, f"a path to root {root.hex()[:16]}", found.hex()[:16])
    return leaf


def verify_consistency(
    old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes], subject: str
) -> bytes:
    """The newer root, if that tree begins with the older one. Raises TrustRefused (log.proof)."""
    ranges = consistency_ranges(old, size) if 0 <= old <= size <= MAX_SIZE else None
    if ranges is None or len(ranges) != len(proof):
        raise _unproven(subject, f"a proof from size {old} to {size}", f"one of {len(proof)} hashes")
    if old == 0 or old == size:
        before, after = (EMPTY_ROOT, root) if old == 0 else (old_root, old_root)
    else:
        before, after = _both_roots(old, old_root, list(zip(ranges, proof, strict=True)))
    if (before, after) != (old_root, root):
        raise _unproven(subject, f"a tree that begins with the one of size {old}", "another history")
    return root


def _both_roots(old: int, old_root: bytes, steps: list[tuple[Range, bytes]]) -> tuple[bytes, bytes]:
    """The old root and the new one that a proof leads to."""
    (first, end), seed = steps[0]
    if end == old:
        before = after = seed
        steps = steps[1:]
    else:  # the old tree is complete: the proof leaves out what the verifier has
        before = after = old_root
        first = 0
    for (left, _), sibling in steps:
        if left < first:
            before, after, first = node_hash(sibling, before), node_hash(sibling, after), left
        else:
            after = node_hash(after, sibling)
    return before, after


def _unproven(subject: str, expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.LOG_PROOF, subject, expected=expected, found=found)
