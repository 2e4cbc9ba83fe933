"""The plant line: checks before it begins, finishes what a power cut left, touches nothing finished."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from cellward.core.banks import State
from cellward.core.errors import CellwardError, Code, ModuleRefused
from cellward.core.ladder import RegisteredKeys, registered
from cellward.core.registration import Registration
from cellward.core.slots import (
    BMS_M33,
    BMS_M33_18S,
    DATA_BANK_NAME,
    ERASED,
    OTP_DEVELOPMENT,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_ROOT_QUORUM,
    Fuse,
    Lifecycle,
    Stage,
)
from cellward.ports.module import Outcome, Torn
from cellward.vbms.bench import VirtualModule
from cellward.vbms.plant import Order, provision
from cellward.vbms.plantsecret import NOTE_OFFSET, NOTE_SIZE
from cellward.vbms.state import OTP_OFFSET, create
from tests.fakes.module import FakeModule
from tests.firmware.rig import KEY, STRANGER, release, remembering, sign

IMAGES = dict(release("1.3.0", 6))
KEYS = (KEY.public.key_hash,)
SECRET = bytes(range(32))


def secret(size: int) -> bytes:
    return SECRET[:size]


def refused(code: Code, module: FakeModule, order: Order) -> None:
    before = [bytes(bank) for bank in module.banks], bytes(module.fuses)
    with pytest.raises(CellwardError) as caught:
        provision(module, order, secret)
    assert caught.value.code is code
    assert ([bytes(bank) for bank in module.banks], bytes(module.fuses)) == before


def test_a_provisioned_module_boots_and_hides_its_secret(tmp_path: Path) -> None:
    create(tmp_path / "m", BMS_M33, "M7")
    module = VirtualModule(tmp_path / "m")
    assert provision(module, Order(BMS_M33, KEYS, IMAGES), secret)
    status = module.status()
    assert (status.serial, status.lifecycle, status.slot_keys) == ("M7", Lifecycle.PROVISIONED, KEYS)
    assert status.bank("a").state is State.CONFIRMED
    assert status.bank("b").state is State.EMPTY
    module.power_off()
    (report,) = module.power_on()
    assert (report.outcome, report.counter) == (Outcome.RUNNING, 6)
    module.close()
    raw = (tmp_path / "m").read_bytes()
    at = OTP_OFFSET + OTP_DEVICE_SECRET.offset
    assert raw[at : at + 32] == SECRET  # burned, though no answer of the link ever shows it


@pytest.mark.parametrize(
    ("keys", "images", "code"),
    [
        ((), IMAGES, Code.CONFIG),
        (KEYS * 5, IMAGES, Code.CONFIG),
        ((STRANGER.public.key_hash,), IMAGES, Code.IMAGE_KEY_UNKNOWN),
        (KEYS, {**IMAGES, Stage.LOADER: IMAGES[Stage.APP]}, Code.IMAGE_HARDWARE),
        (KEYS, {**IMAGES, Stage.APP: IMAGES[Stage.LOADER]}, Code.IMAGE_HARDWARE),
        (KEYS, {**IMAGES, Stage.APP: IMAGES[Stage.APP][:-1]}, Code.IMAGE_TLV),
        (KEYS, {**IMAGES, Stage.APP: IMAGES[Stage.APP] + b"\0"}, Code.TRAILING),
        (KEYS, {**IMAGES, Stage.LOADER: bytes(BMS_M33.loader.size + 1)}, Code.FIRMWARE_TOO_LARGE),
        (KEYS, {**IMAGES, Stage.APP: b""}, Code.IMAGE_SIZE),
    ],
)
def test_what_would_not_boot_is_not_begun(
    keys: tuple[bytes, ...], images: dict[Stage, bytes], code: Code
) -> None:
    refused(code, FakeModule(), Order(BMS_M33, keys, images))


def test_a_used_modules_counter_counts() -> None:
    refused(Code.IMAGE_COUNTER, FakeModule(counter=7), Order(BMS_M33, KEYS, IMAGES))


def test_images_of_another_hardware() -> None:
    refused(Code.IMAGE_HARDWARE, FakeModule(hardware=BMS_M33_18S), Order(BMS_M33_18S, KEYS, IMAGES))


def test_a_finished_module_is_left_alone_or_refused() -> None:
    module, order = FakeModule(), Order(BMS_M33, KEYS, IMAGES)
    assert provision(module, order, secret) is True
    done = module.operations
    assert provision(module, order, secret) is False
    assert module.operations == done
    other = {**IMAGES, Stage.APP: sign(b"other" * 100, Stage.APP, "1.3.1", 6)}
    refused(Code.MODULE_STATE, module, Order(BMS_M33, KEYS, other))
    refused(Code.MODULE_STATE, module, Order(BMS_M33, (*KEYS, STRANGER.public.key_hash), IMAGES))


def test_a_bank_that_reads_back_differently_stays_unbootable() -> None:
    class Worn(FakeModule):
        def read(self, bank: str, offset: int, length: int) -> bytes:
            return bytes([super().read(bank, offset, length)[0] ^ 1]) + super().read(bank, offset, length)[1:]

    module = Worn()
    refused_by_flash(module)
    assert module.status().bank("a").state is State.EMPTY
    assert module.status().lifecycle is Lifecycle.BLANK


def refused_by_flash(module: FakeModule) -> None:
    with pytest.raises(ModuleRefused) as caught:
        provision(module, Order(BMS_M33, KEYS, IMAGES), secret)
    assert caught.value.code is Code.FLASH_READBACK


# What is registered --------------------------------------------------------------------------------------


class Desk:
    """The plant's register in memory, and all that was ever in it."""

    def __init__(self) -> None:
        self.held: Registration | None = None
        self.history: list[Registration] = []

    def read(self) -> Registration | None:
        return self.held

    def write(self, registration: Registration) -> None:
        self.held = registration
        self.history.append(registration)


