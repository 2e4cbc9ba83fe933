"""The plant line for one module: fuses, first images, first trailer. Every step can be repeated.

The lifecycle is burned last: a module whose line lost power is still blank, and the same command
finishes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cellward.core.banks import Event, State
from cellward.core.errors import Code, FormatRefused, ModuleRefused, PolicyRefused
from cellward.core.image import Trust, VerifiedImage, decode, verify
from cellward.core.slots import (
    BANKS,
    IMAGE_OK_FROM_END,
    MAGIC_FROM_END,
    OTP_APP_CLASS,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_LOADER_CLASS,
    OTP_SERIAL,
    OTP_SLOT_KEY_COUNT,
    OTP_SLOT_KEYS,
    OTP_VENDOR_ID,
    TRAILER_MAGIC,
    Fuse,
    Hardware,
    Lifecycle,
    Stage,
    flag_phrase,
    whole_phrases,
)
from cellward.ports.module import BenchModule, Module, ModuleStatus, Outcome

BANK = BANKS[0]


@dataclass(frozen=True)
class Order:
    """What the plant makes of a blank module. `images` are whole signed images."""

    hardware: Hardware
    key_hashes: Sequence[bytes]
    images: dict[Stage, bytes] = field(repr=False)


def provision(module: BenchModule, order: Order, secret: Callable[[int], bytes]) -> bool:
    """Burn, write, read back, plant. `secret` makes that many random bytes.

    Returns False when the module already was what was ordered. Raises what image verification
    raises, firmware.too_large, PolicyRefused (module.state) for a provisioned module that differs,
    ModuleRefused (flash.*, otp.*, power.cut).
    """
    status = module.status()
    check(order, status)
    if status.lifecycle is Lifecycle.PROVISIONED:
        _check_same(module, order, status)
        return False
    if status.outcome in (Outcome.OFF, Outcome.POWER_CUT):
        module.power_on()
    for fuse, value in _identity(order, status):
        module.burn(fuse.offset, value)
    module.burn(OTP_DEVICE_SECRET.offset, secret(OTP_DEVICE_SECRET.size))
    if not _holds(module, order) or status.bank(BANK).state is not State.CONFIRMED:
        write_bank(module, order.hardware, BANK, order.images, Event.PLANT)
    module.burn(OTP_LIFECYCLE.offset, Lifecycle.PROVISIONED.fuses.to_bytes(OTP_LIFECYCLE.size, "little"))
    return True


def check(order: Order, status: ModuleStatus) -> tuple[VerifiedImage, ...]:
    """Both images as ROM and loader will see them: a module that would not boot is not begun."""
    if not 0 < len(order.key_hashes) <= OTP_SLOT_KEY_COUNT:
        raise PolicyRefused(
            Code.CONFIG,
            "slot keys",
            expected=f"1 to {OTP_SLOT_KEY_COUNT} keys",
            found=f"{len(order.key_hashes)}",
        )
    verified = []
    for stage, data in order.images.items():
        size = order.hardware.slot(stage).size
        if len(data) > size:
            raise FormatRefused(
                Code.FIRMWARE_TOO_LARGE,
                f"{stage} image",
                expected=f"at most {size} bytes",
                found=f"{len(data)}: {len(data) - size} too many",
            )
        trust = Trust(
            keys=dict.fromkeys(order.key_hashes),
            counter=status.counter,
            hardware=(order.hardware.vendor_id, order.hardware.class_id(stage)),
        )
        verified.append(verify(decode(data, f"{stage} image"), trust, f"{stage} image"))
    return tuple(verified)


def _identity(order: Order, status: ModuleStatus) -> tuple[tuple[Fuse, bytes], ...]:
    hardware = order.hardware
    keys = b"".join(order.key_hashes).ljust(OTP_SLOT_KEYS.size, b"\0")
    return (
        (OTP_SLOT_KEYS, keys),
        (OTP_VENDOR_ID, hardware.vendor_id),
        (OTP_LOADER_CLASS, hardware.class_id(Stage.LOADER)),
        (OTP_APP_CLASS, hardware.class_id(Stage.APP)),
        (OTP_SERIAL, status.serial.encode("ascii").ljust(OTP_SERIAL.size, b"\0")),
    )


def write_bank(
    module: Module, hardware: Hardware, bank: str, images: Mapping[Stage, bytes], mark: Event
) -> None:
    """Whole images and a trailer, with the programming cable and without a question asked.

    `mark` is Event.PLANT for a confirmed bank, Event.STAGE for one to be tried. The
    trailer page is erased first and written last: a half-written bank is never bootable.
    Raises ModuleRefused (flash.*, power.cut).
    """
    module.erase_page(bank, hardware.trailer.offset)
    for stage, data in images.items():
        slot, padded = hardware.slot(stage), whole_phrases(data)
        for offset in range(slot.offset, slot.offset + len(padded), hardware.page_size):
            module.erase_page(bank, offset)
        module.program(bank, slot.offset, padded)
        _read_back(module, bank, stage, slot.offset, padded)
    if mark is Event.PLANT:
        module.program(bank, hardware.bank_size - IMAGE_OK_FROM_END, flag_phrase())
    module.program(bank, hardware.bank_size - MAGIC_FROM_END, TRAILER_MAGIC)


def _read_back(module: Module, bank: str, stage: Stage, offset: int, data: bytes) -> None:
    if module.read(bank, offset, len(data)) != data:
        raise ModuleRefused(
            Code.FLASH_READBACK, f"{stage} in bank {bank}", expected="what was written", found="other bytes"
        )


def _holds(module: BenchModule, order: Order) -> bool:
    return all(
        module.read(BANK, order.hardware.slot(stage).offset, len(data)) == data
        for stage, data in order.images.items()
    )


def _check_same(module: BenchModule, order: Order, status: ModuleStatus) -> None:
    if status.slot_keys != tuple(order.key_hashes) or not _holds(module, order):
        raise PolicyRefused(
            Code.MODULE_STATE,
            f"module {status.serial}",
            expected="a blank module, or one with the same keys and images",
            found="a provisioned one with others",
            advice="a module in the field is updated, not provisioned again",
        )
