"""Tokens for tests: the embedded SoftHSM in a folder, and a module that fails when told to."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.adapters.pkcs11 import softhsm
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from cellward.ports.signer import KeyStore, Signer

TOKEN = "pkcs11:token=cellward"
FIRMWARE = f"{TOKEN};object=firmware"
DIGEST = bytes(range(32))
# Their places in CK_FUNCTION_LIST.
INITIALIZE, SLOT_INFO, TOKEN_INFO, OPEN_SESSION, LOGIN, ATTRIBUTE, FIND, SIGN, GENERATE = (
    0,
    5,
    6,
    12,
    18,
    24,
    26,
    43,
    59,
)
FOREVER = -1


def make_home(folder: Path, *labels: str) -> Home:
    """A data directory with the embedded token and a key for each label."""
    home = Home(folder)
    store = bootstrap.key_store(home, TOKEN, create=True)
    for label in labels:
        store.create(label)
    return home


def store_of(home: Home) -> KeyStore:
    return bootstrap.key_store(home, TOKEN)


def works(signer: Signer) -> None:
    signer.public_key.verify(DIGEST, signer.sign(DIGEST), code=Code.IMAGE_SIGNATURE, subject="test")


def code_of(error: pytest.ExceptionInfo[CellwardError]) -> Code:
    return error.value.code


class Faults:
    """The module of pkcs11_faults.c in front of a home's SoftHSM."""

    def __init__(self, path: Path, home: Home) -> None:
        self.path = path
        self.home = home
        self._c = ctypes.CDLL(str(path))

    def fail(self, call: int, answer: int, times: int = 1) -> None:
        self._c.fault(call, ctypes.c_ulong(answer), times)

    def seen(self, call: int) -> int:
        return int(self._c.seen(call))


def build_faults(folder: Path) -> Path:
    source, target = Path(__file__).with_name("pkcs11_faults.c"), folder / "faults.so"
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(target),
        str(source),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    # A copy is a library of its own in this process: the other tests' SoftHSM stays as it is.
    shutil.copy(softhsm.library(), folder / "libsofthsm2.so")
    return target


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def faults(library: Path, home: Home) -> Iterator[Faults]:
    """`bootstrap` goes through the failing module while this lasts."""
    with environment(
        CELLWARD_PKCS11_MODULE=str(library),
        FAULTS_BEHIND=str(library.with_name("libsofthsm2.so")),
        SOFTHSM2_CONF=str(home.softhsm_config.absolute()),
        CELLWARD_PIN=home.pin.read_text().strip(),
    ):
        yield Faults(library, home)
