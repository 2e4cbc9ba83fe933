"""Requests to an ASGI application in this process, as if TLS had let `peer` in."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from cellward.server.requests import PEER, Peer


class Client:
    def __init__(self, app: ASGIApp, peer: Peer | None = None) -> None:
        self._app = app
        self.peer = peer

    async def _with_peer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "extensions": {PEER: self.peer}}, receive, send)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        return asyncio.run(self._ask(method, path, headers, body))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.ask("GET", path, headers)

    def post(self, path: str, body: bytes | AsyncIterator[bytes]) -> httpx.Response:
        return self.ask("POST", path, body=body)

    async def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes | AsyncIterator[bytes] | None,
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._with_peer, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://server") as client:
            return await client.request(method, path, headers=headers, content=body)
