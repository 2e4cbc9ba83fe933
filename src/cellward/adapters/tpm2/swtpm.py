"""The embedded default: swtpm with its state in the data directory, one process for one owner.

It is no hardware: whoever copies the directory back has rolled its counters back (docs/limitations.md).
It hears us through a socket pair, so that nobody else on the machine can reach it, and it ends when we do,
however we end: a killed owner is a power cut to the TPM.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from cellward.adapters.tpm2.tpm import Tpm2
from cellward.adapters.tpm2.vendor import PyTCTI
from cellward.core.errors import Code, Unavailable

PATIENCE_SECONDS = 5.0
MAKING_SECONDS = 120.0
_HEADER = 10  # tag, size, code
# Paths are relative: swtpm would split others at a comma, or at a blank.
_CONFIGURATION = {
    "setup.conf": "create_certs_tool = {tool}\n"
    "create_certs_tool_config = localca.conf\n"
    "create_certs_tool_options = localca.options\n"
    "active_pcr_banks = sha256\n",
    "localca.conf": "statedir = ca\nsigningkey = ca/signkey.pem\nissuercert = ca/issuercert.pem\n"
    "certserial = ca/certserial\n",
    "localca.options": "--platform-manufacturer swtpm\n--platform-version 1\n--platform-model swtpm\n",
}
_AUTHORITIES = ("swtpm-localca-rootca-cert.pem", "issuercert.pem")


@dataclass(frozen=True)
class EmbeddedTpm:
    """Where an embedded TPM lies: `made/nv` is its state, `made/ca` who certified its endorsement key.

    `lock`: held by the one process that has it.
    """

    folder: Path
    lock: Callable[[], AbstractContextManager[None]]

    @contextmanager
    def running(self) -> Iterator[Tpm2]:
        """The TPM, made where there is none; started now, and shut down in order at the end.

        Raises Unavailable: tpm.busy where another process has it, tpm.absent without swtpm, tpm.failed.
        """
        with ExitStack() as held:
            try:
                held.enter_context(self.lock())
            except Unavailable as error:
                raise self._unavailable(Code.TPM_BUSY, "nobody else that uses it", error.found) from error
            self._make()
            started = self._start()
            held.callback(started.stop)
            yield started.tpm
            with suppress(Unavailable):  # without power there is nothing to shut down
                started.tpm.shutdown()

    def authorities(self) -> bytes:
        """The certificates, PEM, that stand for its manufacturer. Raises Unavailable (tpm.absent)."""
        try:
            return b"".join((self._state / "ca" / name).read_bytes() for name in _AUTHORITIES)
        except OSError as error:
            found = error.strerror or type(error).__name__
            raise self._unavailable(Code.TPM_ABSENT, "its maker's certificates", found) from error

    @property
    def _state(self) -> Path:
        return self.folder / "made"

    def _make(self) -> None:
        """With an endorsement key and its certificate. What a cut leaves half-made is thrown away."""
        if self._state.is_dir():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob("new.*"):
                _end_what_works_in(left)
                shutil.rmtree(left, ignore_errors=True)
            new = Path(mkdtemp(prefix="new.", dir=self.folder))
            for part in ("nv", "ca"):
                (new / part).mkdir(mode=0o700)
            for name, text in _CONFIGURATION.items():
                (new / name).write_text(text.format(tool=_program("swtpm_localca")), encoding="utf-8")
            self._run_setup(new)
            new.rename(self._state)
        except OSError as error:
            raise self._unavailable(Code.TPM_FAILED, "a new one", error.strerror or f"{error}") from error

    def _run_setup(self, new: Path) -> None:
        command = [_program("swtpm_setup"), "--tpm2", "--tpmstate", "nv", "--config", "setup.conf"]
        command += ["--create-ek-cert", "--lock-nvram", "--pcr-banks", "sha256"]
        try:
            subprocess.run(command, cwd=new, capture_output=True, timeout=MAKING_SECONDS, check=True)
        except subprocess.SubprocessError as error:
            lines = (getattr(error, "stdout", None) or b"").decode(errors="replace").split("\n")
            found = next((line for line in lines if "rror" in line or "ould not" in line), f"{error}")
            raise self._unavailable(Code.TPM_FAILED, "a new one", found) from error

    def _start(self) -> "Running":
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            started = _run(self._state / "nv")
            try:
                started.tpm.clock()
            except Unavailable as error:
                said = started.stop()
                # A killed owner's swtpm may be about to end still: so long it holds the state.
                if "Could not lock" not in said or time.monotonic() > deadline:
                    raise self._unavailable(Code.TPM_FAILED, "an answer of swtpm", said) from error
                time.sleep(0.01)
            else:
                return started

    def _unavailable(self, code: Code, expected: str, found: str) -> Unavailable:
        return Unavailable(code, f"embedded TPM in {self.folder}", expected=expected, found=found)


class SocketTransport(PyTCTI):  # type: ignore[misc]  # the library has no types
    """TCTI over a connected socket: a command, its answer."""

    def __init__(self, ours: socket.socket) -> None:
        super().__init__()
        self._ours = ours

    def do_transmit(self, command: bytes) -> None:
        self._ours.sendall(command)

    def do_receive(self, timeout: int) -> bytes:
        answer = self._some()
        while len(answer) < _HEADER or len(answer) < int.from_bytes(answer[2:6], "big"):
            answer += self._some()
        return answer

    def _some(self) -> bytes:
        found = self._ours.recv(4096)
        if not found:
            raise ConnectionResetError
        return found


@dataclass(frozen=True)
class Running:
    """A TPM with power."""

    process: subprocess.Popen[bytes]
    ours: socket.socket
    tpm: Tpm2

    def stop(self) -> str:
        """Close the only way to it, upon which it ends; what it had to say."""
        self.tpm.close()
        self.ours.close()
        try:
            _, said = self.process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
        return said.decode(errors="replace").partition("\n")[0] or f"status {self.process.returncode}"


def _run(state: Path) -> Running:
    """As a character device: `swtpm socket` goes on for ever when its client dies in the middle of a command,
    and keeps the state."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [
                *(_program("swtpm"), "chardev", "--tpm2", "--tpmstate", "dir=."),
                *("--fd", str(theirs.fileno()), "--flags", "startup-clear"),
            ],
            cwd=state,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for us, who shut it down in order
        )
    return Running(process, ours, Tpm2(SocketTransport(ours)))


def _end_what_works_in(folder: Path) -> None:
    """swtpm_setup outlives an owner that is killed, and leaves its swtpm behind. The lock is ours now."""
    there = str(folder.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if str((process / "cwd").readlink()) in (there, f"{there}/nv"):
                os.kill(int(process.name), signal.SIGKILL)


def _program(name: str) -> str:
    """Raises Unavailable (tpm.absent)."""
    found = shutil.which(name)
    if found is None:
        raise Unavailable(
            Code.TPM_ABSENT,
            "embedded TPM",
            expected=f"the program {name}",
            found="none on PATH",
            advice="install swtpm and swtpm-tools, or name a TPM in CELLWARD_TPM",
        )
    return found
