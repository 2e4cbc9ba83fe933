"""core.plan: what goes where, in which order, and what is not worth an erase cycle."""

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import image, plan
from cellward.core.banks import Candidate, choose
from cellward.core.errors import Code, PolicyRefused
from cellward.core.image import VerifiedImage, Version
from cellward.core.keys import PublicKey
from cellward.core.plan import Held, ModuleView, Source
from cellward.core.slots import (
    BMS_M33,
    BMS_M33_18S,
    COUNTER_MAX,
    Hardware,
    Mark,
    Stage,
    Trailer,
)

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = PublicKey.from_cryptography(KEY.public_key())
HARDWARE = BMS_M33


def made(
    stage: Stage,
    version: str = "1.3.0",
    counter: int = 6,
    hardware: Hardware = HARDWARE,
    size: int = 9000,
    header_size: int = 0x200,
) -> VerifiedImage:
    unsigned = image.build(
        bytes(size),
        version=Version.parse(version),
        counter=counter,
        hardware=(hardware.vendor_id, hardware.class_id(stage)),
        header_size=header_size,
    )
    signature = KEY.sign(unsigned.digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    data = unsigned.signed(PUBLIC, signature)
    trust = image.Trust({PUBLIC.key_hash: PUBLIC})
    return image.verify(image.decode(data), trust)


LOADER, APP = made(Stage.LOADER), made(Stage.APP)
NEW_LOADER, NEW_APP = made(Stage.LOADER, "1.4.0", 7), made(Stage.APP, "1.4.0", 7)
SAME_COUNTER_APP = made(Stage.APP, "1.4.0", 6)


def held(verified: VerifiedImage) -> Held:
    found = verified.image
    return Held(sha256(found.data).digest(), found.version, found.counter or 0)


MODULE = ModuleView(
    serial="M0001",
    hardware=HARDWARE,
    running="a",
    settled=True,
    recovery=False,
    counter=6,
    images={Stage.LOADER: held(LOADER), Stage.APP: held(APP)},
)
BOTH = {Stage.LOADER: NEW_LOADER, Stage.APP: NEW_APP}


def refused(module: ModuleView, orders: plan.Images) -> PolicyRefused:
    with pytest.raises(PolicyRefused) as refusal:
        plan.make(module, orders)
    return refusal.value


def test_both_stages_go_into_the_other_bank() -> None:
    for running, target in (("a", "b"), ("b", "a")):
        made_plan = plan.make(replace(MODULE, running=running), BOTH)
        assert made_plan is not None
        assert made_plan.bank == target
        assert made_plan.counter == 7
        assert [write.source for write in made_plan.writes] == [Source.ORDERED, Source.ORDERED]


def test_an_app_alone_takes_the_running_loader_along() -> None:
    made_plan = plan.make(MODULE, {Stage.APP: SAME_COUNTER_APP})
    assert made_plan is not None
    loader, app = made_plan.writes
    assert (loader.source, loader.version, loader.counter) == (Source.COPIED, Version(1, 3, 0), 6)
    assert (app.source, app.version, app.counter) == (Source.ORDERED, Version(1, 4, 0), 6)


def test_nothing_to_do_when_it_runs_already() -> None:
    assert plan.make(MODULE, {Stage.LOADER: LOADER, Stage.APP: APP}) is None
    assert plan.make(MODULE, {}) is None
    again = made(Stage.APP)  # another signature over the same bytes: another file, not a newer one
    assert refused(MODULE, {Stage.APP: again}).code is Code.PLAN_VERSION


def test_what_is_ordered_is_sent_whole_and_what_is_copied_is_not() -> None:
    both, alone = plan.make(MODULE, BOTH), plan.make(MODULE, {Stage.APP: SAME_COUNTER_APP})
    assert both is not None
    assert alone is not None
    for stage, ordered in BOTH.items():
        assert both.write(stage).data == ordered.image.data
    assert [write.stage for write in both.writes] == list(Stage)
    assert alone.write(Stage.LOADER).data == b""


def test_a_counter_below_the_modules() -> None:
    error = refused(replace(MODULE, counter=8), BOTH)
    assert error.code is Code.PLAN_COUNTER
    assert "8" in error.expected


def test_a_counter_beyond_the_fuses() -> None:
    beyond = {stage: made(stage, "2.0.0", COUNTER_MAX + 1) for stage in Stage}
    assert refused(MODULE, beyond).code is Code.PLAN_COUNTER
    last = {stage: made(stage, "2.0.0", COUNTER_MAX) for stage in Stage}
    assert plan.make(MODULE, last) is not None


def test_an_app_alone_cannot_raise_the_counter() -> None:
    error = refused(MODULE, {Stage.APP: NEW_APP})
    assert error.code is Code.PLAN_COUNTER
    assert "order it together" in error.advice


def test_an_app_above_the_ordered_loader() -> None:
    error = refused(MODULE, {Stage.LOADER: made(Stage.LOADER, "1.4.0", 6), Stage.APP: NEW_APP})
    assert error.code is Code.PLAN_COUNTER
    assert "order it together" not in error.advice


@pytest.mark.parametrize("version", ["1.2.9", "1.3.0"])
def test_an_app_that_would_not_stay(version: str) -> None:
    other = made(Stage.APP, version, 6, size=9001)
    assert refused(MODULE, {Stage.APP: other}).code is Code.PLAN_VERSION


def test_a_lower_version_stays_when_its_counter_is_higher() -> None:
    older = {Stage.LOADER: NEW_LOADER, Stage.APP: made(Stage.APP, "1.2.0", 7)}
    assert plan.make(MODULE, older) is not None


def test_a_loader_alone_would_not_stay() -> None:
    assert refused(MODULE, {Stage.LOADER: NEW_LOADER}).code is Code.PLAN_VERSION


def test_images_of_another_hardware_or_stage() -> None:
    strange = made(Stage.APP, "1.4.0", 7, BMS_M33_18S)
    assert refused(MODULE, {**BOTH, Stage.APP: strange}).code is Code.PLAN_HARDWARE
    assert refused(MODULE, {**BOTH, Stage.APP: NEW_LOADER}).code is Code.PLAN_HARDWARE


def test_an_image_linked_for_another_place() -> None:
    elsewhere = made(Stage.APP, "1.4.0", 7, header_size=0x400)
    assert refused(MODULE, {**BOTH, Stage.APP: elsewhere}).code is Code.PLAN_HARDWARE


def test_an_image_larger_than_its_slot() -> None:
    large = made(Stage.LOADER, "1.4.0", 7, size=HARDWARE.loader.size)
    error = refused(MODULE, {**BOTH, Stage.LOADER: large})
    assert error.code is Code.PLAN_HARDWARE
    assert f"{len(large.image.data) - HARDWARE.loader.size} too many" in error.found


def test_a_bank_on_trial_keeps_its_way_back() -> None:
    assert refused(replace(MODULE, settled=False), BOTH).code is Code.PLAN_INCOMPLETE


def test_recovery_needs_both_stages() -> None:
    empty = replace(MODULE, recovery=True, settled=False, images={})
    assert refused(empty, {Stage.APP: NEW_APP}).code is Code.PLAN_INCOMPLETE
    made_plan = plan.make(empty, BOTH)
    assert made_plan is not None
    assert made_plan.bank == "b"


def test_recovery_takes_the_same_images_again() -> None:
    """What lies in a bank that does not boot is no reason to write nothing."""
    module = replace(MODULE, recovery=True, images={})
    assert plan.make(module, {Stage.LOADER: LOADER, Stage.APP: APP}) is not None


VERSIONS = st.sampled_from(["1.2.0", "1.3.0", "1.4.0"])
COUNTERS = st.sampled_from([5, 6, 7])


@given(
    running=st.sampled_from("ab"),
    app=st.builds(made, st.just(Stage.APP), VERSIONS, COUNTERS, size=st.sampled_from([500, 501])),
)
def test_what_is_planned_stays(running: str, app: VerifiedImage) -> None:
    """The ROM's own choice between both confirmed banks is the bank that the plan wrote."""
    module = replace(MODULE, running=running, counter=5)
    orders = {Stage.LOADER: NEW_LOADER, Stage.APP: app}
    try:
        made_plan = plan.make(module, orders)
    except PolicyRefused:
        return
    assert made_plan is not None
    confirmed = Trailer(Mark.SET, Mark.SET, Mark.SET)
    candidates = {
        bank: Candidate(confirmed, found.counter or 0, _fields(found.version))
        for bank, found in ((running, APP.image), (made_plan.bank, made_plan.write(Stage.APP)))
    }
    assert "ab"[choose(candidates["a"], candidates["b"])[0]] == made_plan.bank


def _fields(version: Version) -> tuple[int, int, int, int]:
    return version.major, version.minor, version.revision, version.build
