"""A checkout of this project, as evidence reads it."""

from pathlib import Path
from typing import Protocol


class Checkout(Protocol):
    """Names are relative to `root`, with `/`."""

    @property
    def root(self) -> Path: ...

    def read(self, name: str, limit: int) -> bytes:
        """Raises Unavailable (storage.missing, storage.failed), Refused (request.too_large)."""

    def has(self, name: str) -> bool: ...

    def revision(self) -> str:
        """The commit that is checked out; empty where it is not known."""

    def is_changed(self) -> bool:
        """Whether files differ from that commit."""
