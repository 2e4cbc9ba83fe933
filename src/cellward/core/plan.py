"""What goes into which bank: decided before the first byte is erased.

The module's update engine does it (docs/formats/update-link.md): it clears the trailer, takes a stage
that was ordered, copies one that was not from the running bank, verifies both in the flash, and writes
the trailer's magic (banks.Event.STAGE): the ROM tries the bank once, it must confirm itself.

A plan never touches the running bank. MCUboot's direct-XIP has no plan: whoever writes the slot
decides. Here the choice the ROM will make afterwards is made first, so that nothing is flashed that
would not boot, not commit, or not stay.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cellward.core.errors import Code, PolicyRefused
from cellward.core.image import VerifiedImage, Version
from cellward.core.slots import BANKS, COUNTER_MAX, Hardware, Stage

Images = Mapping[Stage, VerifiedImage]


@dataclass(frozen=True)
class Held:
    """An image as the module tells of it: SHA-256 of all its bytes, and what it claims. The module
    verifies it again before it copies it."""

    sha256: bytes
    version: Version
    counter: int


@dataclass(frozen=True)
class ModuleView:
    """A module as the plan looks at it.

    `running` is the active bank and `images` what it holds; nothing in recovery, where nothing can be
    copied. `settled`: that bank has confirmed itself. `recovery`: no bank is good, the ROM waits.
    """

    serial: str
    hardware: Hardware
    running: str
    settled: bool
    recovery: bool
    counter: int  # of the OTP
    images: Mapping[Stage, Held]

    @property
    def target(self) -> str:
        return BANKS[1 - BANKS.index(self.running)]


class Source(StrEnum):
    ORDERED = "ordered"
    COPIED = "copied"  # from the running bank


@dataclass(frozen=True)
class Write:
    """One stage of the target bank: `data` as it was ordered; empty where it is copied."""

    stage: Stage
    source: Source
    version: Version
    counter: int | None
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Plan:
    """Writes into the bank that does not run. `counter` is what the module's will be afterwards."""

    serial: str
    hardware: Hardware
    bank: str
    writes: tuple[Write, ...]
    counter: int

    def write(self, stage: Stage) -> Write:
        return next(write for write in self.writes if write.stage is stage)


def make(module: ModuleView, orders: Images) -> Plan | None:
    """The plan that brings `orders` into `module`, or None when exactly that runs already.

    Raises PolicyRefused: plan.hardware, plan.incomplete, plan.counter, plan.version.
    """
    changed = {stage: image for stage, image in orders.items() if not _runs(module, stage, image)}
    if not changed:
        return None
    _check_settled(module)
    _check_hardware(module, changed)
    writes = tuple(_write(module, stage, changed) for stage in Stage)
    loader, app = writes
    counter = _check_counter(module, loader, app)
    _check_stays(module, app)
    return Plan(module.serial, module.hardware, module.target, writes, counter)


def _runs(module: ModuleView, stage: Stage, ordered: VerifiedImage) -> bool:
    running = module.images.get(stage)
    return running is not None and running.sha256 == hashlib.sha256(ordered.image.data).digest()


def _check_settled(module: ModuleView) -> None:
    """A bank on trial has the other bank as its only way back."""
    if not module.recovery and not module.settled:
        raise PolicyRefused(
            Code.PLAN_INCOMPLETE,
            f"module {module.serial}",
            expected=f"bank {module.running} to have confirmed itself",
            found="it still on trial",
            advice="the other bank is its way back and is left alone; wait for the self-test",
        )


def _check_hardware(module: ModuleView, orders: Images) -> None:
    hardware = module.hardware
    for stage, ordered in orders.items():
        image, slot = ordered.image, hardware.slot(stage)
        if image.hardware != (hardware.vendor_id, hardware.class_id(stage)):
            raise _refused_hardware(module, stage, f"an image for {hardware.name}/{stage}", "another one")
        if image.header_size != hardware.header_size:
            raise _refused_hardware(
                module, stage, f"a header of {hardware.header_size} bytes", f"{image.header_size}"
            )
        if len(image.data) > slot.size:
            raise _refused_hardware(
                module,
                stage,
                f"at most {slot.size} bytes",
                f"{len(image.data)}, {len(image.data) - slot.size} too many",
            )


def _refused_hardware(module: ModuleView, stage: Stage, expected: str, found: str) -> PolicyRefused:
    return PolicyRefused(Code.PLAN_HARDWARE, f"{module.serial}/{stage}", expected=expected, found=found)


def _write(module: ModuleView, stage: Stage, orders: Images) -> Write:
    ordered, held = orders.get(stage), module.images.get(stage)
    if ordered is not None:
        image = ordered.image
        return Write(stage, Source.ORDERED, image.version, image.counter, image.data)
    if held is None:
        raise PolicyRefused(
            Code.PLAN_INCOMPLETE,
            f"{module.serial}/{stage}",
            expected=f"an ordered {stage}, or one in bank {module.running} that runs",
            found="neither",
            advice=f"sign and order the {stage} as well",
        )
    return Write(stage, Source.COPIED, held.version, held.counter)


def _check_counter(module: ModuleView, loader: Write, app: Write) -> int:
    """The counter after the commit: the ROM raises it to the lower one of loader and app."""
    counters = {Stage.LOADER: loader.counter, Stage.APP: app.counter}
    for stage, counter in counters.items():
        if counter is None or not module.counter <= counter <= COUNTER_MAX:
            raise PolicyRefused(
                Code.PLAN_COUNTER,
                f"{module.serial}/{stage}",
                expected=f"a security counter from {module.counter} to {COUNTER_MAX}",
                found="none" if counter is None else f"{counter}",
            )
    of_loader, of_app = counters[Stage.LOADER] or 0, counters[Stage.APP] or 0
    if of_app > of_loader:
        copied = loader.source is Source.COPIED
        advice = "sign the loader with that counter too"
        raise PolicyRefused(
            Code.PLAN_COUNTER,
            f"{module.serial}/{Stage.APP}",
            expected=f"a security counter of at most the {'running ' if copied else ''}loader's {of_loader}",
            found=f"{of_app}: it would never be committed",
            advice=advice + (" and order it together with the app" if copied else ""),
        )
    return min(of_loader, of_app)


def _check_stays(module: ModuleView, app: Write) -> None:
    """Between two confirmed banks the ROM prefers the newer app (banks.ORDER)."""
    running = module.images.get(Stage.APP)
    if running is None:
        return
    before, after = ((image.counter or 0, image.version) for image in (running, app))
    if after <= before:
        raise PolicyRefused(
            Code.PLAN_VERSION,
            f"{module.serial}/{Stage.APP}",
            expected=f"more than version {before[1]} with counter {before[0]}, which runs",
            found=f"version {after[1]} with counter {after[0]}",
            advice="the next boot would go back to the newer bank; order an app with a higher version",
        )
