"""The image vectors in the app slot of the emulated module: the real loader's verdict, by its event.

The ROM meets every vector as its loader in tests/firmware/test_vectors_in_the_module.py. Here are those
that differ in verdict or in the kind of thing that is wrong: a boot with a real loader in front costs a
quarter of a second.
"""

import pytest

from cellward.core.errors import Code
from cellward.core.image import HEADER_SIZE
from cellward.core.slots import (
    OTP_APP_CLASS,
    OTP_COUNTER,
    OTP_REVOKED,
    OTP_SLOT_KEY_COUNT,
    OTP_SLOT_KEYS,
    OTP_VENDOR_ID,
    Stage,
)
from cellward.ports.module import Outcome
from tests.firmware.rig import KEY, Rig, binary, sign
from vectors.forge import COUNTER
from vectors.recipe import Case, load

IMAGE = load("image")
# It claims more than a loader's slot, but an app's slot has as much: refused there one check later.
FITS_AN_APP_SLOT = "protected-size-max"
CHOSEN = list(
    {
        (case.verdict, case.name.split("-")[0]): case for case in IMAGE.cases if case.name != FITS_AN_APP_SLOT
    }.values()
)


def rig(case: Case) -> Rig:
    """The vector's fuses, with the key of our own loader in the last slot."""
    spec = IMAGE.trusts[case.trust]
    rig = Rig.planted(0)
    keys = b"".join(spec.key_hashes).ljust(32 * (OTP_SLOT_KEY_COUNT - 1), b"\0") + KEY.public.key_hash
    rig.fuse(OTP_SLOT_KEYS, keys)
    rig.fuse(OTP_REVOKED, sum(1 << slot for slot in spec.revoked).to_bytes(4, "little"))
    rig.fuse(OTP_COUNTER, ((1 << (spec.counter or 0)) - 1).to_bytes(OTP_COUNTER.size, "little"))
    rig.fuse(OTP_VENDOR_ID, spec.vendor or bytes(16))
    rig.fuse(OTP_APP_CLASS, spec.klass or bytes(16))
    loader = sign(binary("loader-1.4.0.bin"), Stage.LOADER, "1.4.0", COUNTER)
    rig.stage("a", {Stage.LOADER: loader, Stage.APP: case.data})
    return rig


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
def test_the_loader_s_verdict(case: Case) -> None:
    module = rig(case)
    first, second = module.boot()
    module.off()
    event = first.events[0]
    assert (event.where, event.bank, first.outcome) == ("loader", "a", Outcome.RESET)
    # The payload of a vector is no program: one that verifies is refused for where it would start.
    verified = event.code is Code.IMAGE_HEADER and event.expected != HEADER_SIZE
    assert ("ok" if verified else event.code) == (case.erased or case.verdict), case.reason
    assert [e.code for e in second.events][:1] == [Code.BANK_REFUSED_BY_LOADER]
    assert (second.outcome, second.contactors_closed) == (Outcome.RECOVERY, False)
    assert second.counter == (IMAGE.trusts[case.trust].counter or 0)


def test_every_verdict_is_among_the_chosen() -> None:
    assert {case.verdict for case in CHOSEN} == {case.verdict for case in IMAGE.cases}
