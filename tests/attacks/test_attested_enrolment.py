"""A pack that proves its TPM and its start, and everybody who only seems to. After each refusal the
registry is looked at: nothing registered, the token as good as before, no session left open."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.enrolment import (
    Challenge,
    Introduction,
    Proof,
    Renewal,
    Secrets,
    decode_challenge,
    decode_issued,
)
from cellward.core.enrolplan import Pack
from cellward.core.errors import Code
from cellward.core.keys import PublicKey
from cellward.core.tpm import eventlog, measurement
from cellward.core.tpm.keys import IDENTIFIES
from cellward.core.tpm.measurement import SELECTION
from cellward.ports.registry import Attestation
from cellward.ports.tpm import KeyName
from cellward.rollout import attested, inventory
from cellward.server.ca import ATTESTED_LIFETIME, open_authority
from cellward.server.enrolment import EnrolmentApi
from cellward.server.lane import Lane
from tests.fakes.registry import MemoryRegistry
from tests.fakes.store import MemoryStore
from tests.fakes.tpm import MemoryTpm
from tests.support.asgi import Client
from tests.support.attested import signed, signing_area
from tests.support.attestedpack import FACTORY, Controller, Maker, start
from tests.support.maker import NOW, Hand
from tests.support.manufacturer import STRANGER, der
from tests.unit.server.test_ca import csr

OTHER = b"\x66" * 32


class World:
    def __init__(self) -> None:
        self.registry, self.maker, self.hand = MemoryRegistry(), Maker(), Hand()
        self.now = NOW
        self.ca = open_authority(MemoryStore(), "device-ca", self.hand, NOW)
        self.lane = Lane()
        api = EnrolmentApi(self.registry, self.ca, self.maker.known, self.lane, self.clock)
        self.client = Client(api.app())
        self.pack = Controller()
        self.token = inventory.new_token(self.registry, "PACK-1", NOW)

    def clock(self) -> datetime:
        return self.now

    def introduce(self, introduction: Introduction | None = None) -> Challenge:
        body = (introduction or self.pack.introduction(self.token)).encode()
        return decode_challenge(self._good(self.client.post("/v1/enrol/tpm", body)))

    def ask(self, *, recovery: bool = False) -> Challenge:
        body = Renewal("PACK-1", recovery=recovery).encode()
        return decode_challenge(self._good(self.client.post("/v1/renew", body)))

    def prove(self, proof: Proof, path: str = "/v1/enrol/prove") -> httpx.Response:
        return self.client.post(path, proof.encode())

    def enrol(self) -> x509.Certificate:
        return self._certificate(self.prove(self.pack.proof(self.introduce())))

    def renew(self, *, recovery: bool = False) -> x509.Certificate:
        return self._certificate(self.prove(self.pack.proof(self.ask(recovery=recovery)), "/v1/renew/prove"))

    def _certificate(self, got: httpx.Response) -> x509.Certificate:
        return x509.load_pem_x509_certificate(decode_issued(self._good(got)))

    def _good(self, got: httpx.Response) -> bytes:
        assert got.status_code == 200, got.text
        return got.content

    def untouched(self) -> bool:
        inventory.open_token(self.registry, self.token, NOW)
        return not list(self.registry.vehicle_ids()) and self.hand.signatures == 1  # its own certificate

    def attestation(self) -> Attestation:
        found = self.registry.attestation("PACK-1")
        assert found is not None
        return found


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.lane.close()


def refused(got: httpx.Response) -> Code:
    assert got.status_code in (400, 403, 409), got.text
    return Code(got.json()["code"])


# --- the good way


def test_a_pack_proves_its_tpm_and_gets_a_certificate_of_hours(world: World) -> None:
    made = world.enrol()
    assert made.subject.rfc4514_string() == "CN=PACK-1"
    assert made.public_key() == world.pack.tls.public_key()
    assert made.not_valid_after_utc == NOW + ATTESTED_LIFETIME
    (held,) = world.registry.certificates("PACK-1")
    assert (held.public_key, held.recovery) == (world.attestation().identity_key, False)
    identity = world.pack.tpm.key(KeyName.IDENTITY)
    assert identity is not None
    assert held.public_key.encoded[-64:] in identity.replace(b"\0\x20", b"")
    assert world.attestation().configuration == measurement.configuration(FACTORY).digest
    assert refused(world.prove(world.pack.proof(Challenge("x", bytes(32))))) is Code.ATTEST_SESSION


def test_the_identity_key_signs_reports_whatever_the_tls_key(world: World) -> None:
    first = world.enrol()
    world.pack.tls = ec.generate_private_key(ec.SECP256R1())
    second = world.renew()
    keys = {c.public_key.spki for c in world.registry.certificates("PACK-1")}
    assert keys == {world.attestation().identity_key.spki}
    assert first.public_key() != second.public_key()


# --- enrolment


Bend = Callable[[World, Introduction], Introduction]


def _stranger(world: World, good: Introduction) -> Introduction:
    assert isinstance(world.pack.tpm, MemoryTpm)
    certificate = STRANGER.endorse(world.pack.tpm._ek.public_key())
    return replace(good, certificate=der(certificate))


def _unrestricted(world: World, good: Introduction) -> Introduction:
    return replace(good, attestation=signing_area(IDENTIFIES).encode())


def _restricted_identity(world: World, good: Introduction) -> Introduction:
    return replace(good, identity=good.attestation)


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        (_stranger, Code.ATTEST_CERTIFICATE),
        (_unrestricted, Code.ATTEST_KEY),
        (_restricted_identity, Code.ATTEST_KEY),
        (lambda w, good: replace(good, token="x"), Code.ENROL_TOKEN),
        (lambda w, good: replace(good, ecus=()), Code.REQUEST_FORMAT),
        (lambda w, good: replace(good, certificate=b"x"), Code.ATTEST_CERTIFICATE),
    ],
)
def test_who_may_not_even_try(world: World, bend: Bend, code: Code) -> None:
    body = bend(world, world.pack.introduction(world.token)).encode()
    assert refused(world.client.post("/v1/enrol/tpm", body)) is code
    assert world.untouched()
    assert not world.registry._sessions


def test_without_a_configured_manufacturer_nobody_enrols(world: World) -> None:
    world.maker.roots.clear()
    got = world.client.post("/v1/enrol/tpm", world.pack.introduction(world.token).encode())
    assert refused(got) is Code.ATTEST_CERTIFICATE
    assert "know-tpm" in got.json()["advice"]
    assert world.untouched()


def test_a_manufacturer_that_is_withdrawn_between_the_steps(world: World) -> None:
    proof = world.pack.proof(world.introduce())
    world.maker.roots.clear()
    assert refused(world.prove(proof)) is Code.ATTEST_CERTIFICATE
    assert world.untouched()


def test_another_tpms_endorsement_certificate(world: World) -> None:
    """The keys are ours, the certificate is a neighbour's: the secrets are for his TPM."""
    other = MemoryTpm()
    ours = world.pack.introduction(world.token)
    challenge = world.introduce(replace(ours, certificate=other.ek_certificate()))
    guessed = replace(
        world.pack.proof(replace(challenge, credentials=None)), secrets=Secrets(bytes(32), bytes(32))
    )
    assert refused(world.prove(guessed)) is Code.ATTEST_CREDENTIAL
    assert world.untouched()


