"""PCR arithmetic; test_tpm_tools has a TPM's word on it."""

import hashlib

import pytest

from cellward.core.errors import Code, FormatRefused
from cellward.core.tpm import pcr
from cellward.core.tpm.pcr import PcrValues
from cellward.core.wire import BigEndianReader

ONE, TWO = b"\1" * 32, b"\2" * 32


def test_the_composite_goes_by_rising_index() -> None:
    assert PcrValues({9: TWO, 8: ONE}).digest == hashlib.sha256(ONE + TWO).digest()
    assert PcrValues({9: TWO, 8: ONE}).selection == (8, 9)


def test_a_selection_has_a_bit_for_each_pcr() -> None:
    assert pcr.encode_selection((0, 8, 23)).hex() == "00000001000b03010180"
    reader = BigEndianReader(pcr.encode_selection((0, 8, 23)), "selection")
    assert pcr.read_selection(reader) == (0, 8, 23)


@pytest.mark.parametrize("values", [{}, {24: ONE}, {-1: ONE}, {8: ONE[:-1]}, {8: ONE + b"\0"}, {8: b""}])
def test_values_that_no_bank_has(values: dict[int, bytes]) -> None:
    with pytest.raises(FormatRefused) as refusal:
        PcrValues(values)
    assert refusal.value.code is Code.ATTEST_FORMAT
