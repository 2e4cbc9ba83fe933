"""Pack controllers' TPMs for tests: the embedded swtpm, each a copy of one that was made, and the fake."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from cellward.adapters.lock import file_lock
from cellward.adapters.tpm2.swtpm import EmbeddedTpm, Running
from cellward.core.errors import CellwardError, Code
from cellward.ports.tpm import Tpm
from tests.fakes.tpm import MemoryTpm


class Device(Protocol):
    """A TPM with a power switch."""

    tpm: Tpm

    def restart(self) -> None:
        """In order."""
        ...

    def cut(self) -> None:
        """The power goes, and comes back."""
        ...

    def off(self) -> None: ...


class SwtpmDevice:
    def __init__(self, folder: Path) -> None:
        self.embedded = EmbeddedTpm(folder, _lock(folder))
        self.embedded._make()
        self._on()

    def _on(self) -> None:
        self.running: Running = self.embedded._start()
        self.tpm: Tpm = self.running.tpm

    def restart(self) -> None:
        self.tpm.shutdown()
        self.off()
        self._on()

    def cut(self) -> None:
        self.running.process.kill()
        self.off()
        self._on()

    def off(self) -> None:
        self.running.stop()


class MemoryDevice:
    def __init__(self) -> None:
        self._memory = MemoryTpm()
        self.tpm: Tpm = self._memory

    def restart(self) -> None:
        self.cut()

    def cut(self) -> None:
        self._memory.start()

    def off(self) -> None:
        return


def make(folder: Path) -> Path:
    """A TPM that was never started, to copy: with its authorities it takes seconds to make."""
    EmbeddedTpm(folder, _lock(folder))._make()
    return folder


def copy(made: Path, folder: Path) -> SwtpmDevice:
    """The same TPM once more: its seeds, and with them its endorsement key, are those of the copied one."""
    shutil.copytree(made, folder)
    return SwtpmDevice(folder)


def refused(kind: type[CellwardError], code: Code) -> "pytest.RaisesExc[CellwardError]":
    return pytest.raises(kind, check=lambda error: error.code is code)


def _lock(folder: Path) -> Callable[[], AbstractContextManager[None]]:
    return lambda: file_lock(folder / "lock", patience=0.1)
