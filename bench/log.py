"""The signing log: entries on the disk a second, and proofs among ten million entries.

References of the same run: a bare write and fsync of the same bytes, for what is appended; SHA-256 of one
node, for what is proved. Targets: 5,000 synced entries a second in batches, a proof under 5 ms.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import median

from cellward.adapters.files import write_file
from cellward.adapters.lock import file_lock
from cellward.adapters.signlog import FolderLog
from cellward.core.log.entry import Entry
from cellward.core.log.merkle import tree_hash, verify_inclusion
from cellward.core.log.tiles import Growth, Tile, TileTree

TARGET_ENTRIES = 5000
TARGET_MS = 5.0
BATCH, BATCHES, SINGLES = 1000, 20, 200
SIZE = 10_000_000
PROOFS = 200


def entry(number: int) -> bytes:
    digest = sha256(number.to_bytes(8, "big")).hexdigest()
    made = datetime(2026, 11, 24, tzinfo=UTC)
    subject = f"app 1.4.{number} for bms-m33, security counter 7"
    return Entry(made, "image", "firmware", "p256", "93a5" * 16, digest, subject).encode()


def bare(path: Path, data: bytes, times: int) -> float:
    """Seconds for so many appends of these bytes, each synced."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    began = time.perf_counter()
    for number in range(times):
        os.pwrite(handle, data, number * len(data))
        os.fsync(handle)
    os.close(handle)
    return time.perf_counter() - began


def appends(folder: Path) -> None:
    entries = [entry(number) for number in range(BATCH * BATCHES)]
    rows = []
    for title, size, times in (("one by one", 1, SINGLES), (f"in batches of {BATCH}", BATCH, BATCHES)):
        log = FolderLog(folder / title, lambda: file_lock(folder / "lock"), write_file)
        log.append(entries[:1])
        batches = [entries[number * size : (number + 1) * size] for number in range(times)]
        began = time.perf_counter()
        for batch in batches:
            log.append(batch)
        seconds = time.perf_counter() - began
        reference = bare(folder / f"bare {size}", b"".join(batches[0]), times)
        rows.append((title, size * times / seconds, size * times / reference))
    print(f"{'signing log, entries a second':44}{'log':>10}{'bare':>10}{'ratio':>8}")
    for title, rate, reference in rows:
        print(f"{title:44}{rate:10,.0f}{reference:10,.0f}{rate / reference:8.2f}")
    print(
        f"bare: the same bytes, one write and fsync for each append; target: {TARGET_ENTRIES:,} in batches\n"
    )


def ten_million(folder: Path) -> bytes:
    """The tiles of a tree of SIZE leaves that are made up, and its root."""
    growth = Growth()
    base = random.Random(SIZE).randbytes(32)
    for number in range(SIZE):
        put(folder, growth.append(base[:24] + number.to_bytes(8, "big")))
    put(folder, list(growth.partial()))
    return growth.root()


def put(folder: Path, tiles: list[tuple[Tile, bytes]]) -> None:
    for tile, data in tiles:
        path = folder / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def timed(does: Callable[[], object]) -> float:
    began = time.perf_counter()
    does()
    return (time.perf_counter() - began) * 1e3


def proofs(folder: Path) -> None:
    root = ten_million(folder)
    read: list[str] = []

    def tile(asked: Tile) -> bytes | None:
        read.append(asked.path)
        path = folder / asked.path
        return path.read_bytes() if path.exists() else None

    draw = random.Random(7)
    making, checking = [], []
    for _ in range(PROOFS):
        index = draw.randrange(SIZE)
        tree = TileTree(SIZE, tile)
        making.append(timed(lambda tree=tree, index=index: tree.inclusion(index)))  # type: ignore[misc]
        proof, leaf = tree.inclusion(index), tree.leaf(index)
        checking.append(
            timed(lambda p=proof, n=index, v=leaf: verify_inclusion(v, n, SIZE, root, p, ""))  # type: ignore[misc]
        )
    node = timed(lambda: tree_hash([bytes(32)] * 4097)) / 4096
    print(f"{'a proof among ' + f'{SIZE:,}':44}{'median ms':>10}{'worst':>10}{'nodes':>8}")
    for title, took in (("made, from tiles on the disk", making), ("verified", checking)):
        print(f"{title:44}{median(took):10.3f}{max(took):10.3f}{median(took) / node:8.0f}")
    print(f"{'one node, SHA-256 of 65 bytes':44}{node:10.5f}")
    print(f"files read for a proof: {len(read) / PROOFS:.1f}; target: under {TARGET_MS:.0f} ms to make one\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        appends(Path(name))
        proofs(Path(name) / "tree")


if __name__ == "__main__":
    main()
