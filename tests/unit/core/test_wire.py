"""Nothing is read past an end, whatever a length says."""

import pytest

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused, Refused

DATA = bytes(range(1, 9))


def test_reads_forward_little_endian() -> None:
    reader = wire.Reader(DATA, "thing")
    assert reader.u8() == 0x01
    assert reader.u16() == 0x0302
    assert reader.u32() == 0x07060504
    assert (reader.offset, reader.remaining) == (7, 1)
    assert reader.take(1) == b"\x08"
    reader.finish()


def test_the_same_most_significant_byte_first() -> None:
    reader = wire.BigEndianReader(DATA + DATA, "thing")
    assert reader.u8() == 0x01
    assert reader.u16() == 0x0203
    assert reader.u32() == 0x04050607
    assert reader.u64() == 0x0801020304050607
    assert wire.Reader(DATA, "thing").u64() == 0x0807060504030201
    assert (wire.be16(0x0102), wire.be32(0x01020304)) == (b"\x01\x02", b"\x01\x02\x03\x04")


def test_bytes_that_say_how_many_they_are() -> None:
    reader = wire.BigEndianReader(wire.be_sized(b"abc") + b"\0\2x", "thing")
    assert reader.sized() == b"abc"
    with pytest.raises(FormatRefused) as refusal:
        reader.sized()
    assert refusal.value.code is Code.TRUNCATED


def test_a_window_starts_and_ends_where_it_was_told() -> None:
    reader = wire.Reader(DATA, "thing", 2, 5)
    assert reader.remaining == 3
    assert reader.take(3) == DATA[2:5]
    with pytest.raises(FormatRefused):
        reader.take(1)


def test_an_empty_window_at_the_very_end_is_a_window() -> None:
    reader = wire.Reader(DATA, "thing", 8)
    assert reader.take(0) == b""
    reader.finish()


@pytest.mark.parametrize(("start", "end"), [(-1, 4), (5, 4), (0, 9), (9, 9), (9, None)])
def test_a_window_outside_the_bytes_is_refused(start: int, end: int | None) -> None:
    with pytest.raises(FormatRefused) as refusal:
        wire.Reader(DATA, "thing", start, end)
    assert refusal.value.code is Code.TRUNCATED
    assert refusal.value.subject == "thing"
    assert refusal.value.expected == f"bytes {start} to {8 if end is None else end}"
    assert refusal.value.found == "8 bytes"


@pytest.mark.parametrize("count", [-1, 5, 2**32, 2**64])
def test_more_than_there_is_is_refused_and_nothing_is_consumed(count: int) -> None:
    reader = wire.Reader(DATA, "thing", 4)
    with pytest.raises(FormatRefused) as refusal:
        reader.take(count)
    assert refusal.value.code is Code.TRUNCATED
    assert refusal.value.expected == f"{count} bytes at offset 4"
    assert refusal.value.found == "4"
    assert (reader.offset, reader.remaining) == (4, 4)


@pytest.mark.parametrize(("method", "size"), [("u8", 1), ("u16", 2), ("u32", 4)])
def test_integers_need_all_their_bytes(method: str, size: int) -> None:
    exact = wire.Reader(DATA[:size], "thing")
    getattr(exact, method)()
    exact.finish()
    with pytest.raises(FormatRefused):
        getattr(wire.Reader(DATA[: size - 1], "thing"), method)()


def test_what_is_left_over_is_refused() -> None:
    reader = wire.Reader(DATA, "thing")
    reader.take(6)
    with pytest.raises(FormatRefused) as refusal:
        reader.finish()
    assert refusal.value.code is Code.TRAILING
    assert refusal.value.expected == "the end at offset 6"
    assert refusal.value.found == "2 more bytes"


def test_integers_are_written_little_endian() -> None:
    assert wire.u16(0x0102) == b"\x02\x01"
    assert wire.u32(0x01020304) == b"\x04\x03\x02\x01"
    assert wire.u16(0xFFFF) == b"\xff" * 2
    assert wire.u32(0xFFFF_FFFF) == b"\xff" * 4


@pytest.mark.parametrize(("write", "value"), [(wire.u16, 0x1_0000), (wire.u32, 2**32), (wire.u16, -1)])
def test_a_number_that_does_not_fit_is_a_bug_not_a_wrap(write: object, value: int) -> None:
    with pytest.raises(OverflowError):
        write(value)  # type: ignore[operator]


def test_refusals_are_refusals() -> None:
    with pytest.raises(Refused):
        wire.Reader(b"", "thing").u8()
