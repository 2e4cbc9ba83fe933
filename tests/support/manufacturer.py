"""A manufacturer of TPMs and its authorities, with keys that last as long as the test."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from cellward.core.tpm.certificate import EK_CERTIFICATE

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DAY = timedelta(days=1)
EK = ec.generate_private_key(ec.SECP256R1()).public_key()
RSA_EK = rsa.generate_private_key(65537, 2048).public_key()
CA_USAGE = {"key_cert_sign": True}
TPM_FACTS = {"2.23.133.2.1": "id:00001014", "2.23.133.2.2": "swtpm", "2.23.133.2.3": "id:20191023"}


def usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
        "crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{**dict.fromkeys(names.split(), False), **wanted})


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def tpm_facts(facts: dict[str, str]) -> x509.SubjectAlternativeName:
    rdns = [x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in facts.items()]
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(rdns))])


@dataclass
class Issuer:
    """An authority; what it issues, field by field, is a good certificate but for what is given."""

    subject: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def issue(
        self,
        subject: str,
        key: Any,
        extensions: dict[Any, tuple[Any, bool]],
        **times: datetime,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .issuer_name(name(self.subject))
            .subject_name(name(subject))
            .public_key(key)
            .serial_number(7)
            .not_valid_before(times.get("start", NOW - DAY))
            .not_valid_after(times.get("end", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)))
        )
        for extension, critical in extensions.values():
            if extension is not None:
                builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def authority(self, other: "Issuer", **change: Any) -> x509.Certificate:
        extensions: dict[Any, tuple[Any, bool]] = {
            x509.BasicConstraints: (x509.BasicConstraints(ca=True, path_length=None), True),
            x509.KeyUsage: (usage(**CA_USAGE), True),
        }
        return self.issue(
            other.subject, other.key.public_key(), {**extensions, **change.pop("x", {})}, **change
        )

    def endorse(self, key: Any = EK, x: Any = None, **times: datetime) -> x509.Certificate:
        use = "key_encipherment" if isinstance(key, rsa.RSAPublicKey) else "key_agreement"
        extensions: dict[Any, tuple[Any, bool]] = {
            x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True),
            x509.KeyUsage: (usage(**{use: True}), True),
            x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage([EK_CERTIFICATE]), False),
            x509.SubjectAlternativeName: (tpm_facts(TPM_FACTS), True),
        }
        return self.issue("unknown", key, {**extensions, **(x or {})}, **times)


ROOT, MIDDLE, STRANGER = Issuer("root"), Issuer("middle"), Issuer("root")
ROOT_CERTIFICATE = ROOT.authority(ROOT)
MIDDLE_CERTIFICATE = ROOT.authority(MIDDLE)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
