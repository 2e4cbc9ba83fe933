"""The promises of docs/formats/update-link.md, over the fake's firmware and over the real one in the
emulated core: the same conversations, the same answers, the same module afterwards."""

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core import wire
from cellward.core.banks import State
from cellward.core.bootrecord import RecordKeys, verify
from cellward.core.errors import CODE_OF_STATUS, STATUS_OK, Code, ModuleRefused
from cellward.core.image import Version, build, decode
from cellward.core.image.encryption import encrypt, wrap
from cellward.core.ladder import derive, registered, update_public_key
from cellward.core.revocation import Quorum, Revocation, raw_signature
from cellward.core.slots import (
    BANKS,
    BMS_M33,
    BMS_M33_18S,
    OTP_LIFECYCLE,
    OTP_REVOKED,
    Lifecycle,
    Stage,
)
from cellward.core.vault import Calibration, Name
from cellward.ports.module import BenchModule, Outcome
from cellward.ports.updatelink import (
    ANSWER,
    MAX_DATA,
    WRAPPED_KEY_SIZE,
    Answer,
    Request,
    decode_answer,
    encode_request,
)
from cellward.ports.updatevalues import (
    Answerer,
    Identity,
    StageDigest,
    decode_digest,
    decode_identity,
    encode_digest_request,
    encode_image_request,
)
from cellward.vbms.bench import VirtualModule
from cellward.vbms.plant import Order, provision
from cellward.vbms.state import create
from tests.fakes.module import FakeModule
from tests.firmware.rig import KEY, STRANGER, binary, release, remembering
from vectors.forge import Key

SECRET = hashlib.sha256(b"the secret of a module of the tests").digest()
CONTENT_KEY = hashlib.sha256(b"a content key of the tests").digest()[:16]
POINT = update_public_key(derive(SECRET).update_scalar).spki[-65:]
SECOND, DEVELOPER, REVOKED, ROOT = Key.make(), Key.make(), Key.make(), Key.make()
QUORUM = Quorum.of(1, (ROOT.public,))
OLD, NEW = release("1.3.0", 6), release("1.4.0", 7)
NO_ORDER = bytes(4)
ORDER = Order(
    BMS_M33,
    [key.public.key_hash for key in (KEY, SECOND, REVOKED, DEVELOPER)],
    dict(OLD),
    development=0b1000,
    root_quorum=QUORUM.digest,
)


def secret(size: int) -> bytes:
    return SECRET[:size]


@cache
def signed(
    stage: Stage,
    counter: int = 7,
    key: Key = KEY,
    *,
    encrypted: bool = False,
    class_of: Stage | None = None,
    class_id: bytes = b"",
) -> bytes:
    """1.4.0 of this stage, or what calls itself that."""
    unsigned = build(
        binary(f"{stage}-1.4.0.bin"),
        version=Version(1, 4, 0),
        counter=counter,
        hardware=(BMS_M33.vendor_id, class_id or BMS_M33.class_id(class_of or stage)),
        encrypted=encrypted,
    )
    return unsigned.signed(key.public, key.sign(unsigned.digest))


def wrapped(point: bytes = POINT) -> bytes:
    return wrap(CONTENT_KEY, point, ec.derive_private_key(7, ec.SECP256R1()))


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# The two modules ------------------------------------------------------------------------------------


def sold(module: BenchModule) -> None:
    """Provisioned with 1.3.0, one key revoked, one for development; runs; closed to the programmer."""
    assert provision(module, ORDER, secret)
    module.burn(OTP_REVOKED.offset, b"\x04\0\0\0")
    module.power_off()
    module.power_on()
    module.burn(OTP_LIFECYCLE.offset, wire.u32(Lifecycle.PRODUCTION.fuses))
    module.reset()
    status = module.status()
    assert (status.outcome, status.active_bank, status.counter) == (Outcome.RUNNING, "a", 6)


def planted(module: BenchModule) -> None:
    """Still open: what a plant may do over the link, it may do now."""
    assert provision(module, ORDER, secret)
    module.power_off()
    module.power_on()


Prepare = Callable[[BenchModule], None]


@contextmanager
def fake(_: Path, prepare: Prepare = sold) -> Iterator[BenchModule]:
    module = FakeModule(powered=False, outcome=Outcome.OFF)
    prepare(module)
    yield module


