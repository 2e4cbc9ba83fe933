"""The demo's hands: runs `cellward` commands as their users do, times them, and keeps a journal.

Every step is the real program in a process of its own; the module and the server run beside it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.text import Text

from cellward.cli.demo.journal import Actor, Journal, Step
from cellward.core.errors import CellwardError, Code, Unavailable

PROGRAM = (sys.executable, "-m", "cellward.cli.main")
COMMAND_SECONDS = 120
READY_SECONDS = 30


@dataclass(frozen=True)
class Said:
    """A refusal as the program printed it."""

    code: str
    subject: str
    expected: str
    found: str
    advice: str


class Unexpected(CellwardError):
    """The demo itself went another way than it must."""

    def __init__(self, step: str, expected: str, found: str) -> None:
        super().__init__(Code.DEMO, step, expected=expected, found=found)


class Stage:
    """A temporary directory with everything in it, and the journal of what happened there."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.journal = Journal()
        self._console = console
        self._began = time.monotonic()
        self._running: list[subprocess.Popen[str]] = []
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CELLWARD_")},
            "CELLWARD_DATA": str(folder / "maker"),
            "PYTHONUNBUFFERED": "1",
        }

    def __enter__(self) -> "Stage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def run(self, actor: Actor, name: str, *arguments: str, said: str = "", last: bool = False) -> str:
        """A command that must succeed; returns its output.

        `said` goes into the journal instead of the first line of the output, or of its `last` one.
        """
        with self._step(actor, name, arguments) as outcome:
            done = self._call(arguments)
            if done.returncode != 0:
                raise Unexpected(name, "exit status 0", _last_line(done.stderr) or f"{done.returncode}")
            outcome.append(said or (_last_line if last else _first_line)(done.stdout))
        return done.stdout

    def refused(self, actor: Actor, name: str, *arguments: str) -> Said:
        """A command that must be refused. Returns what it said."""
        with self._step(actor, name, arguments) as outcome:
            done = self._call((*arguments, "--json"))
            if done.returncode != 1:
                raise Unexpected(name, "a refusal, exit status 1", f"exit status {done.returncode}")
            said = Said(**next(iter(json.loads(_last_line(done.stderr)).values())))
            outcome.append(f"refused {said.code}")
        return said

    @contextmanager
    def act(self, actor: Actor, name: str, outcome: str) -> Iterator[None]:
        """A step that is no command: somebody's hands on the module, the wire or the disk."""
        with self._step(actor, name, ()) as said:
            yield
            said.append(outcome)

    def start(self, actor: Actor, name: str, *arguments: str) -> str:
        """A command that keeps running until the stage is left. Returns its ready line."""
        with self._step(actor, name, arguments) as outcome:
            log = self.folder / f"{arguments[0]}-{len(self._running)}.log"
            with log.open("w") as sink:
                process = subprocess.Popen(
                    [*PROGRAM, *arguments],
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    text=True,
                    cwd=self.folder,
                    env=self._environment,
                )
            self._running.append(process)
            ready = _await_ready(log, process, name)
            outcome.append(ready)
        return ready

    def say(self, heading: str) -> None:
        self._console.print(f"\n[bold]{heading}[/bold]")

    def _call(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            env=self._environment,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    @contextmanager
    def _step(self, actor: Actor, name: str, arguments: Sequence[str]) -> Iterator[list[str]]:
        """Time a step, show it while it lasts, and write it down with the outcome the body appends."""
        outcome: list[str] = []
        started = time.monotonic()
        with self._console.status(f"{actor}: {name}"):
            yield outcome
        seconds = time.monotonic() - started
        shown = [a for a in arguments if a != "--json"]
        command = " ".join(["cellward", *shown]) if shown else ""
        said = outcome[-1] if outcome else ""
        self.journal.steps.append(Step(actor, name, command, said, started - self._began, seconds))
        colour = "red" if said.startswith("refused") else "green"
        line = Text.assemble(("  ● ", colour), (f"{actor:<16}", "dim"), name, "  ", (said, "dim"))
        line.truncate(self._console.width - 8, overflow="ellipsis")
        line.append(f" {seconds:5.1f} s", "dim")
        self._console.print(line)


def _await_ready(log: Path, process: "subprocess.Popen[str]", name: str) -> str:
    """The line with the word ready, as soon as the process has printed it."""
    for _ in range(READY_SECONDS * 20):
        lines = log.read_text().splitlines()
        ready = next((line for line in lines if "ready" in line), None)
        if ready is not None:
            return ready.strip()
        if process.poll() is not None:
            raise Unavailable(Code.DEMO, name, expected="a ready line", found=_last_line(log.read_text()))
        time.sleep(0.05)
    raise Unavailable(Code.DEMO, name, expected=f"a ready line within {READY_SECONDS} s", found="none")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "done")
