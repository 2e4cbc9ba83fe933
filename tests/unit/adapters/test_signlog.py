"""The signing log on a disk: what was acknowledged is there, whatever is cut, killed, full or edited."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from cellward import bootstrap
from cellward.adapters.files import write_file
from cellward.adapters.signlog import FolderLog
from cellward.core.errors import CellwardError, Code, TrustRefused, Unavailable
from cellward.core.keys import Algorithm
from cellward.core.log import checkpoint, journal
from cellward.core.log.audit import Audited, audit, find
from cellward.core.log.checkpoint import Checkpoint
from cellward.core.log.entry import decode
from cellward.core.log.merkle import leaf_hash, tree_hash, verify_inclusion
from cellward.core.log.tiles import decode_bundle, encode_bundle
from cellward.ports.signinglog import SigningLog
from cellward.sign.checkpoint import seal
from tests.support.maker import Hand
from tests.unit.core.log.test_entry import make

HAND = Hand.of(Algorithm.ED25519)


def entries(count: int, first: int = 0) -> list[bytes]:
    return [make(subject=f"image {number}").encode() for number in range(first, first + count)]


def everything(log: SigningLog) -> list[bytes]:
    seen = log.snapshot()
    return [entry for index in range(-(-seen.size // 256)) for entry in seen.bundle(index)]


def head_of(log: SigningLog) -> Checkpoint:
    data = log.checkpoint()
    assert data is not None
    return checkpoint.verify(data, HAND.public_key, "test")


def verify(log: SigningLog, *heads: Checkpoint) -> Audited:
    return audit(log.snapshot(), heads)


def unlocked(folder: Path) -> SigningLog:
    """Without the lock's file: for tests that are alone."""
    return FolderLog(folder, nullcontext, write_file)


@pytest.fixture
def log(tmp_path: Path) -> SigningLog:
    return bootstrap.log_of(tmp_path / "home" / "signing-log")


# --- appending ---


def test_entries_are_in_order_and_numbered(log: SigningLog) -> None:
    assert log.append(entries(3)) == 0
    assert log.append(entries(1, 3)) == 3
    assert log.append([]) == 4
    assert everything(log) == entries(4)
    assert everything(bootstrap.log_of(log.folder)) == entries(4)


@pytest.mark.parametrize("batch", [7, 255, 256, 257, 1000])
def test_batches_across_bundles(tmp_path: Path, batch: int) -> None:
    log = unlocked(tmp_path / "log")
    wanted = entries(1030)
    for first in range(0, 1030, batch):
        assert log.append(wanted[first : first + batch]) == first
    log.append([])
    assert everything(log) == wanted
    found = verify(log)
    assert (found.size, found.root) == (1030, tree_hash([leaf_hash(entry) for entry in wanted]))
    assert (log.folder / "tile/entries/003").is_file()
    assert not list(log.folder.rglob("000.p"))[1:]  # of level 1, the only one that is unfinished


def test_a_log_in_two_hands_is_one_log(log: SigningLog) -> None:
    other = bootstrap.log_of(log.folder)
    for number in range(300):
        assert (log, other)[number % 2].append(entries(1, number)) == number
    assert everything(log) == entries(300)
    verify(log)


def test_signers_race_in_threads(log: SigningLog) -> None:
    logs = [log, bootstrap.log_of(log.folder)]
    wanted = entries(64)
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(lambda number: logs[number % 2].append([wanted[number]]), range(64)))
    held = everything(log)
    assert sorted(places) == list(range(64))
    assert [held[place] for place in places] == wanted


def test_signers_race_in_processes(log: SigningLog) -> None:
    script = (
        "import sys; from pathlib import Path; from cellward import bootstrap\n"
        "from tests.unit.core.log.test_entry import make\n"
        "log = bootstrap.log_of(Path(sys.argv[1]))\n"
        "for number in range(140): print(log.append([make(subject=f'{sys.argv[2]} {number}').encode()]))"
    )
    command = [sys.executable, "-c", script, str(log.folder)]
    racing = [subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in ("one", "two")]
    places = [[int(line) for line in each.communicate()[0].split()] for each in racing]
    assert sorted(places[0] + places[1]) == list(range(280))
    held = everything(log)
    for name, mine in zip(("one", "two"), places, strict=True):
        assert [decode(held[place], "test").subject for place in mine] == [f"{name} {n}" for n in range(140)]