@contextmanager
def emulated(prepared: Path, prepare: Prepare = sold) -> Iterator[BenchModule]:
    state = prepared.with_name("talk.state")
    shutil.copy(prepared.with_name(f"{prepare.__name__}.state"), state)
    module = VirtualModule(state, cpu=remembering())
    module.power_on()
    yield module
    module.close()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder's worth of them."""
    folder = tmp_path_factory.mktemp("link")
    for prepare in (sold, planted):
        state = folder / f"{prepare.__name__}.state"
        create(state, BMS_M33, "M0001")
        module = VirtualModule(state, cpu=remembering())
        prepare(module)
        module.power_off()
        module.close()
    return folder / "any"


@dataclass
class Talk:
    """One module, one question after the other."""

    module: BenchModule
    sequence: int = 0

    def frame(self, request: bytes) -> Answer:
        return decode_answer(self.module.exchange(request))

    def ask(self, request: Request, payload: bytes = b"") -> Answer:
        self.sequence = (self.sequence + 1) & 0xFF
        answer = self.frame(encode_request(request, self.sequence, payload))
        assert (answer.type, answer.sequence) == (request | ANSWER, self.sequence)
        assert answer.status == STATUS_OK or answer.payload == b""
        return answer

    def done(self, request: Request, payload: bytes = b"") -> bytes:
        answer = self.ask(request, payload)
        assert answer.status == STATUS_OK, (request.name, CODE_OF_STATUS.get(answer.status))
        return answer.payload

    def refused(self, code: Code, request: Request, payload: bytes = b"") -> None:
        assert CODE_OF_STATUS[self.ask(request, payload).status] is code

    def enter(self) -> None:
        self.done(Request.ENTER_UPDATE)
        assert self.module.status().outcome is Outcome.UPDATING
        self.done(Request.BEGIN, NO_ORDER)
        assert self.state("b") is State.EMPTY

    def send(self, stage: Stage, data: bytes, key: bytes = b"") -> None:
        self.done(Request.IMAGE, encode_image_request(stage, len(data), key))
        for chunk in chunks(data):
            self.done(Request.DATA, chunk)

    def restarts(self, bank: str, counter: int) -> None:
        self.done(Request.RESTART)
        self.runs(bank, counter)

    def runs(self, bank: str, counter: int) -> None:
        status = self.module.status()
        assert (status.outcome, status.active_bank, status.counter) == (Outcome.RUNNING, bank, counter)
        assert status.bank(bank).state is State.CONFIRMED

    def state(self, bank: str) -> State:
        return self.module.status().bank(bank).state

    def digest(self, stage: Stage, *, other: bool = False) -> StageDigest:
        return decode_digest(self.done(Request.DIGEST, encode_digest_request(other, stage)))

    def identity(self) -> Identity:
        return decode_identity(self.done(Request.IDENTIFY))


def chunks(data: bytes, size: int = MAX_DATA) -> list[bytes]:
    return [wire.u32(at) + data[at : at + size] for at in range(0, len(data), size)]


@pytest.fixture(params=[fake, emulated], ids=lambda make: make.__name__)
def talk(request: pytest.FixtureRequest, prepared: Path) -> Iterator[Talk]:
    with request.param(prepared) as module:
        yield Talk(module)


@pytest.fixture(params=[fake, emulated], ids=lambda make: make.__name__)
def plant(request: pytest.FixtureRequest, prepared: Path) -> Iterator[Talk]:
    """A module that is not closed yet."""
    with request.param(prepared, planted) as module:
        yield Talk(module)


# What is told ---------------------------------------------------------------------------------------


def test_who_answers(talk: Talk) -> None:
    told = Identity(Answerer.APP, "a", Lifecycle.PRODUCTION, 6, 0b100, MAX_DATA, "M0001", bytes(65))
    assert talk.identity() == told
    talk.done(Request.ENTER_UPDATE)
    loader = Identity(Answerer.LOADER, "a", Lifecycle.PRODUCTION, 6, 0b100, MAX_DATA, "M0001", POINT)
    assert talk.identity() == loader


