"""One SQLite file: WAL, so that the server reads while commands write.

One lock around one connection: a process uses one lane.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from cellward.core.errors import Code, FormatRefused, Unavailable

APPLICATION_ID = 0x43454C57  # "CELW"
SCHEMA_VERSION = 4
BUSY_SECONDS = 5.0

Row = tuple[object, ...]
T = TypeVar("T")


class Database:
    """The file `path`, which is made (mode 0600: the inventory is private) if absent.

    Raises Unavailable (storage.database), also when the file is something else or newer than this.
    """

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._lock = threading.RLock()
        with self._wrapped():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
        try:
            with self._wrapped():
                self._prepare()
        except Unavailable:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock, self._wrapped():
            self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA trusted_schema = OFF")
        if self._missing():
            with self._writing():  # of two processes that open an old file at once, one makes the schema
                for version in self._missing():
                    self._step(version)
        application, version, _ = self._marks()
        if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise self._unavailable(
                f"application {application:#x}, schema {version}",
                expected=f"application {APPLICATION_ID:#x}, schema {SCHEMA_VERSION}",
            )

    def _marks(self) -> tuple[int, int, int]:
        """Whose file this is, its schema's version, how many objects it has."""
        questions = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
        application, version, objects = (self._db.execute(q).fetchone()[0] for q in questions)
        return application, version, objects

    def _missing(self) -> range:
        """The versions of the schema that this file has not been brought to yet, if it is ours or new."""
        application, version, objects = self._marks()
        ours = application == APPLICATION_ID or (application, version, objects) == (0, 0, 0)
        return range(version + 1, SCHEMA_VERSION + 1) if ours else range(0)

    def _step(self, version: int) -> None:
        # executescript would commit first; the schema must appear whole or not at all.
        statement = ""
        schema = files("cellward.adapters.sql").joinpath(f"schema-{version}.sql")
        for line in schema.read_text().splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self._db.execute(statement)
                statement = ""
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {version}")

    def _unavailable(self, found: str, expected: str = "") -> Unavailable:
        return Unavailable(Code.DATABASE_FAILED, str(self._path), expected=expected, found=found)

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(str(error) or type(error).__name__) from error
        except FormatRefused as error:  # nothing but well-formed values is ever written
            raise self._unavailable(f"damaged: {error}") from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot for several reads."""
        with self._lock, self._wrapped(), self._db:
            self._db.execute("BEGIN")
            yield self._db

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        with self._lock, self._wrapped():
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db

    def _all(self, make: Callable[[Row], T], query: str, *values: object) -> list[T]:
        with self._lock, self._wrapped():
            return [make(row) for row in self._db.execute(query, values)]

    def _one(self, make: Callable[[Row], T], query: str, *values: object) -> T | None:
        return next(iter(self._all(make, query, *values)), None)


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def typed(kind: type[T], value: object) -> T:
    """The schema is STRICT, so a column holds its type, or the file is damaged."""
    if not isinstance(value, kind):
        raise sqlite3.DatabaseError(f"damaged: a column holds {type(value).__name__}, not {kind.__name__}")
    return value


def time(value: object) -> datetime:
    return datetime.fromtimestamp(typed(int, value), UTC)
