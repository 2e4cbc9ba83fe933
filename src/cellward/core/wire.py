"""Bounded decoding: every read is checked against what is left. Little-endian, or as a TPM has it."""

from struct import Struct
from typing import ClassVar, Literal

from cellward.core.errors import Code, FormatRefused


class Reader:
    """Reads forward through `data[start:end]`; nothing is sliced past its end.

    Raises FormatRefused (wire.truncated) with offset, wanted and available bytes.
    """

    _ORDER: ClassVar[Literal["little", "big"]] = "little"

    def __init__(self, data: bytes, what: str, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._what = what
        self._end = len(data) if end is None else end
        self.offset = start
        if not 0 <= start <= self._end <= len(data):
            raise FormatRefused(
                Code.TRUNCATED,
                what,
                expected=f"bytes {start} to {self._end}",
                found=f"{len(data)} bytes",
            )

    @property
    def remaining(self) -> int:
        return self._end - self.offset

    def take(self, count: int) -> bytes:
        if count < 0 or count > self.remaining:
            raise FormatRefused(
                Code.TRUNCATED,
                self._what,
                expected=f"{count} bytes at offset {self.offset}",
                found=f"{self.remaining}",
            )
        start, self.offset = self.offset, self.offset + count
        return self._data[start : self.offset]

    def fields(self, layout: Struct) -> tuple[int, ...]:
        """Integers that lie one behind the other: checked, and read, at once."""
        return layout.unpack(self.take(layout.size))

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), self._ORDER)

    def u32(self) -> int:
        return int.from_bytes(self.take(4), self._ORDER)

    def u64(self) -> int:
        return int.from_bytes(self.take(8), self._ORDER)

    def finish(self) -> None:
        """Refuse anything left over (wire.trailing)."""
        if self.remaining:
            raise FormatRefused(
                Code.TRAILING,
                self._what,
                expected=f"the end at offset {self.offset}",
                found=f"{self.remaining} more bytes",
            )


class BigEndianReader(Reader):
    """The same, most significant byte first."""

    _ORDER = "big"

    def sized(self) -> bytes:
        """A u16 with the size, then as many bytes: a TPM2B."""
        return self.take(self.u16())


def u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def be16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def be32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def be_sized(data: bytes) -> bytes:
    """What `BigEndianReader.sized` reads."""
    return be16(len(data)) + data
