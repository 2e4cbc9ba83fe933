"""HTTPS with a pinned server CA and a client certificate: the Transport of the pack controller."""

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, TrustRefused, Unavailable

PROBLEM = "application/problem+json"
PROBLEM_MEMBERS = ("code", "subject", "expected", "found", "advice")
PROBLEM_LIMIT = 16 * 1024
TEXT_LIMIT = 300
# What a server may refuse with in its own name. It cannot make a device say that its own gates,
# images or module refused something.
SERVER_CODES = (
    "request.",
    "enrol.",
    "report.",
    "vehicle.",
    "storage.",
    "key.",
    "token.",
    "tls.client_",
    "attest.",
)
# Alerts that a TLS 1.3 server sends about our certificate, after the handshake is done for us.
CERTIFICATE_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",
)


# OpenSSL's X509_V_ERR_*: no path from the server's certificate to a CA that is trusted.
OTHER_ISSUER = (2, 18, 19, 20, 21)
CHANGED_CA = (
    "if the maker changed the server's CA while this pack was away: get the statement on it"
    " (`cellward server ca export`), then `cellward device server-ca FILE`"
)


@dataclass(frozen=True)
class Pace:
    """How slow a server may be (Uptane 5.4, slow retrieval). Seconds, and bytes per second."""

    connect: float = 10.0
    silence: float = 15.0  # between two reads
    answer: float = 30.0  # from the request to the whole of the answer's header
    grace: float = 5.0  # before the floor counts
    floor: int = 1024


