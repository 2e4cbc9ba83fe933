"""The registry in one SQLite file: WAL, so that the server reads while commands write.

One lock around one connection: a process uses one lane. What must survive a power cut (tokens used,
revocations, Director versions) is synced at commit; a report is not, because losing the last
second of them costs nothing that the next poll does not bring back.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused, Unavailable
from cellward.core.keys import PublicKey
from cellward.core.metadata.target import Ecu, Target
from cellward.ports.registry import Certificate, Issue, Order, Report, Token, Vehicle

APPLICATION_ID = 0x43454C57  # "CELW"
SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0
KEPT_ISSUES = 2

_CERTIFICATE = "SELECT serial, vehicle_id, public_key, not_after, revoked FROM certificate"
_ORDERS = (
    "SELECT ecu_id, target, length, sha256, hardware_ids, stage, version, release_counter FROM assignment "
    "WHERE vehicle_id = ? ORDER BY ecu_id"
)
_NEWEST_ISSUE = "SELECT * FROM issue WHERE vehicle_id = ? ORDER BY version DESC LIMIT 1"

Row = tuple[object, ...]
T = TypeVar("T")


class SqliteRegistry:
    """A Registry in the file `path`, which is made (mode 0600: the inventory is private) if absent.

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

    def __enter__(self) -> "SqliteRegistry":
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
        if self._marks() == (0, 0, 0):
            with self._writing():  # of two processes that open a new file at once, one makes the schema
                if self._marks() == (0, 0, 0):
                    self._create()
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

    def _create(self) -> None:
        # executescript would commit first; the schema must appear whole or not at all.
        statement = ""
        for line in files("cellward.adapters").joinpath("registry.sql").read_text().splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self._db.execute(statement)
                statement = ""
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

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

    # --- enrolment

    def add_token(self, token: Token) -> None:
        with self._writing() as db:
            db.execute(
                "INSERT INTO token (digest, vehicle_id, expires) VALUES (?, ?, ?)",
                (token.digest, token.vehicle_id, _seconds(token.expires)),
            )

    def token(self, digest: bytes) -> Token | None:
        return self._one(
            _token, "SELECT digest, vehicle_id, expires, used FROM token WHERE digest = ?", digest
        )

    def enrol(
        self, digest: bytes, certificate: Certificate, ecus: Sequence[Ecu], enrolled: datetime
    ) -> Vehicle:
        vehicle_id = certificate.vehicle_id
        with self._writing() as db:
            used = db.execute(
                "UPDATE token SET used = 1 WHERE digest = ? AND vehicle_id = ? AND used = 0",
                (digest, vehicle_id),
            )
            if used.rowcount != 1:
                raise TrustRefused(
                    Code.ENROL_TOKEN, "enrolment token", expected="one that is not used yet", found="another"
                )
            db.execute(
                "INSERT INTO vehicle VALUES (?, ?, 1) "
                "ON CONFLICT DO UPDATE SET enrolled = excluded.enrolled, revision = revision + 1",
                (vehicle_id, _seconds(enrolled)),
            )
            _replace_ecus(db, vehicle_id, ecus)
            _add_certificate(db, certificate)
        vehicle = self.vehicle(vehicle_id)
        assert vehicle is not None  # noqa: S101  it was written above, and no vehicle is ever deleted
        return vehicle

    # --- identity

    def certificate(self, serial: str) -> Certificate | None:
        return self._one(_certificate, f"{_CERTIFICATE} WHERE serial = ?", serial)

    def certificates(self, vehicle_id: str) -> tuple[Certificate, ...]:
        return tuple(
            self._all(_certificate, f"{_CERTIFICATE} WHERE vehicle_id = ? ORDER BY number DESC", vehicle_id)
        )

    def revoke(self, vehicle_id: str) -> int:
        with self._writing() as db:
            return db.execute(
                "UPDATE certificate SET revoked = 1 WHERE vehicle_id = ? AND revoked = 0", (vehicle_id,)
            ).rowcount

    def vehicle(self, vehicle_id: str) -> Vehicle | None:
        rows = self._all(
            tuple,
            "SELECT v.enrolled, v.revision, e.ecu_id, e.hardware_id FROM vehicle v "
            "LEFT JOIN ecu e USING (vehicle_id) WHERE v.vehicle_id = ? ORDER BY e.ecu_id",
            vehicle_id,
        )
        if not rows:
            return None
        ecus = tuple(
            Ecu(_as(str, ecu), _as(str, hardware)) for _, _, ecu, hardware in rows if ecu is not None
        )
        return Vehicle(vehicle_id, _time(rows[0][0]), _as(int, rows[0][1]), ecus)

    def vehicle_ids(self) -> Iterator[str]:
        return iter(
            self._all(lambda row: _as(str, row[0]), "SELECT vehicle_id FROM vehicle ORDER BY vehicle_id")
        )

    # --- orders

    def assign(self, vehicle_id: str, orders: Sequence[Order]) -> int:
        with self._writing() as db:
            row = db.execute("SELECT revision FROM vehicle WHERE vehicle_id = ?", (vehicle_id,)).fetchone()
            if row is None:
                raise PolicyRefused(
                    Code.VEHICLE_UNKNOWN,
                    f"vehicle {vehicle_id}",
                    expected="an enrolled vehicle",
                    found="none",
                )
            before = _orders(db, vehicle_id)
            for order in orders:
                _replace_order(db, vehicle_id, order)
            revision = _as(int, row[0])
            if _orders(db, vehicle_id) != before:
                revision += 1
                db.execute("UPDATE vehicle SET revision = ? WHERE vehicle_id = ?", (revision, vehicle_id))
        return revision

    def orders(self, vehicle_id: str) -> tuple[int, tuple[Order, ...]]:
        with self._reading() as db:
            row = db.execute("SELECT revision FROM vehicle WHERE vehicle_id = ?", (vehicle_id,)).fetchone()
            return (_as(int, row[0]) if row else 0), _orders(db, vehicle_id)

    # --- reports

    def record(self, serial: str, report: Report) -> None:
        values = (report.counter, _seconds(report.received), report.content, report.body)
        with self._writing(durable=False) as db:
            row = db.execute(
                "SELECT counter FROM certificate WHERE serial = ? AND vehicle_id = ?",
                (serial, report.vehicle_id),
            ).fetchone()
            if row is None:
                raise TrustRefused(
                    Code.TLS_CLIENT_CERTIFICATE, "report", expected="a registered certificate", found="none"
                )
            if report.counter <= _as(int, row[0]):
                raise TrustRefused(
                    Code.REPORT_REPLAYED,
                    f"report of {report.vehicle_id}",
                    expected=f"a counter above {row[0]}",
                    found=f"{report.counter}",
                )
            db.execute("UPDATE certificate SET counter = ? WHERE serial = ?", (report.counter, serial))
            last = db.execute(
                "SELECT content FROM last_report WHERE vehicle_id = ?", (report.vehicle_id,)
            ).fetchone()
            db.execute(
                "INSERT OR REPLACE INTO last_report VALUES (?, ?, ?, ?, ?)", (report.vehicle_id, *values)
            )
            if last is None or last[0] != report.content:
                db.execute(
                    "INSERT INTO history (vehicle_id, counter, received, content, body) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (report.vehicle_id, *values),
                )

    def last_report(self, vehicle_id: str) -> Report | None:
        return self._one(
            _report,
            "SELECT vehicle_id, counter, received, content, body FROM last_report WHERE vehicle_id = ?",
            vehicle_id,
        )

    def history(self, vehicle_id: str) -> tuple[Report, ...]:
        return tuple(
            self._all(
                _report,
                "SELECT vehicle_id, counter, received, content, body FROM history "
                "WHERE vehicle_id = ? ORDER BY number",
                vehicle_id,
            )
        )

    # --- what the Director signed

    def issue(self, vehicle_id: str) -> Issue | None:
        return self._one(_issue, _NEWEST_ISSUE, vehicle_id)

    def add_issue(self, issue: Issue) -> Issue:
        with self._writing() as db:
            row = db.execute(_NEWEST_ISSUE, (issue.vehicle_id,)).fetchone()
            newest = _issue(row) if row else None
            if issue.version != (newest.version if newest else 0) + 1:
                if newest is None:
                    raise self._unavailable(f"version {issue.version} of no vehicle", expected="version 1")
                return newest
            db.execute(
                "INSERT INTO issue VALUES (:vehicle_id, :version, :revision, :signed_by, :renew_after, "
                ":targets, :snapshot, :timestamp)",
                {**asdict(issue), "renew_after": _seconds(issue.renew_after)},
            )
            db.execute(
                "DELETE FROM issue WHERE vehicle_id = ? AND version <= ?",
                (issue.vehicle_id, issue.version - KEPT_ISSUES),
            )
        return issue

    def issue_at(self, vehicle_id: str, version: int) -> Issue | None:
        return self._one(
            _issue, "SELECT * FROM issue WHERE vehicle_id = ? AND version = ?", vehicle_id, version
        )


