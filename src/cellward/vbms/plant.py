"""The plant line for one module. Every step can be repeated; a line cut anywhere is gone on with.

::

    BLANK         keys are registered, the secret is noted                   vbms/plantsecret.py
                  slot keys, development bits, root quorum, ids, serial      burned
                  device secret                                              burned
                  first images, then the trailer                             written, read back
                  the images' security counter                               burned: no boot has to raise it
    PROVISIONED   the plant's note is erased; the module boots and proves what was registered
                  debug lock                                                 burned
    PRODUCTION    closed: from here on the update link is the only way in

Each lifecycle is burned last of its block, so that it says that all before it is done; a torn burn of it
reads as the step or as none.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cellward.core import bootrecord, published
from cellward.core.banks import Event, State
from cellward.core.errors import Code, FormatRefused, ModuleRefused, PolicyRefused
from cellward.core.image import Trust, VerifiedImage, decode, verify
from cellward.core.ladder import SECRET_SIZE, registered
from cellward.core.registration import Registration
from cellward.core.slots import (
    BANKS,
    IMAGE_OK_FROM_END,
    MAGIC_FROM_END,
    OTP_APP_CLASS,
    OTP_COUNTER,
    OTP_DEBUG_LOCK,
    OTP_DEVELOPMENT,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_LOADER_CLASS,
    OTP_ROOT_QUORUM,
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
from cellward.ports.updatelink import Dialogue, Request
from cellward.vbms import plantsecret
from cellward.vbms.plantsecret import Register

BANK = BANKS[0]
NO_QUORUM = bytes(OTP_ROOT_QUORUM.size)
LOCKED = b"\x01\0\0\0"


@dataclass(frozen=True)
class Order:
    """What the plant makes of a blank module. `images` are whole signed images.

    `key_hashes` fill the slots in their order; bit n of `development` makes slot n's a development
    key, which a closed module does not take. `root_quorum` is core.revocation.Quorum's digest; zeros
    let nobody revoke a slot key, ever. `close` ends in PRODUCTION.
    """

    hardware: Hardware
    key_hashes: Sequence[bytes]
    images: dict[Stage, bytes] = field(repr=False)
    development: int = 0
    root_quorum: bytes = NO_QUORUM
    close: bool = False


def provision(
    module: BenchModule,
    order: Order,
    secret: Callable[[int], bytes],
    register: Register | None = None,
) -> bool:
    """Do what is left of the line. `secret` makes that many random bytes.

    `register` keeps the registration, and closing needs one. Without it nobody knows the module's keys,
    and each line that is gone on with adds bits to its secret: for benches.
    Returns False when the module already was what was ordered. Raises what image verification raises,
    firmware.too_large, PolicyRefused: lifecycle.open for an order that would close too early,
    module.state for a module or a registration that is not this order's, config.invalid; ModuleRefused
    (flash.*, otp.*, power.cut), TrustRefused (boot.record) for a module that does not prove its keys.
    """
    status = module.status()
    check(order, status)
    _check_close(order, status, register)
    if status.lifecycle not in (Lifecycle.BLANK, Lifecycle.PROVISIONED):
        _check_finished(order, status, register)
        return False
    if status.lifecycle is Lifecycle.BLANK:
        _make(module, order, status, secret, register)
        _burn_lifecycle(module, Lifecycle.PROVISIONED)
    else:
        _check_same(module, order, status)
    if register is not None:
        plantsecret.finish(module, _registration(order, status), register)
    if order.close and register is not None:
        _close(module, order, register)
    return status.lifecycle is not (Lifecycle.PRODUCTION if order.close else Lifecycle.PROVISIONED)


def _make(
    module: BenchModule,
    order: Order,
    status: ModuleStatus,
    secret: Callable[[int], bytes],
    register: Register | None,
) -> None:
    """A blank module, up to its first trailer."""
    module.power_on()
    if register is None:
        value = secret(OTP_DEVICE_SECRET.size)
    else:
        value = plantsecret.prepare(module, _registration(order, status), register, secret)
    for fuse, wanted in (*_identity(order, status), (OTP_DEVICE_SECRET, value)):
        module.burn(fuse.offset, wanted)
    if not _holds(module, order) or status.bank(BANK).state is not State.CONFIRMED:
        write_bank(module, order.hardware, BANK, order.images, Event.PLANT)
    module.burn(OTP_COUNTER.offset, _thermometer(order))


def _thermometer(order: Order) -> bytes:
    """What the ROM would raise the counter to at the first boot, at the price of verifying twice."""
    counter = min(decode(data).counter or 0 for data in order.images.values())
    return ((1 << counter) - 1).to_bytes(OTP_COUNTER.size, "little")


def _close(module: BenchModule, order: Order, register: Register) -> None:
    held = register.read()
    if held is not None:
        prove(module, held)
    module.burn(OTP_DEBUG_LOCK.offset, LOCKED)
    status = module.status()
    if not status.debug_locked:
        raise _open(status, "the debug port open")
    _check_close(order, status, register)
    _burn_lifecycle(module, Lifecycle.PRODUCTION)


def _burn_lifecycle(module: BenchModule, lifecycle: Lifecycle) -> None:
    module.burn(OTP_LIFECYCLE.offset, lifecycle.fuses.to_bytes(OTP_LIFECYCLE.size, "little"))


def prove(module: BenchModule, held: Registration) -> None:
    """Boot from no power and ask: the images run, and the module has the keys that were registered.

    Raises TrustRefused (boot.record) where it has others, ModuleRefused (boot.*, bank.none_good) where
    no app runs, power.cut, Unavailable (link.silent).
    """
    module.power_off()
    module.power_on()
    status = module.status()
    if status.outcome is not Outcome.RUNNING:
        code = Code.POWER_CUT if status.outcome is Outcome.POWER_CUT else Code.BANK_NONE_GOOD
        raise ModuleRefused(
            code, f"module {held.serial}", expected="an app that runs", found=str(status.outcome)
        )
    records = Dialogue(module.exchange, f"module {held.serial}").ask(Request.BOOT_RECORD)
    bootrecord.verify(records, bootrecord.RecordKeys(held.keys.rom_record, held.keys.loader_record), None)


def check(order: Order, status: ModuleStatus) -> tuple[VerifiedImage, ...]:
    """Both images as ROM and loader will see them: a module that would not boot is not begun.

    A ROM knows no list of published keys, and its fuses are for ever.
    """
    for key_hash in order.key_hashes:
        published.refuse(key_hash.hex(), "slot keys")
    slots = len(order.key_hashes)
    if not 0 < slots <= OTP_SLOT_KEY_COUNT or len(set(order.key_hashes)) != slots:
        raise PolicyRefused(
            Code.CONFIG,
            "slot keys",
            expected=f"1 to {OTP_SLOT_KEY_COUNT} keys, each once",
            found=f"{slots}" if len(set(order.key_hashes)) == slots else "one of them twice",
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
        name = f"{stage} image"
        verified.append(verify(decode(data, name), _trust(order, status, stage), name))
    return tuple(verified)


def _trust(order: Order, status: ModuleStatus, stage: Stage) -> Trust:
    """Of a module that has left the plant, a finished one's counter is its own affair."""
    revoked = frozenset(key for slot, key in enumerate(order.key_hashes) if status.revoked >> slot & 1)
    return Trust(
        keys=dict.fromkeys(order.key_hashes),
        revoked=revoked if not status.lifecycle.closed else frozenset(),
        counter=status.counter if not status.lifecycle.closed else 0,
        hardware=(order.hardware.vendor_id, order.hardware.class_id(stage)),
    )


