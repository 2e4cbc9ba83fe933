"""The pack controller's vault: TPM, state directory and memory for secrets."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import sweep
from cellward.bootstrap.device import device_store, tpm
from cellward.bootstrap.packs import agent_digest
from cellward.bootstrap.tamper import guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellward.device.vault import Place
    from cellward.ports.tpm import Tpm


@contextmanager
def vault_place(state: Path) -> "Iterator[Place]":
    """What the vault in this state directory stands on, for one process; it leaves no core dump from here on.
    Tampering is noticed first. The code that runs is measured: policies say which may open the vault.

    Raises storage.busy, tpm.*, vault.memory, TrustRefused (attest.pcr).
    """
    from cellward.adapters.lock import file_lock
    from cellward.adapters.lockedmemory import LockedMemory, forbid_dumps
    from cellward.core.tpm import measurement
    from cellward.device.measured import measure
    from cellward.device.vault import Place

    forbid_dumps()
    with file_lock(state / "vault" / "lock", patience=5.0), tpm(state) as found:
        guard(state, found).sense()
        sweep(state / "vault")
        store = device_store(state)
        measure(found, store, [measurement.agent(agent_digest())])
        yield Place(found, store, LockedMemory())


@contextmanager
def running_vault(state: Path, found: "Tpm") -> "Iterator[Place]":
    """The same for the running agent, which has measured its start and has the TPM. Raises storage.busy."""
    from cellward.adapters.lock import file_lock
    from cellward.adapters.lockedmemory import LockedMemory, forbid_dumps
    from cellward.device.vault import Place

    forbid_dumps()
    with file_lock(state / "vault" / "lock", patience=5.0):
        yield Place(found, device_store(state), LockedMemory())


def read_secret(path: Path | None, view: memoryview) -> int:
    """How many bytes a file has, or standard input: read into `view`, and nowhere else."""
    from cellward.adapters.lockedmemory import read_into

    return read_into(path, view)


def print_secret(view: memoryview) -> None:
    """To standard output, past every buffer."""
    from cellward.adapters.lockedmemory import write_out

    write_out(view)
