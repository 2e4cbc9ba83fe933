"""What the laboratory's commands share."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cellward.cli import labview
from cellward.core.errors import Code, Unavailable


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    labview.check_installed()
    monkeypatch.setattr(labview, "find_spec", lambda name: None if name == "numpy" else object())
    with pytest.raises(Unavailable) as caught:
        labview.check_installed()
    assert caught.value.code is Code.CONFIG
    assert "no numpy" in str(caught.value)
    assert "cellward[lab]" in str(caught.value)


def test_junit_has_a_case_for_each_name_and_escapes(tmp_path: Path) -> None:
    labview.write_junit(tmp_path / "x.xml", "cuts", {"good": [], "bad <one>": ["line <1>", "line 2"]})
    root = ET.fromstring((tmp_path / "x.xml").read_text())  # noqa: S314  # our own
    assert (root.get("name"), root.get("tests"), root.get("failures")) == ("cuts", "2", "1")
    good, bad = root
    assert (good.get("name"), len(good)) == ("good", 0)
    assert (bad.get("name"), bad[0].text) == ("bad <one>", "line <1>\nline 2")


def test_nothing_is_written_that_nobody_asked_for(tmp_path: Path) -> None:
    def render() -> str:
        raise AssertionError

    labview.write_page(None, render)
    labview.write_junit(None, "cuts", {})
    assert list(tmp_path.iterdir()) == []


def test_a_hidden_bar_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with labview.bar("cuts", "broken", hidden=True) as move:
        move(1, 2, 0)
    assert capsys.readouterr() == ("", "")
