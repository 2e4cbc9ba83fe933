"""From a claim to what its test last said, and what is refused on the way."""

from datetime import date

import pytest

from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.evidence import (
    Answer,
    Matrix,
    Outcome,
    Plan,
    Results,
    RowList,
    Status,
    build,
    check,
    file_of,
    node_ids,
    read_plan,
    read_results,
    read_rows,
)
from cellward.core.evidence import junit as junit_module
from cellward.core.evidence import plan as plan_module

PLAN = """
areas = ["boot"]
[[claim]]
id = "boot.one"
area = "boot"
says = "It boots."
control = ["firmware/rom/rom.c", ".ci/run"]
tests = ["tests/test_a.py::test_one", "tests/test_a.py::Group::test_two"]
figure = "passed"
command = "make test"
date = 2026-11-24
answers = ["attack.1"]
[[claim]]
id = "boot.two"
area = "boot"
says = "Again."
control = ["Makefile"]
tests = ["tests/sub/test_b.py"]
figure = "1"
command = "make test"
date = 2026-11-24
[[open]]
id = "boot.open"
area = "boot"
says = "All."
why = "Later"
"""
ROWS = """
kind = "attack"
title = "Attacks"
[[row]]
id = "attack.1"
name = "First"
says = "s"
asks = "a"
source = "x"
[[row]]
id = "attack.2"
name = "Second"
says = "s"
asks = "a"
source = "x"
recheck = true
missing = "all"
"""
TESTS = {
    "tests/test_a.py::test_one",
    "tests/test_a.py::Group::test_two",
    "tests/sub/test_b.py",
}
ONE, TWO, B = (
    '<testcase classname="tests.test_a" name="test_one[x-1]" time="0.5"/>',
    '<testcase classname="tests.test_a.Group" name="test_two" time="1"/>',
    '<testcase classname="tests.sub.test_b" name="test_b" time="2"/>',
)
FAILED = '<testcase classname="tests.test_a" name="test_one[y]" time="0"><failure>no</failure></testcase>'
SKIPPED = '<testcase classname="tests.test_a" name="test_one[y]" time="0"><skipped/></testcase>'


def xml(*cases: str, properties: str = "") -> bytes:
    head = '<?xml version="1.0"?><testsuites><testsuite name="pytest" timestamp="2026-11-24T20:00:00">'
    return f"{head}{properties}{''.join(cases)}</testsuite></testsuites>".encode()


def matrix(*cases: str, plan: str = PLAN, rows: str = ROWS, properties: str = "") -> Matrix:
    return build(
        read_plan(plan.encode(), "plan"),
        [read_rows(rows.encode(), "rows")],
        read_results(xml(*cases, properties=properties), "results"),
        TESTS,
    )


def first(found: Matrix) -> Answer:
    return next(found.answers)


# --- the plan and the rows ---


def test_a_plan_is_what_the_file_says() -> None:
    plan = read_plan(PLAN.encode(), "plan")
    one, two = plan.claims
    assert (one.id, one.area, one.says, one.figure) == ("boot.one", "boot", "It boots.", "passed")
    assert one.control == ("firmware/rom/rom.c", ".ci/run")
    assert one.tests == ("tests/test_a.py::test_one", "tests/test_a.py::Group::test_two")
    assert (one.date, one.answers, two.answers) == (date(2026, 11, 24), ("attack.1",), ())
    assert [entry.why for entry in plan.open] == ["Later"]


