"""Artefacts: immutable files, whole or in one range (RFC 9110 section 14), never whole in memory."""

import asyncio
import logging
import re
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cellward.core.errors import CellwardError, Code, Refused
from cellward.ports.store import RangedStore
from cellward.server.problem import not_found, respond

CHUNK = 256 * 1024
IMMUTABLE = "public, max-age=31536000, immutable"
# An image's name, or a release's (core/metadata/target): both are by what is in the file.
_STORED_NAME = re.compile(
    r"[a-z0-9][a-z0-9.+_-]{0,127}/(?P<image>[0-9a-f]{64})\.[a-z0-9][a-z0-9.+_-]{0,127}\.img"
    r"|releases/(?P<release>[0-9a-f]{64})\.json",
    re.ASCII,
)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
logger = logging.getLogger("cellward.server")


@dataclass(frozen=True)
class Span:
    """`length` bytes from `start`."""

    start: int
    length: int


def parse_range(header: str, size: int) -> Span | None:
    """The one range that is asked for; None where the whole is to be sent: no range, several (which
    a server may ignore), another unit, or a form that is none.

    Raises Refused (request.range) when it lies outside of `size` bytes.
    """
    match = _RANGE.fullmatch(header)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        span = Span(size - length, length)
    else:
        if last and int(last) < int(first):
            return None
        span = Span(int(first), min(int(last) if last else size, size - 1) - int(first) + 1)
    if span.length <= 0:
        raise Refused(Code.REQUEST_RANGE, "range", expected=f"a range within {size} bytes", found=header[:80])
    return span


def answer(request: Request, store: RangedStore, name: str) -> Response:
    """The artefact `name` as this GET or HEAD asks for it."""
    match = _STORED_NAME.fullmatch(name)
    size = store.size(name) if match else None
    if match is None or size is None:
        raise not_found(f"artefact {name[:200]}")
    etag = f'"{match["image"] or match["release"]}"'
    headers = {"ETag": etag, "Cache-Control": IMMUTABLE, "Accept-Ranges": "bytes"}
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED.value, headers=headers)
    wanted = request.headers.get("range", "")
    if request.method != "GET" or request.headers.get("if-range", etag) != etag:
        wanted = ""
    try:
        span = parse_range(wanted, size)
    except Refused as error:
        response = respond(error)
        response.headers["Content-Range"] = f"bytes */{size}"
        return response
    if span is None:
        return Parts(store, name, Span(0, size), HTTPStatus.OK, headers)
    headers["Content-Range"] = f"bytes {span.start}-{span.start + span.length - 1}/{size}"
    return Parts(store, name, span, HTTPStatus.PARTIAL_CONTENT, headers)


def _matches(header: str, etag: str) -> bool:
    return etag in {part.strip().removeprefix("W/") for part in header.split(",")} or header.strip() == "*"


class Parts(Response):
    """Streams a span of a blob; reads happen beside the event loop."""

    def __init__(
        self, store: RangedStore, name: str, span: Span, status: HTTPStatus, headers: dict[str, str]
    ) -> None:
        super().__init__(
            status_code=status.value,
            headers={**headers, "Content-Length": str(span.length)},
            media_type="application/octet-stream",
        )
        self._store = store
        self._name = name
        self._span = span

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        if scope["method"] != "HEAD":
            try:
                await self._send_parts(send)
            except CellwardError as error:
                logger.warning("%s", error)  # the client sees the connection end early
            return
        await send({"type": "http.response.body", "body": b""})

    async def _send_parts(self, send: Send) -> None:
        position, end = self._span.start, self._span.start + self._span.length
        while position < end:
            count = min(CHUNK, end - position)
            part = await asyncio.to_thread(self._store.read_range, self._name, position, count)
            if len(part) < count:
                raise Refused(
                    Code.STORAGE_FAILED, self._name, expected=f"{count} bytes", found=f"{len(part)}"
                )
            position += count
            await send({"type": "http.response.body", "body": part, "more_body": position < end})