def test_another_holder_of_the_lock_is_said(tmp_path: Path) -> None:
    from cellward.adapters.lock import file_lock

    path = tmp_path / "lock"
    log = FolderLog(tmp_path / "log", lambda: file_lock(path, patience=0.05), write_file)
    with file_lock(path), pytest.raises(Unavailable) as error:
        log.append(entries(1))
    assert error.value.code is Code.STORAGE_BUSY
    assert not log.folder.exists()


# --- cuts: at every operation, and by kill -9 ---


class Cut(BaseException):
    """The power is gone: nothing in the program may go on."""


class Power:
    """Counts what is done to the disk and cuts before, in the middle of, or after operation `at`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = -1
        self.done = 0
        monkeypatch.setattr(os, "pwrite", self._halved(os.pwrite))
        monkeypatch.setattr(os, "fsync", self._counted(lambda _: None))  # the cut is ours alone
        monkeypatch.setattr(os, "ftruncate", self._counted(os.ftruncate))
        monkeypatch.setattr(shutil, "rmtree", self._counted(shutil.rmtree))
        self.write = self._counted(write_file)

    def _tick(self) -> bool:
        self.done += 1
        if self.at >= 0 and self.done > self.at + 1:
            raise Cut  # an `except` or `finally` went on after the cut: nothing reaches the disk
        return self.done == self.at + 1

    def _counted(self, does: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self._tick():
                raise Cut
            return does(*args, **kwargs)

        return counted

    def _halved(self, pwrite: Callable[[int, bytes, int], int]) -> Callable[[int, bytes, int], int]:
        def halved(handle: int, data: bytes, at: int) -> int:
            if self._tick():
                pwrite(handle, data[: len(data) // 2], at)
                raise Cut
            return pwrite(handle, data, at)

        return halved


def test_a_cut_at_every_operation_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that fill bundles, a checkpoint between them, and again after each cut."""
    power = Power(monkeypatch)
    batches = [entries(250), entries(10, 250), entries(300, 260), entries(1, 560), entries(1, 561)]

    def run(folder: Path) -> list[bytes]:
        """What was acknowledged before the cut."""
        log = FolderLog(folder, nullcontext, power.write)
        out: list[bytes] = []
        try:
            for batch in batches:
                log.append(batch)
                out += batch
                if len(out) == 560:
                    seal(log, HAND)
        except Cut:
            pass
        return out

    run(tmp_path / "whole")
    total = power.done
    assert total > 40
    for at in range(total):
        power.at, power.done = at, 0
        folder = tmp_path / f"{at}"
        acknowledged = run(folder)
        power.at = -1
        log = unlocked(folder)
        log.append(entries(1, 900))
        held = everything(log)
        assert held[: len(acknowledged)] == acknowledged, at
        assert held[-1] == entries(1, 900)[0]
        rest = [entry for batch in batches for entry in batch][len(acknowledged) :]
        assert held[len(acknowledged) : -1] in ([], rest[: len(held) - len(acknowledged) - 1]), at
        log.append(entries(256, 1000))
        log.append([])
        seal(log, HAND)  # refused, if the one before were not in it
        verify(log, head_of(log))
        shutil.rmtree(folder)


KILLED = r"""
import sys
from pathlib import Path
from cellward import bootstrap
from cellward.core.keys import PublicKey
from cellward.ports.signer import Role
from cellward.config import Home
from tests.support.maker import Hand

home, hand = Home(Path(sys.argv[1])), Hand()
out = sys.stdout.buffer
signer = bootstrap.logged(home, hand, Role.FIRMWARE, "image", "killed")
out.write(b"ready\n"); out.flush()
number = int(sys.argv[2])
while True:
    number += 1
    digest = number.to_bytes(32, "big")
    signer.sign(digest)
    out.write(digest.hex().encode() + b"\n"); out.flush()
"""


def test_kill_9_loses_no_entry_whose_signature_came_out(tmp_path: Path) -> None:
    log = bootstrap.log_of(tmp_path / "signing-log")
    released: list[str] = []
    for attempt in range(10):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(attempt << 32)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            released += [child.stdout.readline().decode().strip() for _ in range(1 + 4 * attempt)]
            time.sleep(attempt * 0.0003)  # into another part of the next one, each time
            child.send_signal(signal.SIGKILL)
            released += [line.decode() for line in child.communicate()[0].split()]
    held = [decode(entry, "test").signed for entry in everything(log)]
    assert len(released) >= 190
    assert [signed for signed in held if signed in set(released)] == released
    assert len(held) - len(released) <= 10  # intents whose signature was never out
    verify(log)


