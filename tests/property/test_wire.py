"""Any reads of any bytes: what comes out was there, or it is a refusal."""

from hypothesis import given
from hypothesis import strategies as st

from cellward.core import wire
from cellward.core.errors import FormatRefused

NUMBERS = st.integers(-3, 300)
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


@given(
    st.binary(max_size=64), NUMBERS, st.none() | NUMBERS, st.lists(st.sampled_from(sorted(SIZES)) | NUMBERS)
)
def test_a_reader_never_leaves_its_window(
    data: bytes, start: int, end: int | None, reads: list[str | int]
) -> None:
    last = len(data) if end is None else end
    try:
        reader = wire.Reader(data, "x", start, end)
    except FormatRefused:
        assert not 0 <= start <= last <= len(data)
        return
    at = start
    for read in reads:
        size = SIZES[read] if isinstance(read, str) else read
        try:
            value = getattr(reader, read)() if isinstance(read, str) else reader.take(read)
        except FormatRefused:
            assert size < 0 or at + size > last
        else:
            expected = data[at : at + size]
            assert value == (int.from_bytes(expected, "little") if isinstance(read, str) else expected)
            assert len(expected) == size
            at += size
        assert (reader.offset, reader.remaining) == (at, last - at)
    try:
        reader.finish()
        assert at == last
    except FormatRefused:
        assert at < last


@given(st.integers(0, 2**32 - 1))
def test_numbers_there_and_back(number: int) -> None:
    assert wire.Reader(wire.u32(number), "x").u32() == number
    assert wire.Reader(wire.u16(number & 0xFFFF), "x").u16() == number & 0xFFFF
