"""An endorsement key's certificate, up to a manufacturer that is configured (EK Credential Profile 2.5, 3).

The path is cryptography's to find and to check: signatures, names, validity, authority of every issuer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.tpm.keys import EndorsementPublicKey

EK_CERTIFICATE = x509.ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate
_MANUFACTURER = x509.ObjectIdentifier("2.23.133.2.1")
_MODEL = x509.ObjectIdentifier("2.23.133.2.2")
_VERSION = x509.ObjectIdentifier("2.23.133.2.3")
MAX_SIZE = 8 * 1024
MAX_INTERMEDIATES = 4
_WHAT = "endorsement certificate"
# All that cryptography says of a certificate it cannot read; only the first is a ValueError.
_MALFORMED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True)
class EndorsementCertificate:
    """What a manufacturer vouches for: this key is in a TPM of this model, and nowhere else."""

    key: EndorsementPublicKey
    manufacturer: str  # "id:" and four letters in hex, by the TCG's registry
    model: str
    version: str
    issuer: str
    serial: int


def load_certificate(der: bytes, what: str = _WHAT) -> x509.Certificate:
    """Raises FormatRefused (attest.certificate)."""
    if len(der) > MAX_SIZE:
        raise _malformed(what, f"at most {MAX_SIZE} bytes", f"{len(der)}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Parsed only where they are asked for: here, and not in the middle of a verification.
        _ = certificate.version, certificate.extensions, certificate.subject, certificate.issuer
        certificate.public_key()
    except _MALFORMED as error:
        raise _malformed(what, "an X.509 certificate in DER", "something else") from error
    return certificate


def verify_certificate(
    leaf: bytes, intermediates: Sequence[bytes], roots: Sequence[x509.Certificate], now: datetime
) -> EndorsementCertificate:
    """The key and its TPM, as one of `roots` vouches for them at `now`.

    `intermediates` are whatever the pack sent; they count for nothing but as a way to a root.
    Raises FormatRefused, TrustRefused (attest.certificate).
    """
    if len(intermediates) > MAX_INTERMEDIATES:
        raise _malformed(_WHAT, f"at most {MAX_INTERMEDIATES} intermediates", f"{len(intermediates)}")
    if not roots:
        raise _untrusted("a configured manufacturer", "none is configured")
    certificate = load_certificate(leaf)
    between = [load_certificate(der, "intermediate certificate") for der in intermediates]
    builder = PolicyBuilder().store(Store(list(roots))).time(now)
    verifier = builder.extension_policies(
        ca_policy=_issuers(), ee_policy=_endorsement()
    ).build_client_verifier()
    try:
        verifier.verify(certificate, between)
    except VerificationError as error:
        raise _untrusted(
            "a path to a configured manufacturer, valid now", str(error).splitlines()[0][:160]
        ) from error
    return _read(certificate)


def _issuers() -> ExtensionPolicy:
    """That the constraints say CA, and allow as many below, cryptography looks at by itself."""
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.CRITICAL, None)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates)
    )


def _endorsement() -> ExtensionPolicy:
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _issues_nothing)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _decrypts)
        .require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _endorses)
        .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    )


# What cryptography calls with an extension; a ValueError becomes its VerificationError.


def _signs_certificates(_: Policy, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("an issuer that may not sign certificates")


def _issues_nothing(_: Policy, __: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if constraints.ca:
        raise ValueError("an authority's certificate")


def _decrypts(_: Policy, certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    """Profile 3.2.14: keyEncipherment for RSA, keyAgreement for ECC."""
    rsa_key = isinstance(certificate.public_key(), rsa.RSAPublicKey)
    if not (usage.key_encipherment if rsa_key else usage.key_agreement):
        raise ValueError("a key that may not decrypt")


def _endorses(_: Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
    if EK_CERTIFICATE not in usage:
        raise ValueError("a certificate that is not for an endorsement key")


def _read(certificate: x509.Certificate) -> EndorsementCertificate:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise _untrusted("an RSA or ECC key", type(key).__name__)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    directory = names.get_values_for_type(x509.DirectoryName)
    facts = [
        [str(entry.value) for name in directory for entry in name.get_attributes_for_oid(oid)]
        for oid in (_MANUFACTURER, _MODEL, _VERSION)
    ]
    if any(len(found) != 1 for found in facts):
        raise _untrusted("manufacturer, model and version of the TPM", "not one of each")
    (manufacturer,), (model,), (version,) = facts
    issuer = certificate.issuer.rfc4514_string()
    return EndorsementCertificate(key, manufacturer, model, version, issuer, certificate.serial_number)


def _malformed(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.ATTEST_CERTIFICATE, what, expected=expected, found=found)


def _untrusted(expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.ATTEST_CERTIFICATE, _WHAT, expected=expected, found=found)