def _replace_ecus(db: sqlite3.Connection, vehicle_id: str, ecus: Sequence[Ecu]) -> None:
    for ecu in ecus:
        row = db.execute("SELECT vehicle_id, hardware_id FROM ecu WHERE ecu_id = ?", (ecu.ecu_id,)).fetchone()
        if row is not None and row[0] != vehicle_id:
            raise PolicyRefused(
                Code.ENROL_ECU,
                f"ECU {ecu.ecu_id}",
                expected="one that no other vehicle registered",
                found="one of another vehicle",
            )
        if row is not None and row[1] != ecu.hardware_id:  # its orders were for other hardware
            db.execute("DELETE FROM ecu WHERE ecu_id = ?", (ecu.ecu_id,))
        db.execute(
            "INSERT INTO ecu VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (ecu.ecu_id, vehicle_id, ecu.hardware_id),
        )
    keep = json.dumps([ecu.ecu_id for ecu in ecus])
    db.execute(
        "DELETE FROM ecu WHERE vehicle_id = ? AND ecu_id NOT IN (SELECT value FROM json_each(?))",
        (vehicle_id, keep),
    )


def _add_certificate(db: sqlite3.Connection, certificate: Certificate) -> None:
    db.execute("UPDATE certificate SET revoked = 1 WHERE vehicle_id = ?", (certificate.vehicle_id,))
    db.execute(
        "INSERT INTO certificate (serial, vehicle_id, public_key, not_after, counter) "
        "VALUES (:serial, :vehicle_id, :spki, :not_after, coalesce((SELECT max(counter) FROM certificate "
        "WHERE vehicle_id = :vehicle_id AND public_key = :spki), -1))",
        {
            "serial": certificate.serial,
            "vehicle_id": certificate.vehicle_id,
            "spki": certificate.public_key.spki,
            "not_after": _seconds(certificate.not_after),
        },
    )


