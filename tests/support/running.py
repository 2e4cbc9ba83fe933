"""The real programs in processes of their own: a maker's data directory, its server, a client."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.adapters.http import ClientCertificate, HttpTransport
from cellward.cli.main import cellward
from cellward.core.errors import CellwardError, Code
from cellward.core.metadata import Ecu
from tests.support.maker import APP, LOADER, Hand

PROGRAM = (sys.executable, "-m", "cellward.cli.main")
ROOT = Path(__file__).parents[2]
READY = re.compile(r"ready: devices 127\.0\.0\.1:(\d+), enrolment 127\.0\.0\.1:(\d+)")
SECONDS = 30.0


@dataclass(frozen=True)
class House:
    """A maker's data directory, worked on with the command line alone."""

    data: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CELLWARD_")}
        return {**kept, "CELLWARD_DATA": str(self.data), "PYTHONPATH": str(ROOT / "src")}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            stdout=pipe,
            stderr=pipe,
            text=True,
            env=self.environment,
            cwd=self.data.parent,
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        said, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, errors
        return said

    def refused(self, *arguments: str) -> Code:
        """In this process, which is ten times faster than in one of its own."""
        with pytest.raises(CellwardError) as error:
            cellward.main(["--data", str(self.data), *arguments], standalone_mode=False)
        assert "\n" not in str(error.value)
        return error.value.code

    @property
    def server_ca(self) -> bytes:
        return (self.data / "ca" / "server-ca.pem").read_bytes()


@dataclass
class Server:
    """`cellward server run`, listening. Its log goes to a file."""

    house: House
    process: subprocess.Popen[str]
    devices: int
    enrolment: int
    log: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(SECONDS)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(SECONDS)


@contextmanager
def server(house: House, name: str = "server", devices: str = "0", enrolment: str = "0") -> Iterator[Server]:
    log = house.data.parent / f"{name}.log"
    addresses = ("--devices", f"127.0.0.1:{devices}", "--enrolment", f"127.0.0.1:{enrolment}")
    with log.open("w") as sink:
        process = subprocess.Popen(
            [*PROGRAM, "server", "run", *addresses],
            stdout=sink,
            stderr=subprocess.STDOUT,
            text=True,
            env=house.environment,
        )
    try:
        found = _await(log, process)
        yield Server(house, process, int(found[1]), int(found[2]), log)
    finally:
        process.kill()
        process.wait(SECONDS)


def _await(log: Path, process: subprocess.Popen[str]) -> re.Match[str]:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = READY.search(log.read_text())
        if found is not None:
            return found
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True)
class Pack:
    """An enrolled pack controller: its key, its certificate, a transport as the agent's."""

    vehicle_id: str
    hand: Hand
    certificate: bytes

    @property
    def pair(self) -> ClientCertificate:
        assert isinstance(self.hand.key, ec.EllipticCurvePrivateKey)
        return ClientCertificate(self.certificate, pem(self.hand.key))

    def transport(self, where: Server) -> HttpTransport:
        return HttpTransport(f"https://127.0.0.1:{where.devices}", where.house.server_ca, self.pair)


def enrol(where: Server, vehicle_id: str, *ecus: Ecu) -> Pack:
    """With a token from the command line, through the enrolment listener."""
    hand = Hand()
    token = where.house.run("server", "enrol-token", vehicle_id, "--software-identity").strip()
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(hand.key, hashes.SHA256())
    )
    body = {
        "token": token,
        "csr": request.public_bytes(serialization.Encoding.PEM).decode(),
        "ecus": [{"ecu_id": e.ecu_id, "hardware_id": e.hardware_id} for e in ecus or (APP, LOADER)],
    }
    with HttpTransport(f"https://127.0.0.1:{where.enrolment}", where.house.server_ca) as transport:
        answer = json.loads(transport.post("/v1/enrol", json.dumps(body).encode(), 65536))
    return Pack(vehicle_id, hand, answer["certificate"].encode())
