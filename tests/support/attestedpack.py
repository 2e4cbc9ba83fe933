"""A pack controller with a TPM, and a maker that knows it: each step by hand, so that a test can bend it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.enrolment import (
    Challenge,
    Introduction,
    Proof,
    Secrets,
)
from cellward.core.keys import PublicKey
from cellward.core.metadata import Ecu
from cellward.core.slots import Stage
from cellward.core.tpm import eventlog, measurement
from cellward.core.tpm.eventlog import Event
from cellward.core.tpm.measurement import SELECTION, ModuleImage
from cellward.ports.tpm import KeyName, Tpm
from cellward.rollout.attested import Known
from tests.fakes.tpm import MemoryTpm
from tests.support.maker import APP, LOADER
from tests.support.manufacturer import ROOT_CERTIFICATE
from tests.unit.server.test_ca import csr

AGENT = hashlib.sha256(b"agent").digest()
FACTORY = b"factory data"
IMAGES = {stage: hashlib.sha256(stage.encode()).digest() for stage in Stage}
NOTHING_KNOWN = Known(list, lambda digest: False, lambda hardware, stage: ())


@dataclass
class Maker:
    """What is known; a test changes it."""

    roots: list[x509.Certificate] = field(default_factory=lambda: [ROOT_CERTIFICATE])
    agents: set[bytes] = field(default_factory=lambda: {AGENT})
    images: dict[Stage, bytes] = field(default_factory=lambda: dict(IMAGES))

    @property
    def known(self) -> Known:
        return Known(
            lambda: self.roots, lambda digest: digest in self.agents, lambda hw, stage: {self.images[stage]}
        )


def start(agent: bytes = AGENT, factory: bytes = FACTORY, serial: str = "m1") -> list[Event]:
    images = (ModuleImage(serial, stage, IMAGES[stage]) for stage in Stage)
    return [
        measurement.agent(agent),
        measurement.configuration(factory),
        *(measurement.module(image) for image in images),
    ]


@dataclass
class Controller:
    tpm: Tpm = field(default_factory=MemoryTpm)
    events: Sequence[Event] = field(default_factory=start)
    ecus: tuple[Ecu, ...] = (APP, LOADER)
    tls: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        for name in KeyName:
            if self.tpm.key(name) is None:
                self.tpm.create_key(name)
        self.measure(self.events)

    def measure(self, events: Sequence[Event]) -> None:
        self.events = list(events)
        for event in events:
            self.tpm.pcr_extend(event.pcr, event.digest)

    def reboot(self, events: Sequence[Event]) -> None:
        assert isinstance(self.tpm, MemoryTpm)
        self.tpm.start()
        self.measure(events)

    def introduction(self, token: str) -> Introduction:
        attestation, identity = self.tpm.key(KeyName.ATTESTATION), self.tpm.key(KeyName.IDENTITY)
        assert attestation is not None
        assert identity is not None
        return Introduction(token, self.ecus, self.tpm.ek_certificate(), attestation, identity)

    def secrets(self, challenge: Challenge) -> Secrets:
        given = challenge.credentials
        assert given is not None
        return Secrets(
            self.tpm.activate_credential(KeyName.ATTESTATION, given.attestation),
            self.tpm.activate_credential(KeyName.IDENTITY, given.identity),
        )

    def proof(self, challenge: Challenge) -> Proof:
        bound = measurement.qualifying_data(
            challenge.nonce, PublicKey.from_cryptography(self.tls.public_key())
        )
        quote = self.tpm.quote(bound, SELECTION)
        plain = Proof(
            challenge.session, csr(self.tls), eventlog.encode(self.events), quote.attest, quote.signature
        )
        return plain if challenge.credentials is None else replace(plain, secrets=self.secrets(challenge))
