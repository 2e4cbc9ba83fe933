"""The signing log: what is about to be signed is on the disk before the signature is out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cellward.core.log.audit import Kept
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


class LogSnapshot(Kept, Protocol):
    """A log as it was at one moment."""

    def entry(self, index: int) -> bytes:
        """Raises Unavailable (log.missing) past the end, TrustRefused (log.truncated)."""
        ...

    def tree(self, size: int) -> TileTree:
        """The tree at this size or an earlier one."""
        ...


class SigningLog(IntentLog, Protocol):
    """Reading takes no lock and changes nothing."""

    @property
    def folder(self) -> Path: ...

    def seal(self, make: Callable[[Head], bytes]) -> bytes:
        """Store the checkpoint that `make` signs, with the tiles of its size; nobody appends meanwhile."""
        ...

    def checkpoint(self) -> bytes | None:
        """The newest one."""
        ...

    def snapshot(self) -> LogSnapshot:
        """Raises Unavailable (log.missing) where there is no log, TrustRefused (log.damaged)."""
        ...

    def published(self, size: int) -> LogSnapshot:
        """A copy of the static files alone, as an auditor may have it, up to a checkpoint's size.

        Raises TrustRefused (log.truncated), FormatRefused (log.format).
        """
        ...