def test_what_was_measured_at_boot(talk: Talk) -> None:
    """ROM's and loader's word, under the keys that the plant registered; each boot counts."""
    keys = RecordKeys(registered(SECRET).rom_record, registered(SECRET).loader_record)
    seen = verify(talk.done(Request.BOOT_RECORD), keys, None)
    for record, stage in ((seen.rom, Stage.LOADER), (seen.loader, Stage.APP)):
        assert (record.lifecycle, record.bank, record.counter) == (Lifecycle.PRODUCTION, 0, 6)
        assert (record.version, record.digest) == (Version(1, 3, 0), decode(OLD[stage]).digest)
    assert verify(talk.done(Request.BOOT_RECORD), keys, seen) == seen
    talk.done(Request.RESTART)
    assert verify(talk.done(Request.BOOT_RECORD), keys, seen).boot_count == seen.boot_count + 1
    talk.done(Request.ENTER_UPDATE)
    talk.refused(Code.LINK_STATE, Request.BOOT_RECORD)


def test_what_lies_in_the_banks(talk: Talk) -> None:
    for where in (Answerer.APP, Answerer.LOADER):
        assert talk.identity().where is where
        for stage, data in OLD.items():
            whole = hashlib.sha256(data).digest()
            assert talk.digest(stage) == StageDigest(len(data), whole, Version(1, 3, 0), 6)
            talk.refused(Code.BANK_NOT_BOOTABLE, Request.DIGEST, encode_digest_request(True, stage))
        if where is Answerer.APP:
            talk.done(Request.ENTER_UPDATE)
    for payload in (bytes([2, 0, 0, 0]), bytes([0, 2, 0, 0]), bytes([0, 0, 1, 0]), bytes([0, 0, 0, 1])):
        talk.refused(Code.LINK_FRAME, Request.DIGEST, payload)


# Updates --------------------------------------------------------------------------------------------


def test_a_plain_update(talk: Talk) -> None:
    talk.enter()
    for stage, data in NEW.items():
        talk.send(stage, data)
    assert talk.state("b") is State.EMPTY
    talk.done(Request.FINISH)
    assert talk.state("b") is State.PENDING
    talk.restarts("b", 7)
    for stage, data in NEW.items():
        assert talk.digest(stage).sha256 == hashlib.sha256(data).digest()
        assert talk.digest(stage, other=True).sha256 == hashlib.sha256(OLD[stage]).digest()


def test_an_encrypted_update(talk: Talk) -> None:
    """Signed by the second slot's key. In the bank lie the bytes that were signed."""
    images = {stage: signed(stage, key=SECOND, encrypted=True) for stage in Stage}
    talk.enter()
    for stage, data in images.items():
        talk.send(stage, encrypt(data, CONTENT_KEY), wrapped())
    talk.done(Request.FINISH)
    talk.restarts("b", 7)
    for stage, data in images.items():
        assert talk.digest(stage).sha256 == hashlib.sha256(data).digest()


def test_an_app_alone_over_a_copied_loader(talk: Talk) -> None:
    talk.enter()
    talk.refused(Code.LINK_FRAME, Request.COPY, bytes([2, 0, 0, 0]))
    talk.done(Request.COPY, bytes(4))
    talk.send(Stage.APP, signed(Stage.APP, 6))
    talk.done(Request.FINISH)
    talk.restarts("b", 6)
    assert talk.digest(Stage.LOADER).sha256 == hashlib.sha256(OLD[Stage.LOADER]).digest()


# Forgeries ------------------------------------------------------------------------------------------

FORGED: dict[str, tuple[Code, Callable[[], bytes]]] = {
    "tampered with": (Code.IMAGE_HASH, lambda: flipped(NEW[Stage.APP], 4000)),
    "a wrong key": (Code.IMAGE_KEY_UNKNOWN, lambda: signed(Stage.APP, key=STRANGER)),
    "a revoked key": (Code.IMAGE_KEY_REVOKED, lambda: signed(Stage.APP, key=REVOKED)),
    "a development key": (Code.IMAGE_KEY_REVOKED, lambda: signed(Stage.APP, key=DEVELOPER)),
    "rolled back": (Code.IMAGE_COUNTER, lambda: signed(Stage.APP, 5)),
    "above its loader": (Code.IMAGE_COUNTER, lambda: signed(Stage.APP, 8)),
    "another hardware": (
        Code.IMAGE_HARDWARE,
        lambda: signed(Stage.APP, class_id=BMS_M33_18S.class_id(Stage.APP)),
    ),
    "a loader as app": (Code.IMAGE_HARDWARE, lambda: signed(Stage.APP, class_of=Stage.LOADER)),
    "broken TLVs": (Code.IMAGE_TLV, lambda: flipped(NEW[Stage.APP], decode(NEW[Stage.APP]).signed_size)),
    "a changed signature": (Code.IMAGE_SIGNATURE, lambda: flipped(NEW[Stage.APP], len(NEW[Stage.APP]) - 1)),
}