def test_a_torn_frame_is_dropped_and_overwritten(log: SigningLog) -> None:
    log.append(entries(2))
    path = log.folder / "journal"
    whole = path.read_bytes()
    path.write_bytes(whole + journal.encode_frame(2, entries(9, 2))[:-1])
    assert everything(log) == entries(2)
    log.append(entries(1, 9))
    assert path.read_bytes() == whole + journal.encode_frame(2, entries(1, 9))


def test_the_intent_is_synced_before_the_key_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellward.config import Home
    from cellward.ports.signer import Role

    done: list[str] = []

    class Recorded(Hand):
        def sign(self, data: bytes) -> bytes:
            done.append("sign")
            return super().sign(data)

    signer = bootstrap.logged(Home(tmp_path), Recorded(), Role.FIRMWARE, "image", "order")
    signer.sign(bytes(32))
    done.clear()
    pwrite, fsync = os.pwrite, os.fsync

    def write(handle: int, data: bytes, at: int) -> int:
        done.append("write")
        return pwrite(handle, data, at)

    def sync(handle: int) -> None:
        done.append("sync")
        fsync(handle)

    monkeypatch.setattr(os, "pwrite", write)
    monkeypatch.setattr(os, "fsync", sync)
    signer.sign(bytes(32))
    assert done == ["write", "sync", "sign"]


def test_a_batch_is_whole_in_the_log_before_its_first_signature(tmp_path: Path) -> None:
    from cellward.sign.logged import LoggedSigner, Purpose

    log, hand = unlocked(tmp_path / "log"), Hand()
    signer = LoggedSigner(hand, log, "firmware", Purpose("image", ""), lambda: make().time)
    items = [(bytes([number]) * 32, f"image {number}") for number in range(5)]
    signatures = signer.sign_all(items)
    assert hand.signatures == 0
    assert [decode(entry, "test").subject for entry in everything(log)] == [text for _, text in items]
    for (digest, _), signature in zip(items, signatures, strict=True):
        hand.public_key.verify(digest, signature, code=Code.IMAGE_SIGNATURE, subject="test")
    assert hand.signatures == 5


# --- a disk that is full, gone or not ours ---


@contextmanager
def file_size(limit: int) -> Iterator[None]:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_signs_nothing_and_loses_nothing(tmp_path: Path) -> None:
    from cellward.config import Home
    from cellward.ports.signer import Role

    home, hand = Home(tmp_path), Hand()
    signer = bootstrap.logged(home, hand, Role.FIRMWARE, "image", "full")
    signer.sign(bytes(32))
    path = home.signing_log / "journal"
    before = path.read_bytes()
    with file_size(len(before) + 100), pytest.raises(Unavailable) as error:
        signer.sign(bytes(32))
    assert error.value.code is Code.STORAGE_FULL
    assert hand.signatures == 1
    assert path.read_bytes() == before
    signer.sign(bytes(32))
    assert hand.signatures == 2
    assert len(everything(bootstrap.signing_log(home))) == 2


def test_a_full_disk_while_bundles_are_moved(log: SigningLog) -> None:
    log.append(entries(256))
    with file_size(4000), pytest.raises(Unavailable) as error:
        log.append(entries(1, 256))
    assert error.value.code is Code.STORAGE_FULL
    log.append(entries(1, 256))
    assert everything(log) == entries(257)
    verify(log)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    with pytest.raises(Unavailable) as error:
        unlocked(tmp_path / "log").append(entries(1))
    assert error.value.code is Code.STORAGE_FAILED


def test_a_log_without_its_journal_takes_nothing(log: SigningLog) -> None:
    log.append(entries(1))
    seal(log, HAND)
    (log.folder / "journal").unlink()
    for does in (lambda: log.append(entries(1)), log.snapshot):
        with pytest.raises(TrustRefused) as error:
            does()
        assert error.value.code is Code.LOG_DAMAGED
    assert not (log.folder / "journal").exists()


def test_no_log_is_said(log: SigningLog) -> None:
    with pytest.raises(Unavailable) as error:
        log.snapshot()
    assert error.value.code is Code.LOG_MISSING
    assert not log.folder.exists()


# --- checkpoints and proofs ---


def test_checkpoints_follow_each_other(log: SigningLog) -> None:
    heads: list[Checkpoint] = []
    for number in (1, 30, 255, 1, 400):
        log.append(entries(number, sum(head.size for head in heads[-1:])))
        seal(log, HAND)
        heads.append(head_of(log))
    assert [head.size for head in heads] == [1, 31, 286, 287, 687]
    assert seal(log, HAND) == log.checkpoint()
    assert sorted(path.name for path in log.folder.rglob("*.p")) == ["000.p", "002.p", "002.p"]
    verify(log, *heads)
    for head in heads:
        tree = log.snapshot().tree(head.size)
        index = head.size - 1
        leaf = leaf_hash(log.snapshot().entry(index))
        verify_inclusion(leaf, index, head.size, head.root, tree.inclusion(index), "test")


