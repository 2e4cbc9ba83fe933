"""What pack controller and server say to each other until there is a certificate.

Normative: docs/formats/attestation.md, "Enrolment and renewal". Strict JSON, bytes in base64; nothing in
it is believed by being decoded. No refusal repeats a token, a secret or a session.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cellward.core import strictjson
from cellward.core.errors import Code, FormatRefused
from cellward.core.metadata.target import VEHICLE_ID, Ecu
from cellward.core.strictjson import Fields
from cellward.core.tpm import certificate, eventlog
from cellward.core.tpm.credential import Credential
from cellward.core.tpm.numbers import DIGEST_SIZE

MAX_SIZE = 192 * 1024
MAX_ECUS = 64
MAX_TOKEN = 128
MAX_CSR = 16 * 1024
MAX_SESSION = 64
_MAX_STRUCTURE = 2048  # what a TPM gives: public area, attestation, signature, credential

T = TypeVar("T")


@dataclass(frozen=True)
class Introduction:
    """A pack controller that wants to enrol: the token that lets it, its modules, its TPM's keys.

    The two areas are TPMT_PUBLIC, `intermediates` whatever leads from the certificate to a manufacturer.
    """

    token: str = field(repr=False)
    ecus: tuple[Ecu, ...]
    certificate: bytes
    attestation: bytes
    identity: bytes
    intermediates: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        return strictjson.encode(
            {
                "token": self.token,
                "ecus": [{"ecu_id": ecu.ecu_id, "hardware_id": ecu.hardware_id} for ecu in self.ecus],
                "ek_certificate": _text(self.certificate),
                "intermediates": [_text(each) for each in self.intermediates],
                "attestation_key": _text(self.attestation),
                "identity_key": _text(self.identity),
            }
        )


@dataclass(frozen=True)
class Renewal:
    """A vehicle that is enrolled wants a certificate; `recovery`: one for updates alone."""

    vehicle: str
    recovery: bool = False

    def encode(self) -> bytes:
        return strictjson.encode({"vehicle": self.vehicle, "recovery": self.recovery})


@dataclass(frozen=True)
class Credentials:
    """A secret for each of the TPM's two keys, to be read in that TPM alone."""

    attestation: Credential
    identity: Credential


@dataclass(frozen=True)
class Challenge:
    """`session` is to be named with the proof, once; a renewal has no credentials."""

    session: str = field(repr=False)
    nonce: bytes
    credentials: Credentials | None = None

    def encode(self) -> bytes:
        tree: dict[str, object] = {"session": self.session, "nonce": _text(self.nonce)}
        if self.credentials is not None:
            pair = {"attestation": self.credentials.attestation, "identity": self.credentials.identity}
            tree["credentials"] = {
                name: {"blob": _text(each.blob), "encrypted_seed": _text(each.encrypted_seed)}
                for name, each in pair.items()
            }
        return strictjson.encode(tree)


@dataclass(frozen=True)
class Secrets:
    """What came out of the credentials."""

    attestation: bytes = field(repr=False)
    identity: bytes = field(repr=False)


@dataclass(frozen=True)
class Proof:
    """The answer to a challenge: a request for a TLS key (PKCS#10, PEM), what was measured, and the quote."""

    session: str = field(repr=False)
    csr: bytes
    log: bytes
    attest: bytes
    signature: bytes
    secrets: Secrets | None = None

    def encode(self) -> bytes:
        tree: dict[str, object] = {
            "session": self.session,
            "csr": self.csr.decode("ascii"),
            "log": _text(self.log),
            "attest": _text(self.attest),
            "signature": _text(self.signature),
        }
        if self.secrets is not None:
            tree["secrets"] = {
                "attestation": _text(self.secrets.attestation),
                "identity": _text(self.secrets.identity),
            }
        return strictjson.encode(tree)


def decode_introduction(data: bytes) -> Introduction:
    """Raises FormatRefused (request.format), as all of these."""
    return _decoded(data, "enrolment", _introduction)


