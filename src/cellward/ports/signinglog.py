"""The signing log: what is about to be signed is on the disk before the signature is out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cellward.core.log.tiles import TileTree


class IntentLog(Protocol):
    """Where a signer writes what it is about to sign."""

    def append(self, entries: Sequence[bytes]) -> int:
        """The index of the first; all of them are on the disk, in this order, when this returns.

        Raises Unavailable (storage.*), TrustRefused (log.damaged); none of them counts then.
        """
        ...


@dataclass(frozen=True)
class Head:
    """A log at the moment it is to be signed; `held` is the newest checkpoint so far."""

    size: int
    root: bytes
    held: bytes | None
    tree: Callable[[int], TileTree]
    """The log's tree at this size or an earlier one."""


class SealedLog(IntentLog, Protocol):
    def seal(self, make: Callable[[Head], bytes]) -> bytes:
        """Store the checkpoint that `make` signs, with the tiles of its size; nobody appends meanwhile."""
        ...