def _orders(db: sqlite3.Connection, vehicle_id: str) -> tuple[Order, ...]:
    rows = db.execute(_ORDERS, (vehicle_id,))
    return tuple(
        Order(ecu_id, Target(name, length, sha256, tuple(hardware.split(",")), stage, version, counter))
        for ecu_id, name, length, sha256, hardware, stage, version, counter in rows
    )


def _replace_order(db: sqlite3.Connection, vehicle_id: str, order: Order) -> None:
    owner = db.execute("SELECT vehicle_id FROM ecu WHERE ecu_id = ?", (order.ecu_id,)).fetchone()
    if owner is None or owner[0] != vehicle_id:
        raise PolicyRefused(
            Code.TARGET_ECU, f"ECU {order.ecu_id}", expected=f"an ECU of {vehicle_id}", found="none"
        )
    db.execute(
        "INSERT OR REPLACE INTO assignment VALUES (:ecu_id, :vehicle_id, :name, :length, :sha256, "
        ":hardware_ids, :stage, :version, :release_counter)",
        {
            **asdict(order.target),
            "ecu_id": order.ecu_id,
            "vehicle_id": vehicle_id,
            "hardware_ids": ",".join(order.target.hardware_ids),
        },
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _as(kind: type[T], value: object) -> T:
    """The schema is STRICT, so a column holds its type, or the file is damaged."""
    if not isinstance(value, kind):
        raise sqlite3.DatabaseError(f"damaged: a column holds {type(value).__name__}, not {kind.__name__}")
    return value


def _time(value: object) -> datetime:
    return datetime.fromtimestamp(_as(int, value), UTC)


def _token(row: Row) -> Token:
    digest, vehicle_id, expires, used = row
    return Token(_as(bytes, digest), _as(str, vehicle_id), _time(expires), bool(used))


def _certificate(row: Row) -> Certificate:
    serial, vehicle_id, spki, not_after, revoked = row
    key = PublicKey(_as(bytes, spki))
    return Certificate(_as(str, serial), _as(str, vehicle_id), key, _time(not_after), bool(revoked))


def _report(row: Row) -> Report:
    vehicle_id, counter, received, content, body = row
    return Report(
        _as(str, vehicle_id), _as(int, counter), _time(received), _as(bytes, content), _as(bytes, body)
    )


def _issue(row: Row) -> Issue:
    vehicle_id, version, revision, signed_by, renew_after, targets, snapshot, timestamp = row
    return Issue(
        vehicle_id=_as(str, vehicle_id),
        version=_as(int, version),
        revision=_as(int, revision),
        signed_by=_as(str, signed_by),
        renew_after=_time(renew_after),
        targets=_as(bytes, targets),
        snapshot=_as(bytes, snapshot),
        timestamp=_as(bytes, timestamp),
    )
