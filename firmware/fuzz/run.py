"""Fuzz the firmware's parsers and compare every input's verdict with Python's.

    make -C firmware fuzz SECONDS=600          or: python -m firmware.fuzz.run --seconds 600 [TARGET...]

libFuzzer drives each target (ASan, UBSan). The target tells each input and its verdict through a pipe,
and waits while Python is behind. The first difference ends the run; the input is kept in
firmware/build/fuzz/findings, as libFuzzer's own findings are. Exit 1 for any finding.
"""

import argparse
import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from firmware.fuzz.judge import Judge, judges
from firmware.fuzz.seeds import LARGEST, SEEDS
from firmware.fuzz.world import World

OUT = Path(__file__).parents[1] / "build" / "fuzz"
MEMORY_MB = 1500
INPUT_SECONDS = 25  # one input
# libFuzzer asks for the most memory this process ever had, and a child begins with its parent's: a shell
# between the two is small.
OWN_MEMORY = ("sh", "-c", '"$@"; exit $?', "sh")
GRACE_SECONDS = 30  # libFuzzer ends itself
HEAD = struct.Struct("<II")


@dataclass
class Result:
    """`edges`: covered of all there are. `finding` says what went wrong; empty: nothing did."""

    target: str
    executed: int = 0
    compared: int = 0
    seconds: float = 0.0
    edges: tuple[int, int] = (0, 0)
    finding: str = ""

    def __str__(self) -> str:
        covered, edges = self.edges
        return (
            f"{self.target:<11} {self.executed:>9} executions {self.seconds:6.0f} s  "
            f"{covered:>5} of {edges} edges  {self.compared:>9} compared with Python  "
            f"{self.finding or 'no difference, no finding'}"
        )


def read_exactly(pipe: BinaryIO, size: int) -> bytes | None:
    data = pipe.read(size)
    return data if len(data) == size else None


def compare(pipe: BinaryIO, judge: Judge, result: Result) -> bytes | None:
    """Judge what comes out of the pipe until it ends. Returns the input that two verdicts differ on."""
    while True:
        head = read_exactly(pipe, HEAD.size)
        if head is None:
            return None
        size, count = HEAD.unpack(head)
        words, data = read_exactly(pipe, 4 * count), read_exactly(pipe, size)
        if words is None or data is None:
            return None
        told = struct.unpack(f"<{count}I", words)
        expected = judge(data)
        result.compared += 1
        if told != expected:
            result.finding = f"C {_hex(told)}, Python {_hex(expected)}"
            return data


def _hex(words: Sequence[int]) -> str:
    return " ".join(f"{word:x}" for word in words)


def keep(target: str, data: bytes) -> Path:
    path = OUT / "findings" / f"{target}-differs-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path


def figures(log: str, result: Result) -> None:
    """From libFuzzer's lines."""
    executed = re.findall(r"^#(\d+)", log, re.MULTILINE)
    covered = re.findall(r"\bcov: (\d+)", log)
    edges = re.findall(r"\((\d+) inline 8-bit counters\)", log)
    result.executed = int(executed[-1]) if executed else 0
    result.edges = (int(covered[-1]) if covered else 0, int(edges[0]) if edges else 0)


def fuzz(target: str, world: World, judge: Judge, seconds: int, seed: int) -> Result:
    result, start = Result(target), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "world").write_bytes(world.to_bytes())
        (folder / "corpus").mkdir()
        for number, data in enumerate(SEEDS[target](world)):
            (folder / "corpus" / f"seed-{number:04}").write_bytes(data)
        reading, writing = os.pipe()
        command = [
            *OWN_MEMORY,
            str(OUT / f"fuzz-{target}"),
            *(f"-max_total_time={seconds}", f"-max_len={LARGEST[target]}", f"-seed={seed}"),
            *(f"-rss_limit_mb={MEMORY_MB}", f"-timeout={INPUT_SECONDS}", "-print_final_stats=1"),
            *(f"-artifact_prefix={OUT}/findings/{target}-", str(folder / "corpus")),
        ]
        environment = {
            **os.environ,
            "CELLWARD_FUZZ_PIPE": str(writing),
            "CELLWARD_FUZZ_WORLD": str(folder / "world"),
        }
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stderr=log, env=environment, pass_fds=[writing], start_new_session=True
            )
        os.close(writing)
        with process, os.fdopen(reading, "rb") as pipe:
            try:
                differs = compare(pipe, judge, result)
                if differs is None:
                    process.wait(GRACE_SECONDS)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        text = (folder / "log").read_text(errors="replace")
    result.seconds = time.monotonic() - start
    figures(text, result)
    if differs is not None:
        result.finding = f"{keep(target, differs)}: {result.finding}"
    elif process.returncode != 0:
        result.finding = f"libFuzzer ended with {process.returncode}"
        print(text[-4000:], file=sys.stderr)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="fuzz the firmware's parsers against Python's verdicts")
    parser.add_argument("--seconds", type=int, default=60, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0: another one each time")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(SEEDS))
    arguments = parser.parse_args(argv)
    targets = arguments.targets or list(SEEDS)
    world = World()
    (OUT / "findings").mkdir(parents=True, exist_ok=True)
    results = []
    for target in targets:
        share = max(1, arguments.seconds // len(targets))
        results.append(fuzz(target, world, judges(world)[target], share, arguments.seed))
        print(results[-1], flush=True)
    return int(any(result.finding for result in results))


if __name__ == "__main__":
    sys.exit(main())
