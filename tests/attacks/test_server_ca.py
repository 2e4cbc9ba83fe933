"""Statements on server CAs that are none, or take something back: what was held stays, and the pack's update
goes on. The agent is real, the server is the test's."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cellward.core import envelope, serverca
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.metadata import Role, encode_factory, parse_root
from cellward.core.slots import Stage
from cellward.device import servercas
from cellward.device.fetch import SERVER_CAS_PATH
from cellward.device.memory import SERVER_CAS
from tests.fakes.tls import Authority
from tests.support.pack import Pack
from tests.support.serverca import NEW, OLD, QUORUM, of, signed, stated
from tests.support.uptane import IMAGE_OWNER, Owner, holder

STRANGERS = IMAGE_OWNER.rekeyed(root=("strange-1", "strange-2", "strange-3"))


class Rotated(Pack):
    """A pack whose server offers a statement, if it promises one."""

    promised = 0

    def offer(self, data: bytes, version: int) -> None:
        self.promised = version
        self.server.files[SERVER_CAS_PATH] = data

    def _report(self, body: bytes) -> bytes:
        hints = json.loads(super()._report(body))
        return json.dumps({**hints, **({"server_cas": self.promised} if self.promised else {})}).encode()

    def accepted(self) -> tuple[bytes, bytes | None]:
        return self.memory.server_ca(self.memory.factory()), self.store.read(SERVER_CAS)


@pytest.fixture
def pack() -> Rotated:
    """It holds version 2: both CAs."""
    made = Rotated()
    made.offer(stated(2, OLD, NEW), 2)
    assert made.cycle().refusal is None
    assert made.accepted() == (OLD.pem + NEW.pem, stated(2, OLD, NEW))
    return made


def test_the_old_one_is_accepted_until_a_statement_drops_it(pack: Rotated) -> None:
    asked = len(pack.server.requests)
    pack.cycle()
    assert f"GET {SERVER_CAS_PATH}" not in pack.server.requests[asked:]  # nothing newer, nothing asked
    pack.offer(stated(3, NEW), 3)
    assert pack.cycle().refusal is None
    assert pack.accepted() == (NEW.pem, stated(3, NEW))
    pack.offer(stated(7, NEW, by=("root-1", "root-2", "root-3")), 7)
    assert pack.cycle().refusal is None
    assert pack.memory.server_cas() == serverca.read(stated(7, NEW, by=("root-1", "root-2", "root-3")))


def leaf() -> str:
    return NEW.issue("server", holder("leaf").private.public_key()).decode()


ATTACKS: dict[str, tuple[Callable[[], bytes], Code]] = {
    "one holder alone": (lambda: stated(3, NEW, by=("root-1",)), Code.DOCUMENT_SIGNATURE),
    "nobody": (lambda: stated(3, NEW, by=()), Code.DOCUMENT_SIGNATURE),
    "keys of other roles": (
        lambda: stated(3, NEW, by=("targets-1", "targets-2")),
        Code.DOCUMENT_SIGNATURE,
    ),
    "one holder and a stranger": (
        lambda: stated(3, NEW, by=("root-1", "strange-1")),
        Code.DOCUMENT_SIGNATURE,
    ),
    "another fleet's": (lambda: stated(3, NEW, by=STRANGERS.keys[Role.ROOT][:2]), Code.DOCUMENT_SIGNATURE),
    "a signature over something else": (
        lambda: moved(stated(3, NEW), stated(4, NEW)),
        Code.DOCUMENT_SIGNATURE,
    ),
    "an older version": (lambda: stated(1, OLD, NEW), Code.METADATA_VERSION),
    "other words under the same number": (lambda: stated(2, OLD), Code.METADATA_VERSION),
    "another kind of document": (lambda: stated(3, NEW, kind="release"), Code.DOCUMENT_KIND),
    "no CA": (lambda: of(leaf()), Code.SERVER_CA),
    "no certificate": (lambda: of("-----BEGIN CERTIFICATE-----"), Code.SERVER_CA),
    "two in one": (lambda: of((OLD.pem + NEW.pem).decode()), Code.SERVER_CA),
    "something around it": (lambda: of("see here\n" + NEW.pem.decode()), Code.SERVER_CA),
    "a CA of another CA": (
        lambda: of(OLD._build("sub", NEW.key.public_key(), ca=True).public_bytes(Encoding.PEM).decode()),
        Code.SERVER_CA,
    ),
    "a word more": (
        lambda: signed(envelope.make(serverca.KIND, {"version": 3, "cas": [NEW.pem.decode()], "also": 1})),
        Code.METADATA_FORMAT,
    ),
    "none": (of, Code.METADATA_FORMAT),
    "one twice": (lambda: of(NEW.pem.decode(), NEW.pem.decode()), Code.METADATA_FORMAT),
    "too many": (lambda: stated(3, *(Authority(f"ca {n}") for n in range(5))), Code.METADATA_FORMAT),
    "truncated": (lambda: stated(3, NEW)[:-40], Code.METADATA_FORMAT),
    "followed by more": (lambda: stated(3, NEW) + b" ", Code.METADATA_FORMAT),
}


def moved(signatures: bytes, payload: bytes) -> bytes:
    found = envelope.decode(payload, serverca.KIND, "test", serverca.MAX_SIZE)
    other = envelope.decode(signatures, serverca.KIND, "test", serverca.MAX_SIZE)
    return replace(found, signatures=other.signatures).encode()


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_refused_changes_nothing_and_is_told(pack: Rotated, attack: str) -> None:
    make, code = ATTACKS[attack]
    before, trust = pack.accepted(), pack.snapshot().trust
    pack.offer(make(), 3)
    pack.refused(code)
    assert (pack.accepted(), pack.snapshot().trust) == (before, trust)
    assert pack.told(pack.memory.device().vehicle) == code
    root = parse_root(IMAGE_OWNER.root()).signed
    with pytest.raises((TrustRefused, FormatRefused)) as by_hand:
        servercas.take(pack.memory, root, make())
    assert by_hand.value.code is code
    assert pack.accepted() == before
    pack.offer(stated(3, NEW), 3)
    assert pack.cycle().refusal is None
    assert pack.told(pack.memory.device().vehicle) == ""


def test_a_bad_statement_keeps_nobody_from_his_update(pack: Rotated) -> None:
    pack.offer(stated(3, NEW, by=()), 3)
    pack.release("1.4.0", 7)
    cycle = pack.cycle()
    assert cycle.refusal is not None
    assert set(cycle.installed.values()) == {"1.4.0"}
    assert pack.accepted()[0] == OLD.pem + NEW.pem


def test_a_server_that_sends_without_end(pack: Rotated) -> None:
    before = pack.accepted()
    pack.offer(stated(3, NEW), 3)
    pack.server.endless.add(SERVER_CAS_PATH)
    pack.refused(Code.REQUEST_TOO_LARGE)
    assert pack.accepted() == before


def test_a_new_pack_is_not_led_back_behind_its_factory_data() -> None:
    """Whoever has the old CA's key would like it to accept the statement of the overlap."""
    pack = Rotated()
    factory = replace(pack.factory, server_ca=NEW.pem, server_ca_version=3)
    pack.memory.set_device(pack.memory.device(), encode_factory(factory))
    pack.offer(stated(2, OLD, NEW), 2)
    pack.cycle()
    assert f"GET {SERVER_CAS_PATH}" not in pack.server.requests
    with pytest.raises(TrustRefused) as error:
        servercas.take(pack.memory, parse_root(IMAGE_OWNER.root()).signed, stated(2, OLD, NEW))
    assert error.value.code is Code.METADATA_VERSION
    pack.offer(stated(2, OLD, NEW), 3)  # a promise that is a lie
    pack.refused(Code.METADATA_VERSION)
    assert pack.accepted() == (NEW.pem, None)
    pack.offer(stated(3, NEW), 3)
    assert pack.cycle().refusal is None
    assert pack.accepted() == (NEW.pem, stated(3, NEW))


