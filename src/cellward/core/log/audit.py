"""Everything recomputed: entries into leaves, leaves into tiles, tiles into roots, roots against checkpoints.

1. Every entry is in its one form, and hashes to its place in the level-0 tile (log.entry).
2. Every other tile follows from the tiles below it (log.tile).
3. At the size of each checkpoint the root is the one that was signed (log.checkpoint), and there are as
   many entries (log.truncated). Two checkpoints that both hold are consistent with each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cellward.core.errors import CellwardError, Code, TrustRefused, Unavailable
from cellward.core.log.checkpoint import Checkpoint
from cellward.core.log.entry import Entry, decode
from cellward.core.log.merkle import leaf_hash
from cellward.core.log.tiles import HEIGHT, WIDTH, Growth, Tile, hashes_in

if TYPE_CHECKING:
    from datetime import datetime


class Kept(Protocol):
    """A log as it lies somewhere. `tiled`: up to this size its full tiles must be there."""

    @property
    def size(self) -> int: ...

    @property
    def tiled(self) -> int: ...

    def bundle(self, index: int) -> Sequence[bytes]:
        """The entries of a bundle. Raises TrustRefused (log.truncated) where it is missing."""
        ...

    def tile(self, tile: Tile) -> bytes | None: ...


@dataclass(frozen=True)
class Audited:
    """What holds. `backwards`: indices of entries whose clock was behind the entry before them."""

    size: int
    root: bytes
    backwards: tuple[int, ...]


def audit(
    log: Kept, heads: Sequence[Checkpoint], progress: Callable[[int], None] = lambda _: None
) -> Audited:
    """Raises TrustRefused (log.*) and FormatRefused (log.format), with the first entry that is wrong."""
    for head in heads:
        if head.size > log.size:
            raise TrustRefused(
                Code.LOG_TRUNCATED,
                f"entry {log.size}",
                expected=f"{head.size} entries, as a checkpoint says",
                found=f"{log.size}",
                advice="the newest entries are gone",
            )
    run = _Run(log, heads)
    run.check_heads()
    for index in range(-(-log.size // WIDTH)):
        run.bundle(index)
        progress(run.growth.size)
    return Audited(log.size, run.growth.root(), tuple(run.backwards))


def find(log: Kept, signed: str, progress: Callable[[int], None] = lambda _: None) -> int:
    """The newest entry whose key was given this (as `entry.given` says it).

    Raises Unavailable (log.missing).
    """
    wanted = f"\nsigned {signed}\n".encode()
    for index in reversed(range(-(-log.size // WIDTH))):
        entries = log.bundle(index)
        for offset in reversed(range(len(entries))):
            if wanted in entries[offset]:
                return index * WIDTH + offset
        progress(index * WIDTH)
    raise Unavailable(
        Code.LOG_MISSING, f"{signed[:24]}…", expected="an entry with it", found=f"none among {log.size}"
    )


class _Run:
    def __init__(self, log: Kept, heads: Sequence[Checkpoint]) -> None:
        self.growth = Growth()
        self.backwards: list[int] = []
        self._log = log
        self._heads = heads
        self._sizes = {head.size for head in heads}
        self._before: datetime | None = None

    def bundle(self, index: int) -> None:
        first = index * WIDTH
        entries = self._log.bundle(index)
        leaves = [leaf_hash(entry) for entry in entries]
        width = min(WIDTH, self._log.size - first)
        if first + width <= self._log.tiled:
            self._compare(Tile(0, index, width), leaves)
        for number, (entry, leaf) in enumerate(zip(entries, leaves, strict=True), first):
            self._read(number, entry)
            for tile, data in self.growth.append(leaf):
                if tile.level and self.growth.size <= self._log.tiled:
                    self._compare_upper(tile, data)
            if self.growth.size in self._sizes:
                self.check_heads()

    def _read(self, number: int, entry: bytes) -> None:
        read: Entry = decode(entry, f"entry {number}")
        if self._before is not None and read.time < self._before:
            self.backwards.append(number)
        self._before = read.time

    def check_heads(self) -> None:
        """Of the size that has been reached."""
        for head in self._heads:
            if head.size == self.growth.size and self.growth.root() != head.root:
                for tile, data in self.growth.partial():
                    self._blame(tile, data)
                raise TrustRefused(
                    Code.LOG_CHECKPOINT,
                    f"entries 0 to {head.size - 1}",
                    expected=f"root {head.root.hex()[:16]}, as was signed",
                    found=self.growth.root().hex()[:16],
                    advice="entries and tiles were both changed",
                )

    def _blame(self, tile: Tile, data: bytes) -> None:
        """The tile as it was for that checkpoint says which entry it was, where it is still there."""
        if self._log.tile(tile) is None:
            return
        if tile.level == 0:
            self._compare(tile, hashes_in(data))
        else:
            self._compare_upper(tile, data)

    def _compare(self, tile: Tile, leaves: list[bytes]) -> None:
        stored = self._stored(tile)
        if stored == b"".join(leaves):
            return
        first, expected = tile.index * WIDTH, hashes_in(stored)
        for offset, wanted in enumerate(expected):
            found = leaves[offset] if offset < len(leaves) else None
            if found != wanted:
                advice = "" if wanted in leaves else "that entry was edited or deleted"
                advice = "the order was changed" if wanted in leaves else advice
                raise _changed(first + offset, wanted, _whose(found, expected, first), advice)
        raise _changed(
            first + len(expected), None, f"{len(leaves) - len(expected)} more", "entries were put in"
        )

    def _compare_upper(self, tile: Tile, data: bytes) -> None:
        pairs = zip(hashes_in(self._stored(tile)), hashes_in(data), strict=True)
        for offset, (stored, computed) in enumerate(pairs):
            if stored != computed:
                span = 1 << HEIGHT * (tile.level or 0)
                first = (tile.index * WIDTH + offset) * span
                raise TrustRefused(
                    Code.LOG_TILE,
                    f"entries {first} to {first + span - 1}",
                    expected=f"{stored.hex()[:16]}, as {tile.path} says of all of them",
                    found=computed.hex()[:16],
                    advice="an entry of these was changed, and the tiles below with it",
                )

    def _stored(self, tile: Tile) -> bytes:
        data = self._log.tile(tile)
        wanted = tile.width * 32
        if data is None or len(data) != wanted:
            raise TrustRefused(
                Code.LOG_TILE,
                tile.path,
                expected=f"{wanted} bytes",
                found="no such file" if data is None else f"{len(data)}",
            )
        return data


def _whose(found: bytes | None, expected: list[bytes], first: int) -> str:
    if found is None:
        return "nothing"
    return f"entry {first + expected.index(found)} in its place" if found in expected else "another entry"


def _changed(index: int, wanted: bytes | None, found: str, advice: str) -> CellwardError:
    expected = f"the one with hash {wanted.hex()[:16]}" if wanted else "nothing"
    return TrustRefused(Code.LOG_ENTRY, f"entry {index}", expected=expected, found=found, advice=advice)
