"""The tree's head, signed (C2SP tlog-checkpoint): origin, size and root."""

import re
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import PublicKey
from cellward.core.log import note
from cellward.core.log.merkle import EMPTY_ROOT, HASH_SIZE, MAX_SIZE
from cellward.core.log.note import NoteKey

_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """`origin` names the log, for ever. Raises FormatRefused (log.format)."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        note.require_name(self.origin, "origin of the signing log")
        if (
            not 0 <= self.size <= MAX_SIZE
            or len(self.root) != HASH_SIZE
            or (self.size == 0) != (self.root == EMPTY_ROOT)
        ):
            raise FormatRefused(
                Code.LOG_FORMAT,
                "checkpoint",
                expected="a size and its root",
                found=f"{self.size} and {len(self.root)} bytes",
            )

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{note.encode_base64(self.root)}\n"

    def signed(self, key: PublicKey, signature: bytes) -> bytes:
        """The note; `signature` is the key's over `text`, and the key's name is the log's."""
        return note.signed(self.text, NoteKey(self.origin, key), signature).encode()


def parse(text: str, what: str) -> Checkpoint:
    """Extension lines are refused: this log writes none. Raises FormatRefused (log.format)."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not _NUMBER.fullmatch(lines[1]):
        raise FormatRefused(
            Code.LOG_FORMAT, what, expected="origin, size and root on a line each", found=ascii(text[:60])
        )
    return Checkpoint(lines[0], parse_number(lines[1], what), note.decode_base64(lines[2], what))


def parse_number(text: str, what: str) -> int:
    """Decimal, without leading zeros. Raises FormatRefused (log.format)."""
    if not _NUMBER.fullmatch(text):
        raise FormatRefused(Code.LOG_FORMAT, what, expected="a number", found=ascii(text[:20]))
    return int(text)


def verify(data: bytes, key: PublicKey | NoteKey, what: str) -> Checkpoint:
    """What the note says, if the log's key signed it. A NoteKey also says which log it must be.

    Raises FormatRefused (log.format), TrustRefused (log.signature).
    """
    decoded = note.decode(data, what)
    claimed = parse(decoded.text, what)
    named = key if isinstance(key, NoteKey) else NoteKey(claimed.origin, key)
    if claimed.origin != named.name:
        raise FormatRefused(
            Code.LOG_ORIGIN, what, expected=f"a checkpoint of {named.name}", found=claimed.origin
        )
    return parse(decoded.verified_by(named, what), what)
