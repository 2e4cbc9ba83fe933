"""ports.transport over the real adapter (against a TLS 1.3 server) and over the fake."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Protocol

import pytest

from cellward.adapters.http import ClientCertificate, HttpTransport, Pace
from cellward.core.errors import CellwardError, Code, Refused, Unavailable
from cellward.ports.transport import Transport
from tests.fakes.tls import Answer, Authority, server_context, serving
from tests.fakes.transport import FakeTransport

BODY = bytes(range(256)) * 100
QUICK = Pace(connect=5, silence=2, answer=0.6, grace=0.3, floor=50_000)


@pytest.fixture(scope="module")
def server_ca() -> Authority:
    return Authority("server ca")


@pytest.fixture(scope="module")
def device_ca() -> Authority:
    return Authority("device ca")


class Serve(Protocol):
    def __call__(
        self,
        answers: dict[str, Answer],
        *,
        certificate: bool = True,
        trusted: bytes | None = None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> HttpTransport: ...


@pytest.fixture
def serve(server_ca: Authority, device_ca: Authority) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(
            answers: dict[str, Answer],
            *,
            certificate: bool = True,
            trusted: bytes | None = None,
            version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        ) -> HttpTransport:
            url = stack.enter_context(serving(server_context(server_ca, device_ca.pem, version), answers))
            pair = ClientCertificate(*device_ca.pair("vehicle-1")) if certificate else None
            return stack.enter_context(HttpTransport(url, trusted or server_ca.pem, pair, QUICK))

        yield start


def send(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    status: int = 200,
    length: int | None = None,
    **headers: str,
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def file(handler: BaseHTTPRequestHandler) -> None:
    wanted = handler.headers.get("Range", "")
    if not wanted:
        send(handler, BODY)
        return
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    send(handler, BODY[start:], 206, Content_Range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")


def early_end(handler: BaseHTTPRequestHandler) -> None:
    send(handler, BODY[:5000], length=len(BODY))
    handler.close_connection = True


def echo(handler: BaseHTTPRequestHandler) -> None:
    send(handler, handler.rfile.read(int(handler.headers["Content-Length"])))


def problem(code: str, status: int = 409, **members: str) -> Answer:
    body = json.dumps({"status": status, "title": "no", "code": code, **members}).encode()
    return lambda handler: send(handler, body, status, Content_Type="application/problem+json")


@pytest.fixture(params=["http", "fake"])
def transport(request: pytest.FixtureRequest, serve: Serve) -> Transport:
    if request.param == "fake":
        return FakeTransport(
            files={"/file": BODY, "/early": BODY},
            posts={"/echo": lambda body: body},
            ends={"/early": 5000},
            refusals={"/used": Refused(Code.ENROL_TOKEN, "token")},
        )
    return serve({"/file": file, "/early": early_end, "/echo": echo, "/used": problem("enrol.token")})


def test_the_whole_file(transport: Transport) -> None:
    assert b"".join(transport.get("/file", len(BODY))) == BODY


def test_the_rest_of_a_file(transport: Transport) -> None:
    assert b"".join(transport.get("/file", len(BODY), 7000)) == BODY[7000:]


def test_no_more_than_the_limit(transport: Transport) -> None:
    with pytest.raises(Refused) as refused:
        b"".join(transport.get("/file", len(BODY) - 1))
    assert refused.value.code is Code.REQUEST_TOO_LARGE


def test_an_early_end_gives_what_came(transport: Transport) -> None:
    came = bytearray()

    def collect() -> None:
        for chunk in transport.get("/early", len(BODY)):
            came.extend(chunk)

    with pytest.raises(Unavailable) as refused:
        collect()
    assert refused.value.code is Code.SERVER_UNREACHABLE
    assert bytes(came) == BODY[:5000]


def test_a_missing_file(transport: Transport) -> None:
    with pytest.raises(Refused) as refused:
        b"".join(transport.get("/absent", 10))
    assert refused.value.code is Code.NOT_FOUND


def test_a_post(transport: Transport) -> None:
    assert transport.post("/echo", b'{"a":1}', 7) == b'{"a":1}'
    with pytest.raises(Refused) as refused:
        transport.post("/echo", b'{"a":1}', 6)
    assert refused.value.code is Code.REQUEST_TOO_LARGE


def test_the_servers_refusal_keeps_its_code(transport: Transport) -> None:
    with pytest.raises(Refused) as refused:
        transport.post("/used", b"{}", 100)
    assert refused.value.code is Code.ENROL_TOKEN


# What only the real adapter meets.


def refusal_of(transport: Transport, path: str = "/x", limit: int = 100_000) -> CellwardError:
    with pytest.raises(CellwardError) as refused:
        b"".join(transport.get(path, limit))
    return refused.value


def test_no_client_certificate(serve: Serve) -> None:
    assert refusal_of(serve({"/x": file}, certificate=False)).code is Code.TLS_CLIENT_CERTIFICATE


def test_a_client_certificate_of_another_authority(
    serve: Serve, server_ca: Authority, device_ca: Authority
) -> None:
    strange = ClientCertificate(*Authority("device ca").pair("vehicle-1"))
    with (
        serving(server_context(server_ca, device_ca.pem), {"/x": file}) as url,
        HttpTransport(url, server_ca.pem, strange, QUICK) as transport,
    ):
        assert refusal_of(transport).code is Code.TLS_CLIENT_CERTIFICATE


def test_a_server_of_another_authority(serve: Serve) -> None:
    error = refusal_of(serve({"/x": file}, trusted=Authority("server ca").pem))
    assert error.code is Code.TLS_SERVER


def test_a_server_under_another_name(server_ca: Authority, device_ca: Authority) -> None:
    with serving(server_context(server_ca, device_ca.pem), {"/x": file}) as url:
        other = url.replace("127.0.0.1", "localhost")
        with HttpTransport(other, server_ca.pem, None, QUICK) as transport:
            assert refusal_of(transport).code is Code.TLS_SERVER


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_2(serve: Serve) -> None:
    assert refusal_of(serve({"/x": file}, version=ssl.TLSVersion.TLSv1_2)).code is Code.TLS_SERVER


def test_nobody_listens(server_ca: Authority) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with HttpTransport(f"https://127.0.0.1:{port}", server_ca.pem, None, QUICK) as transport:
        assert refusal_of(transport).code is Code.SERVER_UNREACHABLE


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://", "https://a b", "ftp://x", "https://:99999"]
)
def test_a_url_that_is_none(url: str, server_ca: Authority) -> None:
    with pytest.raises(CellwardError) as refused, HttpTransport(url, server_ca.pem, None, QUICK) as made:
        b"".join(made.get("/x", 1))
    assert refused.value.code in (Code.CONFIG, Code.SERVER_UNREACHABLE)


def test_certificates_that_are_none(server_ca: Authority, device_ca: Authority) -> None:
    with pytest.raises(Refused) as refused:
        HttpTransport("https://127.0.0.1:1", b"no pem")
    assert refused.value.code is Code.KEY_FORMAT
    mixed = ClientCertificate(device_ca.pair("a")[0], device_ca.pair("b")[1])
    with pytest.raises(Refused) as refused:
        HttpTransport("https://127.0.0.1:1", server_ca.pem, mixed)
    assert refused.value.code is Code.KEY_FORMAT
    assert mixed.key.decode() not in repr(mixed)


def test_a_whole_answer_to_a_range(serve: Serve) -> None:
    transport = serve({"/x": lambda handler: send(handler, BODY)})
    assert b"".join(transport.get("/x", len(BODY) - 9, 9)) == BODY[9:]


def test_another_range_than_asked_for(serve: Serve) -> None:
    transport = serve({"/x": lambda handler: send(handler, BODY[5:], 206, Content_Range="bytes 5-9/10")})
    with pytest.raises(Refused) as refused:
        b"".join(transport.get("/x", len(BODY), 9))
    assert refused.value.code is Code.SERVER_REFUSED


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(65536))


def dribbled_body(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"", length=10_000)
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def dribbled_header(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (endless, Code.REQUEST_TOO_LARGE),
        (dribbled_body, Code.SERVER_SLOW),
        (dribbled_header, Code.SERVER_SLOW),
        (lambda handler: time.sleep(1.5), Code.SERVER_SLOW),
        (lambda handler: handler.wfile.write(b"SSH-2.0\r\n\r\n"), Code.SERVER_UNREACHABLE),
        (lambda handler: send(handler, b"", 302, Location="https://127.0.0.1:1/"), Code.SERVER_REFUSED),
        (lambda handler: send(handler, b"x", Content_Encoding="gzip"), Code.SERVER_REFUSED),
        (lambda handler: send(handler, b"oops", 500), Code.SERVER_REFUSED),
        (
            lambda handler: send(handler, b"[" * 9999, 400, Content_Type="application/problem+json"),
            Code.SERVER_REFUSED,
        ),
        (problem("gate.contactors"), Code.SERVER_REFUSED),
        (problem("no.such.code"), Code.SERVER_REFUSED),
        (problem("storage.database", 503), Code.DATABASE_FAILED),
        (problem("tls.client_certificate", 403), Code.TLS_CLIENT_CERTIFICATE),
    ],
)
def test_hostile_answers(serve: Serve, answer: Answer, code: Code) -> None:
    with within(4):
        assert refusal_of(serve({"/x": answer})).code is code


def test_a_servers_words_cannot_drive_a_terminal(serve: Serve) -> None:
    words = problem("enrol.token", subject="\x1b[2J" + "x" * 999, found="a\nb")
    assert str(refusal_of(serve({"/x": words}))).isprintable()


def test_the_environment_sends_nobody_elsewhere(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert b"".join(serve({"/x": file}).get("/x", len(BODY))) == BODY


def test_one_connection_for_many_requests(serve: Serve) -> None:
    peers: set[int] = set()

    def note(handler: BaseHTTPRequestHandler) -> None:
        peers.add(handler.client_address[1])
        send(handler, b"ok")

    transport = serve({"/x": note})
    for _ in range(3):
        b"".join(transport.get("/x", 2))
    assert len(peers) == 1
