"""Refusals on the wire: RFC 9457 `application/problem+json`, and nothing of the server's inside."""

import json
import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, Unavailable
from cellward.server.requests import printable

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 30
logger = logging.getLogger("cellward.server")

STATUS: dict[Code, HTTPStatus] = {
    Code.REQUEST_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.METADATA_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.REQUEST_RANGE: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    Code.REQUEST_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    Code.REQUEST_METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.REPORT_REPLAYED: HTTPStatus.CONFLICT,
    Code.REPORT_ECU: HTTPStatus.CONFLICT,
    Code.ENROL_ECU: HTTPStatus.CONFLICT,
    Code.ENROL_IDENTITY: HTTPStatus.CONFLICT,
}
# After these the rest of the body, if there is one, is not worth reading.
CLOSING = frozenset({Code.REQUEST_TOO_LARGE, Code.REQUEST_SLOW, Code.TLS_CLIENT_CERTIFICATE})


def is_ours(error: CellwardError) -> bool:
    """Whether it is the server's trouble rather than the request's."""
    return isinstance(error, Unavailable) or error.code.startswith(("token.", "storage.", "key.exp"))


def status_of(error: CellwardError) -> HTTPStatus:
    if error.code in STATUS:
        return STATUS[error.code]
    if is_ours(error):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.BAD_REQUEST if isinstance(error, FormatRefused) else HTTPStatus.FORBIDDEN


def problem_body(error: CellwardError) -> bytes:
    """What the client is told. Paths, tokens and URIs of this machine are not its business."""
    status = status_of(error)
    ours = is_ours(error)
    body = {
        "status": status.value,
        "title": status.phrase,
        "code": error.code,
        "subject": "server" if ours else error.subject,
        "expected": "" if ours else error.expected,
        "found": "" if ours else error.found,
        "advice": "try again later" if ours else error.advice,
    }
    return json.dumps(body).encode()


def respond(error: CellwardError) -> Response:
    status = status_of(error)
    headers = {"Cache-Control": "no-store"}
    if is_ours(error):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if error.code in CLOSING:
        headers["Connection"] = "close"
    return Response(problem_body(error), status.value, headers, MEDIA_TYPE)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, CellwardError)  # noqa: S101  registered for nothing else
    log = logger.warning if is_ours(error) else logger.info
    log("%s", printable(str(error)))
    return respond(error)


async def _http(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    subject = f"{request.method} {request.url.path[:200]}"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = respond(Refused(Code.REQUEST_METHOD, subject, found=request.method))
        response.headers.update(error.headers or {})
        return response
    return respond(not_found(subject))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST.value)  # nobody is there to read it


async def _bug(request: Request, error: Exception) -> Response:
    """A plain 500; the server logs the traceback."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    body = {"status": status.value, "title": status.phrase, "code": Code.SERVER_REFUSED, "subject": "server"}
    return Response(json.dumps(body).encode(), status.value, {"Connection": "close"}, MEDIA_TYPE)


def not_found(subject: str) -> Refused:
    return Refused(Code.NOT_FOUND, subject, expected="something that is there", found="nothing")


HANDLERS: dict[type[Exception], ExceptionHandler] = {
    CellwardError: _refusal,
    HTTPException: _http,
    ClientDisconnect: _gone,
    Exception: _bug,
}