def test_a_log_that_was_rewritten_gets_no_checkpoint(log: SigningLog) -> None:
    """The held checkpoint is not in the tree any more: the key must not sign a second history."""
    log.append(entries(5))
    before = seal(log, HAND)
    path = log.folder / "journal"
    for changed in ([*entries(4), make(subject="other").encode()], entries(4)):
        path.write_bytes(journal.encode_header(0) + journal.encode_frame(0, changed))
        with pytest.raises(TrustRefused) as error:
            seal(log, HAND)
        assert error.value.code is Code.LOG_PROOF
        assert log.checkpoint() == before


def test_another_key_does_not_go_on(log: SigningLog) -> None:
    log.append(entries(1))
    seal(log, HAND)
    with pytest.raises(TrustRefused) as error:
        seal(log, Hand.of(Algorithm.ED25519))
    assert error.value.code is Code.LOG_SIGNATURE


def test_a_name_is_for_ever(log: SigningLog) -> None:
    log.append(entries(1))
    seal(log, HAND, "example.com/log")
    log.append(entries(1))
    with pytest.raises(CellwardError) as error:
        seal(log, HAND, "example.com/other")
    assert error.value.code is Code.LOG_ORIGIN
    seal(log, HAND)
    assert head_of(log).origin == "example.com/log"


# --- what an auditor finds ---

SIZE = 600


@pytest.fixture
def audited(log: SigningLog) -> tuple[SigningLog, Checkpoint]:
    log.append(entries(SIZE))
    seal(log, HAND)
    return log, head_of(log)


