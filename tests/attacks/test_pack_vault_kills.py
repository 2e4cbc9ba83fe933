"""The pack controller's vault, killed with its swtpm at every step of every write: 0 lost, 0 stale."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cellward.core import packvault
from cellward.core.errors import Code, TrustRefused
from cellward.device.vault import Vault, opened
from cellward.ports.tpm import VAULT_COUNTER
from tests.support.packtpm import SwtpmDevice, refused
from tests.support.vault import FIRST, Pack

KILLS = 20
Operation = Callable[[Vault, int], None]
OPERATIONS: dict[str, Operation] = {
    "put": lambda vault, number: vault.put("value", b"value %d" % number),
    "remove": lambda vault, _: vault.remove("value"),
    "rotate": lambda vault, _: vault.rotate(),
}
# Where the power goes, and whether the new file is there then.
STEPS = {
    "before the file is written": False,
    "before it is synced": False,
    "before it has its name": False,
    "before the chain": True,
    "before the counter": True,
    "after the counter": True,
}


@pytest.fixture(scope="module")
def made(made_tpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller's folder with a vault; nobody runs its TPM."""
    folder = tmp_path_factory.mktemp("pack")
    shutil.copytree(made_tpm, folder / "tpm")
    started = pack_in(folder)
    started.make()
    started.put("value", b"value 0")
    started.device.off()
    return folder


def pack_in(folder: Path) -> Pack:
    return Pack(SwtpmDevice(folder / "tpm"), folder / "state")


def killed(folder: Path, operation: str, step: str, number: int) -> None:
    """In a child, which kills the TPM and itself there."""
    child = os.fork()
    if child == 0:
        try:
            pack = pack_in(folder)
            pack.device.tpm.pcr_extend(8, FIRST)
            with opened(pack.place) as vault:
                arm(pack, step)
                OPERATIONS[operation](vault, number)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it did not come that far"
    assert os.WTERMSIG(status) == signal.SIGKILL


def arm(pack: Pack, step: str) -> None:
    assert isinstance(pack.device, SwtpmDevice)
    swtpm = pack.device.running.process.pid

    def power_cut(*_: object, **__: object) -> None:
        os.kill(swtpm, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    tpm = pack.device.tpm
    if step == "after the counter":
        original = tpm.increment

        def last(index: int) -> None:
            original(index)
            power_cut()

        tpm.increment = last  # type: ignore[method-assign]
        return
    owner, name = {
        "before the file is written": (os, "urandom"),  # the name beside it
        "before it is synced": (os, "fsync"),
        "before it has its name": (Path, "replace"),
        "before the chain": (tpm, "extend_chain"),
        "before the counter": (tpm, "increment"),
    }[step]
    setattr(owner, name, power_cut)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_kills_at_each_step_lose_nothing_and_bring_nothing_back(
    made: Path, operation: str, step: str
) -> None:
    for number in range(1, KILLS + 1):
        with running(made) as pack:
            pack.put("value", b"value %d" % -number)
        before = (made / "state/vault/values").read_bytes()
        killed(made, operation, step, number)
        after = (made / "state/vault/values").read_bytes()
        assert (after != before) == STEPS[step]
        expected = b"value %d" % -number
        if STEPS[step] and operation == "put":
            expected = b"value %d" % number
        with running(made) as pack:
            if STEPS[step] and operation == "remove":
                assert pack.names() == []
            else:
                assert pack.read("value") == expected
            assert pack.device.tpm.counter(VAULT_COUNTER) == packvault.decode(pack.file).content.counter
            if STEPS[step]:
                pack.restore(before)
                with refused(TrustRefused, Code.VAULT_ROLLBACK):
                    pack.names()
                pack.restore(after)


class running:  # noqa: N801  reads as what it is
    """The controller, started with its first release; then its power goes."""

    def __init__(self, folder: Path) -> None:
        self.pack = pack_in(folder)

    def __enter__(self) -> Pack:
        self.pack.device.tpm.pcr_extend(8, FIRST)
        return self.pack

    def __exit__(self, *_: object) -> None:
        self.pack.device.off()
