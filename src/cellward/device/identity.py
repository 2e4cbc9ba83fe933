"""Who this pack controller is to a server: a P-256 key and a certificate for it.

A software identity's key lies in the state directory (0600), a one-time token vouches for it, and it signs
the vehicle's manifests as well. Of a controller with a TPM see device.attested: its key is made for each
certificate and stays in memory. Either is handed to ssl in memory.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID

from cellward.core import strictjson
from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused, Unavailable
from cellward.core.keys import PublicKey
from cellward.core.metadata import Ecu, check_vehicle_id
from cellward.ports.store import Store
from cellward.ports.transport import Transport

KEY: Final = "identity/key.pem"
CERTIFICATE: Final = "identity/certificate.pem"
ENROL_PATH = "/v1/enrol"
ANSWER_LIMIT = 32 * 1024
TOKEN_LIMIT = 1024
# All that cryptography says of a certificate that is none, or not issued by the other.
_NO_CERTIFICATE = (
    *(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion),
    Warning,
)
CLOCK_SKEW = timedelta(minutes=5)  # between a server that has just issued and us


@dataclass(frozen=True)
class Identity:
    """A key and its checked certificate, PEM. Satisfies ports.signer.Signer."""

    vehicle: str
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime

    @property
    def uri(self) -> str:
        return f"identity of {self.vehicle}"

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        return _load_key(self.key_pem)

    @cached_property
    def public_key(self) -> PublicKey:
        return PublicKey.from_cryptography(self._key.public_key())

    def sign(self, digest: bytes) -> bytes:
        """ECDSA over a SHA-256 digest, as DER."""
        return self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def load(store: Store, vehicle: str, device_ca: bytes) -> Identity:
    """The identity that `enrol` stored, whatever its expiry: the server decides about that.

    Raises Unavailable (enrol.missing), TrustRefused (enrol.certificate), FormatRefused (key.format).
    """
    key, certificate = store.read(KEY), store.read(CERTIFICATE)
    if key is None or certificate is None:
        raise Unavailable(
            Code.ENROL_MISSING,
            f"vehicle {vehicle}",
            expected="a certificate",
            found="none",
            advice="run `cellward device enrol` first",
        )
    return check_certificate(certificate, key, vehicle, device_ca)


def key_for(store: Store) -> bytes:
    """The stored key, or a new one: a cut between request and answer does not waste it."""
    held = store.read(KEY)
    if held is None:
        held = new_key()
        store.write(KEY, held)
    return held


def new_key() -> bytes:
    """P-256, PKCS#8 in PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def enrol(
    store: Store,
    transport: Transport,
    device_ca: bytes,
    vehicle: str,
    token: str,
    ecus: Sequence[Ecu],
    now: datetime,
) -> Identity:
    """Trade the one-time token for a certificate of our key.

    Raises Refused (enrol.token and what else the server says), TrustRefused (enrol.certificate) for
    a certificate that is not ours; nothing is stored then but the key.
    """
    check_vehicle_id(vehicle)
    key = key_for(store)
    body = strictjson.encode(
        {
            "token": token,
            "csr": request(key, vehicle).decode("ascii"),
            "ecus": [{"ecu_id": ecu.ecu_id, "hardware_id": ecu.hardware_id} for ecu in ecus],
        }
    )
    answer = transport.post(ENROL_PATH, body, ANSWER_LIMIT)
    fields = strictjson.Fields(
        strictjson.decode(answer, "answer to the enrolment", ANSWER_LIMIT), "answer to the enrolment"
    )
    certificate = fields.text("certificate", limit=ANSWER_LIMIT).encode()
    identity = check_certificate(certificate, key, vehicle, device_ca)
    _check_fresh(identity, now)
    store.write(CERTIFICATE, identity.certificate_pem)
    return identity


def check_token(text: str) -> str:
    """Raises Refused (enrol.token) without ever repeating the token."""
    token = text.strip()
    if not token or len(token) > TOKEN_LIMIT or not token.isprintable() or not token.isascii():
        raise Refused(
            Code.ENROL_TOKEN,
            "enrolment token",
            expected=f"one line of at most {TOKEN_LIMIT} printable characters",
            found="none" if not token else "something else",
        )
    return token


def public_key(key_pem: bytes) -> PublicKey:
    return PublicKey.from_cryptography(_load_key(key_pem).public_key())


def request(key_pem: bytes, vehicle: str) -> bytes:
    """PKCS#10 in PEM, signed by the key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, vehicle)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    made = builder.sign(_load_key(key_pem), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise _bad_key() from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_key()
    return key


def _bad_key() -> FormatRefused:
    return FormatRefused(Code.KEY_FORMAT, KEY, expected="a P-256 private key in PEM", found="something else")


def check_certificate(pem: bytes, key_pem: bytes, vehicle: str, device_ca: bytes) -> Identity:
    """The identity that the certificate makes of our key.

    1. it is a certificate                      2. issued by the device CA of the factory data
    3. for our public key                       4. with the vehicle as its one common name
    Raises TrustRefused (enrol.certificate).
    """
    issued = "one issued by the device CA of the factory data"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the library only tolerates so far is no certificate
            certificate = x509.load_pem_x509_certificate(pem)  # 1
            authority = x509.load_pem_x509_certificate(device_ca)
            certificate.verify_directly_issued_by(authority)  # 2
            certified = certificate.public_key()
    except _NO_CERTIFICATE as error:
        raise _refused(vehicle, issued, "another one") from error
    if not _is_authority(authority):
        raise _refused(vehicle, "a device CA that may issue", "a certificate that is no CA")
    if certified != _load_key(key_pem).public_key():  # 3
        raise _refused(vehicle, "our public key", "another key")
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [vehicle]:  # 4
        raise _refused(vehicle, f"the common name {vehicle}", ", ".join(names)[:80] or "none")
    # Encoded anew: nothing that stood around it in the answer reaches ssl or the disk.
    clean = certificate.public_bytes(serialization.Encoding.PEM)
    return Identity(
        vehicle, key_pem, clean, certificate.not_valid_before_utc, certificate.not_valid_after_utc
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


def _check_fresh(identity: Identity, now: datetime) -> None:
    """Only at enrolment: a certificate that is not valid yet or any more is not worth storing."""
    if not identity.not_before - CLOCK_SKEW <= now < identity.not_after:
        raise _refused(
            identity.vehicle,
            f"one valid at {strictjson.format_time(now)}",
            f"one valid from {strictjson.format_time(identity.not_before)}"
            f" to {strictjson.format_time(identity.not_after)}",
        )


def _refused(vehicle: str, expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.ENROL_CERTIFICATE, f"certificate for {vehicle}", expected=expected, found=found)