def test_no_forgery_is_staged(talk: Talk) -> None:
    talk.done(Request.ENTER_UPDATE)
    for code, forge in FORGED.values():
        talk.done(Request.BEGIN, NO_ORDER)
        talk.send(Stage.LOADER, NEW[Stage.LOADER])
        talk.send(Stage.APP, forge())
        talk.refused(code, Request.FINISH)
        assert talk.state("b") is State.EMPTY
        talk.refused(Code.LINK_STATE, Request.FINISH)
    talk.restarts("a", 6)


@pytest.mark.parametrize("case", ["another module's", "changed"])
def test_a_content_key_that_does_not_open(talk: Talk, case: str) -> None:
    data = encrypt(signed(Stage.APP, encrypted=True), CONTENT_KEY)
    other = update_public_key(derive(bytes(32)).update_scalar).spki[-65:]
    bad = flipped(wrapped(), WRAPPED_KEY_SIZE - 1) if case == "changed" else wrapped(other)
    talk.enter()
    talk.refused(Code.IMAGE_ENCRYPTION, Request.IMAGE, encode_image_request(Stage.APP, len(data), bad))
    talk.refused(Code.LINK_STATE, Request.DATA, chunks(data)[0])
    talk.done(Request.IMAGE, encode_image_request(Stage.APP, len(data), wrapped()))
    talk.restarts("a", 6)


def test_encrypted_bytes_that_are_not_what_was_said(talk: Talk) -> None:
    data, key = encrypt(signed(Stage.APP, encrypted=True), CONTENT_KEY), wrapped()
    talk.done(Request.ENTER_UPDATE)
    for image, used in ((data, b""), (NEW[Stage.APP], key)):
        talk.done(Request.BEGIN, NO_ORDER)
        talk.done(Request.IMAGE, encode_image_request(Stage.APP, len(image), used))
        talk.refused(Code.IMAGE_ENCRYPTION, Request.DATA, chunks(image)[0])
        talk.refused(Code.LINK_STATE, Request.DATA, chunks(image)[1])
    talk.done(Request.BEGIN, NO_ORDER)
    talk.send(Stage.LOADER, NEW[Stage.LOADER])
    talk.send(Stage.APP, flipped(data, 2000), key)
    talk.refused(Code.IMAGE_HASH, Request.FINISH)
    assert talk.state("b") is State.EMPTY
    talk.restarts("a", 6)


def test_half_a_release_is_not_staged(talk: Talk) -> None:
    talk.enter()
    talk.send(Stage.LOADER, NEW[Stage.LOADER])
    talk.refused(Code.IMAGE_MAGIC, Request.FINISH)
    talk.restarts("a", 6)


# Order, interruption, resumption ----------------------------------------------------------------------


def test_requests_out_of_their_order_change_nothing(talk: Talk) -> None:
    image = encode_image_request(Stage.APP, len(NEW[Stage.APP]))
    chunk = chunks(NEW[Stage.APP])[0]
    for request, payload in (
        (Request.BEGIN, NO_ORDER),
        (Request.IMAGE, image),
        (Request.DATA, chunk),
        (Request.COPY, bytes(4)),
        (Request.FINISH, b""),
    ):
        talk.refused(Code.LINK_STATE, request, payload)
    talk.done(Request.ABORT)
    talk.done(Request.ENTER_UPDATE)
    for request, payload in (
        (Request.ENTER_UPDATE, b""),
        (Request.BOOT_RECORD, b""),
        (Request.IMAGE, image),
        (Request.DATA, chunk),
        (Request.COPY, bytes(4)),
        (Request.FINISH, b""),
    ):
        talk.refused(Code.LINK_STATE, request, payload)
    talk.done(Request.BEGIN, NO_ORDER)
    talk.refused(Code.LINK_STATE, Request.BEGIN, NO_ORDER)
    talk.refused(Code.LINK_STATE, Request.DATA, chunk)
    talk.restarts("a", 6)


