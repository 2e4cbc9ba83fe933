"""What a module runs, by its own word over the update link: its flash is closed to all others."""

from cellward.core import image
from cellward.core.banks import State
from cellward.core.errors import Code, PolicyRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata import Installed, target_name
from cellward.core.plan import Held, ModuleView
from cellward.core.slots import HARDWARE, Hardware, Stage
from cellward.device.link import UpdateLink
from cellward.ports.module import Module, ModuleStatus, Outcome
from cellward.ports.updatevalues import StageDigest


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


def installed(module: Module, status: ModuleStatus) -> dict[Stage, Installed]:
    """What each stage of the running bank claims to be, and its hash, by the module's own word; nothing
    where no app is in charge."""
    if status.outcome is not Outcome.RUNNING:
        return {}
    hardware = hardware_of(status)
    return {stage: _claims(hardware, stage, found) for stage, found in _digests(module, status).items()}


def _digests(module: Module, status: ModuleStatus) -> dict[Stage, StageDigest]:
    link = UpdateLink(module, status.serial)
    found = ((stage, link.digest(stage)) for stage in Stage)
    return {stage: digest for stage, digest in found if digest is not None}


def _claims(hardware: Hardware, stage: Stage, found: StageDigest) -> Installed:
    version = str(found.version)
    return Installed(
        filename=target_name(hardware.name, stage, version),
        length=found.length,
        sha256=found.sha256.hex(),
        version=version,
        release_counter=found.counter,
    )


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


def view(module: Module, status: ModuleStatus) -> ModuleView:
    """The module for core.plan. Raises PolicyRefused (plan.hardware, plan.incomplete)."""
    hardware = hardware_of(status)
    if status.outcome not in (Outcome.RUNNING, Outcome.RECOVERY):
        raise PolicyRefused(
            Code.PLAN_INCOMPLETE,
            f"module {status.serial}",
            expected="an app that runs, or the ROM's recovery",
            found=status.outcome,
        )
    recovery = status.outcome is Outcome.RECOVERY
    found = {} if recovery else _digests(module, status)
    return ModuleView(
        serial=status.serial,
        hardware=hardware,
        running=status.active_bank,
        settled=status.bank(status.active_bank).state is State.CONFIRMED,
        recovery=recovery,
        counter=status.counter,
        images={stage: Held(held.sha256, held.version, held.counter) for stage, held in found.items()},
    )