def decode_renewal(data: bytes) -> Renewal:
    return _decoded(
        data,
        "renewal",
        lambda fields: Renewal(fields.text("vehicle", VEHICLE_ID), fields.boolean("recovery")),
    )


def decode_challenge(data: bytes) -> Challenge:
    return _decoded(data, "challenge", _challenge)


def decode_proof(data: bytes) -> Proof:
    return _decoded(data, "proof", _proof)


def encode_issued(certificate: bytes) -> bytes:
    """The answer to a proof: a certificate, PEM."""
    return strictjson.encode({"certificate": certificate.decode("ascii")})


def decode_issued(data: bytes) -> bytes:
    return _decoded(data, "answer", lambda fields: fields.text("certificate", limit=MAX_CSR).encode())


def _introduction(fields: Fields) -> Introduction:
    intermediates = fields.items("intermediates", certificate.MAX_INTERMEDIATES)
    return Introduction(
        token=fields.text("token", limit=MAX_TOKEN),
        ecus=ecus_of(fields),
        certificate=_bytes(fields, "ek_certificate", certificate.MAX_SIZE),
        attestation=_bytes(fields, "attestation_key", _MAX_STRUCTURE),
        identity=_bytes(fields, "identity_key", _MAX_STRUCTURE),
        intermediates=tuple(
            _bytes(Fields({"intermediate": each}, "enrolment"), "intermediate", certificate.MAX_SIZE)
            for each in intermediates
        ),
    )


def ecus_of(fields: Fields) -> tuple[Ecu, ...]:
    """The `ecus` of an enrolment. Raises FormatRefused (metadata.format)."""
    found = []
    for item in fields.items("ecus", MAX_ECUS):
        entry = Fields(item, "ecu")
        found.append(Ecu(entry.text("ecu_id"), entry.text("hardware_id")))
        entry.finish()
    return tuple(found)


def _challenge(fields: Fields) -> Challenge:
    credentials = None
    if "credentials" in fields:
        both = fields.fields("credentials")
        credentials = Credentials(*(_credential(both.fields(name)) for name in ("attestation", "identity")))
        both.finish()
    nonce = _bytes(fields, "nonce", DIGEST_SIZE)
    if len(nonce) != DIGEST_SIZE:
        strictjson.refuse("challenge", f"a nonce of {DIGEST_SIZE} bytes", f"{len(nonce)}")
    return Challenge(fields.text("session", limit=MAX_SESSION), nonce, credentials)


def _credential(fields: Fields) -> Credential:
    found = Credential(*(_bytes(fields, name, _MAX_STRUCTURE) for name in ("blob", "encrypted_seed")))
    fields.finish()
    return found


def _proof(fields: Fields) -> Proof:
    secrets = None
    if "secrets" in fields:
        both = fields.fields("secrets")
        secrets = Secrets(*(_bytes(both, name, DIGEST_SIZE) for name in ("attestation", "identity")))
        both.finish()
    return Proof(
        session=fields.text("session", limit=MAX_SESSION),
        csr=fields.text("csr", limit=MAX_CSR).encode(),
        log=_bytes(fields, "log", eventlog.MAX_SIZE),
        attest=_bytes(fields, "attest", _MAX_STRUCTURE),
        signature=_bytes(fields, "signature", _MAX_STRUCTURE),
        secrets=secrets,
    )


def _decoded(data: bytes, what: str, read: Callable[[Fields], T]) -> T:
    try:
        fields = Fields(strictjson.decode(data, what, MAX_SIZE), what)
        found = read(fields)
        fields.finish()
    except FormatRefused as error:
        raise FormatRefused(
            Code.REQUEST_FORMAT, error.subject, expected=error.expected, found=error.found
        ) from error
    return found


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(fields: Fields, name: str, limit: int) -> bytes:
    """Base64 in its one encoding; the refusal does not repeat it."""
    text = fields.text(name, limit=4 * (limit // 3 + 1))
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not found or len(found) > limit or _text(found) != text:
        strictjson.refuse(fields.what, f"1 to {limit} bytes in base64 in {name!r}", "something else")
    return found
