"""Certificates issued with a key that stays in its token, judged by OpenSSL."""

import copy
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID

from cellward.core.errors import Code, PolicyRefused
from cellward.ports.x509 import HsmPrivateKey
from tests.support import hsm

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> HsmPrivateKey:
    home = hsm.make_home(tmp_path_factory.mktemp("token"), "device-ca")
    return HsmPrivateKey(hsm.store_of(home).signer("device-ca"))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*, ca: bool) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        decipher_only=False,
        **dict.fromkeys(others, False),
    )


def certificate(
    key: HsmPrivateKey, subject: str, public_key: ec.EllipticCurvePublicKey, *, ca: bool
) -> bytes:
    built = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name("device CA"))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(minutes=5))
        .not_valid_after(NOW + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def test_openssl_accepts_what_the_token_signed(key: HsmPrivateKey, tmp_path: Path) -> None:
    leaf = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "ca.pem").write_bytes(certificate(key, "device CA", key.public_key(), ca=True))
    (tmp_path / "leaf.pem").write_bytes(certificate(key, "pack 1", leaf, ca=False))
    command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", str(tmp_path / "ca.pem")]
    for file in ("ca.pem", "leaf.pem"):
        done = subprocess.run([*command, str(tmp_path / file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_revocation_lists(key: HsmPrivateKey) -> None:
    revoked = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name("device CA"))
        .last_update(NOW)
        .next_update(NOW + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    assert revoked.is_signature_valid(key.public_key())


def test_it_is_a_p256_key(key: HsmPrivateKey) -> None:
    assert key.curve.name == "secp256r1"
    assert key.key_size == 256
    assert copy.copy(key) is key
    assert copy.deepcopy(key) is key


@pytest.mark.parametrize("algorithm", [hashes.SHA384(), Prehashed(hashes.SHA256())])
def test_other_algorithms_are_refused(key: HsmPrivateKey, algorithm: hashes.HashAlgorithm) -> None:
    with pytest.raises(PolicyRefused) as error:
        key.sign(bytes(32), ec.ECDSA(algorithm))
    assert error.value.code is Code.KEY_FORMAT


def test_the_private_value_is_nowhere(key: HsmPrivateKey) -> None:
    with pytest.raises(PolicyRefused):
        key.private_numbers()
    with pytest.raises(PolicyRefused):
        key.exchange(ec.ECDH(), key.public_key())
    with pytest.raises(PolicyRefused):
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
