"""The image vectors in a loader slot of the emulated module: the ROM's verdict, by its event."""

import pytest

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
from cellward.ports.module import BootReport, Outcome
from tests.firmware.rig import Rig
from vectors.recipe import Case, TrustSpec, load

IMAGE = load("image")
# Claims more than a loader slot has, so the slot's own end refuses it first.
TOO_LARGE = "protected-size-max"
FITTING = [c for c in IMAGE.cases if len(c.data) <= BMS_M33.loader.size and c.name != TOO_LARGE]


def provisioned(spec: TrustSpec) -> Rig:
    rig = Rig.planted(0)
    rig.fuse(OTP_SLOT_KEYS, b"".join(spec.key_hashes).ljust(OTP_SLOT_KEYS.size, b"\0"))
    rig.fuse(OTP_REVOKED, sum(1 << slot for slot in spec.revoked).to_bytes(4, "little"))
    rig.fuse(OTP_COUNTER, ((1 << (spec.counter or 0)) - 1).to_bytes(OTP_COUNTER.size, "little"))
    rig.fuse(OTP_VENDOR_ID, spec.vendor or bytes(16))
    rig.fuse(OTP_LOADER_CLASS, spec.klass or bytes(16))
    return rig


def verdict(report: BootReport) -> str:
    """The payload of a vector is no program: one that verifies is refused for its entry, and only
    then, with an address on the side where the decoder's refusal names the least header size."""
    event = report.events[0]
    assert (event.where, event.bank) == ("rom", "b")
    assert report.outcome is Outcome.RECOVERY
    verified = event.code is Code.IMAGE_HEADER and event.expected != HEADER_SIZE
    return "ok" if verified else str(event.code)


@pytest.mark.parametrize("case", FITTING, ids=lambda case: case.name)
def test_the_rom_s_verdict(case: Case) -> None:
    rig = provisioned(IMAGE.trusts[case.trust])
    rig.put("b", Stage.LOADER, case.data)
    rig.trailer("b")[:] = b"\xff" * 8 + flag_phrase() + TRAILER_MAGIC
    (report,) = rig.boot()
    rig.off()
    assert verdict(report) == (case.erased or case.verdict), case.reason


def test_nearly_all_vectors_fit_a_slot() -> None:
    assert len(FITTING) >= len(IMAGE.cases) - 5
