"""Plan, rows and results are read or refused, whatever their bytes."""

from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import FormatRefused
from cellward.core.evidence import Results, node_ids, read_plan, read_results, read_rows
from tests.unit.core.test_evidence import ONE, PLAN, ROWS, SKIPPED, xml

RESULTS = xml(ONE, SKIPPED, properties='<properties><property name="revision" value="a"/></properties>')


def read_all(data: bytes) -> list[object]:
    """What each reader makes of it; nothing but FormatRefused may come out."""
    found: list[object] = []
    for read in (read_plan, read_rows, read_results):
        try:
            found.append(read(data, "x"))
        except FormatRefused as error:
            assert error.code
            assert "\n" not in str(error)
    return found


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_results(data: bytes) -> None:
    assert read_all(data) == []


@given(
    st.sampled_from([PLAN.encode(), ROWS.encode(), RESULTS]), st.integers(0, 1 << 20), st.binary(max_size=6)
)
def test_edited_files_are_read_or_refused(data: bytes, at: int, put: bytes) -> None:
    at %= len(data) + 1
    read_all(data[:at] + put + data[at + len(put) :])
    read_all(data[:at] + put + data[at:])


@given(st.text(max_size=60), st.text(max_size=60))
def test_what_stands_in_an_attribute_never_becomes_a_verdict(place: str, name: str) -> None:
    case = f'<testcase classname="{escape(place)}" name="{escape(name)}" time="0"/>'
    try:
        results = read_results(xml(case), "x")
    except FormatRefused:
        return  # characters that XML has not
    assert isinstance(results, Results)
    assert [case.outcome for case in results.cases] == ["passed"]


def escape(text: str) -> str:
    return "".join(f"&#{ord(character)};" for character in text)


@given(st.text(max_size=200))
def test_arbitrary_text_is_a_file_of_tests_or_refused(text: str) -> None:
    try:
        node_ids(text, "tests/test_x.py")
    except FormatRefused as error:
        assert error.subject == "tests/test_x.py"
