"""The README's walk-through is run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
REFUSED = re.compile(r"\s+# refused: (\S+)$")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def shell_line(command: str) -> str:
    """A refusal that the text promises must come, with that code; everything else must succeed."""
    refusal = REFUSED.search(command)
    if refusal is not None:
        command = REFUSED.sub("", command)
        return f"! {command} 2> refusal; grep -F '[{refusal.group(1)}]' refusal; test $(wc -l < refusal) = 1"
    if command.endswith(" &"):
        return f"n=$((n + 1)); {command[:-2]} > background-$n 2>&1 &\nawait background-$n"
    return command


PREAMBLE = """
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
n=0
await() { for _ in $(seq 100); do grep -q ready "$1" && return; sleep 0.1; done; cat "$1"; return 1; }
"""


@pytest.mark.slow
def test_walk_through(tmp_path: Path) -> None:
    lines = commands()
    assert len(lines) > 20
    script = PREAMBLE + "\n".join(f"echo '+ '{line!r}\n{shell_line(line)}" for line in lines)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path)}
    environment.pop("CELLWARD_DATA", None)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