def _check_close(order: Order, status: ModuleStatus, register: Register | None) -> None:
    """Before the first fuse: an order that cannot be closed is not begun."""
    if not order.close or status.lifecycle.closed:
        return
    if register is None:
        raise _open(status, "its keys registered nowhere")
    for slot in range(len(order.key_hashes)):
        if order.development >> slot & 1 and not status.revoked >> slot & 1:
            raise _open(status, f"development key {order.key_hashes[slot].hex()[:16]} in slot {slot}")


def _open(status: ModuleStatus, found: str) -> PolicyRefused:
    return PolicyRefused(
        Code.LIFECYCLE_OPEN,
        f"module {status.serial}",
        expected="every development key revoked, the debug port locked, the keys registered",
        found=found,
        advice="revoke the key first, or keep the module open",
    )


def _registration(order: Order, status: ModuleStatus) -> Registration:
    """What will be registered, with no module's keys yet."""
    return Registration(
        serial=status.serial,
        hardware=order.hardware.name,
        slot_keys=tuple(order.key_hashes),
        development=order.development,
        root_quorum=order.root_quorum,
        images={stage: hashlib.sha256(data).digest() for stage, data in order.images.items()},
        keys=registered(bytes(SECRET_SIZE)),
    )


def _identity(order: Order, status: ModuleStatus) -> tuple[tuple[Fuse, bytes], ...]:
    hardware = order.hardware
    keys = b"".join(order.key_hashes).ljust(OTP_SLOT_KEYS.size, b"\0")
    return (
        (OTP_SLOT_KEYS, keys),
        (OTP_DEVELOPMENT, order.development.to_bytes(OTP_DEVELOPMENT.size, "little")),
        (OTP_ROOT_QUORUM, order.root_quorum),
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


def _same_fuses(order: Order, status: ModuleStatus) -> bool:
    return (status.slot_keys, status.development, status.root_quorum) == (
        tuple(order.key_hashes),
        order.development,
        order.root_quorum,
    )


def _check_same(module: BenchModule, order: Order, status: ModuleStatus) -> None:
    if not _same_fuses(order, status) or not _holds(module, order):
        raise _other(status, "a provisioned one with others")


def _check_finished(order: Order, status: ModuleStatus, register: Register | None) -> None:
    """A closed module does not show its flash; what was installed stands in the registration."""
    if status.lifecycle is not Lifecycle.PRODUCTION or not _same_fuses(order, status):
        raise _other(status, f"a module in lifecycle {status.lifecycle} with others")
    held = register.read() if register is not None else None
    if held is not None:
        plantsecret.check_same(held, _registration(order, status))


def _other(status: ModuleStatus, found: str) -> PolicyRefused:
    return PolicyRefused(
        Code.MODULE_STATE,
        f"module {status.serial}",
        expected="a blank module, or one with the same keys and images",
        found=found,
        advice="a module in the field is updated, not provisioned again",
    )
