"""The newest entries, as they are on disk before any tile: one file that is only appended to.

Header: `cellward signing log v1`, newline, u64 index of the first entry. Then a frame for each append:
`CWSL`, u64 index of its first entry, u32 length of its body, SHA-256 over all of these and the body;
body: entries as in a bundle. Numbers are big-endian. A frame counts whole or not at all: its entries'
signatures are released after it is synced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.log.entry import MAX_ENTRY

MAGIC = b"cellward signing log v1\n"
HEADER_SIZE = len(MAGIC) + 8
_FRAME = b"CWSL"
_SUM = 32
_HEAD = len(_FRAME) + 8 + 4 + _SUM


@dataclass(frozen=True)
class Journal:
    """`entries` from index `start` on. `end`: where the frames that count end; a torn one lies behind."""

    start: int
    entries: tuple[bytes, ...]
    end: int

    @property
    def size(self) -> int:
        """Of the whole log."""
        return self.start + len(self.entries)


def encode_header(start: int) -> bytes:
    return MAGIC + start.to_bytes(8, "big")


def encode_frame(index: int, entries: Sequence[bytes]) -> bytes:
    """Entries that are appended at `index` together."""
    body = b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])
    head = _FRAME + index.to_bytes(8, "big") + len(body).to_bytes(4, "big")
    return head + sha256(head + body).digest() + body


def decode(data: bytes, what: str) -> Journal:
    """What counts. A last frame that a cut left torn is passed over, and nothing else ever is.

    Raises FormatRefused (log.format) without a header, TrustRefused (log.damaged) for a frame that is not
    in its place, or a torn one that has a good one behind it: no cut leaves that.
    """
    if len(data) < HEADER_SIZE or not data.startswith(MAGIC):
        raise FormatRefused(
            Code.LOG_FORMAT, what, expected="a journal of the signing log", found="another file"
        )
    start = int.from_bytes(data[len(MAGIC) : HEADER_SIZE], "big")
    entries: list[bytes] = []
    at = HEADER_SIZE
    while at < len(data):
        frame = _frame(data, at)
        if frame is None:
            _require_torn(data, at, start + len(entries), what)
            break
        index, more, end = frame
        if index != start + len(entries):
            _damaged(what, start + len(entries), f"entry {index}")
        at = end
        entries += more
    return Journal(start, tuple(entries), at)


def _frame(data: bytes, at: int) -> tuple[int, list[bytes], int] | None:
    """The frame at an offset, if it is whole: its index, its entries, and where it ends."""
    body = at + _HEAD
    head = data[at : body - _SUM]
    if not head.startswith(_FRAME) or body > len(data):
        return None
    end = body + int.from_bytes(head[-4:], "big")
    if end > len(data) or sha256(head + data[body:end]).digest() != data[body - _SUM : body]:
        return None
    entries = []
    while body < end:
        size = int.from_bytes(data[body : body + 2], "big")
        entry, body = data[body + 2 : body + 2 + size], body + 2 + size
        if body > end or not 0 < size <= MAX_ENTRY:
            return None
        entries.append(entry)
    return (int.from_bytes(head[len(_FRAME) : -4], "big"), entries, end) if entries else None


def _require_torn(data: bytes, at: int, index: int, what: str) -> None:
    """Only the last frame can be torn: each was synced before the next was begun."""
    while (at := data.find(_FRAME, at + 1)) >= 0:
        if _frame(data, at) is not None:
            _damaged(what, index, "bytes that do not match their checksum, and entries after them")


def _damaged(what: str, index: int, found: str) -> NoReturn:
    raise TrustRefused(
        Code.LOG_DAMAGED,
        what,
        expected=f"entry {index}",
        found=found,
        advice="nothing is appended to it: compare it with a copy and with the newest checkpoint",
    )
