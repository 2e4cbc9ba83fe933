"""A Store in memory that keeps every promise of the port."""

import re
from collections.abc import Iterator

from cellward.core.errors import Code, FormatRefused, Refused

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", re.ASCII)


class MemoryStore:
    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def _checked(self, name: str) -> str:
        segments = name.split("/")
        if len(segments) > 4 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise FormatRefused(Code.TARGET_NAME, f"name {name!r}")
        return name

    def read(self, name: str) -> bytes | None:
        return self._blobs.get(self._checked(name))

    def write(self, name: str, data: bytes) -> None:
        self._blobs[self._checked(name)] = data

    def write_once(self, name: str, data: bytes) -> None:
        if self._blobs.setdefault(self._checked(name), data) != data:
            raise Refused(Code.STORAGE_EXISTS, name)

    def delete(self, name: str) -> None:
        self._blobs.pop(self._checked(name), None)

    def names(self) -> Iterator[str]:
        return iter(sorted(self._blobs))

    def size(self, name: str) -> int | None:
        blob = self.read(name)
        return None if blob is None else len(blob)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        return (self.read(name) or b"")[start : start + length]
