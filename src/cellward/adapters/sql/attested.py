"""Attested vehicles: their TPM, challenges that are open, certificates that follow each other."""

import sqlite3
from dataclasses import asdict
from datetime import datetime

from cellward.adapters.sql.database import Database, Row, seconds, time, typed
from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.ports.registry import MAX_SESSIONS, Attestation, Certificate, Noted, Session

_ATTESTATION = (
    "SELECT endorsement, attestation_key, identity_key, configuration, moment, "
    "noted_code, noted_found, noted_at FROM attestation WHERE vehicle_id = ?"
)


class AttestedVehicles(Database):
    def open_session(self, session: Session, now: datetime) -> None:
        with self._writing(durable=False) as db:
            db.execute("DELETE FROM session WHERE expires <= ?", (seconds(now),))
            db.execute(
                "DELETE FROM session WHERE vehicle_id = ? AND number NOT IN "
                "(SELECT number FROM session WHERE vehicle_id = ? ORDER BY number DESC LIMIT ?)",
                (session.vehicle_id, session.vehicle_id, MAX_SESSIONS - 1),
            )
            db.execute(
                "INSERT INTO session (digest, vehicle_id, nonce, expires, context) "
                "VALUES (:digest, :vehicle_id, :nonce, :expires, :context)",
                {**asdict(session), "expires": seconds(session.expires)},
            )

    def take_session(self, digest: bytes, now: datetime) -> Session | None:
        with self._writing() as db:
            row = db.execute(
                "DELETE FROM session WHERE digest = ? RETURNING digest, vehicle_id, nonce, expires, context",
                (digest,),
            ).fetchone()
        found = _session(row) if row else None
        return found if found is not None and now < found.expires else None

    def attestation(self, vehicle_id: str) -> Attestation | None:
        return self._one(_attestation, _ATTESTATION, vehicle_id)

    def owner_of(self, endorsement: bytes) -> str | None:
        return self._one(
            lambda row: typed(str, row[0]),
            "SELECT vehicle_id FROM attestation WHERE endorsement = ?",
            endorsement,
        )

    def renew(self, certificate: Certificate, moment: bytes, now: datetime) -> None:
        vehicle_id = certificate.vehicle_id
        with self._writing() as db:
            last = db.execute(
                "SELECT moment, revoked FROM attestation JOIN certificate USING (vehicle_id) "
                "WHERE vehicle_id = ? ORDER BY number DESC LIMIT 1",
                (vehicle_id,),
            ).fetchone()
            if last is None or last[1]:
                raise TrustRefused(
                    Code.TLS_CLIENT_CERTIFICATE,
                    f"vehicle {vehicle_id}",
                    expected="an attested vehicle whose certificate was not revoked",
                    found="another",
                    advice="enrol the vehicle again",
                )
            if moment < last[0]:
                raise _behind(vehicle_id)
            db.execute("UPDATE attestation SET moment = ? WHERE vehicle_id = ?", (moment, vehicle_id))
            if not certificate.recovery:
                db.execute(
                    "UPDATE attestation SET noted_code = NULL, noted_found = NULL, noted_at = NULL "
                    "WHERE vehicle_id = ?",
                    (vehicle_id,),
                )
            add_certificate(db, certificate)  # it takes over the key's counter before the old ones go
            db.execute(
                "DELETE FROM certificate WHERE vehicle_id = ? AND not_after <= ? AND serial <> ?",
                (vehicle_id, seconds(now), certificate.serial),
            )

    def note(self, vehicle_id: str, noted: Noted) -> None:
        with self._writing() as db:
            db.execute(
                "UPDATE attestation SET noted_code = ?, noted_found = ?, noted_at = ? WHERE vehicle_id = ?",
                (noted.code, noted.found, seconds(noted.at), vehicle_id),
            )


def add_certificate(db: sqlite3.Connection, certificate: Certificate) -> None:
    """With the counter that its public key has reached."""
    db.execute(
        "INSERT INTO certificate (serial, vehicle_id, public_key, not_after, recovery, counter) "
        "VALUES (:serial, :vehicle_id, :spki, :not_after, :recovery, coalesce((SELECT max(counter) "
        "FROM certificate WHERE vehicle_id = :vehicle_id AND public_key = :spki), -1))",
        {
            "serial": certificate.serial,
            "vehicle_id": certificate.vehicle_id,
            "spki": certificate.public_key.spki,
            "not_after": seconds(certificate.not_after),
            "recovery": int(certificate.recovery),
        },
    )


def replace_attestation(db: sqlite3.Connection, vehicle_id: str, attestation: Attestation | None) -> None:
    """Raises PolicyRefused (enrol.identity)."""
    if attestation is None:
        if db.execute("SELECT 1 FROM attestation WHERE vehicle_id = ?", (vehicle_id,)).fetchone():
            raise _identity(vehicle_id, "the TPM that it enrolled with", "a vehicle without one")
        return
    keys = attestation.endorsement, attestation.attestation_key, attestation.identity_key.spki
    other = db.execute(
        "SELECT 1 FROM attestation WHERE vehicle_id <> ? "
        "AND (endorsement = ? OR attestation_key = ? OR identity_key = ?)",
        (vehicle_id, *keys),
    ).fetchone()
    if other:
        raise _identity(vehicle_id, "a TPM that no other vehicle has", "one of another vehicle")
    last = db.execute(
        "SELECT moment FROM attestation WHERE vehicle_id = ? AND attestation_key = ?", (vehicle_id, keys[1])
    ).fetchone()
    if last and attestation.moment < last[0]:
        raise _behind(vehicle_id)
    db.execute(
        "INSERT OR REPLACE INTO attestation (vehicle_id, endorsement, attestation_key, identity_key, "
        "configuration, moment) VALUES (?, ?, ?, ?, ?, ?)",
        (vehicle_id, *keys, attestation.configuration, attestation.moment),
    )


def _identity(vehicle_id: str, expected: str, found: str) -> PolicyRefused:
    return PolicyRefused(Code.ENROL_IDENTITY, f"vehicle {vehicle_id}", expected=expected, found=found)


def _behind(vehicle_id: str) -> TrustRefused:
    return TrustRefused(
        Code.ENROL_IDENTITY,
        f"vehicle {vehicle_id}",
        expected="a TPM that is not behind its last quote",
        found="one that is: this TPM or the other is a copy",
    )


def _session(row: Row) -> Session:
    digest, vehicle_id, nonce, expires, context = row
    return Session(
        typed(bytes, digest),
        typed(str, vehicle_id),
        typed(bytes, nonce),
        time(expires),
        typed(bytes, context),
    )


def _attestation(row: Row) -> Attestation:
    endorsement, attestation_key, identity_key, configuration, moment, code, found, at = row
    noted = None if code is None else Noted(typed(str, code), typed(str, found), time(at))
    return Attestation(
        typed(bytes, endorsement),
        typed(bytes, attestation_key),
        PublicKey(typed(bytes, identity_key)),
        typed(bytes, configuration),
        typed(bytes, moment),
        noted,
    )
