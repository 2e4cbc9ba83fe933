"""The module link's decoders: what is encoded comes back, anything else is refused."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import (
    CellwardError,
    Code,
    FormatRefused,
    ModuleRefused,
    TrustRefused,
    Unavailable,
)
from cellward.core.slots import Lifecycle
from cellward.ports.link import (
    HEADER_SIZE,
    MAGIC,
    MAX_DATA,
    MAX_PAYLOAD,
    Frame,
    FrameReader,
    Operation,
    decode_refusal,
    encode_refusal,
)
from cellward.ports.linkvalues import (
    MESSAGES,
    NUMBER_SIZE,
    CutRequest,
    Data,
    EraseRequest,
    FlipRequest,
    Nothing,
    ProgramRequest,
    TamperRequest,
    decode_value,
    encode_value,
)
from cellward.ports.module import (
    BankStatus,
    BootEvent,
    BootReport,
    Conditions,
    Milestone,
    ModuleStatus,
    Outcome,
    Telemetry,
    Torn,
)
from cellward.vbms.cut import PowerCut
from cellward.vbms.machine import MAX_EVENTS, MAX_REPORTS

KINDS = sorted({kind for pair in MESSAGES.values() for kind in pair}, key=lambda kind: kind.__name__)
LIMIT = 1 << (8 * NUMBER_SIZE - 1)
NUMBERS = st.integers(-LIMIT, LIMIT - 1)
# Text longer than a frame's text is cut, so it would not come back.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)
for scalar, strategy in ((int, NUMBERS), (str, TEXTS), (bytes, st.binary(max_size=80))):
    st.register_type_strategy(scalar, strategy)


def values() -> st.SearchStrategy[Any]:
    return st.sampled_from(KINDS).flatmap(st.from_type)


@given(values())
def test_what_is_encoded_comes_back(value: Any) -> None:
    assert decode_value(type(value), encode_value(value)) == value


def test_every_operation_has_its_values() -> None:
    assert set(MESSAGES) == set(Operation)
    assert all(is_dataclass(kind) for kind in KINDS)
    assert len({operation & 0x7F for operation in Operation}) == len(Operation)


@given(st.sampled_from(KINDS), st.binary(max_size=300))
def test_any_bytes_are_a_value_or_refused(kind: type, raw: bytes) -> None:
    try:
        value: object = decode_value(kind, raw)
    except FormatRefused:
        return
    assert encode_value(value) == raw


@given(values(), st.data())
def test_mutated_values_are_another_value_or_refused(value: Any, data: st.DataObject) -> None:
    raw = bytearray(encode_value(value))
    if not raw:
        return
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    del raw[data.draw(st.integers(0, len(raw))) :]
    try:
        other = decode_value(type(value), bytes(raw))
    except FormatRefused:
        return
    assert type(other) is type(value)


def test_the_layout_is_the_documented_one() -> None:
    """docs/formats/module-link.md, example."""
    value = ProgramRequest("b", 0x10008, b"\x11\x22\x33\x44\x55\x66\x77\x88")
    raw = Frame(Operation.PROGRAM, 0x0203, encode_value(value)).encode()
    assert raw.hex() == (
        "43574c32" + "16000000" + "12" + "00" + "0302" + "0162" + "0800010000000000" + "08000000"
        "1122334455667788"
    )
    assert encode_value(CutRequest(-1, Torn.HALF)).hex() == "ff" * 8 + "0468616c66"


def test_the_page_lists_every_operation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats" / "module-link.md").read_text()
    rows = re.findall(r"^\| ([0-9a-f]{2}) \| ([a-z ]+) \|", page, re.MULTILINE)
    assert [int(number, 16) for number, _ in rows] == sorted(Operation)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (EraseRequest, b"\x01a" + bytes(7)),  # truncated number
        (EraseRequest, b"\x01a" + bytes(9)),  # something left over
        (EraseRequest, b"\x02a"),
        (EraseRequest, b"\x01\xff" + bytes(8)),  # no UTF-8
        (CutRequest, bytes(8) + b"\x04most"),  # no such way to tear
        (TamperRequest, b"\x05laser"),  # no such sensor
        (TamperRequest, b""),
        (FlipRequest, b"\x01a" + bytes(15)),
        (Data, b"\xff\xff\xff\xff1234"),
        (Nothing, b"\x00"),
        (Conditions, bytes(16) + b"\x02" + bytes(52)),
    ],
)
def test_refused_values(kind: type, raw: bytes) -> None:
    with pytest.raises(FormatRefused) as caught:
        decode_value(kind, raw)
    assert caught.value.code in (Code.LINK_FRAME, Code.TRUNCATED, Code.TRAILING)


@pytest.mark.parametrize("value", [LIMIT, -LIMIT - 1])
def test_numbers_that_do_not_fit(value: int) -> None:
    with pytest.raises(FormatRefused):
        encode_value(EraseRequest("a", value))


def test_the_longest_answers_fit_a_frame() -> None:
    number, name = LIMIT - 1, "recovery_entered"
    event = BootEvent("hardware", "a", number, number, number, number)
    milestone = Milestone(name, number, number)
    report = BootReport(
        "watchdog", "a", Outcome.POWER_CUT, number, True, (milestone,) * MAX_EVENTS, (event,) * MAX_EVENTS
    )
    assert len(encode_value((report,) * MAX_REPORTS)) <= MAX_PAYLOAD
    assert len(encode_value(ProgramRequest("a", number, bytes(MAX_DATA)))) <= MAX_PAYLOAD
    status = ModuleStatus(
        "M" * 64,
        "x" * 255,
        Lifecycle.BLANK,
        Outcome.OFF,
        "a",
        1,
        (bytes(32),) * 4,
        0,
        bytes(16),
        bytes(16),
        bytes(16),
        (BankStatus("a", bytes(32)),) * 2,
        0,
    )
    assert len(encode_value(status)) <= MAX_PAYLOAD
    assert {f.name for f in fields(Telemetry)} >= {"cells_mv", "contactors_closed"}


# Frames ---------------------------------------------------------------------------------------------

FRAMES = st.builds(Frame, st.integers(0, 255), st.integers(0, 0xFFFF), st.binary(max_size=200))


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_frames_come_out_however_the_stream_is_cut(frames: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(frame.encode() for frame in frames)
    reader, seen, at, turn = FrameReader(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        seen += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert seen == frames


@given(st.binary(max_size=400))
def test_any_stream_is_frames_or_refused(raw: bytes) -> None:
    try:
        frames = FrameReader().feed(raw)
    except FormatRefused:
        return
    assert sum(HEADER_SIZE + len(frame.payload) for frame in frames) <= len(raw)


@pytest.mark.parametrize(
    "header",
    [
        b"CWL1" + bytes(8),
        MAGIC + (MAX_PAYLOAD + 1).to_bytes(4, "little") + bytes(4),
        MAGIC + b"\xff\xff\xff\xff" + bytes(4),
        MAGIC + bytes(4) + b"\x01\x01\x00\x00",
    ],
)
def test_a_bad_header_is_refused_before_its_payload_is_waited_for(header: bytes) -> None:
    with pytest.raises(FormatRefused) as caught:
        FrameReader().feed(header)
    assert caught.value.code is Code.LINK_FRAME


# Refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ModuleRefused(Code.FLASH_LOCKED, "bank a", expected="x", found="y"),
        Unavailable(Code.MODULE_BUSY, "state", advice="wait"),
        TrustRefused(Code.IMAGE_COUNTER, "loader", expected="7", found="6"),
        FormatRefused(Code.LINK_FRAME, "ä" * 200, found="é" * 10),
    ],
)
def test_refusals_keep_class_code_and_words(error: CellwardError) -> None:
    again = decode_refusal(encode_refusal(error))
    assert type(again) is type(error)
    assert (again.code, again.expected, again.found, again.advice) == (
        error.code,
        error.expected,
        error.found,
        error.advice,
    )
    assert error.subject.startswith(again.subject)
    assert again.subject


def test_a_subclass_travels_as_its_nearest_known_class() -> None:
    assert type(decode_refusal(encode_refusal(PowerCut(Code.POWER_CUT, "write")))) is ModuleRefused
    assert isinstance(decode_refusal(encode_refusal(CellwardError(Code.CONFIG, "x"))), CellwardError)


@pytest.mark.parametrize(
    "raw", [b"", b"\x09" + b"\x00" * 5, b"\x00\x03foo" + b"\x00" * 4, b"\x00" + b"\x00" * 6]
)
def test_bad_refusals(raw: bytes) -> None:
    with pytest.raises(FormatRefused):
        decode_refusal(raw)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_refusal_or_refused(raw: bytes) -> None:
    try:
        error = decode_refusal(raw)
    except FormatRefused:
        return
    assert error.code in list(Code)
