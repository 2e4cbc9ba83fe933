"""The plant line: checks before it begins, finishes what a power cut left, touches nothing finished."""

from pathlib import Path

import pytest

from cellward.core.banks import State
from cellward.core.errors import CellwardError, Code, ModuleRefused
from cellward.core.slots import BMS_M33, BMS_M33_18S, OTP_DEVICE_SECRET, Lifecycle, Stage
from cellward.ports.module import Outcome, Torn
from cellward.vbms.bench import VirtualModule
from cellward.vbms.plant import Order, provision
from cellward.vbms.state import OTP_OFFSET, create
from tests.fakes.module import FakeModule
from tests.firmware.rig import KEY, STRANGER, release, sign

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


def blank(path: Path) -> VirtualModule:
    create(path, BMS_M33, "M7")
    module = VirtualModule(path)
    module.power_on()
    return module


def test_a_line_cut_anywhere_is_finished_by_the_same_command(tmp_path: Path) -> None:
    """In the fuses, in an erase, in a write, in the trailer and in the last fuse; torn each way."""
    order = Order(BMS_M33, KEYS, IMAGES)
    module = blank(tmp_path / "m")
    provision(module, order, secret)
    total = module.status().operations
    module.close()
    cuts = (1, 5, 20, 31, 36, 40, 44, 100, total // 2, total - 2, total - 1, total)
    for number, operation in enumerate(cuts):
        module = blank(tmp_path / f"m{number}")
        module.cut_power_at(operation, list(Torn)[number % 3])
        with pytest.raises(ModuleRefused) as caught:
            provision(module, order, secret)
        assert caught.value.code is Code.POWER_CUT
        if module.status().lifecycle is Lifecycle.BLANK:
            assert provision(module, order, secret) is True
        assert provision(module, order, secret) is False
        assert module.status().bank("a").state is State.CONFIRMED
        module.close()
        (tmp_path / f"m{number}").unlink()
