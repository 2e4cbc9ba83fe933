"""A token behind a cable: SoftHSM in another process, behind p11-kit. Killing that pulls the token out."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellward.adapters.pkcs11 import lane, module_path, softhsm
from cellward.config import Home
from cellward.ports.token_uri import TokenUri
from tests.support import hsm

MODULE = "module-name=p11-kit-client"
FIRMWARE = f"{hsm.FIRMWARE}?{MODULE}"
TOKEN = f"{hsm.TOKEN}?{MODULE}"
# The client library asks for the server's address once in a process; and pytest's folders have names that
# are too long for a socket.
_FOLDER = tempfile.TemporaryDirectory()
_SOCKET = Path(_FOLDER.name) / "p11"


class Cable:
    """To the token of a home; plugged in from the start."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._server: subprocess.Popen[bytes] | None = None
        self.plug_in()

    def plug_in(self) -> None:
        command = [
            "p11-kit",
            "server",
            "-f",
            "-n",
            str(_SOCKET),
            "--provider",
            str(softhsm.library()),
            hsm.TOKEN,
        ]
        environment = os.environ | {"SOFTHSM2_CONF": str(self._home.softhsm_config.absolute())}
        # A group of its own: each client is served by a child, which would survive the server.
        self._server = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 10
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(str(_SOCKET)) != 0:
                assert time.monotonic() < deadline, "tools/system/test.txt: p11-kit"
                time.sleep(0.005)

    def pull(self) -> None:
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None
            _SOCKET.unlink()


@contextmanager
def cable(home: Home) -> Iterator[Cable]:
    module = lane.Module(str(module_path(TokenUri.parse(TOKEN))))
    with hsm.environment(
        P11_KIT_SERVER_ADDRESS=f"unix:path={_SOCKET}", CELLWARD_PIN=home.pin.read_text().strip()
    ):
        lane.LANE.stop(module)
        held = Cable(home)
        try:
            yield held
        finally:
            lane.LANE.stop(module)
            held.pull()
