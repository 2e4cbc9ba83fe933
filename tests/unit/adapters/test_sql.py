"""SQLite underneath: damage, locks, a full disk, a process that is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from cellward.adapters.sql import SCHEMA_VERSION, SqliteRegistry
from cellward.adapters.sql.database import APPLICATION_ID
from cellward.core.errors import Code, TrustRefused, Unavailable
from cellward.ports.registry import Report, Token
from tests.support.maker import NOW, Hand, enrol


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "cellward.db"


def refusal(path: Path) -> Unavailable:
    with pytest.raises(Unavailable) as refused:
        SqliteRegistry(path)
    assert refused.value.code is Code.DATABASE_FAILED
    return refused.value


def test_the_file_is_its_owners_alone(path: Path) -> None:
    SqliteRegistry(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_processes_share_it(path: Path) -> None:
    one, two = SqliteRegistry(path), SqliteRegistry(path)
    enrol(one)
    vehicle = two.vehicle("PACK-1")
    two.revoke("PACK-1")
    assert vehicle is not None
    assert one.certificates("PACK-1")[0].revoked
    one.close()
    two.close()


@pytest.mark.parametrize("data", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_something_else(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    refusal(path)
    assert path.read_bytes() == data


def test_somebody_elses_database(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    assert "application 0x0" in refusal(path).found


def test_a_newer_schema(path: Path) -> None:
    SqliteRegistry(path).close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    newer.close()
    assert f"schema {SCHEMA_VERSION + 1}" in refusal(path).found


def test_a_file_of_the_first_version_is_brought_up(path: Path) -> None:
    path.parent.mkdir()
    old = sqlite3.connect(path)
    old.executescript(files("cellward.adapters.sql").joinpath("schema-1.sql").read_text())
    old.executescript("INSERT INTO vehicle VALUES ('PACK-1', 5, 3);")
    old.execute(
        "INSERT INTO certificate (serial, vehicle_id, public_key, not_after, counter) VALUES (?, ?, ?, ?, ?)",
        ("5e", "PACK-1", Hand().public_key.spki, 9, 7),
    )
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()
    for _ in range(2):
        registry = SqliteRegistry(path)
        (certificate,) = registry.certificates("PACK-1")
        assert (certificate.serial, certificate.recovery) == ("5e", False)
        with pytest.raises(TrustRefused):
            registry.record("5e", Report("PACK-1", 7, NOW, b"c", b"b"))
        assert registry.attestation("PACK-1") is None
        registry.close()


def test_a_folder_where_the_file_should_be(path: Path) -> None:
    path.mkdir(parents=True)
    refusal(path)


def test_a_locked_database_is_unavailable_and_nothing_is_half_done(path: Path) -> None:
    registry = SqliteRegistry(path, busy_seconds=0.05)
    enrol(registry)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as refused:
        registry.revoke("PACK-1")
    assert refused.value.code is Code.DATABASE_FAILED
    assert not registry.certificates("PACK-1")[0].revoked  # reading goes on
    blocker.execute("ROLLBACK")
    blocker.close()
    assert registry.revoke("PACK-1") == 1
    registry.close()


def test_a_full_database_is_unavailable_and_serves_on(path: Path) -> None:
    registry = SqliteRegistry(path)
    enrol(registry)
    pages = registry._db.execute("PRAGMA page_count").fetchone()[0]
    registry._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Unavailable) as refused:
        registry.record("5e", Report("PACK-1", 1, NOW, b"c", b"x" * 100_000))
    assert (refused.value.code, "full" in refused.value.found) == (Code.DATABASE_FAILED, True)
    assert registry.last_report("PACK-1") is None
    registry._db.execute("PRAGMA max_page_count = 100000")
    registry.record("5e", Report("PACK-1", 1, NOW, b"c", b"x" * 100_000))
    registry.close()


def test_a_damaged_page_is_unavailable(path: Path) -> None:
    registry = SqliteRegistry(path)
    for number in range(50):
        registry.add_token(Token(number.to_bytes(32, "big"), "PACK-1", NOW))
    registry.close()
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    registry = SqliteRegistry(path)
    for act in (
        lambda: registry.token(b"\0" * 32),
        lambda: list(registry.vehicle_ids()),
        lambda: enrol(registry),
    ):
        with pytest.raises(Unavailable) as refused:
            act()
        assert refused.value.code is Code.DATABASE_FAILED
    registry.close()


def test_a_key_that_is_none_is_damage(path: Path) -> None:
    registry = SqliteRegistry(path)
    enrol(registry)
    registry._db.execute("UPDATE certificate SET public_key = x'00'")
    with pytest.raises(Unavailable) as refused:
        registry.certificate("5e")
    assert "damaged" in refused.value.found
    registry.close()


def test_history_cannot_be_rewritten(path: Path) -> None:
    registry = SqliteRegistry(path)
    enrol(registry)
    registry.record("5e", Report("PACK-1", 1, NOW, b"c", b"body"))
    for statement in ("UPDATE history SET body = x'00'", "DELETE FROM history"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            registry._db.execute(statement)
    assert len(registry.history("PACK-1")) == 1
    registry.close()


WRITER = """
import sys
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from cellward.adapters.sql import SqliteRegistry
from cellward.ports.registry import Report
from tests.support.maker import NOW
registry = SqliteRegistry(Path(sys.argv[1]))
counter = 0
while True:
    counter += 1
    received = NOW + timedelta(seconds=counter)
    registry.record("5e", Report("PACK-1", counter, received, b"%d" % counter, b"x" * 5000))
    print(counter, flush=True)
"""


def test_killed_while_writing_it_keeps_whole_reports(path: Path) -> None:
    registry = SqliteRegistry(path)
    enrol(registry)
    registry.close()
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert writer.stdout is not None
    told = 0
    while told < 100:
        told = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    told = max([told, *(int(line) for line in writer.stdout.read().split() if line.isdigit())])
    writer.wait()
    writer.stdout.close()
    registry = SqliteRegistry(path)
    last = registry.last_report("PACK-1")
    assert last is not None
    assert last.counter in (told, told + 1)
    assert last.received == NOW + timedelta(seconds=last.counter)
    assert [r.counter for r in registry.history("PACK-1")] == list(range(1, last.counter + 1))
    assert registry._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    registry.close()
