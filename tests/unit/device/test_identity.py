"""device.identity: enrolment, and certificates that are not ours."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import CellwardError, Code, Refused, TrustRefused, Unavailable
from cellward.core.keys import PublicKey
from cellward.core.metadata import Ecu
from cellward.device import identity
from tests.fakes.store import MemoryStore
from tests.fakes.tls import Authority, key_pem
from tests.fakes.transport import FakeTransport
from tests.support.pemfile import of_another_version

NOW = datetime.now(UTC)
VEHICLE = "PACK-0001"
ECUS = (Ecu("M0001/loader", "bms-m33"), Ecu("M0001/app", "bms-m33"))
CA = Authority("device ca")


def key_of(csr: str) -> ec.EllipticCurvePublicKey:
    request = x509.load_pem_x509_csr(csr.encode())
    assert request.is_signature_valid
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


class Enrolment:
    """An enrolment listener that issues what `issue` says."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.asked: list[dict[str, object]] = []
        self.transport = FakeTransport(posts={"/v1/enrol": self._answer})

    def issue(self, key: ec.EllipticCurvePublicKey) -> bytes:
        return CA.issue(VEHICLE, key)

    def _answer(self, body: bytes) -> bytes:
        asked = json.loads(body)
        self.asked.append(asked)
        return json.dumps({"certificate": self.issue(key_of(asked["csr"])).decode()}).encode()

    def enrol(self) -> identity.Identity:
        return identity.enrol(self.store, self.transport, CA.pem, VEHICLE, "token", ECUS, NOW)

    def refused(self, code: Code) -> CellwardError:
        with pytest.raises(CellwardError) as refusal:
            self.enrol()
        assert refusal.value.code is code
        assert self.store.read(identity.CERTIFICATE) is None
        return refusal.value


def test_enrolment() -> None:
    server = Enrolment()
    got = server.enrol()
    assert server.asked[0]["token"] == "token"
    assert server.asked[0]["ecus"] == [{"ecu_id": e.ecu_id, "hardware_id": e.hardware_id} for e in ECUS]
    held = identity.load(server.store, VEHICLE, CA.pem)
    assert held == got
    digest = bytes(32)
    held.public_key.verify(digest, held.sign(digest), code=Code.REPORT_SIGNATURE, subject="x")
    assert held.key_pem.decode() not in repr(held)


def test_the_key_survives_an_answer_that_did_not() -> None:
    server = Enrolment()
    server.transport.refusals["/v1/enrol"] = Unavailable(Code.SERVER_UNREACHABLE, "server")
    server.refused(Code.SERVER_UNREACHABLE)
    key = server.store.read(identity.KEY)
    server.transport.refusals.clear()
    assert server.enrol().key_pem == key


class Odd(Enrolment):
    def __init__(self, certificate: bytes) -> None:
        super().__init__()
        self.certificate = certificate

    def issue(self, key: ec.EllipticCurvePublicKey) -> bytes:
        return self.certificate or CA.issue("PACK-0002", key)


OTHER = ec.generate_private_key(ec.SECP256R1())
STRANGER = Authority("device ca")


@pytest.mark.parametrize(
    "certificate",
    [
        b"",  # another vehicle's name
        b"no certificate",
        CA.issue(VEHICLE, OTHER.public_key()),  # another key
        STRANGER.issue(VEHICLE, OTHER.public_key()),
        CA.pem,
    ],
)
def test_certificates_that_are_not_ours(certificate: bytes) -> None:
    Odd(certificate).refused(Code.ENROL_CERTIFICATE)


@pytest.mark.parametrize("days", [(-2.0, -1.0), (1.0, 2.0)])
def test_certificates_of_another_time(days: tuple[float, float]) -> None:
    class Late(Enrolment):
        def issue(self, key: ec.EllipticCurvePublicKey) -> bytes:
            return CA.issue(VEHICLE, key, days=days)

    Late().refused(Code.ENROL_CERTIFICATE)


def test_a_server_that_is_a_little_ahead() -> None:
    class Ahead(Enrolment):
        def issue(self, key: ec.EllipticCurvePublicKey) -> bytes:
            return CA.issue(VEHICLE, key, days=(2 / 1440, 1))

    Ahead().enrol()


def test_a_device_ca_that_is_none() -> None:
    """A vehicle's certificate must not be able to make more of them."""
    vehicle = Authority("device ca")
    leaf = CA.issue("device ca", vehicle.key.public_key())
    key = identity.key_for(MemoryStore())
    ours = identity._load_key(key).public_key()
    certificate = vehicle.issue(VEHICLE, ours)
    identity.check_certificate(certificate, key, VEHICLE, vehicle.pem)
    with pytest.raises(TrustRefused) as refused:
        identity.check_certificate(certificate, key, VEHICLE, leaf)
    assert refused.value.code is Code.ENROL_CERTIFICATE


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"certificate": 1}', b"[]", b'{"certificate": ""}'])
def test_answers_that_are_none(answer: bytes) -> None:
    server = Enrolment()
    server.transport.posts["/v1/enrol"] = lambda _: answer
    with pytest.raises(Refused):
        server.enrol()
    assert server.store.read(identity.CERTIFICATE) is None


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(pem: bytes) -> None:
    key = identity.key_for(MemoryStore())
    with pytest.raises(TrustRefused):
        identity.check_certificate(pem, key, VEHICLE, CA.pem)


GOOD = CA.issue(VEHICLE, OTHER.public_key())


def test_a_certificate_of_a_version_that_there_is_not() -> None:
    with pytest.raises(TrustRefused) as refused:
        identity.check_certificate(of_another_version(GOOD), key_pem(OTHER), VEHICLE, CA.pem)
    assert refused.value.code is Code.ENROL_CERTIFICATE


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_mutated_certificates_are_refused_or_the_same(at: int, change: int) -> None:
    """Some characters of PEM mean nothing; whatever is taken is still the certificate that was issued."""
    mutated = GOOD[:at] + bytes([GOOD[at] ^ change]) + GOOD[at + 1 :]
    try:
        taken = identity.check_certificate(mutated, key_pem(OTHER), VEHICLE, CA.pem)
    except TrustRefused:
        return
    assert x509.load_pem_x509_certificate(taken.certificate_pem) == x509.load_pem_x509_certificate(GOOD)


@pytest.mark.parametrize("key", [b"", b"x", key_pem(OTHER)[:-40]])
def test_a_damaged_key(key: bytes) -> None:
    store = MemoryStore()
    store.write(identity.KEY, key)
    store.write(identity.CERTIFICATE, GOOD)
    with pytest.raises(Refused) as refused:
        identity.load(store, VEHICLE, CA.pem)
    assert refused.value.code is Code.KEY_FORMAT


def test_not_enrolled() -> None:
    with pytest.raises(Unavailable) as refused:
        identity.load(MemoryStore(), VEHICLE, CA.pem)
    assert refused.value.code is Code.ENROL_MISSING


@pytest.mark.parametrize("token", ["", "  \n", "a\x00b", "x" * 2000, "töken"])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(Refused) as refused:
        identity.check_token(token)
    assert refused.value.code is Code.ENROL_TOKEN
    assert token.strip() == "" or token not in str(refused.value)


def test_a_token_file_ends_in_a_newline() -> None:
    assert identity.check_token("abc\n") == "abc"


def test_the_expiry_is_the_certificates() -> None:
    got = identity.check_certificate(GOOD, key_pem(OTHER), VEHICLE, CA.pem)
    assert abs(got.not_after - (CA.now + timedelta(days=1))) < timedelta(seconds=2)
    assert got.public_key == PublicKey.from_cryptography(OTHER.public_key())
