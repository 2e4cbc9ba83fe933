"""SoftHSM's object files: any bytes are whole or refused; what is cut off is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.adapters.pkcs11.objectfile import MAX_FILE, check_object
from cellward.core.errors import Code, FormatRefused

WORDS = st.integers(0, 2**64 - 1)


def word(number: int) -> bytes:
    return number.to_bytes(8, "big")


def attribute(kind: int, value: bytes) -> bytes:
    return word(0x8000_5349) + word(kind) + value


SIMPLE = st.one_of(
    st.sampled_from([b"\0", b"\xff"]).map(lambda value: attribute(1, value)),
    WORDS.map(lambda value: attribute(2, word(value))),
    st.binary(max_size=40).map(lambda value: attribute(3, word(len(value)) + value)),
    st.lists(WORDS, max_size=4).map(
        lambda value: attribute(5, word(len(value)) + b"".join(map(word, value)))
    ),
)
NESTED = st.lists(SIMPLE, max_size=3).map(b"".join).map(lambda inner: attribute(4, word(len(inner)) + inner))
OBJECTS = st.lists(SIMPLE | NESTED, min_size=1, max_size=6)


@given(st.binary(max_size=100) | st.binary(max_size=60).map(word(1).__add__))
def test_any_bytes(data: bytes) -> None:
    try:
        assert check_object(data, "test") > 0
    except FormatRefused as error:
        assert error.code is Code.TOKEN_DAMAGED


@given(OBJECTS, st.data())
def test_a_cut_is_found_unless_it_is_between_attributes(parts: list[bytes], data: st.DataObject) -> None:
    whole = word(7) + b"".join(parts)
    assert check_object(whole, "test") == len(parts)
    ends = [8 + len(b"".join(parts[:count])) for count in range(1, len(parts) + 1)]
    cut = data.draw(st.integers(0, len(whole) - 1))
    if cut in ends:
        assert check_object(whole[:cut], "test") == ends.index(cut) + 1
    else:
        with pytest.raises(FormatRefused):
            check_object(whole[:cut], "test")


@given(st.sampled_from([3, 4, 5]), st.integers(2**20, 2**64 - 1))
def test_no_length_beyond_the_file(kind: int, length: int) -> None:
    with pytest.raises(FormatRefused):
        check_object(word(1) + attribute(kind, word(length) + bytes(64)), "test")


def test_a_file_that_is_too_long() -> None:
    with pytest.raises(FormatRefused):
        check_object(word(1) + attribute(3, word(MAX_FILE) + bytes(MAX_FILE)), "test")
