"""The battery module: its process, its registration, its ROM as a verifier."""

from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import read_file, write_file
from cellward.core.errors import CellwardError, Code, Unavailable

if TYPE_CHECKING:
    from cellward.adapters.modulelink import LinkModule
    from cellward.adapters.registration import RegistrationFile
    from cellward.ports.verifier import DeviceVerifier


def connect_module(state: Path, *, power: bool = True) -> "LinkModule":
    """The module of a state file, as a context manager: the running process's, or else that of a
    process started for this purpose, which boots first where `power` is wanted.

    Raises module.absent, module.busy, module.state, storage.*.
    """
    from cellward.adapters.modulelink import connect, spawn

    module = connect(state)
    if module is None:
        module = spawn(state)
        if power:
            try:
                module.power_on()
            except CellwardError:
                module.close()
                raise
    return module


def running_module(state: Path) -> "LinkModule":
    """The module of a state file that a process runs already. Raises module.absent without one."""
    from cellward.adapters.modulelink import connect

    module = connect(state)
    if module is None:
        raise Unavailable(
            Code.MODULE_ABSENT,
            str(state),
            expected="a running module",
            found="no process that runs it",
            advice=f"start one with `cellward module run --state {state}`",
        )
    return module


def registration_file(path: Path) -> "RegistrationFile":
    """What the plant keeps of a module; a file for its owner alone."""
    from cellward.adapters.registration import RegistrationFile

    return RegistrationFile(path, read_file, write_file)


def module_verifier() -> "DeviceVerifier":
    """The battery module's own. Raises module.absent without the emulator, storage.missing where the
    firmware has not been built: without it nothing is published."""
    try:
        from cellward.vbms.verifier import ModuleVerifier
    except ModuleNotFoundError as error:
        raise Unavailable(
            Code.MODULE_ABSENT,
            "the module's own verifier",
            expected="the optional package unicorn, which runs it",
            found=f"no {error.name}",
            advice="install cellward[module]: nothing is published that the module has not judged",
        ) from error
    return ModuleVerifier()
