"""Attested packs: who has which TPM, and whether what it measured is known.

Normative: docs/formats/attestation.md, "Enrolment and renewal". What is refused leaves the registry as it
was, but for the session, which is good once whatever comes of it, and a note on the pack whose own TPM
said it.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from cellward.core.enrolment import (
    Challenge,
    Credentials,
    Introduction,
    Proof,
    Renewal,
    Secrets,
    decode_introduction,
)
from cellward.core.errors import Code, PolicyRefused, Refused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata import Ecu
from cellward.core.slots import Stage
from cellward.core.tpm import eventlog, measurement
from cellward.core.tpm.certificate import verify_certificate
from cellward.core.tpm.credential import make_credential
from cellward.core.tpm.keys import (
    AttestationKey,
    IdentityKey,
    attestation_key,
    endorsement_template,
    identity_key,
)
from cellward.core.tpm.measurement import SELECTION, ModuleImage, Start
from cellward.core.tpm.numbers import DIGEST_SIZE, Hierarchy
from cellward.core.tpm.public import Public
from cellward.core.tpm.quote import NONCE_SIZE, Quote, verify_quote
from cellward.core.wire import be32
from cellward.ports.registry import Attestation, Noted, Registry, Session, Token
from cellward.rollout import inventory

SESSION_LIFETIME = timedelta(minutes=2)
SESSION_BYTES = 24
_ENDORSEMENT = be32(Hierarchy.ENDORSEMENT)
# What a session is for: the first byte of its context.
_ENROL, _SERVICE, _RECOVERY = b"E", b"S", b"R"
# Only a quote that this TPM signed for this session gets as far as these.
NOTED = frozenset({Code.ATTEST_SELECTION, Code.ATTEST_PCR, Code.ATTEST_UNKNOWN, Code.ENROL_IDENTITY})


@dataclass(frozen=True)
class Known:
    """What counts for this maker; asked anew each time, for it changes while the server runs."""

    manufacturers: Callable[[], Sequence[x509.Certificate]]  # of TPMs
    agent: Callable[[bytes], bool]  # whether an agent's code has this digest
    images: Callable[[str, Stage], Collection[bytes]]  # SHA-256 of those that are published


@dataclass(frozen=True)
class Enrolled:
    """A pack that proved its TPM and a start that is known; `token` lets it in."""

    token: Token
    ecus: tuple[Ecu, ...]
    attestation: Attestation


@dataclass(frozen=True)
class Renewed:
    vehicle_id: str
    attestation: Attestation
    moment: bytes
    recovery: bool


# --- enrolment


def begin_enrolment(registry: Registry, known: Known, introduction: Introduction, now: datetime) -> Challenge:
    """A secret for each key, to be read in the TPM with this endorsement key alone; the token stays good.

    Raises TrustRefused (enrol.token, attest.certificate, attest.endorsement, attest.key), PolicyRefused
    (enrol.ecu, enrol.identity), FormatRefused.
    """
    token = inventory.open_token(registry, introduction.token, now)
    inventory.check_endorsement(token, introduction.certificate)
    inventory.check_ecus(introduction.ecus)
    keys = _Keys.of(introduction, known, now)
    given = Secrets(*(secrets.token_bytes(DIGEST_SIZE) for _ in range(2)))
    credentials = Credentials(
        make_credential(keys.endorsement, keys.attestation.name, given.attestation, secrets.token_bytes),
        make_credential(keys.endorsement, keys.identity.name, given.identity, secrets.token_bytes),
    )
    # The registry gets neither the token nor the secrets: hashes do.
    claim = replace(introduction, token=token.digest.hex()).encode()
    challenge = _open(registry, token.vehicle_id, _ENROL + _digest(given) + claim, now)
    return replace(challenge, credentials=credentials)


def prove_enrolment(
    registry: Registry, known: Known, proof: Proof, tls_key: PublicKey, now: datetime
) -> Enrolled:
    """What `Registry.enrol` is to be given.

    1. session      attest.session: open, for this, and from now on no more
    2. credentials  attest.credential: both keys are in the TPM of that endorsement key
    3. quote        attest.*: by that attestation key, for this session and this TLS key, over this log
    4. start        attest.unknown: every measurement is known
    5. token        enrol.token: still good
    6. identity     enrol.identity: this TPM is no other vehicle's; the other one is marked
    """
    session = _take(registry, proof.session, (_ENROL,), now)  # 1
    expected, claim = session.context[1 : 1 + DIGEST_SIZE], session.context[1 + DIGEST_SIZE :]
    if proof.secrets is None or not hmac.compare_digest(_digest(proof.secrets), expected):  # 2
        raise TrustRefused(
            Code.ATTEST_CREDENTIAL,
            "proof",
            expected="the secrets that this TPM alone can read",
            found="others" if proof.secrets else "none",
        )
    introduction = decode_introduction(claim)
    keys = _Keys.of(introduction, known, now)
    quote = _verify(proof, keys.attestation, session.nonce, tls_key)  # 3
    start = measurement.read(eventlog.decode(proof.log))
    configuration = judge(start, introduction.ecus, known)  # 4
    token = inventory.check_token(registry.token(bytes.fromhex(introduction.token)), now)  # 5
    _check_owner(registry, keys.endorsement.name, token.vehicle_id, now)  # 6
    attestation = Attestation(
        keys.endorsement.name, introduction.attestation, keys.identity.key, configuration, quote.moment
    )
    return Enrolled(token, introduction.ecus, attestation)


@dataclass(frozen=True)
class _Keys:
    endorsement: Public
    attestation: AttestationKey
    identity: IdentityKey

    @classmethod
    def of(cls, introduction: Introduction, known: Known, now: datetime) -> "_Keys":
        roots = known.manufacturers()
        if not roots:
            raise TrustRefused(
                Code.ATTEST_CERTIFICATE,
                "endorsement certificate",
                expected="a configured manufacturer",
                found="none is configured",
                advice="name one with `cellward server know-tpm`",
            )
        certificate = verify_certificate(introduction.certificate, introduction.intermediates, roots, now)
        return cls(
            endorsement_template(certificate.key),
            attestation_key(introduction.attestation, _ENDORSEMENT),
            identity_key(introduction.identity),
        )


def _check_owner(registry: Registry, endorsement: bytes, vehicle_id: str, now: datetime) -> None:
    owner = registry.owner_of(endorsement)
    if owner is None or owner == vehicle_id:
        return
    registry.note(owner, Noted(Code.ENROL_IDENTITY, f"its TPM in {vehicle_id}", now))
    raise PolicyRefused(
        Code.ENROL_IDENTITY,
        f"vehicle {vehicle_id}",
        expected="a TPM that no other vehicle has",
        found="one of another vehicle",
    )


# --- renewal


def begin_renewal(registry: Registry, renewal: Renewal, now: datetime) -> Challenge:
    """Raises PolicyRefused (vehicle.unknown) also for a vehicle that is not attested."""
    if registry.attestation(renewal.vehicle) is None:
        raise PolicyRefused(
            Code.VEHICLE_UNKNOWN,
            f"vehicle {renewal.vehicle}",
            expected="one that enrolled with its TPM",
            found="none",
        )
    return _open(registry, renewal.vehicle, _RECOVERY if renewal.recovery else _SERVICE, now)


def prove_renewal(
    registry: Registry, known: Known, proof: Proof, tls_key: PublicKey, now: datetime
) -> Renewed:
    """What `Registry.renew` is to be given. For recovery nothing that was measured need be known: the TPM
    is the vehicle's all the same.

    Raises TrustRefused (attest.session, attest.*, enrol.identity), PolicyRefused (attest.unknown).
    """
    session = _take(registry, proof.session, (_SERVICE, _RECOVERY), now)
    vehicle = inventory.known_vehicle(registry, session.vehicle_id)
    held = registry.attestation(vehicle.vehicle_id)
    assert held is not None  # noqa: S101  the session was opened for one, and none is ever deleted
    recovery = session.context == _RECOVERY
    try:
        key = attestation_key(held.attestation_key, _ENDORSEMENT)
        quote = _verify(proof, key, session.nonce, tls_key)
        _check_moment(vehicle.vehicle_id, quote.moment, held.moment)
        if not recovery:
            start = measurement.read(eventlog.decode(proof.log))
            judge(start, vehicle.ecus, known, held.configuration)
    except Refused as error:
        if error.code in NOTED:
            registry.note(vehicle.vehicle_id, Noted(error.code, f"{error.subject}: {error.found}", now))
        raise
    return Renewed(vehicle.vehicle_id, held, quote.moment, recovery)


def _check_moment(vehicle_id: str, found: bytes, last: bytes) -> None:
    """Two TPMs with one state count on their own: whichever is behind the other gives both away."""
    if found < last:
        raise TrustRefused(
            Code.ENROL_IDENTITY,
            f"vehicle {vehicle_id}",
            expected="a TPM that is not behind its last quote",
            found="one that is: this TPM or the other is a copy",
        )


# --- what both have


def judge(start: Start, ecus: Sequence[Ecu], known: Known, configuration: bytes | None = None) -> bytes:
    """The configuration's digest, if everything that was measured is known; the first one where none is
    expected. A module that was silent is not in the log, and no reason to keep its pack from the update
    that would help it. Raises PolicyRefused (attest.unknown).
    """
    for what, digests in (("agent", start.agents), ("configuration", start.configurations)):
        if not digests:
            raise _unknown(what, "measured", "not measured")
    for digest in start.agents:
        if not known.agent(digest):
            raise _unknown("agent", "one that the maker knows", digest.hex())
    expected = configuration or start.configurations[0]
    for digest in start.configurations:
        if digest != expected:
            raise _unknown("configuration", expected.hex(), digest.hex())
    hardware = {ecu.ecu_id: ecu.hardware_id for ecu in ecus}
    for image in start.images:
        _check_image(image, hardware.get(f"{image.serial}/{image.stage}"), known)
    return expected


def _check_image(image: ModuleImage, hardware: str | None, known: Known) -> None:
    ecu = f"{image.serial}/{image.stage}"
    if hardware is None:
        raise _unknown(ecu, "a module that is enrolled", "another")
    if image.digest not in known.images(hardware, image.stage):
        raise _unknown(ecu, f"an image that is published for {hardware}", image.digest.hex())


def _unknown(subject: str, expected: str, found: str) -> PolicyRefused:
    return PolicyRefused(
        Code.ATTEST_UNKNOWN,
        subject,
        expected=expected,
        found=found,
        advice="the maker names what is his: `cellward server know-agent`, `cellward repo publish`",
    )


def _verify(proof: Proof, key: AttestationKey, nonce: bytes, tls_key: PublicKey) -> Quote:
    values = eventlog.replay(eventlog.decode(proof.log), SELECTION)
    bound = measurement.qualifying_data(nonce, tls_key)
    return verify_quote(proof.attest, proof.signature, key, bound, values)


def _open(registry: Registry, vehicle_id: str, context: bytes, now: datetime) -> Challenge:
    name, nonce = secrets.token_urlsafe(SESSION_BYTES), secrets.token_bytes(NONCE_SIZE)
    expires = now + SESSION_LIFETIME
    registry.open_session(Session(_name(name), vehicle_id, nonce, expires, context), now)
    return Challenge(name, nonce)


def _take(registry: Registry, name: str, purposes: Collection[bytes], now: datetime) -> Session:
    found = registry.take_session(_name(name), now)
    if found is None or found.context[:1] not in purposes:
        raise TrustRefused(
            Code.ATTEST_SESSION,
            "session",
            expected="one that is open, which each is once and for minutes",
            found="none",
            advice="ask for a new one",
        )
    return found


def _name(session: str) -> bytes:
    return hashlib.sha256(session.encode()).digest()


def _digest(given: Secrets) -> bytes:
    """Of both, each at its full size: where one ends and the other begins is nobody's to choose."""
    parts = (hashlib.sha256(each).digest() for each in (given.attestation, given.identity))
    return hashlib.sha256(b"".join(parts)).digest()