def rewrite(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(encode_bundle(change(decode_bundle(path.read_bytes(), "test"))))


def rewrite_journal(log: SigningLog, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """As somebody does who knows the format: its checksums are right again."""
    path = log.folder / "journal"
    held = journal.decode(path.read_bytes(), "test")
    data = journal.encode_frame(held.start, change(list(held.entries)))
    path.write_bytes(journal.encode_header(held.start) + data)


EDIT = make(subject="edited").encode()
CHANGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "edited": (lambda held: [*held[:40], EDIT, *held[41:]], "edited or deleted"),
    "deleted": (lambda held: [*held[:40], *held[41:]], "edited or deleted"),
    "inserted": (lambda held: [*held[:40], EDIT, *held[40:]], "order was changed"),
    "reordered": (lambda held: [*held[:40], held[41], held[40], *held[42:]], "order was changed"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("bundle", [0, 1])
def test_a_change_in_a_bundle_is_found(
    audited: tuple[SigningLog, Checkpoint], bundle: int, name: str
) -> None:
    log, head = audited
    change, advice = CHANGES[name]
    rewrite(log.folder / f"tile/entries/00{bundle}", change)
    with pytest.raises(TrustRefused) as error:
        verify(log, head)
    assert error.value.code is Code.LOG_ENTRY
    assert error.value.subject == f"entry {bundle * 256 + 40}"
    assert advice in error.value.advice


@pytest.mark.parametrize("name", ["edited", "reordered"])
def test_a_change_in_the_journal_is_found(audited: tuple[SigningLog, Checkpoint], name: str) -> None:
    log, head = audited
    rewrite_journal(log, CHANGES[name][0])
    with pytest.raises(TrustRefused) as error:
        verify(log, head)
    assert (error.value.code, error.value.subject) == (Code.LOG_ENTRY, "entry 552")


def test_a_deleted_entry_in_the_journal_is_a_log_that_is_too_short(
    audited: tuple[SigningLog, Checkpoint],
) -> None:
    log, head = audited
    rewrite_journal(log, CHANGES["deleted"][0])
    with pytest.raises(TrustRefused) as error:
        verify(log, head)
    assert (error.value.code, error.value.subject) == (Code.LOG_TRUNCATED, "entry 599")


def test_the_last_entry_of_a_bundle_that_is_gone(audited: tuple[SigningLog, Checkpoint]) -> None:
    log, head = audited
    rewrite(log.folder / "tile/entries/001", lambda held: held[:-1])
    with pytest.raises(TrustRefused) as error:
        verify(log, head)
    assert (error.value.subject, error.value.found) == ("entry 511", "nothing")


def test_a_whole_bundle_that_is_gone(audited: tuple[SigningLog, Checkpoint]) -> None:
    log, head = audited
    (log.folder / "tile/entries/001").unlink()
    with pytest.raises(TrustRefused) as error:
        verify(log, head)
    assert (error.value.code, error.value.subject) == (Code.LOG_TRUNCATED, "entry 256")


def retile(log: SigningLog, bundle: int) -> None:
    """The level-0 tile made to fit the bundle."""
    held = decode_bundle((log.folder / f"tile/entries/00{bundle}").read_bytes(), "test")
    (log.folder / f"tile/0/00{bundle}").write_bytes(b"".join(leaf_hash(entry) for entry in held))


def test_a_change_with_its_tile_is_found_by_the_tile_above_or_the_root(
    audited: tuple[SigningLog, Checkpoint],
) -> None:
    log, head = audited
    rewrite(log.folder / "tile/entries/001", CHANGES["edited"][0])
    retile(log, 1)
    with pytest.raises(TrustRefused) as error:
        verify(log, head)
    assert (error.value.code, error.value.subject) == (Code.LOG_TILE, "entries 256 to 511")
    for path in log.folder.glob("tile/1/000.p/*"):
        path.unlink()
    with pytest.raises(TrustRefused) as error:
        verify(log, head)
    assert (error.value.code, error.value.subject) == (Code.LOG_CHECKPOINT, "entries 0 to 599")


def test_a_rewritten_log_is_found_by_a_kept_checkpoint_alone(tmp_path: Path) -> None:
    """Everything was made anew, with the log's own key: only what somebody else kept can tell."""
    log, forged = (bootstrap.log_of(tmp_path / name) for name in ("log", "forged"))
    log.append(entries(300))
    seal(log, HAND)
    kept = head_of(log)
    log.append(entries(300, 300))
    forged.append([*entries(10), EDIT, *entries(589, 11)])
    seal(forged, HAND)
    verify(forged, head_of(forged))
    with pytest.raises(TrustRefused) as error:
        verify(forged, kept)
    assert error.value.code is Code.LOG_CHECKPOINT
    assert error.value.subject == "entries 0 to 299"


@pytest.mark.parametrize("tile", ["tile/0/000", "tile/0/001"])
def test_a_tile_that_is_gone_or_short_is_said(audited: tuple[SigningLog, Checkpoint], tile: str) -> None:
    log, head = audited
    path = log.folder / tile
    data = path.read_bytes()
    for damage in (path.unlink, lambda: path.write_bytes(data[:-32])):
        damage()
        with pytest.raises(TrustRefused) as error:
            verify(log, head)
        assert (error.value.code, error.value.subject) == (Code.LOG_TILE, tile)


def test_a_published_copy_is_enough(audited: tuple[SigningLog, Checkpoint], tmp_path: Path) -> None:
    """Checkpoint and static files, without journal and lock: what a web server gives."""
    log, head = audited
    log.append(entries(1, SIZE))
    copy = tmp_path / "copy"
    shutil.copytree(log.folder / "tile", copy / "tile")
    held = bootstrap.log_of(copy)
    assert audit(held.published(head.size), [head]).root == head.root
    rewrite(copy / "tile/entries/002.p/88", CHANGES["edited"][0])
    with pytest.raises(TrustRefused) as error:
        audit(held.published(head.size), [head])
    assert (error.value.code, error.value.subject) == (Code.LOG_ENTRY, "entry 552")
    (copy / "tile/entries/002.p/88").unlink()
    with pytest.raises(TrustRefused) as error:
        held.published(head.size)
    assert error.value.code is Code.LOG_TRUNCATED


def test_a_clock_that_went_back_is_told(log: SigningLog) -> None:
    from datetime import timedelta

    hours = (0, 2, 1, 3)
    log.append([make(time=make().time + timedelta(hours=hour)).encode() for hour in hours])
    assert verify(log).backwards == (2,)


def test_something_else_than_an_entry_is_found(log: SigningLog) -> None:
    log.append([*entries(3), b"no entry"])
    with pytest.raises(CellwardError) as error:
        verify(log)
    assert (error.value.code, error.value.subject) == (Code.LOG_FORMAT, "entry 3")


def test_the_newest_entry_of_a_digest(log: SigningLog) -> None:
    digests = [f"{number:064x}" for number in (1, 2, 1, 3)]
    log.append([make(signed=digest).encode() for digest in digests])
    assert find(log.snapshot(), digests[0]) == 2
    with pytest.raises(Unavailable) as error:
        find(log.snapshot(), "ff" * 32)
    assert error.value.code is Code.LOG_MISSING
