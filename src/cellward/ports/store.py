"""Named blobs: metadata, artefacts, device state."""

from collections.abc import Iterator
from typing import Protocol


class Store(Protocol):
    """Blobs under names of at most four segments `[A-Za-z0-9][A-Za-z0-9._+-]*` joined by `/`.

    A name of another form is refused (target.name), so that no name leaves the store. Writes are
    atomic and durable: after a power cut a name holds the old bytes or the new ones.
    Every method raises Unavailable (storage.*) when the medium fails.
    """

    def read(self, name: str) -> bytes | None:
        """The blob, or None when there is none."""
        ...

    def write(self, name: str, data: bytes) -> None: ...

    def write_once(self, name: str, data: bytes) -> None:
        """Like write, but refuses (storage.exists) when the name holds other bytes already."""
        ...

    def delete(self, name: str) -> None:
        """Without effect when the name is absent."""
        ...

    def names(self) -> Iterator[str]:
        """All names, sorted."""
        ...


class RangedStore(Store, Protocol):
    """A Store whose blobs can be read in parts, so that an artefact is never whole in memory."""

    def size(self, name: str) -> int | None:
        """Bytes, or None when there is no such blob."""
        ...

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`; fewer only at the blob's end."""
        ...
