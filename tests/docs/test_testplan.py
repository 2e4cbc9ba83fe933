"""The test plan names what is there: no claim without a test, no test that was renamed away."""

import ast
import tomllib
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cellward.core.evidence import read_rows

ROOT = Path(__file__).parents[2]
PLAN: dict[str, Any] = tomllib.loads((ROOT / "docs" / "testplan.toml").read_text())
CLAIMS: list[dict[str, Any]] = PLAN["claim"]


@cache
def functions_in(path: Path) -> set[str]:
    """The test functions of a file, as `name` or `Class::name`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def missing(node: str) -> bool:
    file, _, name = node.partition("::")
    path = ROOT / file
    if not path.is_file():
        return True
    return name not in functions_in(path) if name else not functions_in(path)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["id"])
def test_a_claim_has_control_test_and_figure(claim: dict[str, Any]) -> None:
    needed = {"id", "area", "says", "control", "tests", "figure", "command", "date"}
    assert set(claim) in (needed, needed | {"answers"})
    assert claim["area"] in PLAN["areas"]
    assert claim["tests"]
    assert [node for node in claim["tests"] if missing(node)] == []
    assert [path for path in claim["control"] if not (ROOT / path).exists()] == []
    assert isinstance(claim["date"], date)
    assert claim["figure"]
    assert claim["command"].split()[0] in ("make", "cellward", "python")


def test_ids_are_unique_and_every_area_has_a_claim() -> None:
    everything = [*CLAIMS, *PLAN.get("open", [])]
    names = [entry["id"] for entry in everything]
    assert len(names) == len(set(names))
    assert {claim["area"] for claim in CLAIMS} == set(PLAN["areas"])


@pytest.mark.parametrize("entry", PLAN.get("open", []), ids=lambda entry: entry["id"])
def test_what_is_open_says_why(entry: dict[str, Any]) -> None:
    assert set(entry) == {"id", "area", "says", "why"}
    assert entry["area"] in PLAN["areas"]


def test_commands_of_make_narrow_down_to_files_that_are_there() -> None:
    paths = [claim["command"].partition("PYTEST=")[2] for claim in CLAIMS if "PYTEST=" in claim["command"]]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_a_test_that_is_gone_is_missed() -> None:
    assert missing("tests/docs/test_testplan.py::test_that_was_renamed")
    assert missing("tests/docs/test_nothing.py")
    assert not missing("tests/docs/test_testplan.py::test_a_test_that_is_gone_is_missed")


@pytest.mark.parametrize(("kind", "count"), [("attack", 27), ("standard", 24)])
def test_every_row_is_there_and_one_without_a_claim_says_what_is_missing(kind: str, count: int) -> None:
    rows = read_rows((ROOT / "docs" / "evidence" / f"{kind}s.toml").read_bytes(), kind).rows
    assert [row.id for row in rows] == [f"{kind}.{number}" for number in range(1, count + 1)]
    answered = {row for claim in CLAIMS for row in claim.get("answers", [])}
    assert [row.id for row in rows if not row.missing and row.id not in answered] == []
    assert {row for row in answered if row.startswith(kind)} <= {row.id for row in rows}
