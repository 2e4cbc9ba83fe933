"""TLS 1.3 for both listeners, and HTTP connections that know their peer and do not wait for ever.

uvicorn does not put the client certificate into the ASGI scope; `Connection` does.
"""

import asyncio
import logging
import os
import ssl
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cellward.core.errors import CellwardError, Code, FormatRefused, Unavailable
from cellward.server.ca import serial_hex
from cellward.server.problem import MEDIA_TYPE, problem_body, status_of
from cellward.server.requests import PEER, Peer

HANDSHAKE_SECONDS = 10.0
HEAD_SECONDS = 15.0
HANGUP_SECONDS = 2.0  # for the peer to say goodbye too; what it still sends is not read for longer
MAX_HEAD = 32 * 1024
logger = logging.getLogger("cellward.server")


def server_context(device_ca: bytes | None) -> ssl.SSLContext:
    """TLS 1.3 only. With `device_ca` (PEM) a client certificate of that CA is required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Handshake
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    if device_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=device_ca.decode("ascii"))
    return context


class _Handshake(ssl.SSLObject):
    """asyncio and uvloop hang up on a failed handshake before its alert is sent, and the client
    never learns that its certificate was refused. Asking for more first lets the alert out; the
    client then hangs up, or the next bytes, or the time limit, end it here.
    """

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._failure = error
            logger.info("handshake refused: %s", (error.reason or "unknown").replace("_", " ").lower())
            raise ssl.SSLWantReadError("the alert goes first") from error


def load_key(context: ssl.SSLContext, key: bytes, certificate: bytes) -> None:
    """Use this key (PEM) from now on; connections that are open keep theirs.

    ssl takes paths only: the key goes through an anonymous file in memory, never a disk.
    """
    handle = os.memfd_create("server-key", os.MFD_CLOEXEC)
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(key + certificate)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


class Connection(HttpToolsProtocol):
    """One HTTP/1.1 connection: its peer in the scope, a bound on its heads in bytes and seconds."""

    def __init__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], limit: int
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._limit = limit

    _peer: Peer | None = None
    _head: int | None = 0  # bytes of the head being read; None while there is none
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self._peer = peer(certificate) if certificate else None
        self._arm()
        if len(self.connections) > self._limit:
            busy = Unavailable(Code.SERVER_BUSY, "server", expected=f"at most {self._limit} connections")
            self._refuse(busy)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self.send_400_response(f"at most {MAX_HEAD} bytes of header")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {PEER: self._peer}  # type: ignore[dict-item]
        self._head = 0
        self._arm()

    def on_headers_complete(self) -> None:
        self._disarm()
        self._head = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's own answer to what is no HTTP, in the shape of all our refusals."""
        self._refuse(FormatRefused(Code.REQUEST_FORMAT, "request", expected="HTTP/1.1", found=msg))

    def _refuse(self, error: CellwardError) -> None:
        logger.info("%s", error)
        self.transport.write(_raw_response(error))
        self.transport.close()

    def _arm(self) -> None:
        self._disarm()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._expired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def peer(certificate: bytes) -> Peer:
    """Serial and common name of a DER certificate that our CA signed."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        serial = serial_hex(parsed.serial_number)
    except (ValueError, UnsupportedAlgorithm):
        return Peer("", "")  # nothing in the registry has that serial
    return Peer(serial, str(names[0].value) if len(names) == 1 else "")


def _raw_response(error: CellwardError) -> bytes:
    body = problem_body(error)
    status = status_of(error)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
