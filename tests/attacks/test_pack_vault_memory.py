"""What a living process has of a vault in its memory: looked through from outside, byte by byte."""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cellward.device.vault import opened
from tests.support.packtpm import SwtpmDevice
from tests.support.vault import FIRST, Pack

VALUE = secrets.token_bytes(3000)
PIECES = (VALUE[:16], VALUE[1500:1516], VALUE[-16:])


@dataclass
class Seen:
    """The memory at each stop, and what was printed; the vault key before and afterwards."""

    memory: dict[str, bytes] = field(default_factory=dict)
    printed: bytes = b""
    first_key: bytes = b""
    last_key: bytes = b""

    def count(self, stop: str, needle: bytes) -> int:
        return self.memory[stop].count(needle)


@pytest.fixture(
    scope="module", params=[("put",), ("put", "get", "refused", "export"), ("put", "get", "rotate")]
)
def seen(request: pytest.FixtureRequest, made_tpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder, found = tmp_path_factory.mktemp("pack"), Seen()
    shutil.copytree(made_tpm, folder / "tpm")
    (folder / "secret").write_bytes(VALUE)
    with running(folder) as pack:
        pack.make()
        found.first_key = key_of(pack)
    command = [sys.executable, "-m", "tests.support.vaultprocess", folder, folder / "secret", *request.param]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        for line in process.stdout:
            found.printed += line
            found.memory[line.decode().strip()] = memory_of(process.pid)
            process.stdin.write(b"\n")
            process.stdin.flush()
        found.printed += process.stderr.read()
    assert process.returncode == 0, found.printed
    with running(folder) as pack:
        pack.device.tpm.pcr_extend(8, FIRST)
        found.last_key = key_of(pack)
    return found


@contextmanager
def running(folder: Path) -> Iterator[Pack]:
    pack = Pack(SwtpmDevice(folder / "tpm"), folder / "state")
    yield pack
    pack.device.off()


def key_of(pack: Pack) -> bytes:
    with opened(pack.place) as vault:
        return bytes(vault._key)


def memory_of(pid: int) -> bytes:
    """All that the process could write to."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in where.split("-"))
                memory.seek(start)
                parts.append(memory.read(end - start))
    return b"\0".join(parts)


def test_while_it_is_held_there_is_one_of_each(seen: Seen) -> None:
    """That shows, too, that the search finds what is there."""
    last = [stop for stop in seen.memory if stop not in ("given back", "closed", "off")][-1]
    assert seen.count(last, seen.last_key) == 1
    expected = 1 if "get" in seen.memory else 0
    assert [seen.count(last, piece) for piece in PIECES] == [expected] * 3


def test_given_back_no_piece_of_a_value_is_left(seen: Seen) -> None:
    for stop in ("given back", "closed", "off"):
        assert [seen.count(stop, piece) for piece in PIECES] == [0] * 3, stop


def test_closed_no_half_of_a_key_is_left(seen: Seen) -> None:
    for key in (seen.first_key, seen.last_key):
        for half in (key[:16], key[16:]):
            assert [seen.count(stop, half) for stop in ("closed", "off")] == [0, 0]


def test_a_rotated_key_is_gone_at_once(seen: Seen) -> None:
    if "rotate" in seen.memory:
        assert seen.first_key != seen.last_key
        assert seen.count("rotate", seen.first_key) == 0
    else:
        assert seen.first_key == seen.last_key


def test_nothing_of_it_is_printed(seen: Seen) -> None:
    if "refused" in seen.memory:
        assert b"vault.format" in seen.printed
    for piece in (*PIECES, seen.last_key):
        assert piece not in seen.printed
        assert piece.hex().encode() not in seen.printed
        assert repr(piece)[2:-1].encode() not in seen.printed
