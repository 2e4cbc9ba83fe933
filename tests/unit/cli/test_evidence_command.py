"""`cellward evidence export` over a small checkout, and over this one."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cellward.cli.main import cellward
from cellward.core.errors import CellwardError, Code
from tests.unit.core.test_evidence import FAILED, ONE, PLAN, ROWS, TWO, B, xml

ROOT = Path(__file__).parents[3]
NO_ROWS = 'kind = "standard"\ntitle = "Standards"\nrow = []\n'
SOURCES = {
    "tests/test_a.py": "def test_one(): ...\nclass Group:\n    def test_two(self): ...\n",
    "tests/sub/test_b.py": "def test_b(): ...\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    files = {
        "docs/testplan.toml": PLAN,
        "docs/evidence/attacks.toml": ROWS,
        "docs/evidence/standards.toml": NO_ROWS,
        "firmware/rom/rom.c": "",
        ".ci/run": "",
        "Makefile": "",
        **SOURCES,
    }
    for name, text in files.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    results(tmp_path / "checkout", ONE, TWO, B)
    return tmp_path / "checkout"


def results(checkout: Path, *cases: str, revision: str = "") -> None:
    (checkout / "build").mkdir(exist_ok=True)
    said = f'<properties><property name="revision" value="{revision}"/></properties>'
    (checkout / "build" / "results.xml").write_bytes(xml(*cases, properties=said))


def export(checkout: Path, *arguments: str | Path) -> Result:
    command = ["evidence", "export", "--checkout", str(checkout), *map(str, arguments)]
    result = CliRunner().invoke(cellward, command)
    if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
        raise result.exception
    return result


def refused(code: Code, checkout: Path, *arguments: str | Path) -> CellwardError:
    error = export(checkout, *arguments).exception
    assert isinstance(error, CellwardError), error
    assert error.code is code
    assert "\n" not in str(error)
    return error


def written(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((folder / "evidence.json").read_text())
    return tree


def test_json_has_row_claim_control_test_and_result(checkout: Path, tmp_path: Path) -> None:
    assert export(checkout, "-o", tmp_path / "out").exception is None
    tree = written(tmp_path / "out")
    assert tree["format"] == 1
    assert tree["summary"]["attack"] == {"covered": 1, "partly": 0, "empty": 1, "unproven": 0, "failed": 0}
    first, second = tree["lists"][0]["rows"]
    assert (first["id"], first["status"], first["claims"]) == ("attack.1", "covered", ["boot.one"])
    assert (second["status"], second["claims"], second["missing"]) == ("empty", [], "all")
    claim = tree["claims"][0]
    assert (claim["control"], claim["outcome"]) == (["firmware/rom/rom.c", ".ci/run"], "passed")
    assert claim["tests"][0] == {
        "node": "tests/test_a.py::test_one",
        "outcome": "passed",
        "cases": 1,
        "passed": 1,
        "seconds": 0.5,
    }
    assert {"made", "cellward", "revision", "firmware", "tools"} <= set(tree)
    assert "pytest" in tree["tools"]
    assert all(len(digest) == 64 for digest in tree["firmware"].values())
    assert {"rom.bin", "loader-1.4.0.elf"} <= set(tree["firmware"])


def test_the_page_shows_every_row_loads_nothing_and_escapes(checkout: Path, tmp_path: Path) -> None:
    rows = checkout / "docs" / "evidence" / "attacks.toml"
    rows.write_text(ROWS.replace('name = "Second"', 'name = "<script>alert(1)</script>"'))
    results(checkout, ONE, FAILED, TWO, B)
    export(checkout, "-o", tmp_path / "out")
    page = (tmp_path / "out" / "evidence.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "http" not in page.replace('<html lang="en">', "")
    for said in ('id="attack.1"', 'id="attack.2"', "row-failed", "row-empty", "1 of 2 cases", "Missing: all"):
        assert said in page
    assert 'id="show-failed"' in page


def test_without_results_nothing_is_proven(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout / "build")
    export(checkout, "-o", tmp_path / "out")
    tree = written(tmp_path / "out")
    assert tree["lists"][0]["rows"][0]["status"] == "unproven"
    assert tree["claims"][0]["tests"][0]["outcome"] == "not run"
    assert "nothing here is proven" in (tmp_path / "out" / "evidence.html").read_text()


def test_check_names_row_and_test(checkout: Path, tmp_path: Path) -> None:
    assert export(checkout, "--check").exception is None
    results(checkout, ONE, FAILED, TWO, B)
    error = refused(Code.EVIDENCE_UNPROVEN, checkout, "--check", "-o", tmp_path / "out")
    assert (error.subject, error.found) == ("attack.1", "tests/test_a.py::test_one failed")
    assert written(tmp_path / "out")["lists"][0]["rows"][0]["status"] == "failed"


def test_check_alone_writes_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    export(checkout, "--check")
    assert [path.name for path in tmp_path.iterdir()] == ["checkout"]
    export(checkout)
    assert sorted(path.name for path in (tmp_path / "evidence").iterdir()) == [
        "evidence.html",
        "evidence.json",
    ]


def test_json_on_standard_output(checkout: Path) -> None:
    result = export(checkout, "--check", "--json")
    assert json.loads(result.stdout)["summary"]["attack"]["covered"] == 1


@pytest.mark.parametrize(
    "name", ["docs/testplan.toml", "docs/evidence/attacks.toml", "docs/evidence/standards.toml"]
)
def test_what_is_no_checkout(checkout: Path, name: str) -> None:
    (checkout / name).unlink()
    error = refused(Code.STORAGE_MISSING, checkout)
    assert error.subject.endswith(name)
    assert "--checkout" in error.advice


def test_results_that_are_not_there_or_none(checkout: Path) -> None:
    refused(Code.STORAGE_MISSING, checkout, "--results", checkout / "none.xml")
    (checkout / "build" / "results.xml").write_text("<!DOCTYPE x><testsuite/>")
    refused(Code.METADATA_FORMAT, checkout)


@pytest.mark.parametrize("gone", ["tests/test_a.py", "tests/sub/test_b.py"])
def test_a_file_of_tests_that_is_gone(checkout: Path, gone: str) -> None:
    (checkout / gone).unlink()
    assert refused(Code.EVIDENCE_TEST, checkout).found.startswith(gone)


def test_a_test_that_was_renamed_though_results_have_it(checkout: Path) -> None:
    (checkout / "tests" / "test_a.py").write_text(SOURCES["tests/test_a.py"].replace("test_one", "test_1"))
    assert refused(Code.EVIDENCE_TEST, checkout, "--check").found == "tests/test_a.py::test_one"


def test_a_control_that_is_gone(checkout: Path) -> None:
    (checkout / "firmware" / "rom" / "rom.c").unlink()
    assert refused(Code.EVIDENCE_CONTROL, checkout).found == "firmware/rom/rom.c"


def git(checkout: Path, *arguments: str) -> str:
    names = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(checkout), "-c", "commit.gpgsign=false", *arguments],
        env={**kept, **names},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_revision_and_changes_are_git_s(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", "docs")
    git(checkout, "commit", "-q", "-m", "x")
    revision = git(checkout, "rev-parse", "HEAD")
    results(checkout, ONE, TWO, B, revision=revision)
    assert export(checkout, "--check", "-o", tmp_path / "out").exception is None
    assert (written(tmp_path / "out")["revision"], written(tmp_path / "out")["changed"]) == (revision, False)
    with (checkout / "docs" / "testplan.toml").open("a") as plan:
        plan.write("# more\n")
    export(checkout, "-o", tmp_path / "out")
    assert written(tmp_path / "out")["changed"] is True
    results(checkout, ONE, TWO, B, revision="0" * 40)
    refused(Code.EVIDENCE_STALE, checkout, "--check")
    export(checkout, "-o", tmp_path / "out")
    assert "another revision" in (tmp_path / "out" / "evidence.html").read_text()


def test_a_folder_in_somebody_else_s_repository_has_no_revision(checkout: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "-m", "x", "--allow-empty")
    export(checkout, "-o", tmp_path / "out")
    assert written(tmp_path / "out")["revision"] == ""


def test_this_checkout_is_understood(tmp_path: Path) -> None:
    (tmp_path / "results.xml").write_bytes(xml(ONE))
    assert export(ROOT, "--results", tmp_path / "results.xml", "-o", tmp_path / "out").exception is None
    tree = written(tmp_path / "out")
    assert [(rows["kind"], len(rows["rows"])) for rows in tree["lists"]] == [("attack", 27), ("standard", 24)]
