"""Any sequence of frames: the engine writes the other bank and the revocation's page only, and stages a
bank only while both of its images verify."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellward.core import wire
from cellward.core.banks import State
from cellward.core.errors import CODE_OF_STATUS, STATUS_OK, Refused
from cellward.core.image import Trust, decode_slot, verify
from cellward.core.image.encryption import encrypt
from cellward.core.slots import BMS_M33, DataPage, Stage
from cellward.ports.updatelink import MAX_DATA, Request, decode_answer, encode_request
from cellward.vbms.registers import LINK_BUFFER_SIZE, Where
from tests.firmware.host_link import HostLink, Region, Result, begin, chunks, host_link, image
from tests.firmware.rig import KEY
from tests.firmware.test_update_engine import (
    APP,
    CONTENT_KEY,
    COUNTER,
    LOADER,
    STAGES,
    Bench,
    signed,
    wrapped,
)

ENCRYPTED = signed(Stage.APP, encrypted=True)
WRAPPED = wrapped()
IMAGES: dict[str, tuple[Stage, bytes, bytes]] = {
    "loader": (Stage.LOADER, LOADER, b""),
    "app": (Stage.APP, APP, b""),
    "encrypted": (Stage.APP, encrypt(ENCRYPTED, CONTENT_KEY), WRAPPED),
    "no key": (Stage.APP, encrypt(ENCRYPTED, CONTENT_KEY), b""),
    "old": (Stage.APP, signed(Stage.APP, COUNTER - 1), b""),
    "above": (Stage.APP, signed(Stage.APP, COUNTER + 1), b""),
    "flipped": (Stage.APP, APP[:4000] + bytes([APP[4000] ^ 1]) + APP[4001:], b""),
}
TRUST = {
    stage: Trust(
        {KEY.public.key_hash: None}, frozenset(), COUNTER, (BMS_M33.vendor_id, BMS_M33.class_id(stage))
    )
    for stage in Stage
}


def sent(name: str) -> list[bytes]:
    stage, data, key = IMAGES[name]
    parts = [encode_request(Request.DATA, 1, chunk) for chunk in chunks(data)]
    return [encode_request(Request.IMAGE, 1, image(STAGES[stage], len(data), key)), *parts]


def single(request: Request, payload: bytes = b"") -> list[bytes]:
    return [encode_request(request, 1, payload)]


def _data(offset: int, size: int) -> list[bytes]:
    return single(Request.DATA, wire.u32(offset) + b"\xa5" * size)


def _some(name: str, keep: int) -> list[bytes]:
    return sent(name)[:keep]


OFFSETS = st.sampled_from([0, 16, 32, 2048, 4096, 0x10000, 0x1EE000, 0xFFFF_FFF0, 0xFFFF_FFFF])
LENGTHS = st.sampled_from([0, 31, 32, 64, 4096, 0x10000, 0x10001, 0x1EE000, 0x1EE001, 0x200000, 0xFFFF_FFFF])
# A step is a list of frames: mostly what moves the engine on, and every way to be wrong.
STEPS = st.one_of(
    st.just(single(Request.BEGIN, begin())),
    st.just(single(Request.BEGIN, begin())),
    st.just(single(Request.FINISH)),
    st.just(single(Request.FINISH)),
    st.sampled_from(["loader", "app", "encrypted"]).map(sent),
    st.sampled_from(sorted(IMAGES)).map(sent),
    st.builds(_some, st.sampled_from(sorted(IMAGES)), st.integers(0, 4)),
    st.just(single(Request.ABORT)),
    st.builds(lambda stage, length: single(Request.IMAGE, image(stage, length)), st.integers(0, 2), LENGTHS),
    st.builds(_data, OFFSETS, st.sampled_from([1, 16, 32, 47, MAX_DATA])),
    st.builds(lambda stage: single(Request.COPY, bytes([stage, 0, 0, 0])), st.integers(0, 2)),
    st.builds(lambda data: single(Request.REVOKE, data), st.binary(min_size=1, max_size=300)),
    st.builds(
        lambda kind, data: [bytes([kind, 1]) + wire.u16(len(data)) + data],
        st.sampled_from([int(request) for request in Request]),
        st.binary(max_size=40),
    ),
    st.binary(min_size=1, max_size=60).map(lambda data: [data]),
    st.just([b"\x22" * LINK_BUFFER_SIZE]),
)


def _update(parts: list[tuple[list[bytes], list[list[bytes]]]]) -> list[list[bytes]]:
    return [step for part, noise in parts for step in (part, *noise)]


# A whole update in any of its forms, with something else in between now and then.
UPDATES = (
    st.permutations(["loader", "app"])
    .flatmap(
        lambda order: st.tuples(
            *(
                st.tuples(part, st.lists(STEPS, max_size=1) if noisy else st.just([]))
                for noisy, part in (
                    (False, st.just(single(Request.BEGIN, begin()))),
                    *((True, st.sampled_from([sent(name), sent(name), sent("encrypted")])) for name in order),
                    (False, st.just(single(Request.FINISH))),
                )
            )
        ).map(list)
    )
    .map(_update)
)
SCRIPTS = st.one_of(
    st.lists(STEPS, max_size=12),
    st.tuples(UPDATES, st.lists(STEPS, max_size=4)).map(lambda parts: parts[0] + parts[1]),
)


@pytest.fixture(scope="module")
def process() -> Iterator[HostLink]:
    with host_link() as link:
        yield link


def verifies(link: HostLink) -> bool:
    """Both images of the other bank, by the core's verifier, and the app not above its loader."""
    found = {}
    for stage in Stage:
        slot = BMS_M33.slot(stage)
        try:
            found[stage] = verify(
                decode_slot(link.peek(Region.BANK_B, slot.offset, slot.size)), TRUST[stage]
            ).image
        except Refused:
            return False
    return (found[Stage.APP].counter or 0) <= (found[Stage.LOADER].counter or 0)


def check(bench: Bench, seen: dict[State, int]) -> None:
    view = bench.link.view()
    assert (view.touched[0], view.faults) == (0, 0)
    assert view.pages <= {DataPage.REVOCATION.value}
    state = bench.link.state(1)
    seen[state] = seen.get(state, 0) + 1
    assert state in (State.CONFIRMED, State.EMPTY, State.PENDING)
    if state is State.PENDING:
        assert verifies(bench.link)
    if state is State.CONFIRMED:  # as it was found
        assert view.touched[1] == 0


@pytest.mark.parametrize("where", [Where.ROM, Where.LOADER], ids=lambda where: where.name.lower())
def test_any_sequence_of_frames(process: HostLink, where: Where) -> None:
    seen: dict[State, int] = {}

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(SCRIPTS)
    def run(steps: list[list[bytes]]) -> None:
        bench = Bench(process, where, {Stage.LOADER: LOADER}).prepare()
        for frames in steps:
            for frame in frames:
                result, said = process.frame(frame)
                answer = decode_answer(said)
                assert answer.status == STATUS_OK or answer.status in CODE_OF_STATUS
                assert answer.status == STATUS_OK or not answer.payload
                if result is Result.RESET:
                    bench.start()
            check(bench, seen)

    run()
    assert set(seen) == {State.CONFIRMED, State.EMPTY, State.PENDING}, seen
