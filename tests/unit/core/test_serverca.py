"""Which certificates can be a server's CA."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cellward.core import serverca
from cellward.core.errors import Code, FormatRefused
from cellward.core.serverca import ServerCas, statement, succeed
from cellward.server.ca import open_authority
from tests.fakes.store import MemoryStore
from tests.support.maker import NOW, Hand
from tests.support.manufacturer import usage
from tests.support.serverca import NEW, OLD


def self_signed(
    *,
    ca: bool = True,
    critical: bool = True,
    signs: bool = True,
    key: Callable[[], ec.EllipticCurvePrivateKey] = lambda: ec.generate_private_key(ec.SECP256R1()),
    constrained: bool = True,
) -> bytes:
    private, name = key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, now, now + timedelta(days=1))
    builder = builder.add_extension(usage(key_cert_sign=signs, digital_signature=not signs), critical=True)
    if constrained:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=critical)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_ours_is_one() -> None:
    ours = open_authority(MemoryStore(), "server-ca", Hand(), NOW).pem
    assert [serverca.check_ca(pem) for pem in (ours, self_signed())]


@pytest.mark.parametrize(
    "pem",
    [
        self_signed(ca=False),
        self_signed(critical=False),
        self_signed(signs=False),
        self_signed(constrained=False),
        self_signed(key=lambda: ec.generate_private_key(ec.SECP384R1())),
        self_signed() + b"\n" * 9000,
    ],
)
def test_what_is_no_server_s_ca(pem: bytes) -> None:
    with pytest.raises(FormatRefused) as error:
        serverca.check_ca(pem)
    assert error.value.code is Code.SERVER_CA


def test_the_same_once_more_is_no_rollback() -> None:
    held = ServerCas(2, (OLD.pem,), b"one signature")
    again = ServerCas(2, (OLD.pem,), b"another")
    assert succeed(held, 2, again) is again
    assert serverca.read(statement(1, [OLD.pem, NEW.pem]).encode()).certificates == (OLD.pem, NEW.pem)
