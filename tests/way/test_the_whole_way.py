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
    ("publish gate", "release.approval"),
    ("pack controller", "target.counter"),
    ("update engine", "image.counter"),
    ("pack controller", "target.hash"),
    ("pack controller", "update.fell_back"),
    ("update engine", "image.hash"),
    ("publish gate", "image.key_unknown"),
    ("update engine", "image.key_unknown"),
    ("Director", "target.hardware"),
    ("update engine", "image.hardware"),
    ("module app", "update.contactors"),
    ("server", "tls.client_certificate"),
    ("server", "enrol.identity"),
    ("server", "enrol.identity"),
    ("programming port", "flash.locked"),
    ("programming port", "flash.locked"),
    ("programming port", "otp.locked"),
    ("pack controller", "power.cut"),
    ("module loader", "image.hash"),
    ("module rom", "image.hash"),
    ("pack controller", "image.key_revoked"),
    ("update engine", "image.key_revoked"),
    ("module rom", "boot.tamper"),
    ("server", "boot.record"),
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


def test_only_an_authentic_update_or_damage_leaves_another_bank_bootable(journal: Journal) -> None:
    """The update engine writes what it is sent; a bank of it that is refused has no trailer. The cable
    writes nothing at all."""
    wrote = {
        (refusal.refused_by, refusal.code)
        for refusal in journal.refusals
        if refusal.before.banks != refusal.after.banks
    }
    sent = {(by, code) for by, code in REFUSALS if by == "update engine"}
    damaged = {("module loader", "image.hash"), ("module rom", "image.hash")}
    failed = {("pack controller", "update.fell_back"), ("pack controller", "power.cut")}
    assert wrote == sent | damaged | failed


def test_damage_costs_the_bank_then_the_app_never_the_way_back(journal: Journal) -> None:
    one, both = (refusal for refusal in journal.refusals if "flipped in the flash" in refusal.attack)
    assert (one.before.running, one.after.running) == ("1.4.1 in bank a", "1.4.0 in bank b")
    assert both.after.running == "nothing, contactors open"
    assert dict(journal.facts)["after recovery"].startswith("1.4.1")


def test_the_reason_of_a_fallback_is_told(journal: Journal) -> None:
    (fallback,) = (refusal for refusal in journal.refusals if refusal.code == "update.fell_back")
    assert "selftest.front_end in the app, expected 14, found 12" in fallback.found


def test_the_good_update_commits_and_the_cut_one_is_completed(journal: Journal) -> None:
    assert ("security counter", "6 → 7") in journal.facts
    assert dict(journal.facts)["release 1.4.1"].startswith("encrypted")
    assert "proven" in dict(journal.facts)["measured boot"]
    assert "RSA-3072 in force" in dict(journal.facts)["firmware key"]
    assert journal.refusals[-6].before.running.startswith("1.4.1")


def test_the_page_of_results_tells_it_all_and_loads_nothing(journal: Journal) -> None:
    page = render(journal)
    for refusal in journal.refusals:
        assert html.escape(refusal.attack) in page
    assert page.count("<svg") == 2
    assert "http" not in page.replace("https://127.0.0.1", "")
    assert "<script" not in page


def test_no_secret_is_in_the_journal(journal: Journal, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = next(Path(tmp_path_factory.getbasetemp()).glob("way*"))
    tokens = [(folder / name).read_text().split()[0] for name in ("token", "token-2")]
    secrets = [(folder / "maker" / "pin").read_text().strip(), *tokens]
    secrets += [path.read_bytes().hex() for path in (folder / "maker" / "content-keys").iterdir()]
    assert len(secrets) == 5
    told = render(journal) + "".join(log.read_text() for log in folder.glob("*.log"))
    assert all(len(secret) >= 8 and secret not in told for secret in secrets)
