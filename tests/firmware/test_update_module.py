"""Updates over the link, the vault and the watch over the running bank, on the emulated module."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core import wire
from cellward.core.banks import State, state_of
from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code, ModuleRefused
from cellward.core.image import Version, build, decode
from cellward.core.image.encryption import encrypt, wrap
from cellward.core.ladder import ModuleKeys, derive, update_public_key
from cellward.core.slots import (
    BANKS,
    BMS_M33,
    DATA_BANK,
    DATA_PAGE_SIZE,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_VAULT_CALIBRATION,
    DataPage,
    Lifecycle,
    Stage,
    decode_trailer,
)
from cellward.core.vault import Block, Calibration, Name, encode
from cellward.ports.module import BootReport, Conditions, Outcome, Torn
from cellward.ports.updatelink import Answer, Request, decode_answer, encode_request
from tests.firmware.host_link import begin, chunks, image
from tests.firmware.rig import KEY, STRANGER, Rig, binary, release, sign, told

SECRET = hashlib.sha256(b"the secret of a module of the tests").digest()
KEYS: ModuleKeys = derive(SECRET)
CONTENT_KEY = hashlib.sha256(b"a content key of the tests").digest()[:16]
OLD, NEW = release("1.3.0", 6), release("1.4.0", 7)
STAGES = {Stage.LOADER: 0, Stage.APP: 1}
CALIBRATION = Calibration(-20_000, 500, cell_over_mv=4000, cell_under_mv=3000)
VAULT = DATA_BANK * BMS_M33.bank_size + DataPage.VAULT_CALIBRATION.value * DATA_PAGE_SIZE


def encryptable(stage: Stage, version: str = "1.4.0", counter: int = 7) -> bytes:
    unsigned = build(
        binary(f"{stage}-{version}.bin"),
        version=Version.parse(version),
        counter=counter,
        hardware=(BMS_M33.vendor_id, BMS_M33.class_id(stage)),
        encrypted=True,
    )
    return unsigned.signed(KEY.public, KEY.sign(unsigned.digest))


def wrapped(secret: bytes = SECRET) -> bytes:
    point = update_public_key(derive(secret).update_scalar).spki[-65:]
    return wrap(CONTENT_KEY, point, ec.generate_private_key(ec.SECP256R1()))


@dataclass
class Module:
    """1.3.0 runs in bank a, confirmed; counter 6."""

    rig: Rig

    def ask(self, request: Request, payload: bytes = b"") -> Answer:
        assert self.rig.machine is not None
        return decode_answer(self.rig.machine.exchange(encode_request(request, 9, payload)))

    def done(self, request: Request, payload: bytes = b"") -> bytes:
        answer = self.ask(request, payload)
        assert answer.status == STATUS_OK, (request.name, f"0x{answer.status:08x}")
        return answer.payload

    def refused(self, code: Code, request: Request, payload: bytes = b"") -> None:
        assert self.ask(request, payload).status == STATUS_WORDS[code]

    def enter(self) -> None:
        self.done(Request.ENTER_UPDATE)
        assert self.rig.machine is not None
        assert self.rig.machine.outcome is Outcome.UPDATING
        self.done(Request.BEGIN, begin())

    def send(self, stage: Stage, data: bytes, key: bytes = b"") -> None:
        self.done(Request.IMAGE, image(STAGES[stage], len(data), key))
        for chunk in chunks(data):
            self.done(Request.DATA, chunk)

    def restarts(self, bank: str, counter: int) -> BootReport:
        """What runs in the end."""
        self.done(Request.RESTART)
        return self.runs(bank, counter)

    def runs(self, bank: str, counter: int) -> BootReport:
        assert self.rig.machine is not None
        report = self.rig.machine.reports()[-1]
        assert (report.outcome, report.bank, report.counter) == (Outcome.RUNNING, bank, counter)
        return report

    def state(self, bank: str) -> State:
        return state_of(decode_trailer(bytes(self.rig.trailer(bank))))

    def slot(self, bank: str, stage: Stage, size: int) -> bytes:
        at = BANKS.index(bank) * BMS_M33.bank_size + BMS_M33.slot(stage).offset
        return bytes(self.rig.flash[at : at + size])

    def closes(self) -> bool:
        """Whether the contactors close on a request that is made anew."""
        self.rig.pack.close_requested = False
        self.rig.run(30)
        self.rig.pack.close_requested = True
        self.rig.run(100)
        return self.rig.pack.contactors_closed

    def holds(self, secret: bytes) -> list[str]:
        """Where in the module these bytes are."""
        assert self.rig.machine is not None
        return [name for name, data in self.rig.machine.memory().items() if secret in data]


def planted(lifecycle: Lifecycle = Lifecycle.PROVISIONED) -> Rig:
    rig = Rig.planted(6)
    chance = random.Random(4)
    rig.entropy = lambda: chance.getrandbits(32)
    rig.fuse(OTP_DEVICE_SECRET, SECRET)
    rig.fuse(OTP_LIFECYCLE, wire.u32(lifecycle.fuses))
    return rig


@pytest.fixture
def module() -> Iterator[Module]:
    rig = planted()
    rig.stage("a", OLD, confirmed=True)
    rig.boot()
    yield Module(rig)
    rig.off()


# Updates ------------------------------------------------------------------------------------------


def test_a_plain_update_over_the_link(module: Module) -> None:
    module.enter()
    for stage, data in NEW.items():
        module.send(stage, data)
    assert module.state("b") is State.EMPTY
    module.done(Request.FINISH)
    assert module.state("b") is State.PENDING
    report = module.restarts("b", 7)
    assert [event.code for event in report.events] == []
    assert module.state("b") is State.CONFIRMED
    told = module.done(Request.DIGEST, bytes([0, 1, 0, 0]))
    assert told[4:36] == hashlib.sha256(NEW[Stage.APP]).digest()
    assert module.closes()


def test_an_encrypted_update_over_the_link(module: Module) -> None:
    module.enter()
    for stage in Stage:
        data = encryptable(stage)
        module.send(stage, encrypt(data, CONTENT_KEY), wrapped())
        assert module.slot("b", stage, len(data)) == data
    module.done(Request.FINISH)
    module.restarts("b", 7)
    assert module.closes()


def test_an_app_alone_with_a_copied_loader(module: Module) -> None:
    module.enter()
    module.done(Request.COPY, bytes(4))
    module.refused(Code.LINK_FRAME, Request.COPY, bytes([2, 0, 0, 0]))
    module.send(Stage.APP, release("1.4.0", 6)[Stage.APP])
    module.done(Request.FINISH)
    module.restarts("b", 6)
    assert module.slot("b", Stage.LOADER, len(OLD[Stage.LOADER])) == OLD[Stage.LOADER]


def test_an_app_above_the_copied_loader_is_not_staged(module: Module) -> None:
    module.enter()
    module.done(Request.COPY, bytes(4))
    module.send(Stage.APP, NEW[Stage.APP])
    module.refused(Code.IMAGE_COUNTER, Request.FINISH)
    module.restarts("a", 6)


def test_an_app_that_fails_its_self_test_falls_back(module: Module) -> None:
    module.enter()
    for stage, data in release("1.5.0", 7).items():
        module.send(stage, data)
    module.done(Request.FINISH)
    module.restarts("a", 6)
    assert module.state("b") is State.TRIAL


def test_without_a_request_the_module_comes_back(module: Module) -> None:
    module.enter()
    module.rig.run(29_000)
    module.done(Request.IDENTIFY)
    module.rig.run(31_000)
    module.runs("a", 6)
    assert module.state("b") is State.EMPTY


# Refusals, and what runs afterwards ---------------------------------------------------------------


@pytest.mark.parametrize("case", ["another module's key", "a changed key", "a flipped cipher bit", "no key"])
def test_a_bad_encrypted_image(module: Module, case: str) -> None:
    data, key = encrypt(encryptable(Stage.APP), CONTENT_KEY), wrapped()
    module.enter()
    module.send(Stage.LOADER, NEW[Stage.LOADER])
    request = image(1, len(data), key)
    if case == "another module's key":
        module.refused(Code.IMAGE_ENCRYPTION, Request.IMAGE, image(1, len(data), wrapped(bytes(32))))
    elif case == "a changed key":
        module.refused(Code.IMAGE_ENCRYPTION, Request.IMAGE, request[:-1] + bytes([request[-1] ^ 1]))
    elif case == "no key":
        module.done(Request.IMAGE, image(1, len(data)))
        module.refused(Code.IMAGE_ENCRYPTION, Request.DATA, chunks(data)[0])
    else:
        module.send(Stage.APP, data[:2000] + bytes([data[2000] ^ 4]) + data[2001:], key)
        module.refused(Code.IMAGE_HASH, Request.FINISH)
    assert module.state("b") is State.EMPTY
    module.restarts("a", 6)


@pytest.mark.parametrize("case", ["stranger", "old"])
def test_an_image_that_is_not_ours_or_old(module: Module, case: str) -> None:

    app = binary("app-1.4.0.bin")
    bad = (
        sign(app, Stage.APP, "1.4.0", 7, STRANGER) if case == "stranger" else sign(app, Stage.APP, "1.4.0", 5)
    )
    module.enter()
    module.send(Stage.LOADER, NEW[Stage.LOADER])
    module.send(Stage.APP, bad)
    code = Code.IMAGE_KEY_UNKNOWN if case == "stranger" else Code.IMAGE_COUNTER
    module.refused(code, Request.FINISH)
    module.restarts("a", 6)


def test_chunks_in_another_order(module: Module) -> None:
    parts = chunks(NEW[Stage.APP])
    module.enter()
    module.done(Request.IMAGE, image(1, len(NEW[Stage.APP])))
    module.done(Request.DATA, parts[0])
    module.refused(Code.LINK_STATE, Request.DATA, parts[2])
    module.refused(Code.LINK_STATE, Request.DATA, parts[0])
    module.done(Request.DATA, parts[1])


def test_closed_contactors_keep_the_app_running(module: Module) -> None:
    assert module.closes()
    module.refused(Code.UPDATE_CONTACTORS, Request.ENTER_UPDATE)
    module.refused(Code.UPDATE_CONTACTORS, Request.RESTART)
    assert module.rig.pack.contactors_closed
    module.runs("a", 6)


def test_the_content_key_is_nowhere_afterwards(module: Module) -> None:
    data = encrypt(encryptable(Stage.APP), CONTENT_KEY)
    module.enter()
    module.done(Request.IMAGE, image(1, len(data), wrapped()))
    assert module.holds(CONTENT_KEY) == ["ram"]
    for chunk in chunks(data):
        module.done(Request.DATA, chunk)
    assert module.holds(CONTENT_KEY) == []
    module.done(Request.IMAGE, image(1, len(data), wrapped()))
    module.done(Request.ABORT)
    assert module.holds(CONTENT_KEY) == []
    assert module.holds(KEYS.update_scalar) == ["ram"]
    module.restarts("a", 6)
    assert module.holds(KEYS.update_scalar) == []


# Power cuts ---------------------------------------------------------------------------------------


def whole_update(module: Module) -> None:
    module.done(Request.ENTER_UPDATE)
    module.done(Request.BEGIN, begin())
    for stage, data in NEW.items():
        module.send(stage, data)
    module.done(Request.FINISH)
    module.done(Request.RESTART)


def cut_short(rig: Rig) -> None:
    """An update until the power goes, before or after the restart was answered."""
    try:
        whole_update(Module(rig))
    except ModuleRefused as refusal:
        assert refusal.code is Code.POWER_CUT
    assert rig.machine is not None
    assert not rig.machine.powered


def test_power_cuts_in_the_middle() -> None:
    """Whatever is left, the module runs one of the two releases, whole. `cellward lab powercut` cuts at
    every operation."""
    rig = planted()
    rig.stage("a", OLD, confirmed=True)
    rig.boot()
    before = rig.cuts.operations
    whole_update(Module(rig))
    total = rig.cuts.operations - before
    rig.off()
    ran = []
    for place, torn in (
        (1, Torn.HALF),
        (total // 2, Torn.NONE),
        (total - 3, Torn.GARBAGE),
        (total, Torn.HALF),
    ):
        rig = planted()
        rig.stage("a", OLD, confirmed=True)
        rig.boot()
        rig.cuts.order(place, torn)
        cut_short(rig)
        rig.boot()
        assert rig.machine is not None
        report = rig.machine.reports()[-1]
        assert report.outcome is Outcome.RUNNING
        ran.append((report.bank, report.counter))
        rig.off()
    assert ran[:2] == [("a", 6), ("a", 6)]
    assert set(ran) <= {("a", 6), ("b", 7)}


# Recovery -----------------------------------------------------------------------------------------


def test_recovery_takes_a_signed_release_over_the_link() -> None:
    rig = planted()
    rig.stage("a", OLD, confirmed=True)
    rig.flash[BMS_M33.app.offset + 0x400] ^= 1
    rig.boot()
    module = Module(rig)
    assert rig.machine is not None
    assert rig.machine.outcome is Outcome.RECOVERY
    identity = module.done(Request.IDENTIFY)
    assert (identity[1], identity[-65:]) == (1, update_public_key(KEYS.update_scalar).spki[-65:])
    module.refused(Code.LINK_STATE, Request.ENTER_UPDATE)
    module.done(Request.BEGIN, begin())
    module.refused(Code.LINK_STATE, Request.COPY, bytes(4))
    module.send(Stage.LOADER, NEW[Stage.LOADER])
    module.send(Stage.APP, encrypt(encryptable(Stage.APP), CONTENT_KEY), wrapped())
    assert not rig.pack.contactors_closed
    module.done(Request.FINISH)
    module.restarts("b", 7)
    rig.off()


@pytest.mark.parametrize(
    ("confirmed", "active"), [("a", "a"), ("b", "b"), ("ab", "b"), ("", "b")], ids=["a", "b", "both", "none"]
)
def test_recovery_leaves_the_bank_that_was_good(confirmed: str, active: str) -> None:
    """`active` is the one that is not written."""
    rig = planted()
    for bank in confirmed:
        rig.stage(bank, {**OLD, Stage.APP: OLD[Stage.APP][:-1] + b"?"}, confirmed=True)
    rig.boot()
    assert BANKS[Module(rig).done(Request.IDENTIFY)[2]] == active
    rig.off()


# While it runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", Stage, ids=str)
def test_a_bit_that_flips_while_it_runs_opens_the_contactors(module: Module, stage: Stage) -> None:
    machine = module.rig.machine
    assert machine is not None
    assert module.closes()
    module.rig.run(1_000)
    assert module.rig.pack.contactors_closed
    # The last byte of the payload: data, not code.
    size = decode(OLD[stage]).header_size + decode(OLD[stage]).payload_size
    machine.flip_bit(0, BMS_M33.slot(stage).offset + size - 1, 3)
    module.rig.run(1_000)
    assert not module.rig.pack.telemetry().contactors_closed
    report = machine.reports()[-1]
    assert told(report) == [("app", "a", Code.BOOT_INTEGRITY)]
    machine.flip_bit(0, BMS_M33.slot(stage).offset + size - 1, 3)
    assert not module.closes()


# Vault --------------------------------------------------------------------------------------------


def block(counter: int, keys: ModuleKeys = KEYS) -> bytes:
    return encode(Name.CALIBRATION, keys.vault, Block(1, counter, CALIBRATION.encode()), bytes(range(16)))


def test_calibration_at_the_plant_is_in_force_from_the_next_boot_on(module: Module) -> None:
    module.refused(Code.VAULT_MISSING, Request.VAULT_READ, bytes(4))
    module.done(Request.VAULT_WRITE, bytes(4) + wire.u32(3) + CALIBRATION.encode())
    module.refused(Code.LINK_STATE, Request.VAULT_WRITE, bytes(4) + wire.u32(4) + CALIBRATION.encode())
    report = module.restarts("a", 6)
    assert "vault_committed" in [milestone.name for milestone in report.milestones]
    assert module.done(Request.VAULT_READ, bytes(4)) == wire.u32(3) + wire.u32(1) + CALIBRATION.encode()
    assert module.closes()
    module.rig.pack.set_conditions(Conditions(soc_permille=1000))  # 4.1 V and more
    module.rig.run(100)
    assert not module.rig.pack.contactors_closed


@pytest.mark.parametrize(
    ("pages", "fuses", "code"),
    [
        ((block(1)[:50] + b"\0" + block(1)[51:], b""), 1, Code.VAULT_SEAL),
        ((block(1, derive(bytes(32))), b""), 1, Code.VAULT_SEAL),
        ((block(1), block(2)[:-1] + b"\0"), 2, Code.VAULT_SEAL),
        ((block(1), b""), 2, Code.VAULT_COUNTER),
        ((b"", b""), 0, Code.VAULT_MISSING),
    ],
    ids=["edited", "of another module", "newer one edited", "old", "erased"],
)
def test_a_bad_calibration_in_the_field(pages: tuple[bytes, bytes], fuses: int, code: Code) -> None:
    rig = planted(Lifecycle.PRODUCTION)
    rig.fuse(OTP_VAULT_CALIBRATION, bytes([(1 << fuses) - 1]))
    rig.stage("a", OLD, confirmed=True)
    for number, data in enumerate(pages):
        at = VAULT + number * DATA_PAGE_SIZE
        rig.flash[at : at + len(data)] = data
    (report,) = rig.boot()
    assert (report.outcome, told(report)) == (Outcome.RUNNING, [("app", "a", code)])
    module = Module(rig)
    assert module.closes()
    rig.pack.set_conditions(Conditions(load_ma=200_000))  # within 250 A, not within three quarters of it
    rig.run(100)
    assert not rig.pack.contactors_closed
    rig.off()


@pytest.mark.parametrize("lifecycle", [Lifecycle.TAMPERED, Lifecycle.RETIRED], ids=str)
def test_a_module_that_is_out_of_service_never_closes(lifecycle: Lifecycle) -> None:
    rig = planted(lifecycle)
    if lifecycle is Lifecycle.TAMPERED:
        rig.fuse(OTP_DEVICE_SECRET, bytes([0xFF]) * 32)
    rig.stage("a", OLD, confirmed=True)
    rig.boot()
    module = Module(rig)
    module.runs("a", 6)
    assert not module.closes()
    assert module.done(Request.IDENTIFY)[3] == list(Lifecycle).index(lifecycle)
    rig.off()
