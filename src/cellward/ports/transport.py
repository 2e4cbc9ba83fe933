"""Requests to one server, authenticated both ways, each with a bound on what it may answer."""

from collections.abc import Generator
from typing import Protocol


class Transport(Protocol):
    """Every method raises

    - Unavailable: server.unreachable, server.slow (below the throughput floor);
    - TrustRefused: tls.server (not the pinned server), tls.client_certificate (it does not take ours);
    - Refused: request.too_large where the answer exceeds `limit`, and the server's own refusal
      under its own code where that is one of core.errors, server.refused otherwise.
    """

    def get(self, path: str, limit: int, offset: int = 0) -> Generator[bytes, None, None]:
        """The bytes of `path` from `offset` on, at most `limit` of them, as they arrive.

        The request is made when the first chunk is asked for; close the generator to give it up. An
        answer that ends early is server.unreachable; what came before it has been yielded.
        """
        ...

    def post(self, path: str, body: bytes, limit: int) -> bytes:
        """The answer to a JSON `body`."""
        ...
