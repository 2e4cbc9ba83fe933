"""Memory for secrets: not swapped out, not in core dumps, not in children, wiped when it is given back."""

from contextlib import AbstractContextManager
from typing import Protocol


class SecretMemory(Protocol):
    def hold(self, size: int) -> AbstractContextManager[memoryview]:
        """Zeros, to be written to; wiped and released at the end, and unusable then.

        Raises Unavailable (vault.memory) where the operating system does not lock as much.
        """
        ...

    def randomise(self, view: memoryview) -> None:
        """Fill it from the operating system's generator, without a copy elsewhere."""
        ...
