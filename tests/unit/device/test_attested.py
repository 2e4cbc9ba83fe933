"""A controller with a TPM against the server's own enrolment listener, in one process."""

import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest

from cellward import bootstrap
from cellward.cli import devicesession
from cellward.cli.devicesession import RETRY_SECONDS, _Renewing
from cellward.core import serverca
from cellward.core.errors import CellwardError, Code, Refused, TrustRefused, Unavailable
from cellward.core.tpm.keys import identity_key
from cellward.device.attested import Controller
from cellward.device.memory import Attested, Device, Memory
from cellward.device.tamper import Guard
from cellward.device.update import Watch
from cellward.ports.tpm import KeyName
from cellward.rollout import inventory
from tests.attacks.test_attested_enrolment import World
from tests.fakes.store import MemoryStore
from tests.fakes.tls import Authority
from tests.support.maker import APP, LOADER
from tests.support.pack import Pack
from tests.support.serverca import NEW, OLD, stated


class Wire:
    """The Transport to a World; `lost` answers never arrive though the server has acted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lost: set[str] = set()
        self.gone = False
        self.asked: list[str] = []

    def post(self, path: str, body: bytes, limit: int) -> bytes:
        self.asked.append(path)
        if self.gone:
            raise Unavailable(Code.SERVER_UNREACHABLE, path)
        got = self.world.client.post(path, body)
        if got.status_code != 200:
            raise Refused(Code(got.json()["code"]), path)
        if path in self.lost:
            self.lost.remove(path)
            raise Unavailable(Code.SERVER_UNREACHABLE, path)
        return got.content

    def get(self, path: str, limit: int, offset: int = 0) -> Generator[bytes, None, None]:
        raise NotImplementedError


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.lane.close()


@pytest.fixture
def wire(world: World) -> Wire:
    return Wire(world)


def controller(world: World, wire: Wire, vehicle: str = "PACK-1") -> Controller:
    return Controller(world.pack.tpm, world.pack.events, wire, world.ca.pem, vehicle)


def test_enrolment_and_renewal(world: World, wire: Wire) -> None:
    it = controller(world, wire)
    first = it.enrol(world.token, (APP, LOADER))
    second = it.renew()
    assert first.vehicle == second.vehicle == "PACK-1"
    assert first.public_key != second.public_key  # a TLS key for each certificate
    assert it.signer.public_key == world.attestation().identity_key
    digest = bytes(range(32))
    it.signer.public_key.verify(digest, it.signer.sign(digest), code=Code.ATTEST_SIGNATURE, subject="x")


@pytest.mark.parametrize("lost", ["/v1/enrol/tpm", "/v1/enrol/prove"])
def test_an_answer_that_was_lost_is_made_good(world: World, wire: Wire, lost: str) -> None:
    wire.lost = {lost}
    it = controller(world, wire)
    with pytest.raises(Unavailable):
        it.enrol(world.token, (APP, LOADER))
    keys = [world.pack.tpm.key(name) for name in KeyName]
    it.enrol(world.token, (APP, LOADER))
    assert [world.pack.tpm.key(name) for name in KeyName] == keys
    assert list(world.registry.vehicle_ids()) == ["PACK-1"]


def test_a_token_that_is_no_good_stays_the_refusal(world: World, wire: Wire) -> None:
    with pytest.raises(Refused) as refused:
        controller(world, wire).enrol("x", (APP, LOADER))
    assert refused.value.code is Code.ENROL_TOKEN


def test_no_other_refusal_is_taken_for_a_lost_answer(world: World, wire: Wire) -> None:
    it = controller(world, wire)
    it.enrol(world.token, (APP, LOADER))
    with pytest.raises(Refused) as refused:
        it.enrol(inventory.new_token(world.registry, "PACK-1", world.now), ())
    assert refused.value.code is Code.REQUEST_FORMAT
    assert len(world.registry.certificates("PACK-1")) == 1


def test_a_certificate_that_is_not_ours(world: World, wire: Wire) -> None:
    """A server, or who plays it, that answers with an earlier certificate, or one of another CA."""
    it = controller(world, wire)
    it.enrol(world.token, (APP, LOADER))
    other = Controller(it.tpm, it.log, wire, Authority().pem, "PACK-1")
    for each in (other, Controller(it.tpm, it.log, wire, it.device_ca, "PACK-2")):
        with pytest.raises(CellwardError):
            each.renew()
    with pytest.raises(TrustRefused) as refused:
        other.renew()
    assert refused.value.code is Code.ENROL_CERTIFICATE


# --- renewal while the agent runs


class Running:
    """`_Renewing` at times of the test's choice."""

    def __init__(self, world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.wire, self.seconds, self.said = world, wire, 0.0, list[str]()
        monkeypatch.setattr(time, "monotonic", lambda: self.seconds)
        monkeypatch.setattr(
            devicesession, "measurements", lambda device, factory, code: list(world.pack.events)
        )
        self.pinned = list[bytes]()

        def transport(url: str, server_ca: bytes, *_: bytes) -> AbstractContextManager[Wire]:
            self.pinned.append(server_ca)
            return nullcontext(wire)

        monkeypatch.setattr(bootstrap, "transport", transport)
        factory = replace(Pack().factory, device_ca=world.ca.pem)
        memory = Memory(MemoryStore())
        area = world.pack.tpm.key(KeyName.IDENTITY)
        assert area is not None
        attested = Attested("https://server", identity_key(area).key.fingerprint)
        memory.set_device(Device("PACK-1", (), attested), b"factory")
        device = memory.device()
        assert device.attested is not None
        world.pack.tpm.start()  # type: ignore[attr-defined]  # `measure` measures itself
        watch = Watch(self.said.append)
        self.memory = memory
        self.guard = Guard(world.pack.tpm, memory.store)
        self.it = _Renewing(device, device.attested, factory, memory, self.guard, watch, bytes(32))

    def renewals(self) -> int:
        return self.wire.asked.count("/v1/renew/prove")


@pytest.fixture
def running(world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Running:
    world.enrol()
    return Running(world, wire, monkeypatch)


HALF = 6.5 * 3600  # of 12 hours, and the one that is backdated


def test_at_half_of_its_life_and_not_before(running: Running) -> None:
    first = running.it.agent()
    running.seconds = HALF - 1
    assert running.it.agent() is first
    running.seconds = HALF
    second = running.it.agent()
    assert second is not first
    running.seconds += HALF - 1
    assert running.it.agent() is second
    assert running.renewals() == 2


def test_a_server_that_is_gone_does_not_end_what_runs(running: Running) -> None:
    first = running.it.agent()
    running.seconds, running.wire.gone = HALF, True
    assert running.it.agent() is first
    asked = len(running.wire.asked)
    running.seconds += RETRY_SECONDS - 1
    running.it.agent()
    assert len(running.wire.asked) == asked
    running.seconds, running.wire.gone = running.seconds + 1, False
    assert running.it.agent() is not first
    assert "not renewed" in running.said[0]


def test_without_any_certificate_there_is_no_agent(running: Running) -> None:
    running.wire.gone = True
    with pytest.raises(Unavailable):
        running.it.agent()
    running.wire.gone = False
    running.it.agent()


def test_an_unknown_start_asks_for_recovery_and_says_so(running: Running) -> None:
    running.world.maker.agents.clear()
    running.it.agent()
    assert running.world.registry.certificates("PACK-1")[0].recovery
    assert "attest.unknown" in running.said[0]


@pytest.mark.parametrize("why", ["revoked", "copied"])
def test_no_other_refusal_asks_for_recovery(running: Running, why: str) -> None:
    first = running.it.agent()
    if why == "revoked":
        inventory.revoke(running.world.registry, "PACK-1")
    else:
        running.world.pack.tpm._resets -= 1  # type: ignore[attr-defined]
    running.seconds = HALF
    assert running.it.agent() is first
    assert "not renewed" in running.said[0]
    assert running.renewals() == 2
    assert len(running.world.registry.certificates("PACK-1")) == 2


# --- server CAs


def test_other_server_cas_take_effect_with_the_next_cycle(running: Running) -> None:
    first = running.it.agent()
    assert running.it.agent() is first
    assert set(running.pinned) == {running.it.factory.server_ca}
    taken = serverca.read(stated(1, OLD, NEW))
    running.memory.set_server_cas(taken)
    running.pinned.clear()
    renewals = running.renewals()
    second = running.it.agent()
    assert second is not first
    assert running.it.agent() is second
    assert set(running.pinned) == {taken.pem}
    assert running.renewals() == renewals  # the certificate is as good as before
    running.seconds = 24 * 3600.0
    running.pinned.clear()
    running.it.agent()
    assert running.renewals() == renewals + 1
    assert set(running.pinned) == {taken.pem}
