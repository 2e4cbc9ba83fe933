"""The update engine on the host, with ASan and UBSan: what it takes, and what is in the flash after
every refusal."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core import wire
from cellward.core.banks import State
from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code
from cellward.core.image import Version, build
from cellward.core.image.encryption import encrypt, wrap
from cellward.core.revocation import Quorum, Revocation, signed_digest
from cellward.core.slots import (
    BMS_M33,
    DATA_PAGE_SIZE,
    OTP_REVOKED,
    OTP_ROOT_QUORUM,
    OTP_SERIAL,
    OTP_SLOT_KEYS,
    TRAILER_MAGIC,
    DataPage,
    Stage,
    flag_phrase,
    whole_phrases,
)
from cellward.ports.updatelink import MAX_DATA, MAX_PAYLOAD, PROTOCOL, Request, decode_answer, encode_request
from cellward.vbms.registers import Milestone, Where
from tests.firmware.host_link import HostLink, Region, Result, begin, chunks, host_link, image
from tests.firmware.rig import KEY, STRANGER, Rig
from vectors.forge import Key

COUNTER = 6
STAGES = {Stage.LOADER: 0, Stage.APP: 1}
CONTENT_KEY = bytes(range(16))


@functools.cache
def module_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def scalar() -> bytes:
    return module_key().private_numbers().private_value.to_bytes(32, "big")


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def wrapped(content_key: bytes = CONTENT_KEY, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    return wrap(content_key, point(key or module_key()), ec.generate_private_key(ec.SECP256R1()))


def firmware(stage: Stage, size: int = 5000) -> bytes:
    """Vectors that pass the entry check, and something behind them."""
    link = BMS_M33.link_address(stage)
    return wire.u32(0x2001_0000) + wire.u32(link + 0x41) + bytes(n * 7 % 251 for n in range(size - 8))


def signed(
    stage: Stage,
    counter: int = COUNTER,
    version: str = "1.4.0",
    *,
    key: Key = KEY,
    encrypted: bool = False,
    size: int = 5000,
    of: Stage | None = None,
) -> bytes:
    unsigned = build(
        firmware(stage, size),
        version=Version.parse(version),
        counter=counter,
        hardware=(BMS_M33.vendor_id, BMS_M33.class_id(of or stage)),
        encrypted=encrypted,
    )
    return unsigned.signed(key.public, key.sign(unsigned.digest))


@pytest.fixture(scope="module")
def process() -> Iterator[HostLink]:
    with host_link() as link:
        yield link


@dataclass
class Bench:
    """A module whose bank 0 runs, confirmed; the engine waits in `where`."""

    link: HostLink
    where: Where = Where.LOADER
    running: dict[Stage, bytes] = field(default_factory=dict)

    def prepare(self) -> "Bench":
        self.link.fresh()
        self.link.poke(Region.FUSES, 0, bytes(Rig.planted(COUNTER).fuses))
        self.link.poke(Region.FUSES, OTP_SERIAL.offset, b"serial of module")
        self.link.poke(Region.FUSES, OTP_REVOKED.offset, wire.u32(0b1000))
        for stage, data in self.running.items():
            self.link.poke(Region.BANK_A, BMS_M33.slot(stage).offset, data)
        # The other bank holds an old release that calls itself confirmed.
        for region in (Region.BANK_A, Region.BANK_B):
            trailer = flag_phrase() + flag_phrase() + TRAILER_MAGIC
            self.link.poke(region, BMS_M33.bank_size - len(trailer), trailer)
        return self.start()

    def start(self) -> "Bench":
        assert self.link.start(self.where, 0, scalar()) is Result.RUNS
        return self

    def refused(self, code: Code, request: Request, payload: bytes = b"") -> None:
        answer = self.link.ask(request, payload)
        assert (answer.status, answer.payload) == (STATUS_WORDS[code], b"")

    def accepted(self, request: Request, payload: bytes = b"") -> bytes:
        answer = self.link.ask(request, payload)
        assert answer.status == STATUS_OK, f"0x{answer.status:08x}"
        return answer.payload

    def send(self, stage: Stage, data: bytes, key: bytes = b"", size: int = MAX_DATA) -> None:
        self.accepted(Request.IMAGE, image(STAGES[stage], len(data), key))
        for chunk in chunks(data, size):
            self.accepted(Request.DATA, chunk)

    def in_slot(self, stage: Stage, size: int) -> bytes:
        return self.link.peek(Region.BANK_B, BMS_M33.slot(stage).offset, size)

    def untouched(self) -> None:
        """Nothing but the other bank was written, and no access was a bus fault."""
        view = self.link.view()
        assert (view.touched[0], view.touched[2], view.faults) == (0, 0, 0)


@pytest.fixture
def bench(process: HostLink) -> Iterator[Bench]:
    bench = Bench(process).prepare()
    yield bench
    bench.untouched()


LOADER, APP = signed(Stage.LOADER), signed(Stage.APP)


# Taking an update ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [Where.ROM, Where.LOADER], ids=lambda where: where.name.lower())
@pytest.mark.parametrize("size", [MAX_DATA, 32, 176, 1040])
def test_a_plain_update_is_staged(process: HostLink, where: Where, size: int) -> None:
    bench = Bench(process, where).prepare()
    assert bench.link.state(1) is State.CONFIRMED
    bench.accepted(Request.BEGIN, begin())
    assert bench.link.state(1) is State.EMPTY
    bench.send(Stage.APP, APP, size=size)
    bench.send(Stage.LOADER, LOADER, size=size)
    assert bench.link.state(1) is State.EMPTY
    bench.accepted(Request.FINISH)
    assert bench.link.state(1) is State.PENDING
    for stage, data in ((Stage.LOADER, LOADER), (Stage.APP, APP)):
        assert bench.in_slot(stage, len(data) + 8) == whole_phrases(data) + bytes([0xFF]) * (
            len(data) + 8 - len(whole_phrases(data))
        )
    bench.untouched()
    assert bench.link.view().events == ()


@pytest.mark.parametrize("size", [MAX_DATA, 48, 1040])
def test_an_encrypted_update_is_plaintext_in_the_flash(bench: Bench, size: int) -> None:
    app = signed(Stage.APP, encrypted=True)
    published = encrypt(app, CONTENT_KEY)
    assert published != app
    bench.accepted(Request.BEGIN, begin())
    bench.send(Stage.LOADER, LOADER)
    bench.send(Stage.APP, published, wrapped(), size=size)
    bench.accepted(Request.FINISH)
    assert bench.in_slot(Stage.APP, len(app)) == app
    assert bench.link.state(1) is State.PENDING


def test_a_stage_is_copied_from_the_running_bank(process: HostLink) -> None:
    bench = Bench(process, running={Stage.LOADER: LOADER}).prepare()
    bench.accepted(Request.BEGIN, begin())
    bench.accepted(Request.COPY, bytes([0, 0, 0, 0]))
    bench.refused(Code.IMAGE_MAGIC, Request.COPY, bytes([1, 0, 0, 0]))
    bench.send(Stage.APP, APP)
    bench.accepted(Request.FINISH)
    assert bench.in_slot(Stage.LOADER, len(LOADER)) == LOADER
    bench.untouched()


def test_the_rom_copies_nothing(process: HostLink) -> None:
    bench = Bench(process, Where.ROM, {Stage.LOADER: LOADER}).prepare()
    bench.accepted(Request.BEGIN, begin())
    bench.refused(Code.LINK_STATE, Request.COPY, bytes(4))


def test_the_largest_app_fits(bench: Bench) -> None:
    whole = len(APP) - 5000
    app = signed(Stage.APP, size=BMS_M33.app.size - whole - 8)
    bench.accepted(Request.BEGIN, begin())
    bench.send(Stage.LOADER, LOADER)
    bench.send(Stage.APP, app)
    bench.accepted(Request.FINISH)


# What it says of itself ---------------------------------------------------------------------------


def test_identity(bench: Bench) -> None:
    told = bench.accepted(Request.IDENTIFY)
    assert told == (
        bytes([PROTOCOL, Where.LOADER, 0, 1])
        + wire.u32(COUNTER)
        + wire.u32(0b1000)
        + wire.u16(MAX_DATA)
        + wire.u16(0)
        + b"serial of module"
        + point(module_key())
    )


def test_digest_of_a_slot(process: HostLink) -> None:
    bench = Bench(process, running={Stage.APP: APP}).prepare()
    told = bench.accepted(Request.DIGEST, bytes([0, 1, 0, 0]))
    version = Version.parse("1.4.0").encode()
    assert told == wire.u32(len(APP)) + hashlib.sha256(APP).digest() + version + wire.u32(COUNTER)
    bench.refused(Code.BANK_NOT_BOOTABLE, Request.DIGEST, bytes([1, 1, 0, 0]))
    for wrong in ([2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]):
        bench.refused(Code.LINK_FRAME, Request.DIGEST, bytes(wrong))


# Refusals -----------------------------------------------------------------------------------------


def staged(bench: Bench, loader: bytes, app: bytes) -> None:
    bench.accepted(Request.BEGIN, begin())
    bench.send(Stage.LOADER, loader)
    bench.send(Stage.APP, app)


BAD_IMAGES = {
    "another key": (LOADER, signed(Stage.APP, key=STRANGER), Code.IMAGE_KEY_UNKNOWN),
    "old": (LOADER, signed(Stage.APP, COUNTER - 1), Code.IMAGE_COUNTER),
    "above its loader": (LOADER, signed(Stage.APP, COUNTER + 1), Code.IMAGE_COUNTER),
    "a loader as app": (LOADER, signed(Stage.APP, of=Stage.LOADER), Code.IMAGE_HARDWARE),
    "flipped": (LOADER, APP[:3000] + bytes([APP[3000] ^ 1]) + APP[3001:], Code.IMAGE_HASH),
    "flipped loader": (LOADER[:3000] + bytes([LOADER[3000] ^ 1]) + LOADER[3001:], APP, Code.IMAGE_HASH),
    "linked for elsewhere": (LOADER, signed(Stage.LOADER, of=Stage.APP), Code.IMAGE_HEADER),
    "no signature": (LOADER, APP[:-100], Code.IMAGE_TLV),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_what_does_not_verify_in_the_flash_is_not_staged(bench: Bench, case: str) -> None:
    loader, app, code = BAD_IMAGES[case]
    staged(bench, loader, app)
    bench.refused(code, Request.FINISH)
    assert bench.link.state(1) is State.EMPTY
    assert [event[1] for event in bench.link.view().events] == [STATUS_WORDS[code]]
    bench.refused(Code.LINK_STATE, Request.FINISH)  # back in IDLE
    bench.accepted(Request.BEGIN, begin())


def test_equal_counters_above_the_fuses_are_taken(bench: Bench) -> None:
    staged(bench, signed(Stage.LOADER, COUNTER + 2), signed(Stage.APP, COUNTER + 1))
    bench.accepted(Request.FINISH)


def test_half_an_update_is_not_staged(bench: Bench) -> None:
    bench.accepted(Request.BEGIN, begin())
    bench.send(Stage.APP, APP)
    bench.refused(Code.IMAGE_MAGIC, Request.FINISH)
    assert bench.link.state(1) is State.EMPTY


WRONG_KEYS = {
    "of another module": lambda: wrapped(key=ec.generate_private_key(ec.SECP256R1())),
    "tag": lambda: _flip(wrapped(), 80),
    "sealed key": lambda: _flip(wrapped(), 112),
    "point": lambda: _flip(wrapped(), 40),
    "form of the point": lambda: _flip(wrapped(), 0),
    "zeros": lambda: bytes(113),
}


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("case", WRONG_KEYS)
def test_a_key_that_does_not_unwrap_erases_nothing(bench: Bench, case: str) -> None:
    bench.accepted(Request.BEGIN, begin())
    before = bench.link.view().operations
    bench.refused(Code.IMAGE_ENCRYPTION, Request.IMAGE, image(1, 5000, WRONG_KEYS[case]()))
    assert bench.link.view().operations == before
    bench.refused(Code.LINK_STATE, Request.DATA, chunks(APP)[0])


def test_a_zeroised_module_unwraps_nothing(process: HostLink) -> None:
    bench = Bench(process).prepare()
    bench.link.off()
    bench.link.start(Where.LOADER)
    assert bench.accepted(Request.IDENTIFY)[-65:] == bytes(65)
    bench.accepted(Request.BEGIN, begin())
    bench.refused(Code.IMAGE_ENCRYPTION, Request.IMAGE, image(1, 5000, wrapped()))


def test_another_content_key_gives_another_digest(bench: Bench) -> None:
    bench.accepted(Request.BEGIN, begin())
    bench.send(Stage.LOADER, LOADER)
    bench.send(Stage.APP, encrypt(signed(Stage.APP, encrypted=True), CONTENT_KEY), wrapped(bytes(16)))
    bench.refused(Code.IMAGE_HASH, Request.FINISH)


def test_flag_and_wrapped_key_go_together(bench: Bench) -> None:
    published = encrypt(signed(Stage.APP, encrypted=True), CONTENT_KEY)
    for data, key in ((published, b""), (APP, wrapped()), (_flip(published, 16), wrapped())):
        bench.accepted(Request.BEGIN, begin())
        bench.accepted(Request.IMAGE, image(1, len(data), key))
        code = Code.IMAGE_ENCRYPTION if data[16] != 5 else Code.IMAGE_FLAGS
        bench.refused(code, Request.DATA, chunks(data)[0])
        assert bench.in_slot(Stage.APP, 4096) == bytes([0xFF]) * 4096
        bench.refused(Code.LINK_STATE, Request.DATA, chunks(data)[0])  # the session is over


@pytest.mark.parametrize("stage", Stage, ids=str)
def test_an_image_larger_than_its_slot_erases_nothing(bench: Bench, stage: Stage) -> None:
    bench.accepted(Request.BEGIN, begin())
    before = bench.link.view().operations
    slot = BMS_M33.slot(stage).size
    for length in (slot + 1, 2**32 - 1, 2**31, 31, 0):
        bench.refused(Code.IMAGE_SIZE, Request.IMAGE, image(STAGES[stage], length))
    assert bench.link.view().operations == before
    bench.accepted(Request.IMAGE, image(STAGES[stage], slot))


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0, 0, Code.IMAGE_MAGIC),
        (8, 31, Code.IMAGE_HEADER),
        (8, 0x1001, Code.IMAGE_HEADER),
        (12, 0, Code.IMAGE_SIZE),
        (12, 0xFFFF_FFFF, Code.IMAGE_SIZE),
        pytest.param(12, len(APP) - 0x200 - 48, Code.IMAGE_SIZE, id="no room for TLVs"),
        (16, 0x10, Code.IMAGE_FLAGS),
    ],
)
def test_a_header_that_does_not_fit_is_refused_at_once(bench: Bench, at: int, value: int, code: Code) -> None:
    size = 2 if at == 8 else 4
    data = APP[:at] + value.to_bytes(size, "little") + APP[at + size :]
    bench.accepted(Request.BEGIN, begin())
    bench.accepted(Request.IMAGE, image(1, len(data)))
    bench.refused(code, Request.DATA, chunks(data)[0])
    assert bench.in_slot(Stage.APP, 64) == bytes([0xFF]) * 64


def test_chunks_come_in_order(bench: Bench) -> None:
    parts = chunks(APP)
    bench.accepted(Request.BEGIN, begin())
    bench.accepted(Request.IMAGE, image(1, len(APP)))
    bench.refused(Code.LINK_STATE, Request.DATA, parts[1])
    bench.accepted(Request.DATA, parts[0])
    bench.refused(Code.LINK_STATE, Request.DATA, parts[0])
    bench.refused(Code.LINK_STATE, Request.DATA, parts[2])
    bench.refused(Code.LINK_FRAME, Request.DATA, wire.u32(MAX_DATA) + bytes(17))
    bench.accepted(Request.DATA, parts[1])
    left = len(APP) - 2 * MAX_DATA
    bench.refused(Code.LINK_FRAME, Request.DATA, wire.u32(2 * MAX_DATA) + bytes(left + 1))
    bench.accepted(Request.DATA, parts[2])
    bench.refused(Code.LINK_STATE, Request.DATA, wire.u32(len(APP)) + bytes(1))
    assert bench.in_slot(Stage.APP, len(APP)) == APP


def test_the_first_chunk_holds_the_header(bench: Bench) -> None:
    bench.accepted(Request.BEGIN, begin())
    bench.accepted(Request.IMAGE, image(1, len(APP)))
    bench.refused(Code.LINK_FRAME, Request.DATA, wire.u32(0) + APP[:16])
    bench.accepted(Request.DATA, wire.u32(0) + APP[:32])


@pytest.mark.parametrize(
    ("request_", "payload", "code"),
    [
        (Request.BEGIN, bytes([0, 0, 1, 0]), Code.LINK_FRAME),
        (Request.BEGIN, bytes([0, 0, 0, 0, 1]), Code.LINK_FRAME),
        (Request.BEGIN, bytes([2, 0, 0, 0, 1]), Code.LINK_FRAME),
        (Request.BEGIN, bytes([1, 0, 0, 0, 1]), Code.LINK_ORDER),
        (Request.IMAGE, image(1, 5000), Code.LINK_STATE),
        (Request.DATA, bytes(4) + APP[:32], Code.LINK_STATE),
        (Request.COPY, bytes(4), Code.LINK_STATE),
        (Request.FINISH, b"", Code.LINK_STATE),
        (Request.BOOT_RECORD, b"", Code.LINK_STATE),
        (Request.ENTER_UPDATE, b"", Code.LINK_STATE),
        (Request.VAULT_READ, bytes(4), Code.LINK_STATE),
        (Request.VAULT_WRITE, bytes(9), Code.LINK_STATE),
        (Request.REVOKE, b"nonsense", Code.REVOCATION_FORMAT),
    ],
)
def test_before_begin_nothing_is_changed(bench: Bench, request_: Request, payload: bytes, code: Code) -> None:
    bench.refused(code, request_, payload)
    assert bench.link.view().operations == 0
    assert bench.link.state(1) is State.CONFIRMED


@pytest.mark.parametrize(
    "payload",
    [
        image(2, 5000),
        image(1, 5000, bytes(112)),
        image(1, 5000)[:-1] + b"\0" + bytes(113),
        bytes([1, 113, 0, 0]) + wire.u32(5000),
        bytes([1, 0, 1, 0]) + wire.u32(5000),
    ],
)
def test_a_malformed_image_request(bench: Bench, payload: bytes) -> None:
    bench.accepted(Request.BEGIN, begin())
    bench.refused(Code.LINK_FRAME, Request.IMAGE, payload)


def test_begin_only_once(bench: Bench) -> None:
    bench.accepted(Request.BEGIN, begin())
    bench.refused(Code.LINK_STATE, Request.BEGIN, begin())
    bench.accepted(Request.IMAGE, image(1, len(APP)))
    bench.refused(Code.LINK_STATE, Request.BEGIN, begin())
    bench.refused(Code.LINK_STATE, Request.FINISH)
    bench.accepted(Request.ABORT)
    bench.refused(Code.LINK_STATE, Request.DATA, chunks(APP)[0])
    bench.accepted(Request.BEGIN, begin())


def test_while_the_running_bank_is_on_trial_the_other_is_left_alone(process: HostLink) -> None:
    bench = Bench(process).prepare()
    bench.link.poke(Region.BANK_A, BMS_M33.bank_size - 24, bytes([0xFF]) * 8)
    bench.refused(Code.LINK_STATE, Request.BEGIN, begin())
    assert bench.link.state(1) is State.CONFIRMED


FRAMES = {
    "one byte": (b"\x01", 0, 0),
    "half a header": (b"\x01\x02\x00", 0, 0),
    "longer than it says": (b"\x01\x07\x00\x00\x00", 1, 7),
    "shorter than it says": (b"\x01\x07\x01\x00", 1, 7),
    "unknown": (b"\x7f\x07\x00\x00", 0x7F, 7),
    "an answer": (b"\x81\x07\x00\x00", 1, 7),
    "too long": (bytes([0x22, 9]) + wire.u16(MAX_PAYLOAD + 1) + bytes(MAX_PAYLOAD + 1), 0x22, 9),
    "the whole buffer": (bytes([0x22, 9]) + wire.u16(4092) + bytes(4092), 0x22, 9),
    "too short for its kind": (bytes([0x22, 9]) + wire.u16(4) + bytes(4), 0x22, 9),
    "too long for its kind": (bytes([0x24, 9]) + wire.u16(1) + bytes(1), 0x24, 9),
}


@pytest.mark.parametrize("case", FRAMES)
def test_malformed_frames_are_answered(bench: Bench, case: str) -> None:
    data, kind, sequence = FRAMES[case]
    result, said = bench.link.frame(data)
    answer = decode_answer(said)
    assert (result, answer.type, answer.sequence) == (Result.RUNS, kind | 0x80, sequence)
    assert (answer.status, answer.payload) == (STATUS_WORDS[Code.LINK_FRAME], b"")


# Revocation ---------------------------------------------------------------------------------------

ROOT = Key.make()
QUORUM = Quorum.of(1, (ROOT.public,))


def revocation(key_hash: bytes = STRANGER.public.key_hash, signer: Key = ROOT) -> bytes:
    r, s = signer.sign_raw(signed_digest(QUORUM, key_hash))
    return Revocation(QUORUM, key_hash, {0: r.to_bytes(32, "big") + s.to_bytes(32, "big")}).encode()


def with_two_keys(process: HostLink, where: Where) -> Bench:
    bench = Bench(process, where).prepare()
    bench.link.poke(Region.FUSES, OTP_REVOKED.offset, bytes(4))
    bench.link.poke(Region.FUSES, OTP_ROOT_QUORUM.offset, QUORUM.digest)
    bench.link.poke(Region.FUSES, OTP_SLOT_KEYS.offset + 32, STRANGER.public.key_hash)
    return bench


def revoked(bench: Bench) -> int:
    return bench.link.peek(Region.FUSES, OTP_REVOKED.offset, 1)[0]


REVOCATION_PAGE = DataPage.REVOCATION.value * DATA_PAGE_SIZE


def test_the_loader_stores_a_revocation(process: HostLink) -> None:
    bench = with_two_keys(process, Where.LOADER)
    bench.accepted(Request.REVOKE, revocation())
    assert bench.link.peek(Region.DATA, REVOCATION_PAGE + 4, len(revocation()))[:104] == revocation()[:104]
    assert revoked(bench) == 0
    assert bench.link.view().touched[:2] == (0, 0)


def test_recovery_carries_a_revocation_out_at_once(process: HostLink) -> None:
    bench = with_two_keys(process, Where.ROM)
    staged(bench, LOADER, signed(Stage.APP, key=STRANGER))
    bench.accepted(Request.REVOKE, revocation())
    assert (revoked(bench), bench.link.peek(Region.DATA, REVOCATION_PAGE, 4)) == (0b10, bytes([0xFF]) * 4)
    assert Milestone.KEY_REVOKED in bench.link.view().milestones
    bench.refused(Code.IMAGE_KEY_REVOKED, Request.FINISH)  # an update that was under way


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (revocation(signer=STRANGER), Code.REVOCATION_SIGNATURE),
        (revocation(bytes(range(32))), Code.IMAGE_KEY_UNKNOWN),
        (revocation()[:-1], Code.REVOCATION_FORMAT),
    ],
)
def test_recovery_refuses_a_bad_revocation(process: HostLink, data: bytes, code: Code) -> None:
    bench = with_two_keys(process, Where.ROM)
    bench.refused(code, Request.REVOKE, data)
    assert (revoked(bench), bench.link.peek(Region.DATA, REVOCATION_PAGE, 4)) == (0, bytes([0xFF]) * 4)
    assert Milestone.KEY_REVOKED not in bench.link.view().milestones


# Time, restart, power -----------------------------------------------------------------------------


def test_the_loader_waits_thirty_seconds(bench: Bench) -> None:
    assert bench.link.idle(2990) is Result.RUNS
    bench.accepted(Request.IDENTIFY)
    assert bench.link.idle(2990) is Result.RUNS
    assert bench.link.idle(20) is Result.RESET


def test_the_rom_waits_for_ever(process: HostLink) -> None:
    bench = Bench(process, Where.ROM).prepare()
    assert bench.link.idle(20_000) is Result.RUNS
    bench.accepted(Request.IDENTIFY)


def test_restart(bench: Bench) -> None:
    result, said = bench.link.frame(encode_request(Request.RESTART, 5))
    assert (result, decode_answer(said).status) == (Result.RESET, STATUS_OK)


def test_the_loader_says_that_it_updates(process: HostLink) -> None:
    for where in (Where.ROM, Where.LOADER):
        reached = Bench(process, where).prepare().link.view().milestones
        assert (Milestone.UPDATE_ENTERED in reached) == (where is Where.LOADER)


@pytest.mark.parametrize("torn", [0, 1, 2])
def test_a_cut_anywhere_leaves_no_bootable_bank_that_is_not_whole(process: HostLink, torn: int) -> None:
    """40 places from the trailer's erase to the magic, and the four operations at its end."""
    bench = Bench(process).prepare()
    staged(bench, LOADER, APP)
    bench.accepted(Request.FINISH)
    total = bench.link.view().operations
    bench.untouched()
    for place in sorted({*range(0, total, total // 40), *range(total - 4, total)}):
        bench = Bench(process).prepare()
        bench.link.cut_after(place, torn)
        assert _until_cut(bench) is Result.POWER_CUT
        state = bench.link.state(1)
        # Nothing of the trailer's erase was done, or the bank is out until the last phrase is whole.
        assert state is State.EMPTY or (place == 0 and state is State.CONFIRMED), (place, state)


def _until_cut(bench: Bench) -> Result:
    requests = [encode_request(Request.BEGIN, 0, begin())]
    for stage, data in ((Stage.LOADER, LOADER), (Stage.APP, APP)):
        requests.append(encode_request(Request.IMAGE, 0, image(STAGES[stage], len(data))))
        requests += [encode_request(Request.DATA, 0, chunk) for chunk in chunks(data)]
    requests.append(encode_request(Request.FINISH, 0))
    for request in requests:
        result, _ = bench.link.frame(request)
        if result is not Result.RUNS:
            return result
    return Result.RUNS