def test_one_statement_is_for_packs_on_both_sides_of_a_change_of_the_root() -> None:
    new: Owner = IMAGE_OWNER.rekeyed(root=("root-7", "root-8"))
    both = stated(3, NEW, by=(*QUORUM, "root-7", "root-8"))
    for owner in (IMAGE_OWNER, new):
        assert serverca.verify(both, parse_root(owner.root()).signed).version == 3
    with pytest.raises(TrustRefused):
        serverca.verify(stated(3, NEW), parse_root(new.root()).signed)


def test_other_factory_data_bring_their_own_ca(pack: Rotated) -> None:
    device = pack.memory.device()
    pack.memory.set_device(device, pack.memory.factory_data())
    assert pack.accepted()[0] == OLD.pem + NEW.pem  # enrolled again with the same: nothing is taken back
    other = replace(pack.factory, server_ca=Authority("third").pem)
    assert pack.memory.server_ca(other, encode_factory(other)) == other.server_ca  # before they are held
    pack.memory.set_device(device, encode_factory(other))
    assert pack.accepted() == (other.server_ca, None)


def test_a_damaged_file_does_not_lock_the_pack_out(pack: Rotated) -> None:
    pack.store.write(SERVER_CAS, stated(2, OLD, NEW)[:100])
    assert pack.accepted()[0] == pack.factory.server_ca
    assert pack.cycle().refusal is None
    assert pack.accepted() == (OLD.pem + NEW.pem, stated(2, OLD, NEW))
    assert pack.memory.seen("M-0001")[Stage.APP].version == "1.3.0"