@pytest.mark.parametrize("name", list(KeyName))
def test_one_key_that_is_outside_the_tpm(world: World, name: KeyName) -> None:
    """One secret is had, the other cannot be: each key has a credential of its own."""
    outside = Controller().introduction(world.token)
    ours = replace(world.pack.introduction(world.token), **{name.value: getattr(outside, name.value)})
    challenge = world.introduce(ours)
    assert challenge.credentials is not None
    had = {
        inside: world.pack.tpm.activate_credential(inside, getattr(challenge.credentials, inside.value))
        for inside in KeyName
        if inside is not name
    }
    proof = replace(
        world.pack.proof(replace(challenge, credentials=None)),
        secrets=Secrets(*(had.get(each, bytes(32)) for each in (KeyName.ATTESTATION, KeyName.IDENTITY))),
    )
    assert refused(world.prove(proof)) is Code.ATTEST_CREDENTIAL
    assert world.untouched()


def test_secrets_of_an_earlier_session(world: World) -> None:
    old = world.pack.proof(world.introduce())
    new = world.pack.proof(world.introduce())
    assert refused(world.prove(replace(new, secrets=old.secrets))) is Code.ATTEST_CREDENTIAL
    assert world.untouched()
    assert refused(world.prove(new)) is Code.ATTEST_SESSION  # good once, also for who was refused


def test_no_secrets_at_all(world: World) -> None:
    proof = world.pack.proof(world.introduce())
    assert refused(world.prove(replace(proof, secrets=None))) is Code.ATTEST_CREDENTIAL
    assert world.untouched()


