"""The tree as files: C2SP tlog-tiles, height 8. Names, contents, and proofs that read only what they need."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.log.merkle import (
    EMPTY_ROOT,
    HASH_SIZE,
    Range,
    consistency_ranges,
    inclusion_ranges,
    node_hash,
    tree_hash,
)

HEIGHT = 8
WIDTH = 1 << HEIGHT
LEVELS = 6  # 2^48 leaves


@dataclass(frozen=True)
class Tile:
    """Up to 256 consecutive hashes of one level, or (without a level) as many entries."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """`tile/0/x001/x234/067`, `tile/entries/000.p/12`."""
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        *folders, name = (digits[at : at + 3] for at in range(0, len(digits), 3))
        kind = "entries" if self.level is None else f"{self.level}"
        part = "" if self.width == WIDTH else f".p/{self.width}"
        return "/".join(["tile", kind, *(f"x{folder}" for folder in folders), name]) + part

    @property
    def full(self) -> "Tile":
        return Tile(self.level, self.index)


Read = Callable[[Tile], bytes | None]
"""The bytes of a tile or bundle, or None where there is none."""


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])


def decode_bundle(data: bytes, what: str) -> list[bytes]:
    """Raises FormatRefused (log.format) when a length points past the end."""
    entries: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if start > end or at > end:
            raise FormatRefused(
                Code.LOG_FORMAT,
                what,
                expected=f"entry {len(entries)} whole",
                found=f"the end of the file at {end}",
            )
        entries.append(data[start:at])
    return entries


def hashes_in(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


class Growth:
    """The right edge of a tree: enough to append to it, and to know its root.

    `edge` has one list for each level: the hashes of its unfinished tile.
    """

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[list[bytes]] = []

    @classmethod
    def resume(cls, size: int, read: Read) -> "Growth":
        """The edge of a tree of that size. Raises TrustRefused (log.tile) where a tile is missing."""
        tree = TileTree(size, read)
        grown = cls()
        grown.size = size
        grown._edge = [tree.tile(tile) for tile in edge_of(size)]
        return grown

    def append(self, leaf: bytes) -> list[tuple[Tile, bytes]]:
        """One leaf more; the tiles that it fills."""
        self.size += 1
        return self._push(0, leaf)

    def _push(self, level: int, node: bytes) -> list[tuple[Tile, bytes]]:
        if level == len(self._edge):
            self._edge.append([])
        hashes = self._edge[level]
        hashes.append(node)
        if len(hashes) < WIDTH:
            return []
        self._edge[level] = []
        index = (self.size >> HEIGHT * (level + 1)) - 1
        return [(Tile(level, index), b"".join(hashes)), *self._push(level + 1, tree_hash(hashes))]

    def partial(self) -> Iterator[tuple[Tile, bytes]]:
        """The unfinished tiles of this size."""
        for level, hashes in enumerate(self._edge):
            if hashes:
                index = self.size >> HEIGHT * (level + 1)
                yield Tile(level, index, len(hashes)), b"".join(hashes)

    def root(self) -> bytes:
        below: list[bytes] = []  # the incomplete subtree that the lower levels make, if any
        for hashes in self._edge:
            nodes = hashes + below
            below = [tree_hash(nodes)] if nodes else []
        return below[0] if below else EMPTY_ROOT


def edge_of(size: int) -> list[Tile]:
    """The unfinished tile of each level up to the highest that has a hash; a width of 0 is no file."""
    levels = max(1, -(-size.bit_length() // HEIGHT))
    return [
        Tile(level, size >> HEIGHT * (level + 1), (size >> HEIGHT * level) % WIDTH) for level in range(levels)
    ]


class TileTree:
    """A tree of `size` leaves, through `read`. A full tile serves for a partial one (tlog-tiles).

    Every method raises TrustRefused (log.tile) where a tile is missing or cut short.
    """

    def __init__(self, size: int, read: Read) -> None:
        self.size = size
        self._read = read
        self._held: dict[Tile, list[bytes]] = {}

    def inclusion(self, index: int) -> tuple[bytes, ...]:
        return tuple(self.range_hash(each) for each in inclusion_ranges(index, self.size))

    def consistency(self, old: int) -> tuple[bytes, ...]:
        return tuple(self.range_hash(each) for each in consistency_ranges(old, self.size))

    def root(self) -> bytes:
        return self.range_hash((0, self.size))

    def leaf(self, index: int) -> bytes:
        return self._node(0, index)

    def range_hash(self, leaves: Range) -> bytes:
        """Of a range that begins at a multiple of the power of two it is split at: those of proofs do."""
        first, end = leaves
        parts = []
        while first < end:
            height = (end - first).bit_length() - 1
            parts.append(self._node(height, first >> height))
            first += 1 << height
        if not parts:
            return EMPTY_ROOT
        found = parts.pop()
        while parts:
            found = node_hash(parts.pop(), found)
        return found

    def _node(self, height: int, index: int) -> bytes:
        level, inside = divmod(height, HEIGHT)
        first = index << inside
        number, offset = divmod(first, WIDTH)
        width = min(WIDTH, (self.size >> HEIGHT * level) - number * WIDTH)
        hashes = self.tile(Tile(level, number, width))
        return tree_hash(hashes[offset : offset + (1 << inside)])

    def tile(self, tile: Tile) -> list[bytes]:
        if tile.width == 0:
            return []
        if tile not in self._held:
            data = self._read(tile)
            if data is None and tile.width < WIDTH:
                data = self._read(tile.full)
            wanted = tile.width * HASH_SIZE
            if data is None or len(data) < wanted:
                raise TrustRefused(
                    Code.LOG_TILE,
                    tile.path,
                    expected=f"{tile.width} hashes",
                    found="no such file" if data is None else f"{len(data)} bytes",
                )
            self._held[tile] = hashes_in(data[:wanted])
        return self._held[tile]
