"""The firmware that comes with the package: ROM, and the plant's loader and apps."""

from importlib import resources
from importlib.resources.abc import Traversable

from cellward.core.errors import Code, Unavailable

FOLDER = "firmware"
ROM = "rom.bin"


def packaged(name: str) -> bytes:
    """A built file of firmware/, by name (`rom.bin`, `loader-1.3.0.elf`, …).

    Raises Unavailable (storage.missing) where the firmware has not been built.
    """
    try:
        return _folder().joinpath(name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(name) from error


def packaged_names() -> tuple[str, ...]:
    """All built files. Raises Unavailable (storage.missing) where there is none."""
    try:
        return tuple(sorted(file.name for file in _folder().iterdir() if file.is_file()))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing("") from error


def _folder() -> Traversable:
    return resources.files("cellward.vbms").joinpath(FOLDER)


def _missing(name: str) -> Unavailable:
    return Unavailable(
        Code.STORAGE_MISSING,
        f"firmware {name}".rstrip(),
        expected="the module's built firmware in the package",
        found="none",
        advice="build it with `make firmware`",
    )
