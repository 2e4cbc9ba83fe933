"""A controller with a real swtpm, a vault, a fake module, and an owner with a key of his own."""

import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cellward import bootstrap
from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import PublicKey, Role
from cellward.core.metadata import encode_factory
from cellward.core.slots import BMS_M33
from cellward.device.attempts import Attempts
from cellward.device.memory import Attested, Device, Memory, ModuleEntry
from cellward.ports.tpm import RELEASE_COUNTER, VAULT_CHAIN, VAULT_COUNTER, KeyName
from cellward.server.ca import open_authority
from tests.fakes.module import FakeModule
from tests.fakes.store import MemoryStore
from tests.support import hsm
from tests.support.maker import Hand
from tests.support.pack import ADDRESS, SERIAL, Pack
from tests.support.uptane import VEHICLE

DEVICE = Device(VEHICLE, (ModuleEntry(SERIAL, BMS_M33.name, ADDRESS),), Attested("https://server", "0" * 64))
OWNER = Hand("owner")


def make(desk: Path) -> Path:
    """The maker's data directory and the controller's state, as they leave the plant: no owner yet."""
    home = hsm.make_home(desk / "maker", "policy", "calibration", "device-ca")
    for arguments in (
        ("vault", "policy", "--counter", "1", "-o", f"{desk}/policy.json"),
        ("keys", "export", "policy", "-o", f"{desk}/policy.pem"),
        ("keys", "export", "calibration", "-o", f"{desk}/calibration.pem"),
    ):
        done(run(home, *arguments))
    now, signer = datetime.now(UTC), bootstrap.role_signer(home, Role.DEVICE_CA)
    ca = open_authority(MemoryStore(), "device-ca", signer, now).pem
    key = PublicKey.from_pem((desk / "calibration.pem").read_bytes())
    factory = replace(Pack().factory, device_ca=ca, calibration_keys=(key,))
    state = desk / "state"
    Memory(bootstrap.device_store(state)).set_device(DEVICE, encode_factory(factory))
    with bootstrap.tpm(state) as tpm:
        tpm.create_key(KeyName.IDENTITY)
    keys = "--policy-key", f"{desk}/policy.pem", "--policy", f"{desk}/policy.json"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cellward.adapters.lockedmemory.forbid_dumps", lambda: None)
        done(run(home, "vault", "init", "--state", str(state), *keys))
    return desk


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cellward, ["--data", str(home.root), *arguments])


def done(result: Result) -> str:
    assert result.exit_code == 0, result.exception
    return result.output


@dataclass
class Owned:
    """In a folder of its own, which is the working directory."""

    module: FakeModule
    owner: Hand = field(default_factory=lambda: OWNER)

    def run(self, *arguments: str) -> Result:
        result = run(Home(Path("maker").absolute()), *arguments)
        if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
            raise result.exception
        return result

    def done(self, *arguments: str) -> str:
        return done(self.run(*arguments))

    def refused(self, code: Code, *arguments: str) -> None:
        error = self.run(*arguments).exception
        assert isinstance(error, CellwardError), arguments
        assert error.code is code, str(error)

    def grant(self, owner: Hand, vehicle: str = VEHICLE, file: str = "grant.json") -> str:
        Path("owner.pem").write_bytes(owner.public_key.pem())
        self.done("server", "owner", vehicle, "--key", "owner.pem", "-o", file)
        return file

    def appoint(self, owner: Hand) -> None:
        self.done("device", "owner", "set", "--state", "state", self.grant(owner))

    def challenge(self, file: str = "challenge.txt") -> bytes:
        self.done("device", "health", "challenge", "--state", "state", "-o", file)
        return Path(file).read_bytes()

    def sign(self, data: bytes, hand: Hand | None = None) -> None:
        signer = hand or self.owner
        Path("signature").write_bytes(signer.sign(signer.public_key.to_sign(data)))

    @property
    def read(self) -> tuple[str, ...]:
        return "device", "health", "read", "--state", "state", "--signature", "signature"

    def state(self) -> tuple[object, ...]:
        """All that nobody but the maker may change."""
        files = {
            path: path.read_bytes()
            for path in sorted(Path("state").rglob("*"))
            if path.is_file()
            and path.parts[1] not in ("tpm", "owner")
            and path.name not in ("lock", "attempts.json", "clock.json")  # of the guard: which start it is
        }
        with bootstrap.tpm(Path("state")) as tpm:
            numbers = tpm.counter(RELEASE_COUNTER), tpm.counter(VAULT_COUNTER), tpm.chain(VAULT_CHAIN)
            keys = [tpm.key(name) for name in KeyName]
        module = self.module
        flash = bytes(module.data_flash), bytes(module.fuses), [bytes(bank) for bank in module.banks]
        return files, numbers, keys, flash, module.measured, module.boot_count

    def failures(self) -> int:
        with bootstrap.tpm(Path("state")) as tpm:
            return Attempts(tpm, bootstrap.device_store(Path("state"))).failures


def copy_of(made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Owned:
    monkeypatch.setattr("cellward.adapters.lockedmemory.forbid_dumps", lambda: None)  # of the test run
    found = Owned(Pack().module)
    monkeypatch.setattr(bootstrap, "connect_module", lambda path: Connected(found))
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return found


@dataclass
class Connected:
    """The module that is there now, as a context manager."""

    owned: Owned

    def __enter__(self) -> FakeModule:
        return self.owned.module

    def __exit__(self, *_: object) -> None:
        return
