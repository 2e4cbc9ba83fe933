"""The audit of a log of more than one full level: what only many entries have."""

import pytest

from cellward.core.errors import Code, TrustRefused
from cellward.core.log.audit import audit
from cellward.core.log.merkle import leaf_hash
from cellward.core.log.tiles import Growth, Tile
from tests.unit.core.log.test_entry import make

ENTRY = make().encode()
SIZE = 65_536 + 256


class InMemory:
    """A log of one entry again and again, all of it in tiles."""

    size = tiled = SIZE

    def __init__(self) -> None:
        self.held: dict[Tile, bytes] = {}
        self.growth = Growth()
        leaf = leaf_hash(ENTRY)
        for _ in range(SIZE):
            self.held |= dict(self.growth.append(leaf))
        self.held |= dict(self.growth.partial())

    def bundle(self, index: int) -> list[bytes]:
        return [ENTRY] * 256

    def tile(self, tile: Tile) -> bytes | None:
        return self.held.get(tile)


def test_a_full_tile_of_the_second_level_must_follow_from_the_first() -> None:
    log, seen = InMemory(), list[int]()
    found = audit(log, (), seen.append)
    assert (found.size, found.root) == (SIZE, log.growth.root())
    assert seen == list(range(256, SIZE + 1, 256))
    whole = log.held[Tile(1, 0)]
    log.held[Tile(1, 0)] = whole[: 7 * 32] + bytes(32) + whole[8 * 32 :]
    with pytest.raises(TrustRefused) as error:
        audit(log, ())
    assert (error.value.code, error.value.subject) == (Code.LOG_TILE, "entries 1792 to 2047")