def test_rows_are_what_the_file_says() -> None:
    rows = read_rows(ROWS.encode(), "rows")
    assert (rows.kind, rows.title) == ("attack", "Attacks")
    assert [(row.id, row.recheck, row.missing) for row in rows.rows] == [
        ("attack.1", False, ""),
        ("attack.2", True, "all"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('areas = ["boot"]', 'areas = ["boot"]\nmore = 1', "more"),
        ('id = "boot.two"', 'id = "boot.one"', "boot.one twice"),
        ('id = "boot.open"', 'id = "boot.one"', "boot.one twice"),
        ('area = "boot"', 'area = "other"', "other"),
        ('control = ["Makefile"]', 'control = ["../Makefile"]', "another list"),
        ('control = ["Makefile"]', 'control = ["/etc/passwd"]', "another list"),
        ('control = ["Makefile"]', "control = []", "another list"),
        ('tests = ["tests/sub/test_b.py"]', 'tests = ["src/test_b.py"]', "another list"),
        ('tests = ["tests/sub/test_b.py"]', 'tests = ["tests/../test_b.py"]', "another list"),
        ('tests = ["tests/sub/test_b.py"]', 'tests = ["tests/sub/test_b.py::test_b[1]"]', "another list"),
        ('tests = ["tests/sub/test_b.py"]', 'tests = "tests/sub/test_b.py"', "str"),
        ("date = 2026-11-24", 'date = "2026-11-24"', "str"),
        ("date = 2026-11-24", "date = 2026-11-24T00:00:00", "datetime"),
        ('answers = ["attack.1"]', 'answers = ["attack.1", "attack.1"]', "another list"),
        ('says = "It boots."', 'says = ""', "''"),
        ('says = "It boots."', "says = 1", "int"),
        ('says = "It boots."', 'says = "a\\u001b[2J"', "x1b"),
        ('says = "It boots."', 'says = "a"\nunknown = 1', "unknown"),
        ('figure = "1"\n', "", "none"),
        ("[[open]]", "[open]", "dict"),
    ],
)
def test_a_plan_that_is_not_understood_is_refused(old: str, new: str, found: str) -> None:
    assert old in PLAN
    with pytest.raises(FormatRefused) as caught:
        read_plan(PLAN.replace(old, new, 1).encode(), "plan")
    assert caught.value.code is Code.METADATA_FORMAT
    assert found in caught.value.found
    assert caught.value.subject.startswith("plan")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('id = "attack.2"', 'id = "attack.1"'),
        ('id = "attack.2"', 'id = "standard.2"'),
        ('id = "attack.2"', 'id = "attack.02"'),
        ("recheck = true", 'recheck = "yes"'),
        ("recheck = true", "recheck = true\nstatus = 1"),
        ('kind = "attack"', 'kind = "an attack"'),
        ('missing = "all"', 'missing = ""'),
    ],
)
def test_rows_that_are_not_understood_are_refused(old: str, new: str) -> None:
    assert old in ROWS
    with pytest.raises(FormatRefused) as caught:
        read_rows(ROWS.replace(old, new, 1).encode(), "rows")
    assert caught.value.code is Code.METADATA_FORMAT


@pytest.mark.parametrize("data", [b"\xff", b"a = ", b"a = 1\na = 2", b"a = " + b"[" * 100_000])
def test_what_is_no_toml_is_refused(data: bytes) -> None:
    with pytest.raises(FormatRefused) as caught:
        read_plan(data, "plan")
    assert (caught.value.code, caught.value.expected) == (Code.METADATA_FORMAT, "TOML in UTF-8")


def test_a_plan_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "LIMIT", len(PLAN.encode()))
    read_plan(PLAN.encode(), "plan")
    with pytest.raises(FormatRefused) as caught:
        read_plan(PLAN.encode() + b"\n", "plan")
    assert caught.value.code is Code.METADATA_TOO_LARGE


# --- results ---


def test_results_are_what_pytest_says() -> None:
    said = '<properties><property name="revision" value="abc"/><property name="x" value="y"/></properties>'
    results = read_results(xml(ONE, FAILED, SKIPPED, properties=said), "results")
    assert (results.time, results.revision) == ("2026-11-24T20:00:00", "abc")
    one, failed, skipped = results.cases
    assert (one.place, one.name, one.seconds) == ("tests.test_a", "test_one[x-1]", 0.5)
    assert [case.outcome for case in (one, failed, skipped)] == ["passed", "failed", "skipped"]


def test_an_error_while_it_is_put_away_is_a_failure() -> None:
    case = ONE.replace("/>", "><error/></testcase>")
    assert read_results(xml(case), "results").cases[0].outcome is Outcome.FAILED


def test_what_a_test_prints_is_no_verdict() -> None:
    case = ONE.replace("/>", "><system-out><failure/></system-out></testcase>")
    assert read_results(xml(case), "results").cases[0].outcome is Outcome.PASSED


def test_a_property_elsewhere_is_no_revision() -> None:
    case = ONE.replace("/>", '><property name="revision" value="abc"/></testcase>')
    assert read_results(xml(case), "results").revision == ""


LAUGHS = b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><testsuite>&b;</testsuite>'
OUTSIDE = b'<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuite>&a;</testsuite>'


