"""The authorities: what they issue, and what they do not sign."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import CellwardError, Code
from cellward.server.ca import Authority, csr_key, open_authority
from tests.fakes.store import MemoryStore
from tests.support.maker import NOW, Hand
from tests.support.pemfile import edited, of_another_version

KEY = ec.generate_private_key(ec.SECP256R1())


def authority(
    name: str = "device-ca", hand: Hand | None = None, store: MemoryStore | None = None
) -> Authority:
    return open_authority(store or MemoryStore(), name, hand or Hand(), NOW)


def csr(key: CertificateIssuerPrivateKeyTypes, name: str = "WHOEVER") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM)


def test_a_client_certificate_is_the_vehicles_and_a_clients() -> None:
    ca = authority()
    record, pem = ca.issue_client(csr_key(csr(KEY)), "PACK-1", NOW)
    made = x509.load_pem_x509_certificate(pem)
    assert made.subject.rfc4514_string() == "CN=PACK-1"
    assert (record.serial, record.vehicle_id) == (f"{made.serial_number:x}", "PACK-1")
    assert record.not_after == made.not_valid_after_utc == NOW + timedelta(days=30)
    assert made.public_key() == KEY.public_key()
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_client_certificate_passes_the_webs_own_rules() -> None:
    ca = authority()
    _, pem = ca.issue_client(csr_key(csr(KEY)), "PACK-1", NOW)
    made = x509.load_pem_x509_certificate(pem)
    other = authority()
    for anchor, day, good in ((ca, 1, True), (ca, 31, False), (other, 1, False)):
        verifier = (
            PolicyBuilder()
            .store(Store([anchor.certificate]))
            .time(NOW + timedelta(days=day))
            .extension_policies(
                ca_policy=x509.verification.ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=x509.verification.ExtensionPolicy.permit_all(),
            )
            .build_client_verifier()
        )
        if good:
            assert verifier.verify(made, []).chain[0] == made
            continue
        with pytest.raises(VerificationError):
            verifier.verify(made, [])


def test_a_server_certificate_is_for_its_names() -> None:
    ca = authority("server-ca")
    key, pem = ca.issue_server(["localhost", "127.0.0.1", "ota.example"], NOW)
    verifier = PolicyBuilder().store(Store([ca.certificate])).time(NOW + timedelta(days=6))
    made = x509.load_pem_x509_certificate(pem)
    for name in ("localhost", "ota.example"):
        verifier.build_server_verifier(x509.DNSName(name)).verify(made, [])
    with pytest.raises(VerificationError):
        verifier.build_server_verifier(x509.DNSName("other.example")).verify(made, [])
    private = serialization.load_pem_private_key(key, None)
    assert private.public_key() == made.public_key()


def test_an_authority_is_made_once() -> None:
    store, hand = MemoryStore(), Hand()
    first = authority(hand=hand, store=store)
    assert authority(hand=hand, store=store).pem == first.pem == store.read("device-ca.pem")


def test_an_authority_of_another_token_is_refused() -> None:
    store = MemoryStore()
    pem = authority(store=store).pem
    with pytest.raises(CellwardError) as refused:
        authority(store=store)
    assert refused.value.code is Code.KEY_FORMAT
    assert store.read("device-ca.pem") == pem


def test_a_request_for_a_key_of_another_kind_is_refused() -> None:
    for key in (
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ):
        with pytest.raises(CellwardError) as refused:
            csr_key(csr(key))
        assert refused.value.code is Code.KEY_FORMAT


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    """Whoever asks must hold the private half: otherwise they get a certificate for a stranger's key."""
    der = bytearray(x509.load_pem_x509_csr(csr(KEY)).public_bytes(serialization.Encoding.DER))
    at = der.index(b"WHOEVER")
    der[at : at + 7] = b"NOBODY!"
    pem = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CellwardError) as refused:
        csr_key(pem)
    assert (refused.value.code, "verify" in refused.value.found) == (Code.KEY_FORMAT, True)


GOOD = csr(KEY)


def test_an_authority_of_a_version_that_there_is_not() -> None:
    store, hand = MemoryStore(), Hand()
    made = of_another_version(authority(hand=hand, store=store).pem)
    broken = MemoryStore()
    broken.write("device-ca.pem", made)
    with pytest.raises(CellwardError) as refused:
        authority(hand=hand, store=broken)
    assert (refused.value.code, broken.read("device-ca.pem")) == (Code.KEY_FORMAT, made)


def test_a_request_of_a_version_that_there_is_not() -> None:
    with pytest.raises(CellwardError) as refused:
        csr_key(edited(GOOD, b"\2\1\0", b"\2\1\7"))
    assert refused.value.code is Code.KEY_FORMAT


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda n, b: GOOD[:n] + bytes([b]) + GOOD[n + 1 :], st.integers(0, len(GOOD) - 1), st.integers(0, 255)
    )
)
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        key = csr_key(data)
    except CellwardError:
        return
    assert key.cryptography == KEY.public_key()
