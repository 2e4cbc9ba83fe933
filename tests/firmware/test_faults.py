"""Faults in the module's own ROM and loader: none gets through, and many would if the firmware were less
careful. `cellward lab faults` runs all of them; here are a sample, and those that once got through."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cellward.lab.faults.campaign import Job, Result, Site, Worker
from cellward.lab.faults.library import Library
from cellward.lab.faults.models import Model
from cellward.lab.faults.module import ModuleBoard
from cellward.lab.faults.outcome import Outcome
from cellward.lab.faults.runner import Options, quiet, run
from cellward.lab.faults.scenarios import SCENARIOS
from cellward.lab.faults.subject import ModuleSubject
from tests.firmware.rig import FIRMWARE, ROOT, built

SCENARIO = "tampered, loader, alone"
KEPT = ("r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "sp")
Change = Callable[[str], str]


def attack(name: str, functions: set[str], *, full: bool, subject: ModuleSubject | None = None) -> Result:
    """Skips, or every fault there is, where these functions are executed for the first and last time."""
    built("all")
    subject = subject or ModuleSubject(1)
    index = subject.scenarios.index(name)
    worker = Worker(subject.board, subject.scenarios, 1)
    steps, sites = worker.steps(index)
    chosen = [s for s in sites if s.full and _function(subject, steps[s.step]) in functions]
    return worker.run(Job(1, index, tuple(Site(site.step, full) for site in chosen)))


def _function(subject: ModuleSubject, address: int) -> str:
    return next(name for file in subject.symbols if (name := file.function(address)))


@pytest.mark.parametrize("name", [SCENARIO, "wrong key, app, alone", "forged, loader, alone, RSA"])
def test_nothing_gets_through(name: str) -> None:
    built("all")
    summary = run(ModuleSubject(1), Options(smoke=True, cores=1, only=name), quiet)
    assert summary.faults > 1500
    assert all(summary.counts(model) for model in Model if model is not Model.READ)
    assert summary.bypasses == summary.unconfirmed == []
    assert summary.differing == []


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        # A `stage` that was hit verified the app, which was good, and then ran the loader.
        (SCENARIO, {"verify"}),
        # The ROM's jump, hit the same way, opened the app's slot with what the loader had earned.
        ("tampered, app, alone", {"jump"}),
    ],
)
def test_what_once_got_through_does_not(name: str, functions: set[str]) -> None:
    result = attack(name, functions, full=True)
    assert result.faults > 1000
    assert result.bypasses == []


def less_careful(folder: Path, changes: dict[str, Change]) -> ModuleSubject:
    """The module with a ROM from changed sources."""
    built("all")
    copy = folder / "firmware"
    shutil.copytree(FIRMWARE, copy, ignore=shutil.ignore_patterns("host", "fuzz", "an505"))
    for name, change in changes.items():
        path = copy / name
        before = path.read_text()
        path.write_text(change(before))
        assert path.read_text() != before
    cache = ROOT / ".cache" / "bearssl"
    command = ["make", "-C", str(copy), f"BEARSSL={cache}", f"FETCHED={cache}/.complete", "build/arm/rom.elf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ModuleSubject(1, rom=(copy / "build/arm/rom.elf").read_bytes())


def constant_word(source: str) -> str:
    """The word that opens the slot is written, not computed."""
    return source.replace(
        "image->unlock ^ UNLOCK_REST;", "stage == STAGE_LOADER ? 0x9A3C65E1u : 0x4D71C2B6u;"
    )


def no_key(source: str) -> str:
    """The status does not turn the entry any more."""
    return source.replace("vectors.entry ^ key", "vectors.entry + 0u * key")


def test_a_verdict_alone_is_broken(tmp_path: Path) -> None:
    """What a status that is asked for twice is worth without the word that is computed; and that the
    smoke test would see it."""
    subject = less_careful(tmp_path, {"boot/jump.c": lambda source: no_key(constant_word(source))})
    summary = run(subject, Options(smoke=True, cores=1, only=SCENARIO), quiet)
    assert summary.counts(Model.SKIP_1)[Outcome.BYPASS] > 0
    assert summary.bypasses
    assert summary.unconfirmed == []


def test_a_modelled_library_changes_nothing() -> None:
    """Where a run without a fault goes, with the real one and with the modelled; and all registers that
    a call keeps. Residue may differ with the data: that is what the audits are for."""
    built("all")
    subject = ModuleSubject(1)
    scenario = SCENARIOS[subject.scenarios.index("forged, loader, alone, RSA")]
    ends = []
    for library in (None, Library(subject.symbols)):
        board = ModuleBoard(scenario, *subject.symbols, 1, library)
        board.begin()
        trace = []
        while board.step() is None:
            kept = board.core.named()
            trace.append((board.core.pc, *(kept[name] for name in KEPT)))
        ends.append(trace)
    assert ends[0] == ends[1]
