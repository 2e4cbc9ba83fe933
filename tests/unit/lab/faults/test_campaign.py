import json
from pathlib import Path

import pytest

from cellward.core.errors import FormatRefused, Refused, Unavailable
from cellward.lab.faults.campaign import Kind
from cellward.lab.faults.elf import ElfSubject
from cellward.lab.faults.models import Model
from cellward.lab.faults.outcome import Outcome, wilson
from cellward.lab.faults.report import render
from cellward.lab.faults.runner import Options, run
from cellward.lab.faults.target import read_target
from cellward.lab.pool import quiet
from tests.unit.lab.faults.benches import EXAMPLES


def example(name: str) -> ElfSubject:
    return ElfSubject(read_target(EXAMPLES / name / "target.toml"))


def test_the_naive_example_is_broken_by_skips_flips_and_registers(tmp_path: Path) -> None:
    """So that the laboratory is known to find bypasses."""
    subject = example("naive")
    summary = run(subject, Options(cores=1, results=tmp_path / "results"), quiet)
    for model in (Model.SKIP_1, Model.SKIP_2, Model.OPCODE, Model.REGISTER):
        assert summary.counts(model)[Outcome.BYPASS] >= 5, model
    places = {bypass.where.split()[0].split(".")[0] for bypass in summary.bypasses}
    assert {"start", "same", "verify"} <= places
    assert any("naive.c:" in bypass.where for bypass in summary.bypasses)
    assert not summary.differing
    page = render(summary, subject.symbols)
    assert 'class="bypass"' in page
    assert "naive.c:" in page


def test_the_hardened_example_holds() -> None:
    summary = run(example("hardened"), Options(cores=1), quiet)
    assert summary.faults > 5000
    assert summary.bypasses == []


def test_a_second_start_goes_on(tmp_path: Path) -> None:
    """Power pulled in the middle of a line: no job is lost or counted twice."""
    subject, file = example("naive"), tmp_path / "results"
    whole = run(subject, Options(cores=1, results=file), quiet)
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) > 2, "more than one job, or this shows nothing"
    file.write_bytes(lines[0] + lines[1] + lines[2][:50])
    done: list[int] = []
    again = run(subject, Options(cores=1, results=file), lambda now, _all, _bypasses: done.append(now))
    assert done[0] > 0, "what was done is not done again"
    assert {r.job: r.counts for r in again.results} == {r.job: r.counts for r in whole.results}
    assert again.bypasses == whole.bypasses
    assert len(file.read_bytes().splitlines()) == len(lines)


def test_results_of_another_campaign_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "results"
    run(example("naive"), Options(cores=1, results=file, kind=Kind.SMOKE), quiet)
    before = file.read_bytes()
    with pytest.raises(Refused) as refused:
        run(example("naive"), Options(seed=2, cores=1, results=file, kind=Kind.SMOKE), quiet)
    assert refused.value.code == "storage.exists"
    assert file.read_bytes() == before


def test_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    first, second = (run(example("naive"), Options(cores=1, kind=Kind.SMOKE), quiet) for _ in range(2))
    assert [r.counts for r in first.results] == [r.counts for r in second.results]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "elf = 1",
        'elf = "naive.elf"',
        'elf = "naive.elf"\nwhat = 1',
        'elf = "naive.elf"\nvectors = "nothing"\nsuccess = ["boot"]\nfailure = ["refuse"]',
        'elf = "naive.elf"\nsuccess = []\nfailure = ["refuse"]\nmemory = []',
        "elf = ",
        b"\xff",
    ],
)
def test_targets_that_are_not_understood(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "naive.elf").write_bytes((EXAMPLES / "naive" / "naive.elf").read_bytes())
    file = tmp_path / "target.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FormatRefused):
        read_target(file)


def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        read_target(tmp_path / "target.toml")


def test_json_has_what_the_issue_asks_for() -> None:
    told = json.loads(json.dumps(run(example("naive"), Options(cores=1, kind=Kind.SMOKE), quiet).to_json()))
    assert {"faults", "bypasses", "rate", "table"} <= set(told)
    assert {Model.SKIP_1, Model.SKIP_2, Model.OPCODE, Model.REGISTER} <= set(told["table"]) < set(Model)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 100, 0.0, 0.0370), (5, 100, 0.0215, 0.1118), (100, 100, 0.9630, 1.0)],
)
def test_wilson(hits: int, trials: int, low: float, high: float) -> None:
    """Figures of Brown, Cai and DasGupta's formula, computed apart from the code."""
    assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)
