"""The fuzzers find what they are for: a difference between C and Python, and a crash. `make fuzz` runs
them for longer."""

import io
import struct
from pathlib import Path

import pytest

from firmware.fuzz import run
from firmware.fuzz.judge import judges
from firmware.fuzz.seeds import LARGEST, SEEDS
from firmware.fuzz.world import World
from tests.firmware.rig import built


@pytest.fixture(scope="module")
def world() -> World:
    built("fuzzers")
    return World()


@pytest.fixture(autouse=True)
def findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "findings").mkdir()
    for target in SEEDS:
        (tmp_path / f"fuzz-{target}").symlink_to(run.OUT / f"fuzz-{target}")
    monkeypatch.setattr(run, "OUT", tmp_path)
    return tmp_path / "findings"


def test_seeds_fit_and_reach_both_verdicts(world: World) -> None:
    for target, judge in judges(world).items():
        seeds = list(SEEDS[target](world))
        assert max(map(len, seeds)) <= LARGEST[target]
        assert len({judge(seed)[0] for seed in seeds}) >= 2


@pytest.mark.parametrize("target", SEEDS)
def test_c_and_python_agree_on_what_the_fuzzer_tries(target: str, world: World) -> None:
    result = run.fuzz(target, world, judges(world)[target], 2, seed=1)
    assert result.finding == ""
    assert result.compared >= len(list(SEEDS[target](world)))
    assert result.executed >= result.compared
    assert 0 < result.edges[0] < result.edges[1]


def test_a_difference_ends_the_run_and_is_kept(world: World, findings: Path) -> None:
    right = judges(world)["image"]

    def wrong(data: bytes) -> tuple[int, ...]:
        return (1, *right(data)[1:]) if len(data) % 2 else right(data)

    result = run.fuzz("image", world, wrong, 30, seed=1)
    assert "Python 1 " in result.finding
    assert result.seconds < 20
    (kept,) = findings.iterdir()
    assert len(kept.read_bytes()) % 2 == 1


def test_a_target_that_fails_is_a_finding(world: World, tmp_path: Path) -> None:
    failing = tmp_path / "fuzz-vault"
    failing.unlink()
    failing.write_text("#!/bin/sh\nexit 77\n")
    failing.chmod(0o755)
    assert run.fuzz("vault", world, judges(world)["vault"], 1, seed=1).finding == "libFuzzer ended with 77"


def test_half_a_record_at_the_end_is_no_difference() -> None:
    whole = struct.pack("<III", 1, 1, 7) + b"x"
    result = run.Result("image")
    assert run.compare(io.BytesIO(whole + whole[:-1]), lambda _data: (7,), result) is None
    assert result.compared == 1
    assert run.compare(io.BytesIO(whole), lambda _data: (8,), result) == b"x"
