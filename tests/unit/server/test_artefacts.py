"""Artefacts over HTTP: whole, in one range, or not at all."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cellward.core.errors import Code, Refused
from cellward.server.app import application
from cellward.server.artefacts import CHUNK, Span, answer, parse_range
from tests.fakes.store import MemoryStore
from tests.support.asgi import Client

BODY = bytes(range(256)) * (2 * CHUNK // 256) + b"tail"
SHA256 = hashlib.sha256(BODY).hexdigest()
NAME = f"bms-m33/{SHA256}.app-1.4.0.img"
ETAG = f'"{SHA256}"'


@pytest.fixture
def client() -> Client:
    store = MemoryStore()
    store.write(NAME, BODY)
    store.write("bms-m33/secret", b"not an artefact")

    async def artefact(request: Request) -> Response:
        return answer(request, store, f"{request.path_params['hardware']}/{request.path_params['file']}")

    return Client(application(Route("/{hardware}/{file}", artefact, methods=["GET"])))


def test_the_whole(client: Client) -> None:
    got = client.get(f"/{NAME}")
    assert (got.status_code, got.content) == (200, BODY)
    assert got.headers["etag"] == ETAG
    assert got.headers["accept-ranges"] == "bytes"
    assert "immutable" in got.headers["cache-control"]


def test_head_has_every_header_and_no_body(client: Client) -> None:
    got, head = client.get(f"/{NAME}"), client.ask("HEAD", f"/{NAME}", {"Range": "bytes=0-1"})
    assert (head.status_code, head.content, head.headers) == (200, b"", got.headers)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, len(BODY)),
        ("bytes=-4", len(BODY) - 4, len(BODY)),
        (f"bytes={CHUNK - 1}-{CHUNK}", CHUNK - 1, CHUNK + 1),
        ("bytes=0-999999999999999999", 0, len(BODY)),
        ("bytes=-999999999999999999", 0, len(BODY)),
    ],
)
def test_one_range(client: Client, asked: str, start: int, end: int) -> None:
    got = client.get(f"/{NAME}", headers={"Range": asked})
    assert (got.status_code, got.content) == (206, BODY[start:end])
    assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(BODY)}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "lines=0-1", "bytes=5-4", "bytes=-", "bytes=x", "bytes 0-1", ""]
)
def test_what_is_no_single_range_is_ignored(client: Client, asked: str) -> None:
    got = client.get(f"/{NAME}", headers={"Range": asked})
    assert (got.status_code, got.content) == (200, BODY)


@pytest.mark.parametrize("asked", [f"bytes={len(BODY)}-", "bytes=-0", f"bytes={len(BODY)}-{len(BODY) + 5}"])
def test_a_range_outside_is_refused(client: Client, asked: str) -> None:
    got = client.get(f"/{NAME}", headers={"Range": asked})
    assert (got.status_code, got.json()["code"]) == (416, Code.REQUEST_RANGE)
    assert got.headers["content-range"] == f"bytes */{len(BODY)}"


@pytest.mark.parametrize(
    ("if_range", "status"),
    [(ETAG, 206), ('"0"', 200), (f"W/{ETAG}", 200), ("Tue, 24 Nov 2026 00:00:00 GMT", 200)],
)
def test_if_range(client: Client, if_range: str, status: int) -> None:
    got = client.get(f"/{NAME}", headers={"Range": "bytes=0-0", "If-Range": if_range})
    assert got.status_code == status


def test_if_none_match(client: Client) -> None:
    for header in (ETAG, f'"0", {ETAG}', "*"):
        assert client.get(f"/{NAME}", headers={"If-None-Match": header}).status_code == 304
    assert client.get(f"/{NAME}", headers={"If-None-Match": '"0"'}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "bms-m33/secret",
        NAME.replace(SHA256, "0" * 64),
        NAME + "x",
        NAME.upper(),
        f"%2e%2e/{NAME}",
        f"bms-m33/..%2f{NAME}",
        f"a/{NAME}",
        f"{NAME}%00",
        f"{NAME}%0a",
    ],
)
def test_another_name_is_not_found(client: Client, name: str) -> None:
    got = client.get(f"/{name}")
    assert (got.status_code, got.json()["code"]) == (404, Code.NOT_FOUND)


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,20}-\d{0,20}", fullmatch=True), st.integers(1, 1000))
@example("bytes=-", 1)
@example("bytes=٣-", 10)
def test_any_header_is_within_the_size_or_nothing(header: str, size: int) -> None:
    try:
        span = parse_range(header, size)
    except Refused:
        return
    assert span is None or (0 <= span.start < span.start + span.length <= size)


@given(st.integers(1, 50), st.data())
def test_ranges_are_rfc_9110s(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, 2 * size))
    body = bytes(range(size))
    for header, want in (
        (f"bytes={first}-{last}", body[first : last + 1]),
        (f"bytes={first}-", body[first:]),
        (f"bytes=-{first + 1}", body[-first - 1 :]),
    ):
        span = parse_range(header, size)
        assert isinstance(span, Span)
        assert body[span.start : span.start + span.length] == want
