"""A module's registration in a file."""

from collections.abc import Callable
from pathlib import Path

from cellward.core import registration
from cellward.core.errors import Code, FormatRefused, Unavailable
from cellward.core.registration import Registration


class RegistrationFile:
    """A module's registration in a file for its owner alone: the keys in it are secrets.

    `read_file` and `write_file` are adapters.files'.
    """

    def __init__(
        self,
        path: Path,
        read_file: Callable[[Path, int], bytes],
        write_file: Callable[[Path, bytes, int], None],
    ) -> None:
        self._path = path
        self._read_file = read_file
        self._write_file = write_file

    def read(self) -> Registration | None:
        """None where there is no file. Raises FormatRefused (key.format), Unavailable (storage.failed)."""
        try:
            data = self._read_file(self._path, registration.LIMIT)
        except Unavailable as error:
            if error.code is Code.STORAGE_MISSING:
                return None
            raise
        try:
            return registration.decode(data)
        except FormatRefused as error:
            raise error.about(str(self._path)) from error

    def write(self, held: Registration) -> None:
        """Raises Unavailable (storage.*)."""
        self._write_file(self._path, held.encode(), 0o600)
