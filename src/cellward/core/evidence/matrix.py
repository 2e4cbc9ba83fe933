"""Row → claims → controls → tests → last result.

A row is *empty* where no claim answers it; *failed* when a test behind it failed; *unproven* when one
did not run or was skipped; otherwise *covered*, or *partly* covered where the row says what is missing.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.evidence.junit import Case, Outcome, Results
from cellward.core.evidence.plan import Claim, Open, Plan, Row, RowList


class Status(StrEnum):
    """In the order of the page's summary."""

    COVERED = "covered"
    PARTLY = "partly"
    EMPTY = "empty"
    UNPROVEN = "unproven"
    FAILED = "failed"


@dataclass(frozen=True)
class NodeResult:
    """A test named by a claim, with all its parameters. `seconds`: of all cases together."""

    node: str
    outcome: Outcome
    cases: int
    passed: int
    seconds: float


@dataclass(frozen=True)
class Proof:
    """A claim and what its tests said."""

    claim: Claim
    tests: tuple[NodeResult, ...]

    @property
    def outcome(self) -> Outcome:
        return Outcome.worst([test.outcome for test in self.tests])


@dataclass(frozen=True)
class Answer:
    """A row and the claims that answer it."""

    row: Row
    proofs: tuple[Proof, ...]

    @property
    def status(self) -> Status:
        if not self.proofs:
            return Status.EMPTY
        outcome = Outcome.worst([proof.outcome for proof in self.proofs])
        if outcome is Outcome.FAILED:
            return Status.FAILED
        if outcome is not Outcome.PASSED:
            return Status.UNPROVEN
        return Status.PARTLY if self.row.missing else Status.COVERED


@dataclass(frozen=True)
class Matrix:
    """`lists`: each list's kind and title with its rows. `beyond`: claims that answer no row."""

    lists: tuple[tuple[RowList, tuple[Answer, ...]], ...]
    proofs: tuple[Proof, ...]
    open: tuple[Open, ...]
    results: Results

    @property
    def answers(self) -> Iterator[Answer]:
        return (answer for _, answers in self.lists for answer in answers)

    @property
    def beyond(self) -> tuple[Proof, ...]:
        return tuple(proof for proof in self.proofs if not proof.claim.answers)

    def count(self, status: Status, kind: str = "") -> int:
        """Rows of that status, in the list of that kind or in all."""
        return sum(
            answer.status is status
            for rows, answers in self.lists
            if kind in ("", rows.kind)
            for answer in answers
        )


def build(plan: Plan, lists: Sequence[RowList], results: Results, tests: Collection[str]) -> Matrix:
    """`tests`: every test that there is (`node_ids`).

    Raises FormatRefused (evidence.test: no such test; evidence.row: no such row, or one id twice).
    """
    _check_names(plan, lists, tests)
    by_place: dict[str, list[Case]] = defaultdict(list)
    for case in results.cases:
        by_place[case.place].append(case)
    proofs = tuple(
        Proof(claim, tuple(_result(node, by_place) for node in claim.tests)) for claim in plan.claims
    )
    answered = tuple(
        (each, tuple(Answer(row, _answering(row, proofs)) for row in each.rows)) for each in lists
    )
    return Matrix(answered, proofs, plan.open, results)


def _check_names(plan: Plan, lists: Sequence[RowList], tests: Collection[str]) -> None:
    rows = [row.id for each in lists for row in each.rows]
    if len(rows) != len(set(rows)):
        raise FormatRefused(Code.EVIDENCE_ROW, "the rows", expected="every id once", found="one twice")
    for claim in plan.claims:
        for node in claim.tests:
            if node not in tests:
                raise FormatRefused(
                    Code.EVIDENCE_TEST, f"claim {claim.id}", expected="a test that is there", found=node
                )
        for row in claim.answers:
            if row not in rows:
                raise FormatRefused(
                    Code.EVIDENCE_ROW, f"claim {claim.id}", expected="a row of the lists", found=row
                )


def _answering(row: Row, proofs: Sequence[Proof]) -> tuple[Proof, ...]:
    return tuple(proof for proof in proofs if row.id in proof.claim.answers)


def _result(node: str, by_place: dict[str, list[Case]]) -> NodeResult:
    cases = list(_cases(node, by_place))
    passed = sum(case.outcome is Outcome.PASSED for case in cases)
    outcome = Outcome.worst([case.outcome for case in cases])
    return NodeResult(node, outcome, len(cases), passed, sum(case.seconds for case in cases))


def _cases(node: str, by_place: dict[str, list[Case]]) -> Iterator[Case]:
    """pytest says `tests.x.test_y` or `tests.x.test_y.Class`, and `test_z[parameters]`."""
    file, *names = node.split("::")
    module = file.removesuffix(".py").replace("/", ".")
    if not names:
        for place, cases in by_place.items():
            if place == module or place.startswith(f"{module}."):
                yield from cases
        return
    place = ".".join([module, *names[:-1]])
    for case in by_place.get(place, ()):
        if case.name.partition("[")[0] == names[-1]:
            yield case


def check(matrix: Matrix, revision: str) -> None:
    """Refuses results of another revision than `revision` (empty: not known), and whatever is claimed
    without a passing test: first of all a row, then a claim that answers none.

    Raises PolicyRefused (evidence.stale, evidence.unproven).
    """
    _check_revision(matrix.results, revision)
    bad = [
        (answer.row.id, proof)
        for answer in matrix.answers
        for proof in answer.proofs
        if proof.outcome is not Outcome.PASSED
    ]
    bad += [(f"claim {proof.claim.id}", proof) for proof in matrix.beyond if proof.outcome != Outcome.PASSED]
    if not bad:
        return
    subject, proof = bad[0]
    worst = next(test for test in proof.tests if test.outcome is proof.outcome)
    more = len({name for name, _ in bad}) - 1
    raise PolicyRefused(
        Code.EVIDENCE_UNPROVEN,
        subject,
        expected="a passing test behind every claim",
        found=f"{worst.node} {worst.outcome}",
        advice=f"{more} more like it" if more else "",
    )


def _check_revision(results: Results, revision: str) -> None:
    if revision and results.revision and results.revision != revision:
        raise PolicyRefused(
            Code.EVIDENCE_STALE,
            "test results",
            expected=f"a run of revision {revision[:12]}",
            found=f"one of {results.revision[:12]}",
            advice="run the tests again",
        )
