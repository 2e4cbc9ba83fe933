"""The update link's frames and values, the controller's side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import wire
from cellward.core.errors import STATUS_OK, STATUS_WORDS, CellwardError, Code, FormatRefused, ModuleRefused
from cellward.core.image import Version
from cellward.core.slots import Lifecycle, Stage
from cellward.ports.updatelink import (
    IDENTITY_SIZE,
    MAX_PAYLOAD,
    Dialogue,
    Request,
    decode_answer,
    encode_request,
)
from cellward.ports.updatevalues import (
    Answerer,
    Identity,
    StageDigest,
    decode_digest,
    decode_identity,
    encode_digest_request,
    encode_image_request,
)

IDENTITY = Identity(Answerer.APP, "b", Lifecycle.PRODUCTION, 7, 1, 2048, "M0001", bytes(65))
DIGEST = StageDigest(1234, b"d" * 32, Version(1, 4, 0, 9), 7)


def answer(request: bytes, payload: bytes = b"", status: int = STATUS_OK) -> bytes:
    return bytes([request[0] | 0x80, request[1]]) + wire.u16(len(payload)) + wire.u32(status) + payload


def refused(code: Code, error: type[CellwardError], exchange: bytes) -> None:
    with pytest.raises(error) as caught:
        Dialogue(lambda _: exchange, "module M").ask(Request.IDENTIFY)
    assert caught.value.code is code


def test_values_come_back() -> None:
    assert len(IDENTITY.encode()) == IDENTITY_SIZE
    assert decode_identity(IDENTITY.encode()) == IDENTITY
    assert decode_digest(DIGEST.encode()) == DIGEST
    assert encode_digest_request(True, Stage.APP) == b"\1\1\0\0"
    assert encode_image_request(Stage.APP, 0x10203) == b"\1\0\0\0\3\2\1\0"
    assert encode_image_request(Stage.LOADER, 1, bytes(113))[:8] == b"\0\x71\0\0\1\0\0\0"


def test_questions_are_numbered_and_answers_too() -> None:
    asked: list[bytes] = []

    def exchange(request: bytes) -> bytes:
        asked.append(request)
        return answer(request, b"said")

    dialogue = Dialogue(exchange, "module M")
    for _ in range(257):
        assert dialogue.ask(Request.DATA, b"more") == b"said"
    assert [request[1] for request in asked[:2]] == [1, 2]
    assert asked[256] == asked[0] == b"\x22\1\4\0more"


def test_a_refusal_has_the_modules_code() -> None:
    word = STATUS_WORDS[Code.LINK_STATE]
    refused(Code.LINK_STATE, ModuleRefused, answer(b"\1\1", status=word))
    refused(Code.LINK_STATE, ModuleRefused, b"\x80\0\0\0" + wire.u32(word))  # its header was not read
    refused(Code.LINK_FRAME, ModuleRefused, answer(b"\1\1", status=5))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (answer(b"\1\2"), Code.LINK_FRAME),
        (answer(b"\2\1"), Code.LINK_FRAME),
        (b"\1\1" + answer(b"\1\1")[2:], Code.LINK_FRAME),
        (answer(b"\1\1") + b"\0", Code.TRAILING),
        (answer(b"\1\1", b"1234")[:-1], Code.TRUNCATED),
        (b"", Code.TRUNCATED),
    ],
    ids=["sequence", "type", "no answer", "trailing", "truncated", "empty"],
)
def test_another_frame_is_no_answer(data: bytes, code: Code) -> None:
    refused(code, FormatRefused, data)


@pytest.mark.parametrize(
    ("at", "put"), [(0, 2), (1, 0), (1, 4), (2, 2), (3, 5), (12, 1), (13, 16), (14, 1), (16, 0x80), (17, 7)]
)
def test_an_identity_out_of_range_is_refused(at: int, put: int) -> None:
    data = bytearray(IDENTITY.encode())
    data[at] = put
    with pytest.raises(FormatRefused) as caught:
        decode_identity(bytes(data))
    assert caught.value.code is Code.LINK_FRAME


def test_what_does_not_fit_is_not_sent() -> None:
    with pytest.raises(FormatRefused):
        encode_request(Request.DATA, 0, bytes(MAX_PAYLOAD + 1))
    with pytest.raises(FormatRefused):
        encode_image_request(Stage.APP, 1, bytes(112))


@given(st.binary(max_size=120) | st.binary(min_size=IDENTITY_SIZE, max_size=IDENTITY_SIZE))
def test_any_bytes_are_a_value_or_one_refusal(data: bytes) -> None:
    for decode in (decode_answer, decode_identity, decode_digest):
        try:
            decode(data)
        except FormatRefused:
            continue
