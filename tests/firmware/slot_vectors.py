"""The image vectors as the loader of bank b: the module that meets one, and its ROM's verdict."""

import functools

from cellward.core.errors import Code
from cellward.core.image import HEADER_SIZE
from cellward.core.slots import (
    BMS_M33,
    OTP_COUNTER,
    OTP_LOADER_CLASS,
    OTP_REVOKED,
    OTP_SLOT_KEYS,
    OTP_VENDOR_ID,
    TRAILER_MAGIC,
    Stage,
    flag_phrase,
)
from cellward.ports.module import BootEvent, BootReport
from cellward.vbms.cpu import Cpu
from tests.firmware.rig import Rig
from vectors.recipe import Case, TrustSpec, load

IMAGE = load("image")
# Claims more than a loader slot has, so the slot's own end refuses it first.
TOO_LARGE = "protected-size-max"
FITTING = {c.name: c for c in IMAGE.cases if len(c.data) <= BMS_M33.loader.size and c.name != TOO_LARGE}


def provisioned(spec: TrustSpec) -> Rig:
    rig = Rig.planted(0)
    rig.fuse(OTP_SLOT_KEYS, b"".join(spec.key_hashes).ljust(OTP_SLOT_KEYS.size, b"\0"))
    rig.fuse(OTP_REVOKED, sum(1 << slot for slot in spec.revoked).to_bytes(4, "little"))
    rig.fuse(OTP_COUNTER, ((1 << (spec.counter or 0)) - 1).to_bytes(OTP_COUNTER.size, "little"))
    rig.fuse(OTP_VENDOR_ID, spec.vendor or bytes(16))
    rig.fuse(OTP_LOADER_CLASS, spec.klass or bytes(16))
    return rig


def module_with(case: Case) -> Rig:
    rig = provisioned(IMAGE.trusts[case.trust])
    rig.put("b", Stage.LOADER, case.data)
    rig.trailer("b")[:] = b"\xff" * 8 + flag_phrase() + TRAILER_MAGIC
    return rig


@functools.cache
def in_unicorn(name: str) -> BootReport:
    rig = module_with(FITTING[name])
    (report,) = rig.boot(cpu=Cpu)
    rig.off()
    return report


def verdict(event: BootEvent) -> str:
    """The payload of a vector is no program: one that verifies is refused for its entry, and only
    then, with an address on the side where the decoder's refusal names the least header size."""
    assert (event.where, event.bank) == ("rom", "b")
    verified = event.code is Code.IMAGE_HEADER and event.expected != HEADER_SIZE
    return "ok" if verified else str(event.code)