def test_a_proof_is_good_once(world: World) -> None:
    proof = world.pack.proof(world.introduce())
    assert world.prove(proof).status_code == 200
    before = world.registry.certificates("PACK-1")
    assert refused(world.prove(proof)) is Code.ATTEST_SESSION
    assert world.registry.certificates("PACK-1") == before


def test_a_quote_for_an_earlier_nonce(world: World) -> None:
    old = world.pack.proof(world.introduce())
    new = world.pack.proof(world.introduce())
    proof = replace(new, attest=old.attest, signature=old.signature)
    assert refused(world.prove(proof)) is Code.ATTEST_NONCE
    assert world.untouched()


def test_a_tls_key_that_was_swapped_on_the_way(world: World) -> None:
    """A relay has a true pack answer the challenge and asks for a certificate of a key of his own."""
    proof = world.pack.proof(world.introduce())
    theirs = csr(ec.generate_private_key(ec.SECP256R1()))
    assert refused(world.prove(replace(proof, csr=theirs))) is Code.ATTEST_NONCE
    assert world.untouched()


@pytest.mark.parametrize("selection", [(8, 9), (8, 9, 10, 11), (11, 12, 13)])
def test_a_quote_over_other_pcrs(world: World, selection: tuple[int, ...]) -> None:
    challenge = world.introduce()
    bound = measurement.qualifying_data(
        challenge.nonce, PublicKey.from_cryptography(world.pack.tls.public_key())
    )
    quote = world.pack.tpm.quote(bound, selection)
    proof = replace(world.pack.proof(challenge), attest=quote.attest, signature=quote.signature)
    assert refused(world.prove(proof)) is Code.ATTEST_SELECTION
    assert world.untouched()


def test_a_quote_that_another_key_signed(world: World) -> None:
    proof = world.pack.proof(world.introduce())
    forged = replace(proof, signature=signed(proof.attest))
    assert refused(world.prove(forged)) is Code.ATTEST_SIGNATURE
    assert world.untouched()


def test_an_edited_log(world: World) -> None:
    """An unknown agent ran; its log says that the known one did."""
    world.pack.reboot(start(agent=OTHER))
    proof = replace(world.pack.proof(world.introduce()), log=eventlog.encode(start()))
    assert refused(world.prove(proof)) is Code.ATTEST_PCR
    assert world.untouched()


@pytest.mark.parametrize(
    "events",
    [
        start(agent=OTHER),
        [*start(), measurement.agent(OTHER)],
        start(serial="m2"),
        start()[1:],
        [start()[0], *start()[2:]],
        [*start(), measurement.configuration(b"other")],
    ],
)
def test_an_unknown_start(world: World, events: list[eventlog.Event]) -> None:
    world.pack.reboot(events)
    assert refused(world.prove(world.pack.proof(world.introduce()))) is Code.ATTEST_UNKNOWN
    assert world.untouched()


def test_an_image_that_was_never_published(world: World) -> None:
    world.maker.images = dict.fromkeys(world.maker.images, OTHER)
    assert refused(world.prove(world.pack.proof(world.introduce()))) is Code.ATTEST_UNKNOWN
    assert world.untouched()


@pytest.mark.parametrize(
    "event", [eventlog.Event(8, "configuration", OTHER), eventlog.Event(10, "something", OTHER)]
)
def test_a_log_with_a_name_that_nobody_judges(world: World, event: eventlog.Event) -> None:
    world.pack.reboot([*start(), event])
    assert refused(world.prove(world.pack.proof(world.introduce()))) is Code.ATTEST_LOG
    assert world.untouched()


def test_a_session_that_expired(world: World) -> None:
    proof = world.pack.proof(world.introduce())
    world.now += attested.SESSION_LIFETIME
    assert refused(world.prove(proof)) is Code.ATTEST_SESSION
    assert world.untouched()


def test_a_token_that_another_used_meanwhile(world: World) -> None:
    proof = world.pack.proof(world.introduce())
    world.enrol()
    before = world.registry.certificates("PACK-1")
    assert refused(world.prove(proof)) is Code.ENROL_TOKEN
    assert world.registry.certificates("PACK-1") == before


def test_a_token_that_expires_meanwhile(world: World) -> None:
    world.now += inventory.TOKEN_LIFETIME - timedelta(minutes=1)
    proof = world.pack.proof(world.introduce())
    world.now += timedelta(seconds=90)
    assert refused(world.prove(proof)) is Code.ENROL_TOKEN
    assert world.untouched()