def test_data_comes_in_order(talk: Talk) -> None:
    data = NEW[Stage.APP]
    parts = chunks(data)
    talk.enter()
    talk.send(Stage.LOADER, NEW[Stage.LOADER])
    talk.done(Request.IMAGE, encode_image_request(Stage.APP, len(data)))
    talk.refused(Code.LINK_STATE, Request.DATA, parts[1])
    talk.refused(Code.LINK_FRAME, Request.DATA, parts[0][:20])  # less than a header
    talk.refused(Code.LINK_FRAME, Request.DATA, parts[0][:1001])  # no whole blocks
    talk.done(Request.DATA, parts[0])
    for part in (parts[0], parts[2]):
        talk.refused(Code.LINK_STATE, Request.DATA, part)
    for request, payload in ((Request.FINISH, b""), (Request.COPY, bytes(4))):
        talk.refused(Code.LINK_STATE, request, payload)
    for part in parts[1:]:
        talk.done(Request.DATA, part)
    talk.refused(Code.LINK_STATE, Request.DATA, parts[-1])
    talk.done(Request.FINISH)
    talk.restarts("b", 7)


def test_an_interrupted_update_is_begun_anew(talk: Talk) -> None:
    """By the reset pin, by the power, by itself."""
    parts = chunks(NEW[Stage.APP])
    for interrupt in (talk.module.reset, talk.module.power_off, lambda: talk.done(Request.RESTART)):
        talk.enter()
        talk.send(Stage.LOADER, NEW[Stage.LOADER])
        talk.done(Request.IMAGE, encode_image_request(Stage.APP, len(NEW[Stage.APP])))
        talk.done(Request.DATA, parts[0])
        interrupt()
        talk.module.power_on()
        talk.runs("a", 6)
        assert talk.state("b") is State.EMPTY
        talk.refused(Code.LINK_STATE, Request.DATA, parts[1])
    talk.enter()
    # The loader that arrived whole is still there, and is verified like any other.
    talk.send(Stage.APP, NEW[Stage.APP])
    talk.done(Request.FINISH)
    talk.restarts("b", 7)


def test_an_aborted_update_is_begun_anew(talk: Talk) -> None:
    parts = chunks(NEW[Stage.LOADER])
    talk.enter()
    talk.done(Request.IMAGE, encode_image_request(Stage.LOADER, len(NEW[Stage.LOADER])))
    talk.done(Request.DATA, parts[0])
    talk.done(Request.ABORT)
    talk.refused(Code.LINK_STATE, Request.DATA, parts[1])
    talk.done(Request.BEGIN, NO_ORDER)
    talk.refused(Code.LINK_STATE, Request.DATA, parts[1])
    talk.send(Stage.LOADER, NEW[Stage.LOADER])


def test_a_refused_image_can_be_sent_again(talk: Talk) -> None:
    talk.enter()
    size = BMS_M33.app.size
    for length in (31, size + 1):
        talk.refused(Code.IMAGE_SIZE, Request.IMAGE, encode_image_request(Stage.APP, length))
    talk.done(Request.IMAGE, encode_image_request(Stage.APP, len(NEW[Stage.APP])))
    talk.refused(Code.IMAGE_MAGIC, Request.DATA, wire.u32(0) + flipped(NEW[Stage.APP][:64], 0))
    talk.refused(Code.LINK_STATE, Request.IMAGE, encode_image_request(Stage.APP, len(NEW[Stage.APP])))
    talk.done(Request.BEGIN, NO_ORDER)
    for stage, data in NEW.items():
        talk.send(stage, data)
    talk.done(Request.FINISH)
    talk.restarts("b", 7)


def test_a_staged_bank_is_taken_back(talk: Talk) -> None:
    talk.enter()
    for stage, data in NEW.items():
        talk.send(stage, data)
    talk.done(Request.FINISH)
    talk.done(Request.BEGIN, NO_ORDER)
    assert talk.state("b") is State.EMPTY
    talk.restarts("a", 6)


def test_an_install_order_is_not_taken_yet(talk: Talk) -> None:
    talk.done(Request.ENTER_UPDATE)
    talk.refused(Code.LINK_ORDER, Request.BEGIN, b"\x03\0\0\0abc")
    for payload in (b"\0\0\1\0", b"\x03\0\0\0ab", b"\0\0\0\0a"):
        talk.refused(Code.LINK_FRAME, Request.BEGIN, payload)
    talk.done(Request.BEGIN, NO_ORDER)