class Dice:
    """Random bytes that a test can foretell and that never repeat."""

    def __init__(self) -> None:
        self.thrown = 0

    def __call__(self, size: int) -> bytes:
        self.thrown += 1
        return bytes((self.thrown * 37 + i * 11) & 0xFF for i in range(size))


ORDER = Order(BMS_M33, (KEY.public.key_hash, b"d" * 32), IMAGES, development=2, root_quorum=b"q" * 32)


def fuse(module: FakeModule, of: Fuse) -> bytes:
    return bytes(module.fuses[of.offset : of.offset + of.size])


def test_the_registration_is_of_the_secret_in_the_fuses_and_holds_none() -> None:
    module, desk = FakeModule(), Desk()
    assert provision(module, ORDER, Dice(), desk)
    secret = fuse(module, OTP_DEVICE_SECRET)
    assert desk.held is not None
    assert desk.held.keys == registered(secret)
    assert desk.held.half == b""
    assert fuse(module, OTP_DEVELOPMENT) == b"\x02\0\0\0"
    assert fuse(module, OTP_ROOT_QUORUM) == b"q" * 32
    assert all(secret.hex().encode() not in held.encode() for held in desk.history)
    assert set(module.read(DATA_BANK_NAME, NOTE_OFFSET, NOTE_SIZE)) == {ERASED}


def test_each_half_alone_says_nothing_of_the_secret() -> None:
    """A one-time pad: the note is a throw of its own."""
    module, desk = FakeModule(), Desk()
    provision(module, ORDER, Dice(), desk)
    begun = desk.history[0]
    secret = fuse(module, OTP_DEVICE_SECRET)
    note = bytes(a ^ b for a, b in zip(begun.half, secret, strict=True))
    dice = Dice()
    assert (dice(32), dice(32)) == (secret, note)
    assert begun.half not in (secret, note)


def cut_before_the_lifecycle(desk: Desk) -> FakeModule:
    """A module whose secret is burned and whose line lost power just then."""
    module = FakeModule()
    burn = module.burn

    def burn_but_lifecycle(offset: int, data: bytes) -> None:
        if offset == OTP_LIFECYCLE.offset:
            raise ModuleRefused(Code.POWER_CUT, "module")
        burn(offset, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "burn", burn_but_lifecycle)
        with pytest.raises(ModuleRefused):
            provision(module, ORDER, Dice(), desk)
    return module


