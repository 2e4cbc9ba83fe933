"""What a module runs: cheaply for the report, and verified again for the plan."""

import hashlib
from collections.abc import Mapping

from cellward.core import image, wire
from cellward.core.banks import State
from cellward.core.errors import CellwardError, Code, FormatRefused, PolicyRefused, Refused
from cellward.core.keys import PublicKey
from cellward.core.metadata import Installed, target_name
from cellward.core.plan import ModuleView
from cellward.core.slots import HARDWARE, Hardware, Stage
from cellward.device.memory import Memory, Seen
from cellward.ports.module import Module, ModuleStatus, Outcome

CHUNK = 8 * 1024


def hardware_of(status: ModuleStatus) -> Hardware:
    """Raises PolicyRefused (plan.hardware) for a module that this release does not know."""
    hardware = HARDWARE.get(status.hardware)
    fuses = (status.vendor_id, status.loader_class, status.app_class)
    if hardware is None or fuses != (
        hardware.vendor_id,
        hardware.class_id(Stage.LOADER),
        hardware.class_id(Stage.APP),
    ):
        raise PolicyRefused(
            Code.PLAN_HARDWARE,
            f"module {status.serial}",
            expected="a known hardware with its own ids in the fuses: " + ", ".join(HARDWARE),
            found=status.hardware if hardware is None else f"{status.hardware} with other ids",
        )
    return hardware


def installed(module: Module, status: ModuleStatus, memory: Memory) -> dict[Stage, Installed]:
    """What each stage of the running bank claims to be; nothing where no app is in charge.

    Header and TLVs are read every time, the payload only when those have changed.
    """
    if status.outcome is not Outcome.RUNNING:
        return {}
    hardware = hardware_of(status)
    known = memory.seen(status.serial)
    seen: dict[Stage, Seen] = {}
    for stage in Stage:
        mark = _mark(module, status.active_bank, hardware, stage)
        held = known.get(stage)
        if mark is not None and held is not None and held.mark == mark:
            seen[stage] = held
        elif mark is not None:
            seen[stage] = Seen(mark, _claims(module, status.active_bank, hardware, stage))
    if seen != known:
        memory.set_seen(status.serial, seen)
    return {stage: entry.installed for stage, entry in seen.items()}


def _extent(module: Module, bank: str, hardware: Hardware, stage: Stage) -> tuple[bytes, int, int]:
    """Header, start of the TLVs and end of the image, offsets in the slot; the lengths are bounded."""
    slot = hardware.slot(stage)
    header = module.read(bank, slot.offset, image.HEADER_SIZE)
    reader = wire.Reader(header, stage)
    if reader.u32() != image.MAGIC:
        raise FormatRefused(Code.IMAGE_MAGIC, stage, expected="an image", found="none")
    reader.u32()
    header_size, protected_size, payload_size = reader.u16(), reader.u16(), reader.u32()
    tlvs = header_size + payload_size
    info = tlvs + protected_size
    if info + image.TLV_INFO_SIZE > slot.size:
        raise FormatRefused(
            Code.IMAGE_SIZE, stage, expected=f"at most {slot.size} bytes", found=f"more than {info}"
        )
    area = wire.Reader(module.read(bank, slot.offset + info, image.TLV_INFO_SIZE), stage)
    area.u16()
    end = info + area.u16()
    if end > slot.size:
        raise FormatRefused(Code.IMAGE_SIZE, stage, expected=f"at most {slot.size} bytes", found=f"{end}")
    return header, tlvs, end


def _mark(module: Module, bank: str, hardware: Hardware, stage: Stage) -> str | None:
    """Recognises an image by its header and TLVs, which state its digest; None where there is none."""
    try:
        header, tlvs, end = _extent(module, bank, hardware, stage)
    except FormatRefused:
        return None
    offset = hardware.slot(stage).offset + tlvs
    return hashlib.sha256(header + _read(module, bank, offset, end - tlvs)).hexdigest()


def _claims(module: Module, bank: str, hardware: Hardware, stage: Stage) -> Installed:
    held = read_image(module, bank, hardware, stage)
    version = str(held.version)
    return Installed(
        filename=target_name(hardware.name, stage, version),
        length=len(held.data),
        sha256=hashlib.sha256(held.data).hexdigest(),
        version=version,
        release_counter=held.counter or 0,
    )


def read_image(module: Module, bank: str, hardware: Hardware, stage: Stage) -> image.Image:
    """The image in a slot, not verified. Raises FormatRefused."""
    _, _, end = _extent(module, bank, hardware, stage)
    return image.decode(_read(module, bank, hardware.slot(stage).offset, end), f"bank {bank} {stage}")


def _read(module: Module, bank: str, offset: int, length: int) -> bytes:
    end = offset + length
    return b"".join(module.read(bank, at, min(CHUNK, end - at)) for at in range(offset, end, CHUNK))


def trust_of(status: ModuleStatus, stage: Stage, keys: tuple[PublicKey, ...]) -> image.Trust:
    """What an image for this module must satisfy: a factory key that the module's fuses hold too and
    do not bar, the module's counter, the ids in its fuses."""
    revoked = frozenset(
        key_hash for slot, key_hash in enumerate(status.slot_keys) if status.barred >> slot & 1
    )
    classes = {Stage.LOADER: status.loader_class, Stage.APP: status.app_class}
    return image.Trust(
        keys={key.key_hash: key for key in keys if key.key_hash in status.slot_keys},
        revoked=revoked,
        counter=status.counter,
        hardware=(status.vendor_id, classes[stage]),
    )


def view(module: Module, status: ModuleStatus, keys: tuple[PublicKey, ...]) -> ModuleView:
    """The module for core.plan: every image of its active bank read and verified again.

    Raises PolicyRefused (plan.hardware, plan.incomplete).
    """
    hardware = hardware_of(status)
    if status.outcome not in (Outcome.RUNNING, Outcome.RECOVERY):
        raise PolicyRefused(
            Code.PLAN_INCOMPLETE,
            f"module {status.serial}",
            expected="an app that runs, or the ROM's recovery",
            found=status.outcome,
        )
    return ModuleView(
        serial=status.serial,
        hardware=hardware,
        running=status.active_bank,
        settled=status.bank(status.active_bank).state is State.CONFIRMED,
        recovery=status.outcome is Outcome.RECOVERY,
        counter=status.counter,
        images=_verified(module, status, hardware, keys),
    )


def _verified(
    module: Module, status: ModuleStatus, hardware: Hardware, keys: tuple[PublicKey, ...]
) -> Mapping[Stage, image.VerifiedImage]:
    """What does not verify is not there: the plan then asks for it to be ordered."""
    images: dict[Stage, image.VerifiedImage] = {}
    for stage in Stage:
        try:
            held = read_image(module, status.active_bank, hardware, stage)
            images[stage] = image.verify(held, trust_of(status, stage, keys))
        except Refused as error:
            _reraise_module(error)
    return images


def _reraise_module(error: CellwardError) -> None:
    """A module that refuses to be read is not a bad image."""
    if error.code.startswith(("flash.", "module.", "link.", "power.")):
        raise error
