"""HTTP connections: what they are cut off for. Without TLS, which is none of their business."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from cellward.core.errors import Code
from cellward.server import tls
from cellward.server.requests import PEER, Peer
from cellward.server.tls import Connection, peer

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the peer that the scope holds."""
    body = repr(scope["extensions"][PEER]).encode()
    head = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


def converse(*talks: Talk, limit: int = 10) -> None:
    """Each talk over a connection of its own, opened in this order, all of them open at once."""

    async def run() -> None:
        config = uvicorn.Config(echo, log_config=None, lifespan="off", ws="none")
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(config, state, {}, limit), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        opened = []
        for talk in talks:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.append(writer)
            await asyncio.wait_for(talk(reader, writer), 10)
        for writer in opened:
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert await reader.readexactly(4) == b"None"


async def problem(reader: asyncio.StreamReader, status: int, code: Code) -> None:
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert json.loads(body)["code"] == code


def test_many_requests_in_many_pieces() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            for byte in REQUEST[:-1]:
                writer.write(bytes([byte]))
                await writer.drain()
            writer.write(REQUEST[-1:])
            await reader.readuntil(b"None")

    converse(talk, asks)


def test_a_head_larger_than_any_is() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"y" * (tls.MAX_HEAD + 1))
        await problem(reader, 400, Code.REQUEST_FORMAT)

    converse(talk, asks)


def test_a_large_body_behind_a_small_head_is_no_large_head() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"z" * (tls.MAX_HEAD * 2)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    converse(talk)


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nx: y\r\n"])
def test_a_head_that_does_not_come(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(tls, "HEAD_SECONDS", 0.1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        assert await reader.read() == b""

    converse(talk, asks)


def test_a_head_that_dribbles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not buy time."""
    monkeypatch.setattr(tls, "HEAD_SECONDS", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in REQUEST[:-2]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
            if reader.at_eof():
                break
        assert await reader.read() == b""

    converse(talk, asks)


def test_the_second_head_of_a_connection_must_come_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HEAD_SECONDS", 0.1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asks(reader, writer)
        writer.write(REQUEST[:-2])
        assert await asyncio.wait_for(reader.read(), 3) == b""

    converse(talk)


def test_one_connection_too_many() -> None:
    async def one_too_many(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await problem(reader, 503, Code.SERVER_BUSY)

    converse(asks, asks, one_too_many, limit=2)


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x03\x02\x01\x01"])
def test_a_certificate_that_is_none_is_nobodys(data: bytes) -> None:
    assert peer(data) == Peer("", "")