def test_a_session_of_a_renewal_enrols_nobody_and_the_reverse(world: World) -> None:
    world.enrol()
    world.token = inventory.new_token(world.registry, "PACK-1", NOW)
    before = world.registry.certificates("PACK-1")
    assert refused(world.prove(world.pack.proof(world.ask()))) is Code.ATTEST_SESSION
    proof = world.pack.proof(world.introduce())
    assert refused(world.prove(proof, "/v1/renew/prove")) is Code.ATTEST_SESSION
    assert world.registry.certificates("PACK-1") == before


def test_a_second_vehicle_with_the_same_tpm_is_refused_and_shown(world: World) -> None:
    world.enrol()
    before = world.attestation()
    world.token = inventory.new_token(world.registry, "PACK-2", NOW)
    assert refused(world.prove(world.pack.proof(world.introduce()))) is Code.ENROL_IDENTITY
    assert world.registry.vehicle("PACK-2") is None
    inventory.open_token(world.registry, world.token, NOW)
    after = world.attestation()
    assert replace(after, noted=None) == before
    assert after.noted is not None
    assert (after.noted.code, "PACK-2" in after.noted.found) == (Code.ENROL_IDENTITY, True)


def test_an_attested_vehicle_gets_no_certificate_by_a_token_alone(world: World) -> None:
    world.enrol()
    before = world.registry.certificates("PACK-1")
    token = inventory.new_token(world.registry, "PACK-1", NOW, software=True)
    ecus = [{"ecu_id": "m1/app", "hardware_id": "bms-m33"}]
    body = {"token": token, "csr": csr(world.pack.tls).decode(), "ecus": ecus}
    got = world.client.post("/v1/enrol", json.dumps(body).encode())
    assert refused(got) is Code.ENROL_IDENTITY
    assert world.registry.certificates("PACK-1") == before


# --- renewal


def test_a_renewal_leaves_what_is_under_way_alone(world: World) -> None:
    world.enrol()
    world.now += timedelta(hours=6)
    world.renew()
    assert [c.revoked for c in world.registry.certificates("PACK-1")] == [False, False]


def test_nobody_who_is_not_attested_renews(world: World) -> None:
    got = world.client.post("/v1/renew", Renewal("PACK-1").encode())
    assert refused(got) is Code.VEHICLE_UNKNOWN
    assert not world.registry._sessions


def test_another_tpm_renews_nothing(world: World) -> None:
    world.enrol()
    world.pack = Controller()
    proof = world.pack.proof(world.ask())
    assert refused(world.prove(proof, "/v1/renew/prove")) is Code.ATTEST_SIGNATURE
    assert len(world.registry.certificates("PACK-1")) == 1
    assert world.attestation().noted is None  # anybody could have sent that


def test_a_revoked_vehicle_renews_nothing(world: World) -> None:
    world.enrol()
    inventory.revoke(world.registry, "PACK-1")
    for recovery in (False, True):
        proof = world.pack.proof(world.ask(recovery=recovery))
        assert refused(world.prove(proof, "/v1/renew/prove")) is Code.TLS_CLIENT_CERTIFICATE
    assert [c.revoked for c in world.registry.certificates("PACK-1")] == [True]


@pytest.mark.parametrize(
    "events", [start(agent=OTHER), start(factory=b"other"), [*start(), measurement.agent(OTHER)]]
)
def test_an_unknown_start_is_refused_and_shown_and_recovers_alone(
    world: World, events: list[eventlog.Event]
) -> None:
    world.enrol()
    world.pack.reboot(events)
    proof = world.pack.proof(world.ask())
    assert refused(world.prove(proof, "/v1/renew/prove")) is Code.ATTEST_UNKNOWN
    assert len(world.registry.certificates("PACK-1")) == 1
    noted = world.attestation().noted
    assert noted is not None
    assert (noted.code, noted.at) == (Code.ATTEST_UNKNOWN, NOW)
    world.renew(recovery=True)
    assert world.registry.certificates("PACK-1")[0].recovery
    assert world.attestation().noted == noted
    world.pack.reboot(start())
    world.renew()
    assert world.attestation().noted is None


def test_recovery_takes_the_vehicles_own_tpm_all_the_same(world: World) -> None:
    world.enrol()
    world.pack.reboot(start(agent=OTHER))
    edited = replace(world.pack.proof(world.ask(recovery=True)), log=eventlog.encode(start()))
    assert refused(world.prove(edited, "/v1/renew/prove")) is Code.ATTEST_PCR
    world.pack = Controller()
    proof = world.pack.proof(world.ask(recovery=True))
    assert refused(world.prove(proof, "/v1/renew/prove")) is Code.ATTEST_SIGNATURE
    assert len(world.registry.certificates("PACK-1")) == 1