@pytest.mark.parametrize("data", [LAUGHS, OUTSIDE, b'<!DOCTYPE l SYSTEM "x.dtd"><testsuite/>'])
def test_a_document_type_is_refused_before_its_entities(data: bytes) -> None:
    with pytest.raises(FormatRefused) as caught:
        read_results(data, "results")
    assert (caught.value.code, caught.value.expected) == (Code.METADATA_FORMAT, "no document type")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no XML",
        b"<testsuite>",
        b"<html/>",
        b'<?xml version="1.0" encoding="none"?><testsuite/>',
        b"<testsuite>" + b"<a>" * 40 + b"</a>" * 40 + b"</testsuite>",
        xml('<testcase name="a"/>'),
        xml('<testcase classname="a"/>'),
        xml(ONE.replace("0.5", "a while")),
        xml(ONE.replace("0.5", "nan")),
        xml(ONE.replace("0.5", "-1")),
        xml(ONE.replace("test_one", "t" * 5000)),
    ],
)
def test_other_results_are_refused(data: bytes) -> None:
    with pytest.raises(FormatRefused) as caught:
        read_results(data, "results")
    assert caught.value.code is Code.METADATA_FORMAT


def test_results_have_a_size_and_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    data = xml(ONE, TWO)
    monkeypatch.setattr(junit_module, "LIMIT", len(data) - 1)
    with pytest.raises(FormatRefused) as caught:
        read_results(data, "results")
    assert caught.value.code is Code.METADATA_TOO_LARGE
    monkeypatch.setattr(junit_module, "LIMIT", len(data))
    monkeypatch.setattr(junit_module, "MAX_CASES", 1)
    with pytest.raises(FormatRefused) as caught:
        read_results(data, "results")
    assert caught.value.expected == "at most 1 test cases"


# --- the matrix ---


def test_all_tests_passed_and_nothing_is_missing_is_covered() -> None:
    found = matrix(ONE, TWO, B)
    assert [answer.status for answer in found.answers] == [Status.COVERED, Status.EMPTY]
    one, two = first(found).proofs[0].tests
    assert (one.outcome, one.cases, one.passed, one.seconds) == ("passed", 1, 1, 0.5)
    assert (two.node, two.cases) == ("tests/test_a.py::Group::test_two", 1)
    check(found, "")


def test_what_a_row_misses_makes_it_partly_covered() -> None:
    partly = ROWS.replace('source = "x"', 'source = "x"\nmissing = "more"', 1)
    assert first(matrix(ONE, TWO, B, rows=partly)).status is Status.PARTLY


def test_a_failed_test_makes_its_row_failed() -> None:
    found = matrix(ONE, FAILED, TWO, B)
    assert first(found).status is Status.FAILED
    one = first(found).proofs[0].tests[0]
    assert (one.outcome, one.cases, one.passed) == ("failed", 2, 1)
    with pytest.raises(PolicyRefused) as caught:
        check(found, "")
    assert caught.value.code is Code.EVIDENCE_UNPROVEN
    assert caught.value.subject == "attack.1"
    assert caught.value.found == "tests/test_a.py::test_one failed"


@pytest.mark.parametrize(("cases", "outcome"), [((TWO, B), "not run"), ((ONE, SKIPPED, TWO, B), "skipped")])
def test_a_test_that_did_not_run_leaves_its_row_unproven(cases: tuple[str, ...], outcome: str) -> None:
    found = matrix(*cases)
    assert first(found).status is Status.UNPROVEN
    with pytest.raises(PolicyRefused) as caught:
        check(found, "")
    assert caught.value.found == f"tests/test_a.py::test_one {outcome}"


def test_a_failure_outweighs_what_is_missing_and_what_did_not_run() -> None:
    partly = ROWS.replace('source = "x"', 'source = "x"\nmissing = "more"', 1)
    assert first(matrix(FAILED, rows=partly)).status is Status.FAILED


def test_a_claim_beyond_the_rows_needs_its_test_too() -> None:
    found = matrix(ONE, TWO)
    assert first(found).status is Status.COVERED
    with pytest.raises(PolicyRefused) as caught:
        check(found, "")
    assert caught.value.subject == "claim boot.two"
    assert caught.value.advice == ""


def test_the_first_of_several_is_told_with_the_number_of_the_others() -> None:
    with pytest.raises(PolicyRefused) as caught:
        check(matrix(), "")
    assert (caught.value.subject, caught.value.advice) == ("attack.1", "1 more like it")


