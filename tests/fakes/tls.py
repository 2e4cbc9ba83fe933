"""A certificate authority and a small TLS 1.3 server, made at test time."""

import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass
class Authority:
    """A self-signed P-256 CA that issues what a test asks for."""

    name: str = "test ca"

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.now = datetime.now(UTC)
        self.certificate = self._build(self.name, self.key.public_key(), ca=True)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        days: tuple[float, float] = (-1, 1),
        host: str | None = None,
    ) -> bytes:
        certificate = self._build(name, key, ca=False, days=days, host=host)
        return certificate.public_bytes(serialization.Encoding.PEM)

    def pair(self, name: str, host: str | None = None) -> tuple[bytes, bytes]:
        """Certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self.issue(name, key.public_key(), host=host), key_pem(key)

    def _build(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        ca: bool,
        days: tuple[float, float] = (-1, 1),
        host: str | None = None,
    ) -> x509.Certificate:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + timedelta(days=days[0]))
            .not_valid_after(self.now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(authority, critical=False)
            .add_extension(_usage(ca), critical=True)
        )
        if host is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


Answer = Callable[[BaseHTTPRequestHandler], None]


def server_context(
    authority: Authority, clients: bytes | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    certificate, key = authority.pair("server", host="127.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "server.pem")
        path.write_bytes(key + certificate)
        context.load_cert_chain(path)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients.decode())
    return context


@contextmanager
def serving(context: ssl.SSLContext, answers: Mapping[str, Answer]) -> Iterator[str]:
    """The URL of a server that gives each path its answer, and 404 otherwise."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            action = answers.get(self.path)
            if action is None:
                self.send_error(404)
                return
            action(self)

        do_GET = do_POST = answer  # noqa: N815  http.server's names

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that goes away is what some tests are about

        def get_request(self):  # type: ignore[no-untyped-def]
            raw, address = super().get_request()
            raw.settimeout(10)
            return context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False), address

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
