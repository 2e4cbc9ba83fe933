"""One firmware file travels the entire way: real token, server, TLS, controller and ARM code."""

import html
import io
from pathlib import Path

import pytest
from rich.console import Console

from cellward.cli.demo.journal import Journal
from cellward.cli.demo.report import render
from cellward.cli.demo.scenes import Scenes
from cellward.cli.demo.stage import Stage

# Who says no to what, in the order of the scenes.
REFUSALS = [
    ("pack controller", "target.counter"),
    ("module rom", "image.counter"),
    ("pack controller", "target.hash"),
    ("pack controller", "update.fell_back"),
    ("module loader", "image.hash"),
    ("publish gate", "image.key_unknown"),
    ("module loader", "image.key_unknown"),
    ("Director", "target.hardware"),
    ("module loader", "image.hardware"),
    ("server", "tls.client_certificate"),
    ("pack controller", "power.cut"),
]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    console = Console(file=io.StringIO(), width=120)
    with Stage(tmp_path_factory.mktemp("way"), console) as stage:
        Scenes(stage).play()
    return stage.journal


def test_every_attack_meets_its_own_check(journal: Journal) -> None:
    assert [(refusal.refused_by, refusal.code) for refusal in journal.refusals] == REFUSALS


def test_no_refusal_changes_what_runs(journal: Journal) -> None:
    assert all(refusal.holds for refusal in journal.refusals)
    assert all(refusal.expected and refusal.found for refusal in journal.refusals)


def test_only_who_has_the_cable_or_an_authentic_update_writes_flash(journal: Journal) -> None:
    wrote = {refusal.code for refusal in journal.refusals if refusal.before.banks != refusal.after.banks}
    by_cable = {code for by, code in REFUSALS if by.startswith("module")}
    assert wrote == by_cable | {"update.fell_back", "power.cut"}


def test_the_good_update_commits_and_the_cut_one_is_completed(journal: Journal) -> None:
    assert ("security counter", "6 → 7") in journal.facts
    assert dict(journal.facts)["runs at the end"].startswith("1.4.1")


def test_the_page_of_results_tells_it_all_and_loads_nothing(journal: Journal) -> None:
    page = render(journal)
    for refusal in journal.refusals:
        assert html.escape(refusal.attack) in page
    assert page.count("<svg") == 2
    assert "http" not in page.replace("https://127.0.0.1", "")
    assert "<script" not in page


def test_no_secret_is_in_the_journal(journal: Journal, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = next(Path(tmp_path_factory.getbasetemp()).glob("way*"))
    secrets = [(folder / "maker" / "pin").read_text().strip(), (folder / "token").read_text().split()[0]]
    told = render(journal) + "".join(log.read_text() for log in folder.glob("*.log"))
    assert all(len(secret) >= 8 and secret not in told for secret in secrets)
