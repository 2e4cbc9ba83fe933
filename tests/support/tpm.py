"""A TPM that is not ours, and tools that are not ours to ask it with: swtpm and tpm2-tools."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HOST = "127.0.0.1"
_SLOTS_FULL = "(0x902)"  # TPM_RC_OBJECT_MEMORY


class Tpm:
    """`folder` holds the tools' files: names in arguments are relative to it."""

    def __init__(self, folder: Path, tcti: str) -> None:
        self.folder = folder
        self.tcti = tcti
        self._environment = {**os.environ, "TPM2TOOLS_TCTI": tcti, "TSS2_LOG": "all+none"}

    def run(self, tool: str, *arguments: str) -> str:
        """What it prints. There is no resource manager: once all object slots are taken, they are emptied."""
        ended = self._tool(tool, *arguments)
        if _SLOTS_FULL in ended.stderr:
            self._tool("flushcontext", "--transient-object")
            ended = self._tool(tool, *arguments)
        if ended.returncode:
            raise AssertionError(f"tpm2_{tool} {' '.join(arguments)}: {ended.stderr}")
        return ended.stdout

    def session(self, *steps: tuple[str, ...]) -> bytes:
        """The digest of a trial session after these policy steps."""
        self.run("startauthsession", "--session", "trial.ctx")
        for tool, *arguments in steps:
            self.run(tool, "--session", "trial.ctx", "--policy", "trial.digest", *arguments)
        self.run("flushcontext", "trial.ctx")
        return self.read("trial.digest")

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return name

    def _tool(self, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"tpm2_{tool}", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@contextmanager
def running_swtpm(folder: Path, state: Path | None = None) -> Iterator[Tpm]:
    """A TPM with this state, or a new one without an endorsement certificate, started."""
    if state is None:
        state = folder / "state"
        state.mkdir()
    port = _free_pair()
    process = subprocess.Popen(
        [
            *(
                "swtpm",
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={state}",
                "--flags",
                "not-need-init,startup-clear",
            ),
            *("--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port + 1, process)
        yield Tpm(folder, f"swtpm:host={_HOST},port={port}")
    finally:
        process.terminate()
        process.wait(10)


def _free_pair() -> int:
    """The TCTI wants the control port right behind the other.

    Both below the ephemeral ports: a connection to one of those where nobody listens yet may be to itself.
    """
    while True:
        port = random.randrange(20000, 32000, 2)
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind((_HOST, port))
            second.bind((_HOST, port + 1))
            return port


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection((_HOST, port), timeout=5):
            return
        time.sleep(0.001)
    raise AssertionError(f"swtpm ended with {process.returncode}")


def manufacture(folder: Path) -> tuple[bytes, bytes, bytes]:
    """By swtpm_setup: certificate (DER) of a TPM's RSA-2048 endorsement key, its issuer, its root (PEM)."""
    authority = folder / "authority"
    for each in (folder / "made", authority):
        each.mkdir()
    (folder / "localca.conf").write_text(
        f"statedir = {authority}\nsigningkey = {authority}/key.pem\n"
        f"issuercert = {authority}/issuer.pem\ncertserial = {authority}/serial\n"
    )
    (folder / "options").write_text("")
    (folder / "setup.conf").write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
        f"create_certs_tool_config = {folder}/localca.conf\ncreate_certs_tool_options = {folder}/options\n"
    )
    subprocess.run(
        [
            *("swtpm_setup", "--tpm2", "--tpmstate", folder / "made", "--create-ek-cert"),
            *("--config", folder / "setup.conf", "--write-ek-cert-files", folder),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
    files = (folder / "ek-rsa2048.crt", authority / "issuer.pem", authority / "swtpm-localca-rootca-cert.pem")
    leaf, issuer, root = (path.read_bytes() for path in files)
    return leaf, issuer, root