@pytest.mark.parametrize(
    "case",
    [
        '<testcase classname="tests.test_a" name="test_one_more" time="0"/>',
        '<testcase classname="tests.test_a.Group" name="test_one" time="0"/>',
        '<testcase classname="tests.sub.test_a" name="test_one" time="0"/>',
        '<testcase classname="tests" name="test_a.test_one" time="0"/>',
    ],
)
def test_a_test_of_a_similar_name_is_another(case: str) -> None:
    assert first(matrix(case, TWO, B)).status is Status.UNPROVEN


def test_a_whole_file_is_all_its_tests_and_no_other_file_s() -> None:
    inner = '<testcase classname="tests.sub.test_b.Group" name="test_c" time="0"/>'
    other = '<testcase classname="tests.sub.test_b2" name="test_c" time="0"><failure/></testcase>'
    (proof,) = matrix(ONE, TWO, B, inner, other).beyond
    assert [(test.cases, test.passed) for test in proof.tests] == [(2, 2)]


def test_one_failed_test_of_a_file_fails_the_file() -> None:
    inner = '<testcase classname="tests.sub.test_b" name="test_c" time="0"><failure/></testcase>'
    (proof,) = matrix(ONE, TWO, B, inner).beyond
    assert proof.outcome is Outcome.FAILED


@pytest.mark.parametrize("nothing", sorted(TESTS))
def test_a_test_that_is_not_there_is_refused(nothing: str) -> None:
    plan, rows = read_plan(PLAN.encode(), "plan"), read_rows(ROWS.encode(), "rows")
    with pytest.raises(FormatRefused) as caught:
        build(plan, [rows], Results(), TESTS - {nothing})
    assert (caught.value.code, caught.value.found) == (Code.EVIDENCE_TEST, nothing)


def test_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(FormatRefused) as caught:
        matrix(plan=PLAN.replace("attack.1", "attack.3"))
    assert (caught.value.code, caught.value.found) == (Code.EVIDENCE_ROW, "attack.3")


def test_two_lists_share_no_row() -> None:
    rows = read_rows(ROWS.encode(), "rows")
    with pytest.raises(FormatRefused) as caught:
        build(Plan(("boot",), (), ()), [rows, RowList("attack", "Again", rows.rows)], Results(), TESTS)
    assert caught.value.code is Code.EVIDENCE_ROW


def test_counts_are_by_list_and_status() -> None:
    found = matrix(ONE, TWO, B)
    assert found.count(Status.COVERED) == found.count(Status.COVERED, "attack") == 1
    assert found.count(Status.COVERED, "standard") == found.count(Status.FAILED) == 0


@pytest.mark.parametrize(
    ("ran", "stands", "stale"),
    [("a" * 40, "a" * 40, False), ("a" * 40, "b" * 40, True), ("", "b" * 40, False), ("a" * 40, "", False)],
)
def test_results_of_another_revision_are_stale(ran: str, stands: str, stale: bool) -> None:
    said = f'<properties><property name="revision" value="{ran}"/></properties>'
    found = matrix(ONE, TWO, B, properties=said)
    if not stale:
        check(found, stands)
        return
    with pytest.raises(PolicyRefused) as caught:
        check(found, stands)
    assert caught.value.code is Code.EVIDENCE_STALE


# --- the tests that there are ---


def test_tests_of_a_file() -> None:
    source = (
        "def test_a(): ...\nasync def test_b(): ...\ndef helper(): ...\nclass G:\n    def test_c(self): ...\n"
    )
    assert node_ids(source, "tests/x.py") == {
        "tests/x.py",
        "tests/x.py::test_a",
        "tests/x.py::test_b",
        "tests/x.py::G::test_c",
    }
    assert node_ids("def helper(): ...", "tests/x.py") == frozenset()
    assert file_of("tests/x.py::G::test_c") == file_of("tests/x.py") == "tests/x.py"


@pytest.mark.parametrize("source", ["def", "\0", "(" * 10_000, "-" * 100_000 + "1", "\ud800"])
def test_what_is_no_python_is_refused(source: str) -> None:
    with pytest.raises(FormatRefused) as caught:
        node_ids(source, "tests/x.py")
    assert caught.value.subject == "tests/x.py"
