"""What `cellward evidence export` writes: JSON for programs (docs/formats/evidence.md), a page for people."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cellward.core.evidence import Answer, Matrix, NodeResult, Proof, Status

FORMAT = 1
TEMPLATE = "evidence.html.j2"


@dataclass(frozen=True)
class About:
    """What the evidence is of. `revision` is empty where it is not known; `firmware`: name → SHA-256."""

    made: str
    version: str
    revision: str
    changed: bool
    firmware: dict[str, str]
    tools: dict[str, str]


def to_json(matrix: Matrix, about: About) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "made": about.made,
        "cellward": about.version,
        "revision": about.revision,
        "changed": about.changed,
        "results": {"time": matrix.results.time, "revision": matrix.results.revision},
        "firmware": about.firmware,
        "tools": about.tools,
        "summary": summary(matrix),
        "lists": [
            {"kind": rows.kind, "title": rows.title, "rows": [_row(answer) for answer in answers]}
            for rows, answers in matrix.lists
        ],
        "claims": [_proof(proof) for proof in matrix.proofs],
        "open": [
            {"id": entry.id, "area": entry.area, "says": entry.says, "why": entry.why}
            for entry in matrix.open
        ],
    }


def summary(matrix: Matrix) -> dict[str, dict[str, int]]:
    """By list and status: how many rows."""
    return {
        rows.kind: {status.value: matrix.count(status, rows.kind) for status in Status}
        for rows, _ in matrix.lists
    }


def _row(answer: Answer) -> dict[str, Any]:
    row = answer.row
    return {
        "id": row.id,
        "name": row.name,
        "says": row.says,
        "asks": row.asks,
        "source": row.source,
        "recheck": row.recheck,
        "status": answer.status.value,
        "missing": row.missing,
        "claims": [proof.claim.id for proof in answer.proofs],
    }


def _proof(proof: Proof) -> dict[str, Any]:
    claim = proof.claim
    return {
        "id": claim.id,
        "area": claim.area,
        "says": claim.says,
        "answers": list(claim.answers),
        "control": list(claim.control),
        "outcome": proof.outcome.value,
        "tests": [_test(test) for test in proof.tests],
        "figure": claim.figure,
        "command": claim.command,
        "date": claim.date.isoformat(),
    }


def _test(test: NodeResult) -> dict[str, Any]:
    return {
        "node": test.node,
        "outcome": test.outcome.value,
        "cases": test.cases,
        "passed": test.passed,
        "seconds": round(test.seconds, 3),
    }


def page(matrix: Matrix, about: About) -> bytes:
    """One self-contained HTML file that loads nothing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("cellward.cli", "."),
        autoescape=select_autoescape(default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    rows = sum(1 for _ in matrix.answers)
    return (
        environment.get_template(TEMPLATE)
        .render(matrix=matrix, about=about, statuses=list(Status), rows=rows, runs=_runs(matrix.proofs))
        .encode()
    )


def _runs(proofs: Iterable[Proof]) -> dict[str, int]:
    """How many of the named tests had which outcome, each test once."""
    found: dict[str, str] = {}
    for proof in proofs:
        found |= {test.node: test.outcome.value for test in proof.tests}
    outcomes = list(found.values())
    return {outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped", "not run")}


def to_bytes(tree: dict[str, Any]) -> bytes:
    return (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode()
