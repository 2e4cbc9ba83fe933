"""A pack controller with a TPM: enrolment once, then certificates of hours for a fresh quote.

Normative: docs/formats/attestation.md, "Enrolment and renewal". The TLS key is made for each certificate
and never leaves this process's memory; the identity key, which signs reports, never leaves the TPM.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cellward.core import enrolment
from cellward.core.enrolment import Challenge, Introduction, Proof, Renewal, Secrets
from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.keys import PublicKey
from cellward.core.metadata import Ecu, check_vehicle_id
from cellward.core.tpm import eventlog, measurement
from cellward.core.tpm.eventlog import Event
from cellward.core.tpm.keys import identity_key
from cellward.core.tpm.measurement import SELECTION
from cellward.device import identity
from cellward.device.identity import ANSWER_LIMIT, Identity
from cellward.ports.tpm import KeyName, Tpm
from cellward.ports.transport import Transport

ENROL, ENROL_PROVE = "/v1/enrol/tpm", "/v1/enrol/prove"
RENEW, RENEW_PROVE = "/v1/renew", "/v1/renew/prove"


@dataclass(frozen=True)
class IdentityKey:
    """The TPM's, which signs what the pack reports. Satisfies ports.signer.Signer."""

    tpm: Tpm
    public_key: PublicKey

    @property
    def uri(self) -> str:
        return "identity key in the TPM"

    def sign(self, data: bytes) -> bytes:
        """ECDSA over a SHA-256 digest, as DER. Raises Unavailable (tpm.*)."""
        return self.tpm.sign(data)


def tpm_signer(tpm: Tpm) -> IdentityKey:
    """Raises Unavailable (tpm.missing) for a TPM that was never enrolled with, or was cleared since."""
    area = tpm.key(KeyName.IDENTITY)
    if area is None:
        raise Unavailable(
            Code.TPM_MISSING,
            "identity key",
            expected="the key that this controller enrolled with",
            found="none",
        )
    return IdentityKey(tpm, identity_key(area).key)


@dataclass(frozen=True)
class Controller:
    """`log`: what was measured; `transport`: to the enrolment listener."""

    tpm: Tpm
    log: Sequence[Event]
    transport: Transport
    device_ca: bytes
    vehicle: str

    @property
    def signer(self) -> IdentityKey:
        return IdentityKey(self.tpm, identity_key(self._area(KeyName.IDENTITY)).key)

    def enrol(self, token: str, ecus: Sequence[Ecu], *, spend: bool = False) -> Identity:
        """With the keys that the TPM has, or new ones: once more after a cut is no other pack.

        Where the token is used up and this TPM is the vehicle's, the answer was lost: it is renewed; unless
        the token must be spent now, because more than a certificate depends on it.
        Raises what the server refuses with, tpm.*, and TrustRefused (enrol.certificate).
        """
        check_vehicle_id(self.vehicle)
        introduction = Introduction(
            token,
            tuple(ecus),
            self.tpm.ek_certificate(),
            self._area(KeyName.ATTESTATION),
            self._area(KeyName.IDENTITY),
        )
        try:
            return self._exchange(ENROL, introduction.encode(), ENROL_PROVE)
        except Refused as refused:
            if refused.code is not Code.ENROL_TOKEN or spend:
                raise
            try:
                return self.renew()
            except Refused as error:
                raise refused from error

    def renew(self, *, recovery: bool = False) -> Identity:
        """Raises as `enrol`; attest.unknown where only `recovery` is left."""
        return self._exchange(RENEW, Renewal(self.vehicle, recovery=recovery).encode(), RENEW_PROVE)

    def _exchange(self, ask: str, request: bytes, prove: str) -> Identity:
        challenge = enrolment.decode_challenge(self.transport.post(ask, request, enrolment.MAX_SIZE))
        key = identity.new_key()
        proof = self._proof(challenge, key).encode()
        certificate = enrolment.decode_issued(self.transport.post(prove, proof, ANSWER_LIMIT))
        return identity.check_certificate(certificate, key, self.vehicle, self.device_ca)

    def _proof(self, challenge: Challenge, key: bytes) -> Proof:
        bound = measurement.qualifying_data(challenge.nonce, identity.public_key(key))
        quote = self.tpm.quote(bound, SELECTION)
        secrets = None
        if challenge.credentials is not None:
            secrets = Secrets(
                self.tpm.activate_credential(KeyName.ATTESTATION, challenge.credentials.attestation),
                self.tpm.activate_credential(KeyName.IDENTITY, challenge.credentials.identity),
            )
        return Proof(
            challenge.session,
            identity.request(key, self.vehicle),
            eventlog.encode(self.log),
            quote.attest,
            quote.signature,
            secrets,
        )

    def _area(self, name: KeyName) -> bytes:
        return self.tpm.key(name) or self.tpm.create_key(name)
