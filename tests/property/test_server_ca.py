"""Statements on server CAs from anywhere: read and verified, or refused; no edit of one is believed."""

from hypothesis import given
from hypothesis import strategies as st

from cellward.core import serverca
from cellward.core.errors import FormatRefused, TrustRefused
from cellward.core.metadata import parse_root
from tests.support.serverca import NEW, OLD, of, stated
from tests.support.uptane import IMAGE_OWNER

ROOT = parse_root(IMAGE_OWNER.root()).signed
GOOD = stated(3, OLD, NEW)


def believed(data: bytes) -> bool:
    try:
        return serverca.verify(data, ROOT).data == data
    except (FormatRefused, TrustRefused) as error:
        assert "\n" not in str(error)
        return False


def test_a_good_one_is_believed() -> None:
    assert believed(GOOD)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_statement(data: bytes) -> None:
    assert not believed(data)


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_an_edited_statement_is_refused(at: int, put: bytes, cut: int) -> None:
    edited = GOOD[:at] + put + GOOD[at + cut :]
    assert edited == GOOD or not believed(edited)


@given(st.text(max_size=200) | st.integers(0, len(NEW.pem) - 1).map(lambda at: NEW.pem.decode()[:at]))
def test_what_a_quorum_signed_must_still_be_a_ca(pem: str) -> None:
    assert not believed(of(pem))
