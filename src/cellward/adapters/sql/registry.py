"""The registry in one SQLite file.

What must survive a power cut (tokens used, revocations, Director versions) is synced at commit; a report
is not, because losing the last second of them costs nothing that the next poll does not bring back.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime

from cellward.adapters.sql.attested import AttestedVehicles, add_certificate, replace_attestation
from cellward.adapters.sql.database import Row, seconds, time, typed
from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata.target import Ecu, Target
from cellward.ports.registry import Attestation, Certificate, Issue, Order, Report, Token, Vehicle

KEPT_ISSUES = 2

_CERTIFICATE = "SELECT serial, vehicle_id, public_key, not_after, revoked, recovery FROM certificate"
_ORDERS = (
    "SELECT ecu_id, target, length, sha256, hardware_ids, stage, version, release_counter FROM assignment "
    "WHERE vehicle_id = ? ORDER BY ecu_id"
)
_NEWEST_ISSUE = "SELECT * FROM issue WHERE vehicle_id = ? ORDER BY version DESC LIMIT 1"


class SqliteRegistry(AttestedVehicles):
    """See ports.registry."""

    # --- enrolment

    def add_token(self, *tokens: Token) -> None:
        rows = (
            (token.digest, token.vehicle_id, seconds(token.expires), int(token.software), token.endorsement)
            for token in tokens
        )
        with self._writing() as db:
            db.executemany(
                "INSERT INTO token (digest, vehicle_id, expires, software, endorsement) "
                "VALUES (?, ?, ?, ?, ?)",
                rows,
            )

    def token(self, digest: bytes) -> Token | None:
        return self._one(
            _token,
            "SELECT digest, vehicle_id, expires, used, software, endorsement FROM token WHERE digest = ?",
            digest,
        )

    def enrol(
        self,
        digest: bytes,
        certificate: Certificate,
        ecus: Sequence[Ecu],
        enrolled: datetime,
        attestation: Attestation | None = None,
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
                "INSERT INTO vehicle (vehicle_id, enrolled, revision) VALUES (?, ?, 1) ON CONFLICT DO UPDATE "
                "SET enrolled = excluded.enrolled, revision = revision + 1, server_cas = 0",
                (vehicle_id, seconds(enrolled)),
            )
            _replace_ecus(db, vehicle_id, ecus)
            replace_attestation(db, vehicle_id, attestation)
            db.execute("UPDATE certificate SET revoked = 1 WHERE vehicle_id = ?", (vehicle_id,))
            add_certificate(db, certificate)
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
            Ecu(typed(str, ecu), typed(str, hardware)) for _, _, ecu, hardware in rows if ecu is not None
        )
        return Vehicle(vehicle_id, time(rows[0][0]), typed(int, rows[0][1]), ecus)

    def took_server_cas(self, vehicle_id: str, version: int) -> None:
        with self._writing(durable=False) as db:
            db.execute(
                "UPDATE vehicle SET server_cas = ? WHERE vehicle_id = ? AND server_cas < ?",
                (version, vehicle_id, version),
            )

    def behind_server_cas(self, version: int) -> tuple[str, ...]:
        query = "SELECT vehicle_id FROM vehicle WHERE server_cas < ? ORDER BY vehicle_id"
        return tuple(self._all(lambda row: typed(str, row[0]), query, version))

    def vehicle_ids(self) -> Iterator[str]:
        return iter(
            self._all(lambda row: typed(str, row[0]), "SELECT vehicle_id FROM vehicle ORDER BY vehicle_id")
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
            revision = typed(int, row[0])
            if _orders(db, vehicle_id) != before:
                revision += 1
                db.execute("UPDATE vehicle SET revision = ? WHERE vehicle_id = ?", (revision, vehicle_id))
        return revision

    def orders(self, vehicle_id: str) -> tuple[int, tuple[Order, ...]]:
        with self._reading() as db:
            row = db.execute("SELECT revision FROM vehicle WHERE vehicle_id = ?", (vehicle_id,)).fetchone()
            return (typed(int, row[0]) if row else 0), _orders(db, vehicle_id)

    # --- reports

    def record(self, serial: str, report: Report) -> None:
        values = (report.counter, seconds(report.received), report.content, report.body)
        with self._writing(durable=False) as db:
            row = db.execute(
                "SELECT max(other.counter) FROM certificate JOIN certificate AS other "
                "USING (vehicle_id, public_key) WHERE certificate.serial = ? AND vehicle_id = ? "
                "HAVING count(*)",
                (serial, report.vehicle_id),
            ).fetchone()
            if row is None:
                raise TrustRefused(
                    Code.TLS_CLIENT_CERTIFICATE, "report", expected="a registered certificate", found="none"
                )
            if report.counter <= typed(int, row[0]):
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
                {**asdict(issue), "renew_after": seconds(issue.renew_after)},
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


def _token(row: Row) -> Token:
    digest, vehicle_id, expires, used, software, endorsement = row
    return Token(
        typed(bytes, digest),
        typed(str, vehicle_id),
        time(expires),
        bool(used),
        bool(software),
        typed(bytes, endorsement),
    )


def _certificate(row: Row) -> Certificate:
    serial, vehicle_id, spki, not_after, revoked, recovery = row
    key = PublicKey(typed(bytes, spki))
    return Certificate(
        typed(str, serial), typed(str, vehicle_id), key, time(not_after), bool(revoked), bool(recovery)
    )


def _report(row: Row) -> Report:
    vehicle_id, counter, received, content, body = row
    return Report(
        typed(str, vehicle_id), typed(int, counter), time(received), typed(bytes, content), typed(bytes, body)
    )


def _issue(row: Row) -> Issue:
    vehicle_id, version, revision, signed_by, renew_after, targets, snapshot, timestamp = row
    return Issue(
        vehicle_id=typed(str, vehicle_id),
        version=typed(int, version),
        revision=typed(int, revision),
        signed_by=typed(str, signed_by),
        renew_after=time(renew_after),
        targets=typed(bytes, targets),
        snapshot=typed(bytes, snapshot),
        timestamp=typed(bytes, timestamp),
    )