def test_closed_contactors_keep_the_app(talk: Talk) -> None:
    talk.module.set_close_request(True)
    talk.module.advance(500)
    assert talk.module.telemetry().contactors_closed
    for request in (Request.ENTER_UPDATE, Request.RESTART):
        talk.refused(Code.UPDATE_CONTACTORS, request)
    assert talk.module.telemetry().contactors_closed
    talk.runs("a", 6)


def test_the_cable_is_no_way_around(talk: Talk) -> None:
    before = [talk.digest(stage) for stage in Stage]
    with pytest.raises(ModuleRefused) as caught:
        talk.module.program("b", BMS_M33.app.offset, bytes(8))
    assert caught.value.code is Code.FLASH_LOCKED
    assert [talk.digest(stage) for stage in Stage] == before


# Vault ----------------------------------------------------------------------------------------------

CALIBRATION = Calibration(-20_000, 500, cell_over_mv=4100, cell_under_mv=3000)
WRITE = bytes(4) + wire.u32(3) + CALIBRATION.encode()


def test_the_plant_calibrates_and_the_next_boot_commits(plant: Talk) -> None:
    plant.refused(Code.VAULT_MISSING, Request.VAULT_READ, bytes(4))
    plant.done(Request.VAULT_WRITE, WRITE)
    plant.refused(Code.LINK_STATE, Request.VAULT_WRITE, WRITE)  # one waits already
    for counter in (1, 2, 3):
        plant.restarts("a", 6)
        told = wire.u32(3) + wire.u32(counter) + CALIBRATION.encode()
        assert plant.done(Request.VAULT_READ, bytes(4)) == told
        plant.done(Request.VAULT_WRITE, WRITE)


def test_what_the_vault_does_not_take_or_tell(plant: Talk) -> None:
    wide = (10**6).to_bytes(4, "little") + WRITE[12:]
    for payload in (
        bytes([2, 0, 0, 0]) + WRITE[4:],
        bytes([0, 1, 0, 0]) + WRITE[4:],
        WRITE[:-1],
        WRITE + b"\0",
        WRITE[:8] + wide,
    ):
        plant.refused(Code.LINK_FRAME, Request.VAULT_WRITE, payload)
    for payload in (bytes([2, 0, 0, 0]), bytes([0, 0, 0, 1]), bytes(5)):
        plant.refused(Code.LINK_FRAME, Request.VAULT_READ, payload)
    plant.done(Request.VAULT_WRITE, bytes([Name.KEYS, 0, 0, 0]) + wire.u32(1) + b"a key of the plant's")
    plant.refused(Code.VAULT_SEAL, Request.VAULT_READ, bytes([Name.KEYS, 0, 0, 0]))
    plant.restarts("a", 6)
    plant.refused(Code.VAULT_SEAL, Request.VAULT_READ, bytes([Name.KEYS, 0, 0, 0]))


def test_a_closed_module_is_not_calibrated(talk: Talk) -> None:
    talk.refused(Code.LIFECYCLE_CLOSED, Request.VAULT_WRITE, WRITE)
    talk.done(Request.ENTER_UPDATE)
    for request, payload in ((Request.VAULT_WRITE, WRITE), (Request.VAULT_READ, bytes(4))):
        talk.refused(Code.LINK_STATE, request, payload)


# Revocation -----------------------------------------------------------------------------------------


def revocation(key: Key, root: Key = ROOT) -> bytes:
    unsigned = Revocation(QUORUM, key.public.key_hash, {})
    return Revocation(QUORUM, key.public.key_hash, {0: raw_signature(root.sign(unsigned.digest))}).encode()


@pytest.mark.parametrize(
    ("name", "revoked", "events"),
    [
        ("good", 0b110, []),
        ("in use", 0b100, [Code.REVOCATION_IN_USE]),
        ("another signer", 0b100, [Code.REVOCATION_SIGNATURE]),
        ("an unknown key", 0b100, [Code.IMAGE_KEY_UNKNOWN]),
    ],
)
def test_a_revocation_is_carried_out_at_the_next_boot(
    talk: Talk, name: str, revoked: int, events: list[Code]
) -> None:
    data = {
        "good": lambda: revocation(SECOND),
        "in use": lambda: revocation(KEY),
        "another signer": lambda: revocation(SECOND, STRANGER),
        "an unknown key": lambda: revocation(STRANGER),
    }[name]()
    talk.done(Request.REVOKE, data)
    assert talk.module.status().revoked == 0b100
    talk.restarts("a", 6)
    assert talk.module.status().revoked == revoked
    told = [event.code for report in talk.module.reports() for event in report.events if event.where == "rom"]
    assert told == events


