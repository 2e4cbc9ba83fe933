"""Reading requests: bodies within a size and a time, and who sent them."""

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from cellward.core.errors import Code, FormatRefused

BODY_SECONDS = 30.0
MAX_LINE = 500
PEER = "cellward.peer"


@dataclass(frozen=True)
class Peer:
    """What the client certificate says; TLS has checked that our device CA signed it."""

    serial: str
    common_name: str


def peer_of(request: Request) -> Peer:
    """Who is at the other end of the connection (server.tls puts it into the scope)."""
    peer = request.scope["extensions"][PEER]
    assert isinstance(peer, Peer)  # noqa: S101
    return peer


async def read_body(request: Request, limit: int) -> bytes:
    """Raises FormatRefused: request.too_large as soon as it is, request.slow."""
    stated = request.headers.get("content-length", "0")
    if stated.isascii() and stated.isdigit() and int(stated[:18]) > limit:
        raise _too_large(limit, f"{stated[:18]}")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit, "more than that")
    except TimeoutError as error:
        raise FormatRefused(
            Code.REQUEST_SLOW,
            "body",
            expected=f"all of it in {BODY_SECONDS:.0f} s",
            found=f"{len(body)} bytes",
        ) from error
    return bytes(body)


def _too_large(limit: int, found: str) -> FormatRefused:
    return FormatRefused(Code.REQUEST_TOO_LARGE, "body", expected=f"at most {limit} bytes", found=found)


def printable(text: str, limit: int = MAX_LINE) -> str:
    """For a log line. Paths and names are the client's to choose: no line breaks, no escape
    sequences, no novels."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:limit])
