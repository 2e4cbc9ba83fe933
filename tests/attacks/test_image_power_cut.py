"""Attacks 5 and 21 together: the power goes while bank b, confirmed and older, is being overwritten.

What is half-written keeps its old flags in the worst case. The real ROM must come up in bank a, with the
counter where it was, and the same update must go through afterwards and end the old image for good.
tests/firmware/test_boot.py cuts trial, confirmation and commit the same way.
"""

from functools import cache

import pytest

from cellward.core.errors import Code
from cellward.core.slots import BMS_M33, MAGIC_FROM_END, TRAILER_MAGIC, WRITE_SIZE, Stage
from cellward.ports.module import Outcome, Torn
from cellward.vbms.cut import PowerCut
from cellward.vbms.nor import Nor
from tests.firmware.rig import Rig, release, told

B = 1
COMMITTED, NEW = 7, 8


def padded(image: bytes) -> bytes:
    return image + b"\xff" * (-len(image) % WRITE_SIZE)


def update(rig: Rig) -> None:
    """As an installer does it: trailer page first, magic last."""
    nor = Nor(BMS_M33, memoryview(rig.flash), rig.cuts)
    nor.erase(B, BMS_M33.trailer.offset)
    for stage, image in release("1.4.0", NEW).items():
        slot, data = BMS_M33.slot(stage), padded(image)
        for offset in range(slot.offset, slot.offset + len(data), BMS_M33.page_size):
            nor.erase(B, offset)
        nor.program(B, slot.offset, data)
    nor.program(B, BMS_M33.bank_size - MAGIC_FROM_END, TRAILER_MAGIC)


def module() -> Rig:
    rig = Rig.planted(COMMITTED)
    rig.stage("a", release("1.3.0", COMMITTED), confirmed=True, started=True)
    rig.stage("b", release("1.3.0", COMMITTED), confirmed=True, started=True)
    return rig


@cache
def operation(point: str) -> int:
    """Which flash operation of an update that is, counted from 1."""
    whole = module()
    update(whole)
    last = whole.cuts.operations
    pages = -(-len(release("1.4.0", NEW)[Stage.LOADER]) // BMS_M33.page_size)
    return {
        "trailer-erase": 1,
        "first-page-erase": 2,
        "first-phrase": 2 + pages,
        "middle": last // 2,
        "last-phrase": last - 2,
        "magic": last - 1,
        "magic-second-half": last,
    }[point]


POINTS = [
    *("trailer-erase", "first-page-erase", "first-phrase", "middle", "last-phrase"),
    *("magic", "magic-second-half"),
]


@pytest.mark.parametrize("torn", [Torn.HALF, Torn.GARBAGE])
@pytest.mark.parametrize("point", POINTS)
def test_a_cut_while_staging_leaves_the_other_bank_and_the_counter(point: str, torn: Torn) -> None:
    rig = module()
    rig.cuts.order(operation(point), torn)
    with pytest.raises(PowerCut):
        update(rig)
    report = rig.boot()[-1]
    rig.off()
    assert (report.outcome, report.bank, report.counter) == (Outcome.RUNNING, "a", COMMITTED)


def test_after_the_cut_the_update_goes_through_and_the_old_image_is_over() -> None:
    rig = module()
    rig.cuts.order(operation("middle"), Torn.GARBAGE)
    with pytest.raises(PowerCut):
        update(rig)
    rig.boot()
    rig.off()
    update(rig)
    report = rig.boot()[-1]
    rig.off()
    assert (report.outcome, report.bank, report.counter) == (Outcome.RUNNING, "b", NEW)
    rig.trailer("b")[:] = b"\xff" * 32
    report = rig.boot()[-1]
    rig.off()
    assert (report.outcome, report.counter) == (Outcome.RECOVERY, NEW)
    assert told(report)[0] == ("rom", "a", Code.IMAGE_COUNTER)
