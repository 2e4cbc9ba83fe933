"""The two certificate authorities, whose keys stay in the token (X.509, RFC 5280).

device-ca   vouches for pack controllers: client certificates only
server-ca   vouches for this server: what a pack controller pins in the plant
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.keys import Algorithm, PublicKey
from cellward.ports.registry import Certificate
from cellward.ports.signer import Signer
from cellward.ports.store import Store
from cellward.ports.x509 import HsmPrivateKey

CA_LIFETIME = timedelta(days=3650)
CLIENT_LIFETIME = timedelta(days=30)
ATTESTED_LIFETIME = timedelta(hours=12)
SERVER_LIFETIME = timedelta(days=7)
# A pack's clock may lag a little behind ours.
BACKDATED = timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """A CA certificate and the signer of its key."""

    certificate: x509.Certificate
    signer: Signer

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue_client(
        self, csr: PublicKey, vehicle_id: str, now: datetime, lifetime: timedelta = CLIENT_LIFETIME
    ) -> tuple[Certificate, bytes]:
        """A client certificate for `vehicle_id`, and its PEM; `csr` is a key that proved itself."""
        made = self._issue(csr.cryptography, vehicle_id, ExtendedKeyUsageOID.CLIENT_AUTH, now, lifetime)
        certificate = Certificate(serial_hex(made.serial_number), vehicle_id, csr, made.not_valid_after_utc)
        return certificate, made.public_bytes(serialization.Encoding.PEM)

    def issue_server(self, hosts: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
        """An ephemeral P-256 key and its certificate for these names, as PEM: key, certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        made = self._issue(
            key.public_key(), "Cellward server", ExtendedKeyUsageOID.SERVER_AUTH, now, SERVER_LIFETIME, names
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private, made.public_bytes(serialization.Encoding.PEM)

    def _issue(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        purpose: x509.ObjectIdentifier,
        now: datetime,
        lifetime: timedelta,
        names: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        issuer = self.certificate
        builder = _builder(key, _name(common_name), issuer.subject, now, lifetime)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.signer.public_key.cryptography),
                critical=False,
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(HsmPrivateKey(self.signer), hashes.SHA256())


def open_authority(store: Store, name: str, signer: Signer, now: datetime) -> Authority:
    """The authority whose certificate `NAME.pem` is in the store; made, once, where there is none.

    Raises Refused (key.format) when that certificate is not the token's key's.
    """
    pem = store.read(f"{name}.pem")
    if pem is None:
        pem = _self_signed(name, signer, now)
        store.write_once(f"{name}.pem", pem)
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        found = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise FormatRefused(
            Code.KEY_FORMAT, f"{name}.pem", expected="a certificate in PEM", found="something else"
        ) from error
    if found != signer.public_key.cryptography:
        raise Refused(
            Code.KEY_FORMAT,
            f"{name}.pem",
            expected=f"the certificate of key {signer.public_key.fingerprint[:16]} in the token",
            found="that of another key",
            advice="use the token that the authority was made with",
        )
    return Authority(certificate, signer)


def _self_signed(name: str, signer: Signer, now: datetime) -> bytes:
    subject = _name(f"Cellward {name}")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(signer.public_key.cryptography, subject, subject, now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    made = builder.sign(HsmPrivateKey(signer), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def _builder(
    key: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    none = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**{**none, **wanted})


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def serial_hex(serial: int) -> str:
    """How the registry spells a serial number."""
    return f"{serial:x}"


def csr_key(pem: bytes) -> PublicKey:
    """The key of a certificate request that is signed by it: its holder has the private half.

    Nothing else of the request is looked at: who it is for is the token's to say.
    Raises FormatRefused (key.format), TrustRefused (key.format) for a signature that is not its own,
    (key.published) for a key that anybody holds.
    """
    try:
        csr = x509.load_pem_x509_csr(pem)
        key = csr.public_key()
        signed = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise FormatRefused(
            Code.KEY_FORMAT, "certificate request", expected="PKCS#10 in PEM", found="something else"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FormatRefused(
            Code.KEY_FORMAT, "certificate request", expected="ECDSA P-256", found=type(key).__name__
        )
    if not signed:
        raise TrustRefused(
            Code.KEY_FORMAT,
            "certificate request",
            expected="a signature by its own key",
            found="one that does not verify",
        )
    found = PublicKey.from_cryptography(key).require([Algorithm.P256], "certificate request")
    return found.unpublished("certificate request")