@dataclass(frozen=True)
class ClientCertificate:
    """PEM. The key reaches ssl through a memfd, never through a disk."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "ClientCertificate(…)"


class HttpTransport:
    """See ports.transport. One server, connections kept alive.

    Raises FormatRefused (config.invalid, key.format) for a URL or certificates that are none.
    """

    def __init__(
        self,
        url: str,
        server_ca: bytes,
        certificate: ClientCertificate | None = None,
        pace: Pace = Pace(),
    ) -> None:
        if not url.startswith("https://"):
            raise FormatRefused(Code.CONFIG, f"server {url!r}", expected="https://HOST:PORT", found="another")
        self._url = url
        self._pace = pace
        self._stream: Any = None  # httpcore's network stream, from its trace
        timeout = httpx.Timeout(pace.silence, connect=pace.connect)
        try:
            self._client = httpx.Client(
                base_url=url,
                verify=_context(server_ca, certificate),
                timeout=timeout,
                trust_env=False,  # no proxy, no CA and no netrc from the environment
                follow_redirects=False,
                limits=httpx.Limits(
                    keepalive_expiry=3.0
                ),  # below what servers keep: no race with their close
                headers={"Accept-Encoding": "identity"},  # what is bounded is what is used
            )
        except httpx.InvalidURL as error:
            raise FormatRefused(Code.CONFIG, f"server {url!r}", found=str(error)) from error

    def __enter__(self) -> "HttpTransport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, limit: int, offset: int = 0) -> Generator[bytes, None, None]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._answer("GET", path, None, headers) as response:
            partial = response.status_code == httpx.codes.PARTIAL_CONTENT
            skip = 0 if partial else offset  # a server may answer a Range with the whole
            if partial and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                raise Refused(
                    Code.SERVER_REFUSED,
                    self._about(path),
                    expected=f"bytes from {offset} on",
                    found=_text(response.headers.get("Content-Range", "no Content-Range")),
                )
            for chunk in self._body(response, path, limit + skip):
                kept = chunk[skip:]
                skip = max(0, skip - len(chunk))
                if kept:
                    yield kept

    def post(self, path: str, body: bytes, limit: int) -> bytes:
        with self._answer("POST", path, body, {"Content-Type": "application/json"}) as response:
            return b"".join(self._body(response, path, limit))

    def _about(self, path: str) -> str:
        return f"{self._url}{path}"

    @contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Iterator[httpx.Response]:
        with self._wrapped(path), self._deadline(path) as answered:
            request = self._client.build_request(
                method, path, content=body, headers=headers, extensions={"trace": self._trace}
            )
            response = self._client.send(request, stream=True)
            answered.cancel()
            try:
                if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                    raise self._refusal(response, path)
                if "Content-Encoding" in response.headers:
                    encoding = _text(response.headers["Content-Encoding"])
                    raise self._malformed(path, "the bytes themselves", f"Content-Encoding {encoding}")
                yield response
            finally:
                response.close()

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.start_tls.complete":
            self._stream = info["return_value"]

    @contextmanager
    def _deadline(self, path: str) -> Iterator[threading.Timer]:
        """Cut the connection when the answer's header dribbles: httpx bounds only each read."""
        expired = threading.Event()

        def cut() -> None:
            expired.set()
            if self._stream is not None:
                raw = self._stream.get_extra_info("socket")
                # Not SSLSocket.shutdown: that one takes the TLS state away from the reader.
                with suppress(OSError):
                    socket.socket.shutdown(raw, socket.SHUT_RDWR)

        timer = threading.Timer(self._pace.answer, cut)
        timer.daemon = True
        timer.start()
        try:
            yield timer
        except Unavailable:
            raise
        except (httpx.HTTPError, OSError) as error:
            if expired.is_set():
                raise self._slow(path, "an answer", self._pace.answer) from error
            raise
        finally:
            timer.cancel()

    def _body(self, response: httpx.Response, path: str, limit: int) -> Iterator[bytes]:
        stated = response.headers.get("Content-Length", "")
        if stated.isascii() and stated.isdigit() and int(stated) > limit:
            raise self._too_large(path, limit, stated)
        began, total = time.monotonic(), 0
        for chunk in response.iter_raw():
            total += len(chunk)
            if total > limit:
                raise self._too_large(path, limit, "more than that")
            yield chunk
            elapsed = time.monotonic() - began
            if elapsed > self._pace.grace and total < self._pace.floor * elapsed:
                raise self._slow(path, f"{self._pace.floor} bytes a second", elapsed, total)

    def _slow(self, path: str, expected: str, seconds: float, total: int | None = None) -> Unavailable:
        got = "none" if total is None else f"{total} bytes"
        return Unavailable(
            Code.SERVER_SLOW, self._about(path), expected=expected, found=f"{got} in {seconds:.0f} s"
        )

    def _too_large(self, path: str, limit: int, found: str) -> Refused:
        return Refused(
            Code.REQUEST_TOO_LARGE, self._about(path), expected=f"at most {limit} bytes", found=found
        )

    def _malformed(self, path: str, expected: str, found: str) -> Refused:
        return Refused(Code.SERVER_REFUSED, self._about(path), expected=expected, found=found)

    def _refusal(self, response: httpx.Response, path: str) -> CellwardError:
        """The server's problem+json (RFC 9457), as far as it may be believed."""
        status = f"HTTP status {response.status_code}"
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != PROBLEM:
            missing = response.status_code == httpx.codes.NOT_FOUND
            code = Code.NOT_FOUND if missing else Code.SERVER_REFUSED
            return Refused(code, self._about(path), expected="an answer", found=status)
        try:
            problem = json.loads(b"".join(self._body(response, path, PROBLEM_LIMIT)))
        except (ValueError, RecursionError) as error:
            raise self._malformed(path, "a problem in JSON", status) from error
        if not isinstance(problem, dict):
            return self._malformed(path, "a problem in JSON", status)
        said = {
            key: _text(problem.get(key, "")) for key in ("code", "subject", "expected", "found", "advice")
        }
        known = said["code"] in set(Code) and said["code"].startswith(SERVER_CODES)
        return (Unavailable if response.status_code >= 500 else Refused)(
            Code(said["code"]) if known else Code.SERVER_REFUSED,
            said["subject"] or self._about(path),
            expected=said["expected"],
            found=said["found"] or status,
            advice=said["advice"],
        )

    @contextmanager
    def _wrapped(self, path: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise _unreachable(error, self._url) from error
        except (httpx.InvalidURL, httpx.StreamError) as error:
            raise self._malformed(path, "a request", type(error).__name__) from error


def _context(server_ca: bytes, certificate: ClientCertificate | None) -> ssl.SSLContext:
    """TLS 1.3, this CA and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=server_ca.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise FormatRefused(Code.KEY_FORMAT, "server CA", expected="PEM", found="something else") from error
    if certificate is not None:
        _load_certificate(context, certificate)
    return context


def _load_certificate(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """ssl takes paths only: an anonymous file in memory has one."""
    handle = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(certificate.key + b"\n" + certificate.certificate)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    except (ssl.SSLError, OSError) as error:
        raise FormatRefused(
            Code.KEY_FORMAT, "client certificate", expected="a certificate and its key", found="another pair"
        ) from error
    finally:
        os.close(handle)


def _unreachable(error: httpx.HTTPError, url: str) -> CellwardError:
    """What stopped the request, told apart by what ssl says."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TrustRefused(
            Code.TLS_SERVER,
            url,
            expected="the server of the pinned CA",
            found=_text(cause.verify_message),
            advice=CHANGED_CA if cause.verify_code in OTHER_ISSUER else "",
        )
    if isinstance(cause, ssl.SSLError):
        reason = cause.reason or type(cause).__name__
        if reason.endswith(CERTIFICATE_ALERTS):
            return TrustRefused(
                Code.TLS_CLIENT_CERTIFICATE, url, expected="our certificate to be taken", found=_alert(reason)
            )
        return TrustRefused(Code.TLS_SERVER, url, expected="TLS 1.3", found=_alert(reason))
    return Unavailable(
        Code.SERVER_UNREACHABLE,
        url,
        expected="an answer",
        found=_text(str(error)) or type(error).__name__,
        advice="try again later; nothing was changed",
    )


def _alert(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _text(value: object) -> str:
    """One short printable line: a server's words go to terminals and logs."""
    return "".join(c if c.isprintable() else " " for c in str(value)[:TEXT_LIMIT]).strip()