def test_a_copy_of_the_tpm_gives_itself_away(world: World) -> None:
    """Both count their starts on their own; whichever is behind is refused, and the pack is shown."""
    world.enrol()
    world.pack.reboot(start())
    world.renew()
    assert isinstance(world.pack.tpm, MemoryTpm)
    world.pack.tpm._resets -= 1  # the copy has not started that often
    proof = world.pack.proof(world.ask())
    before = world.registry.certificates("PACK-1")
    assert refused(world.prove(proof, "/v1/renew/prove")) is Code.ENROL_IDENTITY
    assert world.registry.certificates("PACK-1") == before
    noted = world.attestation().noted
    assert noted is not None
    assert noted.code is Code.ENROL_IDENTITY


def test_quotes_and_tls_keys_of_a_renewal_are_bound_as_well(world: World) -> None:
    world.enrol()
    old, new = (world.pack.proof(world.ask()) for _ in range(2))
    replayed = replace(new, attest=old.attest, signature=old.signature)
    assert refused(world.prove(replayed, "/v1/renew/prove")) is Code.ATTEST_NONCE
    proof = replace(world.pack.proof(world.ask()), csr=csr(ec.generate_private_key(ec.SECP256R1())))
    assert refused(world.prove(proof, "/v1/renew/prove")) is Code.ATTEST_NONCE
    challenge = world.ask()
    bound = measurement.qualifying_data(
        challenge.nonce, PublicKey.from_cryptography(world.pack.tls.public_key())
    )
    quote = world.pack.tpm.quote(bound, SELECTION[1:])
    proof = replace(world.pack.proof(challenge), attest=quote.attest, signature=quote.signature)
    assert refused(world.prove(proof, "/v1/renew/prove")) is Code.ATTEST_SELECTION
    assert len(world.registry.certificates("PACK-1")) == 1


def test_the_registry_has_neither_token_nor_secrets(world: World) -> None:
    challenge = world.introduce()
    secrets = world.pack.secrets(challenge)
    (session,) = world.registry._sessions
    for secret in (world.token.encode(), challenge.session.encode(), secrets.attestation, secrets.identity):
        assert secret not in session.context
        assert secret not in session.digest


# --- one TPM, two endorsement keys


def test_a_token_that_names_its_tpm_is_good_with_no_other_certificate(world: World) -> None:
    """A TPM has an RSA and an ECC endorsement key. Where each token names one certificate, the other one
    gets nobody enrolled, so that one TPM is one vehicle."""
    mine = world.pack.introduction("")
    named = sha256(mine.certificate).digest()
    plan = [Pack(2, "PACK-2", endorsement=named), Pack(3, "PACK-3", endorsement=OTHER)]
    tokens = inventory.new_tokens(world.registry, plan, NOW)
    foreign = replace(mine, token=tokens["PACK-3"])
    assert refused(world.client.post("/v1/enrol/tpm", foreign.encode())) is Code.ENROL_IDENTITY
    second = replace(world.pack.introduction(tokens["PACK-2"]))  # the same key, certified once more
    assert refused(world.client.post("/v1/enrol/tpm", second.encode())) is Code.ENROL_IDENTITY
    assert world.untouched()
    assert inventory.open_token(world.registry, tokens["PACK-3"], NOW).endorsement == OTHER
    challenge = world.introduce(replace(mine, token=tokens["PACK-2"]))
    world._certificate(world.prove(world.pack.proof(challenge)))
    assert list(world.registry.vehicle_ids()) == ["PACK-2"]


def test_a_token_that_names_a_tpm_is_never_enough_by_itself(world: World) -> None:
    plan = [Pack(2, "PACK-2", endorsement=OTHER), Pack(3, "PACK-3")]
    tokens = inventory.new_tokens(world.registry, plan, NOW, software=True)
    assert [inventory.open_token(world.registry, each, NOW).software for each in tokens.values()] == [
        False,
        True,
    ]


def test_no_token_is_made_for_a_vehicle_that_is_enrolled(world: World) -> None:
    world.enrol()
    assert list(inventory.new_tokens(world.registry, [Pack(2, "PACK-1"), Pack(3, "PACK-2")], NOW)) == [
        "PACK-2"
    ]
