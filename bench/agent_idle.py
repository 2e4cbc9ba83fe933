"""What the pack controller's agent takes of the controller while nothing is ordered: memory and processor.

`cellward device run` with its embedded TPM, beside the demo's server and module, looked at in /proc.
Reference: a Python that has done nothing yet, and a Python that has imported the three libraries that the
agent cannot do without, in the same run. Targets: at most 80 MiB resident, at most 1 % of a core.

It polls every ten seconds here, thirty times as often as by default. The certificate that it gets at its
start is not counted.
"""

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from cellward.cli.demo.scenes import Scenes
from cellward.cli.demo.stage import PROGRAM, Stage

TARGET_MIB, TARGET_SHARE = 80, 0.01
SECONDS, INTERVAL, DEFAULT_INTERVAL = 60, 10, 300
LIBRARIES = "import cryptography.hazmat.primitives.asymmetric.ec, httpx, tpm2_pytss"
_TICKS = os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int, line: str = "VmRSS") -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (found,) = (each.split()[1] for each in status.splitlines() if each.startswith(f"{line}:"))
    return int(found) / 1024


def processor_seconds(pid: int) -> float:
    """In user and system mode, with what the children took that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def reference_mib(program: str) -> float:
    command = [sys.executable, "-c", f"{program}\nprint(flush=True)\ninput()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        found = resident_mib(process.pid)
        process.stdin.write(b"\n")
    return found


def agent(folder: Path) -> subprocess.Popen[str]:
    """Running, after its first cycle."""
    command = [*PROGRAM, "device", "run", "--state", "pack", "--interval", str(INTERVAL)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    lines: list[str] = []
    while not lines or "nothing to do" not in lines[-1]:
        line = process.stdout.readline()
        if not line:
            sys.exit("agent_idle: the agent ended: " + " ".join(lines))
        lines.append(line.strip())
    return process


def shown(title: str, mib: float, share: float | None = None) -> None:
    print(f"{title:44}{mib:10.1f}" + ("" if share is None else f"{share * 100:14.3f}"))


def main() -> None:
    with tempfile.TemporaryDirectory() as name, Stage(Path(name), Console(file=io.StringIO())) as stage:
        Scenes(stage).until_enrolled()
        process = agent(stage.folder)
        try:
            watched = [process.pid, *children(process.pid)]
            before = [processor_seconds(pid) for pid in watched]
            time.sleep(SECONDS)
            took = [processor_seconds(pid) - start for pid, start in zip(watched, before, strict=True)]
            peak = resident_mib(process.pid, "VmHWM")
            held = [resident_mib(pid) for pid in watched]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()
    print(f"{f'{SECONDS} s, a cycle every {INTERVAL} s':44}{'MiB':>10}{'% of a core':>14}")
    shown("Python", reference_mib(""))
    shown("Python with the libraries", reference_mib(LIBRARIES))
    shown("cellward device run", held[0], took[0] / SECONDS)
    shown("the same at its most", peak)
    for mib, seconds in zip(held[1:], took[1:], strict=True):
        shown("its embedded TPM", mib, seconds / SECONDS)
    default = sum(took) / SECONDS * INTERVAL / DEFAULT_INTERVAL
    print(f"every {DEFAULT_INTERVAL} s, as by default: {default * 100:.3f} % of a core", end="; ")
    print(f"targets: at most {TARGET_MIB} MiB and {TARGET_SHARE * 100:.0f} %")


if __name__ == "__main__":
    main()
