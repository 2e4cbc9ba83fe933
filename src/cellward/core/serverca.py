"""Which CAs a pack controller takes a server from, as the Image repository's root says: a numbered statement,
so that the CA can be changed in the field. Normative: docs/formats/server-ca.md.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tuf.api.metadata import Root

from cellward.core import envelope
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata import Role, role_keys
from cellward.core.strictjson import MAX_INTEGER, refuse

KIND = "server-cas"
MAX_SIZE = 64 * 1024
MAX_CAS = 4
MAX_PEM = 8 * 1024
WHAT = "server CAs"
# All that cryptography says of a certificate that is none, or not issued by the other.
_NO_CERTIFICATE = (
    *(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.ExtensionNotFound, x509.DuplicateExtension, Warning),
)


@dataclass(frozen=True)
class ServerCas:
    """`certificates`: PEM, one each. `data`: the file that says so."""

    version: int
    certificates: tuple[bytes, ...]
    data: bytes = field(repr=False)

    @property
    def pem(self) -> bytes:
        return b"".join(self.certificates)


def statement(version: int, certificates: Sequence[bytes]) -> Envelope:
    """Unsigned. Raises what `read` refuses it with."""
    cas = [certificate.decode("ascii", "replace") for certificate in certificates]
    made = envelope.make(KIND, {"version": version, "cas": cas})
    read(made.encode())
    return made


def read(data: bytes) -> ServerCas:
    """What a statement says, whoever signed it.

    Raises FormatRefused (metadata.format, metadata.too_large, document.kind, tls.server_ca).
    """
    fields = envelope.decode(data, KIND, WHAT, MAX_SIZE).fields(WHAT)
    version = fields.integer("version", 1, MAX_INTEGER)
    pems = fields.items("cas", MAX_CAS)
    fields.finish()
    certificates = tuple(check_ca(pem.encode()) for pem in pems if isinstance(pem, str))
    if not certificates or len(set(certificates)) != len(pems):
        refuse(WHAT, f"1 to {MAX_CAS} different certificates", "another list")
    return ServerCas(version, certificates, data)


def verify(data: bytes, root: Root) -> ServerCas:
    """What the root of the Image repository says in a statement.

    1. it is one, and every CA in it is one
    2. a threshold of the root's keys signed it; what others signed counts for nothing, so that one statement
       can be for packs on either side of a change of the root's keys
    Raises as `read`, and TrustRefused (document.signature).
    """
    found = read(data)  # 1
    trusted = role_keys(root, Role.ROOT)
    keys = {key.fingerprint: key for key in trusted.keys}
    signed = envelope.decode(data, KIND, WHAT, MAX_SIZE)
    by_root = replace(signed, signatures=tuple(s for s in signed.signatures if s.key_id in keys))
    signers = by_root.signers(keys.values(), WHAT)
    if len(signers) < trusted.threshold:  # 2
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE,
            f"{WHAT}, version {found.version}",
            expected=f"signatures by {trusted.threshold} of the keys in root version {root.version}",
            found=f"{len(signers)}",
        )
    return found


def succeed(held: ServerCas | None, floor: int, new: ServerCas) -> ServerCas:
    """`new`, if it takes nothing back: neither the version that is held nor that of the factory data.

    Raises TrustRefused (metadata.version), also for other words under the held version's number.
    """
    least = floor if held is None else max(floor, held.version)
    same = held is not None and (held.version, held.certificates) == (new.version, new.certificates)
    if new.version < least or (held is not None and new.version == held.version and not same):
        raise TrustRefused(
            Code.METADATA_VERSION,
            WHAT,
            expected=f"version {least} or later, and one of each",
            found=f"version {new.version}",
        )
    return new


def check_ca(pem: bytes) -> bytes:
    """The one PEM of a CA that can have issued a server's certificate: of itself, on P-256.

    Raises FormatRefused (tls.server_ca), TrustRefused (key.published).
    """
    if len(pem) > MAX_PEM:
        _no_ca(f"at most {MAX_PEM} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            certificate = x509.load_pem_x509_certificate(pem)
            key = certificate.public_key()
            certificate.verify_directly_issued_by(certificate)
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except _NO_CERTIFICATE:
        _no_ca("something else")
    if certificate.public_bytes(Encoding.PEM) != pem:
        _no_ca("other text around it")
    if not constraints.value.ca or not constraints.critical or not usage.key_cert_sign:
        _no_ca("a certificate that is no CA's")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        _no_ca("another kind of key")
    PublicKey.from_cryptography(key).unpublished(WHAT)
    return pem


def fingerprint(pem: bytes) -> str:
    """Of the CA's key."""
    key = x509.load_pem_x509_certificate(pem).public_key()
    return PublicKey.from_cryptography(key).fingerprint


def _no_ca(found: str) -> NoReturn:
    raise FormatRefused(
        Code.SERVER_CA, WHAT, expected="certificates of CAs in PEM, ECDSA P-256, each by itself", found=found
    )
