"""firmware/test/boot_main.c, kept running: a command in, its words out."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.firmware.host_verifier import ENVIRONMENT
from tests.firmware.rig import FIRMWARE, built

PROGRAM = FIRMWARE / "build" / "host" / "boot"


class BootHost:
    """The boot chain's C on fake hardware, with ASan and UBSan; each command on a new module."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, command: str, words: Sequence[str]) -> tuple[str, ...]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(" ".join((command, *words)) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, f"the program died of {command}: {self._report()}"
        return tuple(line.split())

    def _report(self) -> str:
        stderr = self._process.stderr
        return stderr.read() if stderr else ""


@contextmanager
def boot_host() -> Iterator[BootHost]:
    built("host")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [PROGRAM], stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT, text=True
    ) as process:
        yield BootHost(process)
        _, errors = process.communicate()
    assert process.returncode == 0, errors
