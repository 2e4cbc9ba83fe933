"""`make lab` runs every campaign there is, and fails with the first that finds something; `make test` ends
with the evidence of the whole run."""

import os
import subprocess
from pathlib import Path

import pytest

from cellward.cli.lab import lab

ROOT = Path(__file__).parents[2]


def make_lab(folder: Path, script: str) -> tuple[int, list[str]]:
    """With `script` in the place of `cellward`; which campaigns it was asked for."""
    program, asked = folder / "cellward", folder / "asked"
    program.write_text(f'#!/bin/sh\necho "$2" >> "{asked}"\n{script}\n')
    program.chmod(0o755)
    command = ["make", "-C", str(ROOT), "--old-file=setup-test", "lab", f"BIN={folder}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.returncode, asked.read_text().split()


def test_make_lab_runs_every_campaign(tmp_path: Path) -> None:
    assert make_lab(tmp_path, "exit 0") == (0, ["faults", "powercut", "leakage"])
    assert set(lab.commands) == {"faults", "powercut", "leakage"}


def test_make_lab_fails_with_the_first_that_does(tmp_path: Path) -> None:
    status, asked = make_lab(tmp_path, '[ "$2" != powercut ]')
    assert status != 0
    assert asked == ["faults", "powercut"]


def make_test(folder: Path, *settings: str, fails: str = "") -> tuple[int, list[str]]:
    """With scripts in the places of `python` and `cellward`; what each was asked for."""
    asked = folder / "asked"
    for name in ("python", "cellward"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{asked}"\n[ {name} != "{fails}" ]\n')
        program.chmod(0o755)
    command = ["make", "-C", str(ROOT), "--old-file=check", "test", f"BIN={folder}", *settings]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.returncode, asked.read_text().splitlines()


def test_make_test_ends_with_the_evidence(tmp_path: Path) -> None:
    status, (tests, evidence) = make_test(tmp_path)
    assert status == 0
    assert tests.endswith("--junitxml=build/results.xml")
    assert evidence == "cellward evidence export --check --results build/results.xml -o build/evidence"


@pytest.mark.parametrize("fails", ["python", "cellward"])
def test_make_test_fails_with_the_tests_or_the_evidence(tmp_path: Path, fails: str) -> None:
    """Of tests that failed there is a page too."""
    status, asked = make_test(tmp_path, fails=fails)
    assert (status != 0, len(asked)) == (True, 2)


def test_some_of_the_tests_are_no_evidence(tmp_path: Path) -> None:
    status, (tests,) = make_test(tmp_path, "PYTEST=-k banks")
    assert (status, tests.endswith("-k banks")) == (0, True)
