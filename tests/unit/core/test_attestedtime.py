"""A time attestation answers one nonce, by one key; a property test of the decoders."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import envelope
from cellward.core.attestedtime import KIND, MAX_SIZE, attestation, decode_request, encode_request, verify
from cellward.core.errors import CellwardError, Code, FormatRefused, TrustRefused
from cellward.core.keys import Algorithm
from cellward.sign.documents import sign_document
from tests.support.maker import NOW, Hand

TIME, OTHER = Hand(), Hand.of(Algorithm.ED25519)
NONCE = bytes(range(32))
KEYS = (TIME.public_key, OTHER.public_key)


def answer(nonce: bytes = NONCE, *hands: Hand) -> bytes:
    made = attestation(nonce, NOW)
    for hand in hands or (TIME,):
        made = sign_document(made, hand)
    return made.encode()


@pytest.mark.parametrize("hand", [TIME, OTHER], ids=["P-256", "Ed25519"])
def test_the_time_in_answer_to_a_nonce(hand: Hand) -> None:
    assert decode_request(encode_request(NONCE)) == NONCE
    assert verify(answer(NONCE, hand), KEYS, NONCE) == NOW


def test_whole_seconds() -> None:
    made = sign_document(attestation(NONCE, NOW + timedelta(microseconds=999_999)), TIME)
    assert verify(made.encode(), KEYS, NONCE) == NOW


def refused(data: bytes, nonce: bytes = NONCE) -> Code:
    with pytest.raises(CellwardError) as caught:
        verify(data, KEYS, nonce)
    return caught.value.code


def test_what_is_no_answer() -> None:
    assert refused(answer(), bytes(32)) is Code.TIME_NONCE
    assert refused(attestation(NONCE, NOW).encode()) is Code.DOCUMENT_SIGNATURE
    assert refused(answer(NONCE, TIME, OTHER)) is Code.DOCUMENT_SIGNATURE
    assert refused(answer(NONCE, Hand())) is Code.DOCUMENT_SIGNATURE
    later = attestation(NONCE, NOW + timedelta(days=1))
    moved = replace(later, signatures=sign_document(attestation(NONCE, NOW), TIME).signatures)
    assert refused(moved.encode()) is Code.DOCUMENT_SIGNATURE
    other = sign_document(envelope.make("release", {"nonce": NONCE.hex(), "time": "x"}), TIME)
    assert refused(other.encode()) is Code.DOCUMENT_KIND
    more = {"nonce": NONCE.hex(), "time": "2026-11-24T05:31:00Z", "zone": "UTC"}
    assert refused(sign_document(envelope.make(KIND, more), TIME).encode()) is Code.METADATA_FORMAT
    assert refused(bytes(MAX_SIZE + 1)) is Code.METADATA_TOO_LARGE


@given(st.integers(0, len(answer()) * 8 - 1))
def test_one_flipped_bit_is_never_the_time(bit: int) -> None:
    data = bytearray(answer())
    if bit >= len(data) * 8:  # this signature is shorter
        return
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises((FormatRefused, TrustRefused)):
        verify(bytes(data), KEYS, NONCE)


@given(st.binary(max_size=200) | st.dictionaries(st.text(), st.text()).map(lambda t: json.dumps(t).encode()))
def test_anything_else_is_no_request(data: bytes) -> None:
    with pytest.raises(FormatRefused):
        decode_request(data)
