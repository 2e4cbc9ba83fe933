"""What the laboratory's commands share."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest

from cellward.cli import labview
from cellward.core.errors import Code, ModuleRefused, Unavailable


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    labview.check_installed()
    monkeypatch.setattr(labview, "find_spec", lambda name: None if name == "numpy" else object())
    with pytest.raises(Unavailable) as caught:
        labview.check_installed()
    assert caught.value.code is Code.CONFIG
    assert "no numpy" in str(caught.value)
    assert "cellward[lab]" in str(caught.value)


class Told:
    def to_json(self) -> dict[str, int]:
        return {"cuts": 2}


FOUND = ModuleRefused(Code.POWER_CUT, "module", expected="none", found="1 broken")
CASES = {"good": [], "bad <one>": ["line <1>", "line 2"]}


def conclude(
    *,
    page: Callable[[], str] = lambda: "<html>",
    found: ModuleRefused | None = None,
    html: Path | None = None,
    junit: Path | None = None,
    as_json: bool = False,
) -> None:
    labview.conclude(
        Told(),
        lambda: click.echo("a table"),
        found,
        page=page,
        html=html,
        suite="cuts",
        cases=CASES,
        junit=junit,
        as_json=as_json,
    )


def test_junit_has_a_case_for_each_name_and_escapes(tmp_path: Path) -> None:
    conclude(junit=tmp_path / "x.xml")
    root = ET.fromstring((tmp_path / "x.xml").read_text())  # noqa: S314  # our own
    assert (root.get("name"), root.get("tests"), root.get("failures")) == ("cuts", "2", "1")
    good, bad = root
    assert (good.get("name"), len(good)) == ("good", 0)
    assert (bad.get("name"), bad[0].text) == ("bad <one>", "line <1>\nline 2")


def test_nothing_is_written_that_nobody_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def page() -> str:
        raise AssertionError

    monkeypatch.chdir(tmp_path)
    conclude(page=page)
    assert list(tmp_path.iterdir()) == []


def test_what_was_found_is_told_after_everything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModuleRefused) as caught:
        conclude(found=FOUND, html=tmp_path / "x.html", junit=tmp_path / "x.xml")
    assert caught.value is FOUND
    assert (tmp_path / "x.html").read_text() == "<html>"
    assert (tmp_path / "x.xml").exists()
    assert capsys.readouterr().out == "a table\n"


def test_json_takes_the_place_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    conclude(as_json=True)
    assert json.loads(capsys.readouterr().out) == {"cuts": 2}


def test_a_hidden_bar_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with labview.bar("cuts", "broken", hidden=True) as move:
        move(1, 2, 0)
    assert capsys.readouterr() == ("", "")
