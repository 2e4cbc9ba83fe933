"""A campaign's results in a file that only grows.

The first line says which campaign it is; each other line is the result of one job. A line that was cut
short, because somebody pulled the plug, is a job that is run again.
"""

import json
from pathlib import Path
from typing import Any

from cellward.core.errors import Code, Refused, Unavailable


class Journal:
    """`found` is what was there. Raises Unavailable (storage.failed); Refused (storage.exists) for
    another campaign's file."""

    def __init__(self, path: Path, campaign: str) -> None:
        self._path = path
        self._head = json.dumps({"campaign": campaign})
        self.found: list[dict[str, Any]] = []
        try:
            self._open()
        except OSError as error:
            raise self._failure(error) from error

    def _open(self) -> None:
        content = self._path.read_bytes() if self._path.exists() else b""
        whole, _, torn = content.rpartition(b"\n")
        lines = whole.decode("utf-8", "replace").split("\n") if whole else []
        if lines and lines[0] != self._head:
            raise self._other()
        try:
            self.found = [json.loads(line) for line in lines[1:]]
        except ValueError as error:
            raise self._other() from error
        self._file = self._path.open("r+b" if content else "wb")
        if torn or not content:
            self._file.truncate(len(content) - len(torn))
        self._file.seek(0, 2)
        if not lines:
            self._write(self._head)

    def add(self, result: dict[str, Any]) -> None:
        """Kept, whatever happens next, when this returns. Raises Unavailable (storage.failed)."""
        try:
            self._write(json.dumps(result, separators=(",", ":")))
        except OSError as error:
            raise self._failure(error) from error

    def _write(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _other(self) -> Refused:
        return Refused(
            Code.STORAGE_EXISTS,
            str(self._path),
            expected="results of this campaign, or a name that is free",
            found="another firmware's, or with other options",
            advice="name another file",
        )

    def _failure(self, error: OSError) -> Unavailable:
        return Unavailable(Code.STORAGE_FAILED, str(self._path), found=error.strerror or type(error).__name__)