def test_bytes_that_are_no_revocation_are_not_kept(talk: Talk) -> None:
    talk.refused(Code.REVOCATION_FORMAT, Request.REVOKE, revocation(SECOND)[:-1])
    talk.restarts("a", 6)
    assert talk.module.status().revoked == 0b100


# Frames ---------------------------------------------------------------------------------------------


BAD_FRAMES = {
    b"\x01": (0, 0),
    b"\x01\x05\x00": (0, 0),
    b"\x01\x05\x01\x00": (0x01, 5),  # less than it says
    b"\x01\x05\x00\x00\x00": (0x01, 5),  # more
    b"\x7f\x05\x00\x00": (0x7F, 5),
    b"\x81\x05\x00\x00": (0x81, 5),
    b"\x22\x05\x04\x00\x00\x00\x00\x00": (0x22, 5),  # no data
    b"\x01\x05" + wire.u16(4000) + bytes(4000): (0x01, 5),
}


def test_a_bad_frame_is_answered_and_forgotten(talk: Talk) -> None:
    for where in (Answerer.APP, Answerer.LOADER):
        for frame, (kind, sequence) in BAD_FRAMES.items():
            answer = talk.frame(frame)
            assert (answer.type, answer.sequence) == (kind | ANSWER, sequence)
            assert CODE_OF_STATUS[answer.status] is Code.LINK_FRAME
        assert talk.identity().where is where
        if where is Answerer.APP:
            talk.done(Request.ENTER_UPDATE)


# Both at once ---------------------------------------------------------------------------------------


def walk(chance: random.Random) -> Iterator[tuple[Request, bytes]]:
    """Requests that make sense for a while, and then do not."""
    images = [
        (Stage.LOADER, NEW[Stage.LOADER], b""),
        (Stage.APP, NEW[Stage.APP], b""),
        (Stage.APP, signed(Stage.APP, 5), b""),
        (Stage.APP, flipped(NEW[Stage.APP], 3000), b""),
        (Stage.LOADER, encrypt(signed(Stage.LOADER, encrypted=True), CONTENT_KEY), wrapped()),
    ]
    single = [
        (Request.IDENTIFY, b""),
        (Request.DIGEST, encode_digest_request(True, Stage.APP)),
        (Request.DIGEST, encode_digest_request(False, Stage.LOADER)),
        (Request.BEGIN, NO_ORDER),
        (Request.COPY, bytes(4)),
        (Request.COPY, bytes([1, 0, 0, 0])),
        (Request.FINISH, b""),
        (Request.ABORT, b""),
        (Request.ENTER_UPDATE, b""),
        (Request.RESTART, b""),
        (Request.DATA, wire.u32(0) + NEW[Stage.APP][:64]),
    ]
    yield Request.ENTER_UPDATE, b""
    yield Request.BEGIN, NO_ORDER
    for _ in range(12):
        if chance.random() < 0.5:
            yield chance.choice(single)
            continue
        stage, data, key = chance.choice(images)
        yield Request.IMAGE, encode_image_request(stage, len(data), key)
        parts = chunks(data)
        if chance.random() < 0.2:
            parts.pop(chance.randrange(len(parts)))
        yield from ((Request.DATA, part) for part in parts)
        if chance.random() < 0.5:
            yield Request.FINISH, b""
    yield Request.RESTART, b""


@pytest.mark.parametrize("seed", range(2))
def test_any_conversation_goes_alike(prepared: Path, seed: int) -> None:
    """Every answer of the one is the other's, byte for byte, and so are the banks afterwards."""
    with ExitStack() as stack:
        pair = [Talk(stack.enter_context(make(prepared))) for make in (fake, emulated)]
        for number, (request, payload) in enumerate(walk(random.Random(seed))):
            answers = [talk.ask(request, payload) for talk in pair]
            assert answers[0] == answers[1], (number, request.name)
            views = [held(talk) for talk in pair]
            assert views[0] == views[1], (number, request.name)


def held(talk: Talk) -> tuple[object, ...]:
    status = talk.module.status()
    states = tuple(status.bank(bank).state for bank in BANKS)
    return status.outcome, status.active_bank, status.counter, status.lifecycle, status.revoked, states
