"""The table of delays, and what a record of the last try may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.attempts import CAP_MS, FIRST_MS, Last, Moment, decode, delay_ms, left_ms
from cellward.core.errors import FormatRefused

numbers = st.integers(0, 2**53 - 1)
moments = st.builds(Moment, st.tuples(numbers, numbers), numbers)


def test_the_table() -> None:
    seconds = [0, 0, 0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    assert [delay_ms(failures) // 1000 for failures in range(14)] == seconds
    assert delay_ms(10**9) == CAP_MS


@given(st.integers(3, 100), moments, moments)
def test_no_wait_is_longer_than_its_delay_and_time_in_other_starts_counts_not(
    failures: int, last: Moment, now: Moment
) -> None:
    left = left_ms(failures, last, now)
    assert 0 <= left <= delay_ms(failures)
    if last.start != now.start:
        assert left == max(0, delay_ms(failures) - now.milliseconds)


def test_a_time_before_the_last_try_ends_no_wait() -> None:
    assert left_ms(3, Moment((1, 0), 5000), Moment((1, 0), 1)) == FIRST_MS


@given(numbers, moments)
def test_a_record_is_read_as_it_was_written(number: int, at: Moment) -> None:
    assert decode(Last(number, at).encode()) == Last(number, at)


@given(st.binary(max_size=64))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(FormatRefused):
        decode(data)
