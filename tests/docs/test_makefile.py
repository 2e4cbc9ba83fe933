"""`make lab` runs every campaign there is, and fails with the first that finds something."""

import os
import subprocess
from pathlib import Path

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