def same_line_only(module: FakeModule, desk: Desk) -> None:
    before = bytes(module.fuses)
    with pytest.raises(CellwardError) as caught:
        provision(module, ORDER, Dice(), desk)
    assert caught.value.code is Code.MODULE_STATE
    assert bytes(module.fuses) == before


def test_a_registration_that_was_lost_is_not_made_up() -> None:
    desk = Desk()
    module = cut_before_the_lifecycle(desk)
    good = desk.held
    assert good is not None
    for held in (None, replace(good, serial="M0002"), replace(good, half=bytes(32)), replace(good, half=b"")):
        desk.held = held
        same_line_only(module, desk)
    desk.held = good
    assert provision(module, ORDER, Dice(), desk)
    assert desk.held == replace(good, half=b"")
    assert desk.held.keys == registered(fuse(module, OTP_DEVICE_SECRET))
    desk.held = None
    same_line_only(module, desk)


def test_a_finished_modules_registration_is_not_written_over() -> None:
    """A blank module with the same serial, at the same desk."""
    desk = Desk()
    provision(FakeModule(), ORDER, Dice(), desk)
    held = desk.held
    same_line_only(FakeModule(), desk)
    assert desk.held == held


# Closing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "desk"),
    [(replace(ORDER, close=True), Desk()), (replace(ORDER, close=True, development=0), None)],
    ids=["development key", "registered nowhere"],
)
def test_what_cannot_be_closed_is_not_begun(order: Order, desk: Desk | None) -> None:
    module = FakeModule()
    with pytest.raises(CellwardError) as caught:
        provision(module, order, Dice(), desk)
    assert caught.value.code is Code.LIFECYCLE_OPEN
    assert not any(module.fuses)
    assert module.operations == 0


CLOSED = Order(BMS_M33, KEYS, IMAGES, root_quorum=b"q" * 32, close=True)


def test_a_module_that_proves_its_keys_is_closed(tmp_path: Path) -> None:
    create(tmp_path / "m", BMS_M33, "M7")
    module, desk = VirtualModule(tmp_path / "m", cpu=remembering()), Desk()
    assert provision(module, CLOSED, Dice(), desk)
    status = module.status()
    assert (status.lifecycle, status.debug_locked) == (Lifecycle.PRODUCTION, True)
    with pytest.raises(ModuleRefused) as caught:
        module.read("a", 0, 8)
    assert caught.value.code is Code.FLASH_LOCKED
    assert provision(module, CLOSED, Dice(), desk) is False
    module.close()


@pytest.mark.parametrize(
    "other",
    [lambda keys: replace(keys, rom_record=bytes(32)), lambda keys: replace(keys, loader_record=bytes(32))],
    ids=["rom", "loader"],
)
def test_a_module_with_other_keys_than_registered_stays_open(
    tmp_path: Path, other: Callable[[RegisteredKeys], RegisteredKeys]
) -> None:
    create(tmp_path / "m", BMS_M33, "M7")
    module, desk = VirtualModule(tmp_path / "m", cpu=remembering()), Desk()
    provision(module, replace(CLOSED, close=False), Dice(), desk)
    assert desk.held is not None
    desk.held = replace(desk.held, keys=other(desk.held.keys))
    with pytest.raises(CellwardError) as caught:
        provision(module, CLOSED, Dice(), desk)
    assert caught.value.code is Code.BOOT_RECORD
    status = module.status()
    assert (status.lifecycle, status.debug_locked) == (Lifecycle.PROVISIONED, False)
    module.close()


# Power cuts ----------------------------------------------------------------------------------------------


