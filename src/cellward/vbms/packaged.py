"""The firmware that comes with the package: ROM, and the plant's loader and apps."""

from importlib import resources

from cellward.core.errors import Code, Unavailable

FOLDER = "firmware"
ROM = "rom.bin"


def packaged(name: str) -> bytes:
    """A built file of firmware/, by name (`rom.bin`, `loader-1.3.0.elf`, …).

    Raises Unavailable (storage.missing) where the firmware has not been built.
    """
    file = resources.files("cellward.vbms").joinpath(FOLDER, name)
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unavailable(
            Code.STORAGE_MISSING,
            f"firmware {name}",
            expected="the module's built firmware in the package",
            found="none",
            advice="build it with `make firmware`",
        ) from error
