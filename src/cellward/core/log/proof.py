"""An entry, its place and its checkpoint in one file (C2SP tlog-proof v1). The extra data is the entry."""

from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import PublicKey
from cellward.core.log import checkpoint, entry, note
from cellward.core.log.checkpoint import Checkpoint
from cellward.core.log.entry import MAX_ENTRY, Entry
from cellward.core.log.merkle import HASH_SIZE, leaf_hash, verify_inclusion
from cellward.core.log.note import NoteKey

HEADER = b"c2sp.org/tlog-proof@v1\n"
MAX_PROOF = note.MAX_NOTE + 8 * 1024
_MAX_HASHES = 48


@dataclass(frozen=True)
class Logged:
    """An entry that a signed tree holds."""

    entry: Entry
    index: int
    checkpoint: Checkpoint


@dataclass(frozen=True)
class LogProof:
    """As it was read: nothing of it is verified."""

    entry: bytes
    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        lines = [f"extra {note.encode_base64(self.entry)}", f"index {self.index}"]
        lines += [note.encode_base64(each) for each in self.hashes]
        return HEADER + "\n".join([*lines, "", ""]).encode() + self.checkpoint

    def verified_by(self, key: PublicKey | NoteKey, what: str) -> Logged:
        """The entry, where the log with this key has it at this index of a tree that it signed.

        Raises FormatRefused (log.format), TrustRefused (log.signature, log.origin, log.proof).
        """
        head = checkpoint.verify(self.checkpoint, key, what)
        decoded = entry.decode(self.entry, what)
        verify_inclusion(leaf_hash(self.entry), self.index, head.size, head.root, self.hashes, what)
        return Logged(decoded, self.index, head)


def decode(data: bytes, what: str) -> LogProof:
    """Raises FormatRefused (log.format)."""
    head, separator, below = data.partition(b"\n\n")
    if len(data) > MAX_PROOF or not head.startswith(HEADER) or not separator:
        raise _malformed(what, "a proof of a transparency log, with its checkpoint", "another file")
    try:
        lines = head[len(HEADER) :].decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _malformed(what, "ASCII", "other bytes") from error
    if len(lines) < 2 or not lines[0].startswith("extra ") or not lines[1].startswith("index "):
        raise _malformed(what, "the entry and its index", ascii("\n".join(lines[:2])[:60]))
    held = note.decode_base64(lines[0].removeprefix("extra "), what)
    index = checkpoint.parse_number(lines[1].removeprefix("index "), what)
    hashes = tuple(note.decode_base64(line, what) for line in lines[2:])
    if len(hashes) > _MAX_HASHES or any(len(each) != HASH_SIZE for each in hashes) or len(held) > MAX_ENTRY:
        raise _malformed(what, f"an entry and up to {_MAX_HASHES} hashes of {HASH_SIZE} bytes", "others")
    return LogProof(held, index, hashes, below)


def _malformed(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.LOG_FORMAT, what, expected=expected, found=found)