class Line:
    """One virtual module at the plant, blank again as often as wanted."""

    def __init__(self, state: Path) -> None:
        create(state, BMS_M33, "M7")
        self.module = VirtualModule(state, cpu=remembering())
        self._blank = bytes(self.flash), bytes(self.fuses)
        self.desk = Desk()
        self.dice = Dice()
        self.order = ORDER

    @property
    def flash(self) -> memoryview:
        return self.module._state.flash

    @property
    def fuses(self) -> memoryview:
        return self.module._state.fuses

    def again(self) -> None:
        self.module.power_off()
        self.flash[:], self.fuses[:] = self._blank
        self.desk = Desk()
        self.module.power_on()

    def run(self) -> bool:
        return provision(self.module, self.order, self.dice, self.desk)

    def left(self) -> tuple[bytes, bytes, object]:
        """All that the line leaves, but for what is random in it."""
        fuses = bytearray(self.fuses)
        start, end = OTP_DEVICE_SECRET.offset, OTP_DEVICE_SECRET.offset + OTP_DEVICE_SECRET.size
        secret = bytes(fuses[start:end])
        fuses[start:end] = bytes(end - start)
        assert self.desk.held is not None
        assert self.desk.held.keys == registered(secret)
        plain = replace(self.desk.held, keys=registered(bytes(32)))
        return bytes(self.flash), bytes(fuses), plain


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    made = Line(tmp_path_factory.mktemp("line") / "m")
    yield made
    made.module.close()


def cuts(total: int) -> Iterator[tuple[int, Torn]]:
    """Every operation torn each way; of the phrases of the images, which are most, every 8th once."""
    for operation in range(1, total + 1):
        inside = 130 < operation < total - 20
        for number, torn in enumerate(Torn):
            if not inside or operation % 24 == 8 * number:
                yield operation, torn


def test_a_line_cut_anywhere_leaves_what_an_uncut_one_leaves(line: Line) -> None:
    """Note, fuses, secret, erases, phrases, trailer, lifecycle: bit for bit, and that boots.

    A cut behind the trailer is followed by a boot of the new images, which commits their counter: there
    the module is booted again instead.
    """
    line.order = ORDER
    line.again()
    before = line.module.status().operations
    assert line.run() is True
    total = line.module.status().operations - before
    whole = line.left()
    boots(line)
    booted = 0
    for operation, torn in cuts(total):
        line.again()
        line.module.cut_power_at(operation, torn)
        with pytest.raises(ModuleRefused) as caught:
            line.run()
        assert caught.value.code is Code.POWER_CUT, (operation, torn)
        line.run()
        assert line.run() is False
        if line.module.status().outcome is Outcome.RUNNING:
            booted += 1
            boots(line)
        else:
            assert line.left() == whole, (operation, torn)
    assert 4 <= booted <= 12


def test_closing_cut_anywhere_is_gone_on_with(line: Line) -> None:
    """The boot that proves the keys (epoch, page, count), the debug lock, the lifecycle.

    Each is torn in one way here, in every way by `cellward lab powercut`.
    """
    line.order = replace(CLOSED, close=False)
    line.again()
    line.run()
    open_module = bytes(line.flash), bytes(line.fuses), line.desk.held
    line.order = CLOSED
    before = line.module.status().operations
    assert line.run() is True
    total = line.module.status().operations - before
    assert total >= 5
    for operation, torn in zip(range(1, total + 1), cycle(Torn), strict=False):
        line.module.power_off()
        line.flash[:], line.fuses[:], line.desk.held = open_module
        line.module.cut_power_at(operation, torn)
        with pytest.raises(ModuleRefused) as caught:
            line.run()
        assert caught.value.code is Code.POWER_CUT
        line.run()
        status = line.module.status()
        assert (status.lifecycle, status.debug_locked) == (Lifecycle.PRODUCTION, True)
    assert line.run() is False
    boots(line)


def boots(line: Line) -> None:
    line.module.power_off()
    (report,) = line.module.power_on()
    assert (report.outcome, report.counter) == (Outcome.RUNNING, 6)


def test_a_line_cut_twice_in_the_secret_still_burns_the_registered_one(line: Line) -> None:
    line.again()
    line.run()
    whole = line.left()
    for number, torn in enumerate(Torn):
        line.again()
        for _ in range(6):
            line.module.cut_power_at(0, torn)
            line.module.power_on()
            cut_in_the_secret(line, torn, number)
        line.module.cut_power_at(0, torn)
        line.run()
        assert line.left() == whole


def cut_in_the_secret(line: Line, torn: Torn, number: int) -> None:
    burn = line.module.burn

    def burn_torn(offset: int, data: bytes) -> None:
        if offset == OTP_DEVICE_SECRET.offset:
            line.module.cut_power_at(number + 1, torn)
        burn(offset, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line.module, "burn", burn_torn)
        with pytest.raises(ModuleRefused):
            line.run()
