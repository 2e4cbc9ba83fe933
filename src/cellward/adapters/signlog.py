"""The signing log in a folder: the journal and the full bundles are the truth, the rest follows from them.

::

    journal       the newest entries, appended to and synced before a signature is out (core.log.journal)
    tile/…        C2SP tlog-tiles: bundles of entries, tiles of hashes
    checkpoint    the newest signed head
    lock          held by whoever writes

When the journal holds 256 entries and more, the next append first moves the full bundles out of it: bundles
and tiles are written and synced, then the journal is replaced. A cut in between leaves bundles and tiles
that the journal still holds too; they are written again, the same.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cellward.core.errors import Code, TrustRefused, Unavailable
from cellward.core.log import journal as journals
from cellward.core.log.journal import Journal

if TYPE_CHECKING:
    from cellward.core.log.tiles import Growth, Tile, TileTree
    from cellward.ports.signinglog import Head

_BUNDLE = 256
_MAX_JOURNAL = 1 << 30

Lock = Callable[[], AbstractContextManager[None]]
Write = Callable[[Path, bytes], None]


class FolderLog:
    """One for each process. `write` replaces a file durably, `lock` keeps other processes out."""

    def __init__(self, folder: Path, lock: Lock, write: Write) -> None:
        self.folder = folder
        self._lock = lock
        self._write = write
        self._thread = threading.Lock()
        self._held: tuple[tuple[int, int], Journal] | None = None

    @property
    def _journal(self) -> Path:
        return self.folder / "journal"

    # --- writing ---

    def append(self, entries: Sequence[bytes]) -> int:
        """See ports.signinglog."""
        with self._thread, self._lock():
            held = self._load()
            if len(held.entries) >= _BUNDLE:
                held = self._move(held)
            if not entries:
                return held.size
            frame = journals.encode_frame(held.size, entries)
            end = held.end + len(frame)
            place = self._extend(held.end, frame)
            self._held = (place, end), Journal(held.start, (*held.entries, *entries), end)
            return held.size

    def _extend(self, at: int, frame: bytes) -> int:
        """Write and sync; whatever goes wrong, what was there before is what counts."""
        self._held = None
        try:
            handle = os.open(self._journal, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _failed(self._journal, error) from error
        try:
            try:
                os.ftruncate(handle, at)  # a frame that a cut left torn
                done = 0
                while done < len(frame):
                    done += os.pwrite(handle, frame[done:], at + done)
                os.fsync(handle)
                return os.fstat(handle).st_ino
            except OSError as error:
                os.ftruncate(handle, at)
                raise _failed(self._journal, error) from error
        finally:
            os.close(handle)

    def _load(self) -> Journal:
        """Under the lock. What this process knows already is not read again."""
        try:
            status = self._journal.stat()
        except FileNotFoundError:
            self._create()
            status = self._journal.stat()
        except OSError as error:
            raise _failed(self._journal, error) from error
        if self._held is not None and self._held[0] == (status.st_ino, status.st_size):
            return self._held[1]
        return journals.decode(self._read_journal(), str(self._journal))

    def _read_journal(self) -> bytes:
        data = _read(self._journal)
        if data is None or len(data) > _MAX_JOURNAL:
            raise _gone(self._journal)
        return data

    def _create(self) -> None:
        if (self.folder / "tile").exists() or (self.folder / "checkpoint").exists():
            raise _gone(self._journal)
        self._put(self._journal, journals.encode_header(0))

    def _put(self, path: Path, data: bytes) -> None:
        missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in missing or ([self.folder] if path == self._journal else []):
                _sync(folder.parent)
        except OSError as error:
            raise _failed(path, error) from error
        self._write(path, data)

    def _move(self, held: Journal) -> Journal:
        """Full bundles out of the journal, with their tiles."""
        from cellward.core.log.merkle import leaf_hash
        from cellward.core.log.tiles import Growth, Tile, encode_bundle

        growth = Growth.resume(held.start, self._tile)
        full = len(held.entries) // _BUNDLE * _BUNDLE
        for first in range(0, full, _BUNDLE):
            entries = held.entries[first : first + _BUNDLE]
            done = [(Tile(None, (held.start + first) // _BUNDLE), encode_bundle(entries))]
            done += [each for entry in entries for each in growth.append(leaf_hash(entry))]
            for tile, data in done:
                self._put(self.folder / tile.path, data)
        self._put_partial(growth)
        start, rest = held.start + full, held.entries[full:]
        data = journals.encode_header(start) + (journals.encode_frame(start, rest) if rest else b"")
        self._put(self._journal, data)
        self._drop_partial(held.start // _BUNDLE, start // _BUNDLE)
        return Journal(start, rest, len(data))

    def _put_partial(self, growth: "Growth") -> None:
        for tile, data in growth.partial():
            if _read(self.folder / tile.path) != data:
                self._put(self.folder / tile.path, data)

    def _drop_partial(self, first: int, end: int) -> None:
        """Of tiles and bundles that are full now (tlog-tiles, Partial Tiles)."""
        import shutil  # once in 256 entries, and no signature waits for its import

        from cellward.core.log.tiles import LEVELS, Tile

        for level in (None, *range(LEVELS)):
            shift = 8 * (level or 0)
            for index in range(first >> shift, end >> shift):
                shutil.rmtree(self.folder / f"{Tile(level, index).path}.p", ignore_errors=True)

    def seal(self, make: "Callable[[Head], bytes]") -> bytes:
        """See ports.signinglog."""
        from cellward.core.log.tiles import Tile, encode_bundle
        from cellward.ports.signinglog import Head

        with self._thread, self._lock():
            held = self._load()
            held = self._move(held) if len(held.entries) >= _BUNDLE else held
            seen = Snapshot(self.folder, held)
            data = make(Head(held.size, seen.growth.root(), self.checkpoint(), seen.tree))
            if data == self.checkpoint():
                return data
            self._put_partial(seen.growth)
            if held.entries:
                bundle = Tile(None, held.start // _BUNDLE, len(held.entries))
                self._put(self.folder / bundle.path, encode_bundle(held.entries))
            self._put(self.folder / "checkpoint", data)
            return data

    # --- reading: takes no lock, and changes nothing ---

    def checkpoint(self) -> bytes | None:
        return _read(self.folder / "checkpoint")

    def snapshot(self) -> "Snapshot":
        """See ports.signinglog."""
        data = _read(self._journal)
        if data is not None:
            return Snapshot(self.folder, journals.decode(data, str(self._journal)))
        if self.checkpoint() is not None or (self.folder / "tile").exists():
            raise _gone(self._journal)
        raise Unavailable(
            Code.LOG_MISSING, str(self.folder), expected="a signing log", found="none: nothing was signed yet"
        )

    def published(self, size: int) -> "Snapshot":
        """See ports.signinglog."""
        from cellward.core.log.tiles import Tile, decode_bundle

        start, rest = size - size % _BUNDLE, size % _BUNDLE
        entries: list[bytes] = []
        if rest:
            tile = Tile(None, start // _BUNDLE, rest)
            path, data = tile.path, self._tile(tile)
            if data is None:
                path, data = tile.full.path, self._tile(tile.full)
            if data is None:
                raise TrustRefused(
                    Code.LOG_TRUNCATED, f"entry {start}", expected=tile.path, found="no such file"
                )
            entries = decode_bundle(data, path)[:rest]
        return Snapshot(self.folder, Journal(start, tuple(entries), 0))

    def _tile(self, tile: "Tile") -> bytes | None:
        return _read(self.folder / tile.path)


class Snapshot:
    """A log to read. The journal was read once, and the bundles before it were there already."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder = folder
        self._journal = journal

    @property
    def size(self) -> int:
        return self._journal.size

    @property
    def tiled(self) -> int:
        return self._journal.start

    def tile(self, tile: "Tile") -> bytes | None:
        return _read(self._folder / tile.path)

    def bundle(self, index: int) -> Sequence[bytes]:
        from cellward.core.log.tiles import Tile, decode_bundle

        first = index * _BUNDLE - self._journal.start
        if first >= 0:
            return self._journal.entries[first : first + _BUNDLE]
        path = Tile(None, index).path
        data = _read(self._folder / path)
        if data is None:
            raise TrustRefused(
                Code.LOG_TRUNCATED, f"entry {index * _BUNDLE}", expected=path, found="no such file"
            )
        return decode_bundle(data, path)

    def entry(self, index: int) -> bytes:
        """See ports.signinglog."""
        found = self.bundle(index // _BUNDLE) if 0 <= index < self.size else ()
        if index % _BUNDLE >= len(found):
            raise Unavailable(
                Code.LOG_MISSING, f"entry {index}", expected=f"an index below {self.size}", found="none there"
            )
        return found[index % _BUNDLE]

    def tree(self, size: int) -> "TileTree":
        """See ports.signinglog."""
        from cellward.core.log.tiles import TileTree

        return TileTree(size, self._newest)

    @cached_property
    def growth(self) -> "Growth":
        return self._grown[0]

    def _newest(self, tile: "Tile") -> bytes | None:
        """What the journal's entries make of the right edge; before it, the files."""
        data = self._grown[1].get((tile.level or 0, tile.index))
        return data if data is not None else self.tile(tile)

    @cached_property
    def _grown(self) -> "tuple[Growth, dict[tuple[int, int], bytes]]":
        from cellward.core.log.merkle import leaf_hash
        from cellward.core.log.tiles import Growth

        growth = Growth.resume(self._journal.start, self.tile)
        filled = [each for entry in self._journal.entries for each in growth.append(leaf_hash(entry))]
        return growth, {(tile.level or 0, tile.index): data for tile, data in (*filled, *growth.partial())}


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _failed(path, error) from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _gone(path: Path) -> TrustRefused:
    return TrustRefused(
        Code.LOG_DAMAGED,
        str(path),
        expected="the journal of the signing log",
        found="none, and tiles or a checkpoint beside it",
        advice="nothing is signed without it: put it back from a copy",
    )


def _failed(path: Path, error: OSError) -> Unavailable:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return Unavailable(
        Code.STORAGE_FULL if full else Code.STORAGE_FAILED,
        str(path),
        found=error.strerror or type(error).__name__,
        advice="nothing was signed: free some space and repeat" if full else "nothing was signed",
    )
