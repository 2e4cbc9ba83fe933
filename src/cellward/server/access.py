"""One log line a request: who, what, how it ended. Nothing of headers or bodies."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cellward.server.requests import PEER, Peer, printable

MAX_PATH = 200
logger = logging.getLogger("cellward.access")


class AccessLog:
    def __init__(self, app: ASGIApp, listener: str) -> None:
        self._app = app
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status, sent = 0, 0

        async def count(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, count)
        finally:
            peer = scope.get("extensions", {}).get(PEER)
            logger.info(
                "%s %s %s %s %d %d B %.1f ms",
                self._listener,
                peer.common_name if isinstance(peer, Peer) else "-",
                scope["method"],
                printable(scope["path"], MAX_PATH),
                status,
                sent,
                (time.perf_counter() - began) * 1000,
            )
