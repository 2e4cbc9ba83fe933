"""A Registry in memory that keeps every promise of the port."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime

from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.metadata.target import Ecu
from cellward.ports.registry import (
    MAX_SESSIONS,
    Attestation,
    Certificate,
    Issue,
    Noted,
    Order,
    Report,
    Session,
    Token,
    Vehicle,
)


class MemoryRegistry:
    """Refusals are found before anything is changed, which is what a transaction comes to here."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, Token] = {}
        self._vehicles: dict[str, Vehicle] = {}
        self._certificates: list[Certificate] = []
        self._counters: dict[str, int] = {}
        self._orders: dict[str, dict[str, Order]] = {}
        self._reports: dict[str, list[Report]] = {}
        self._last: dict[str, Report] = {}
        self._issues: dict[str, list[Issue]] = {}
        self._sessions: list[Session] = []
        self._attestations: dict[str, Attestation] = {}
        self._server_cas: dict[str, int] = {}

    def took_server_cas(self, vehicle_id: str, version: int) -> None:
        if vehicle_id in self._server_cas:
            self._server_cas[vehicle_id] = max(version, self._server_cas[vehicle_id])

    def behind_server_cas(self, version: int) -> tuple[str, ...]:
        return tuple(sorted(name for name, taken in self._server_cas.items() if taken < version))

    def add_token(self, *tokens: Token) -> None:
        self._tokens.update({token.digest: token for token in tokens})

    def token(self, digest: bytes) -> Token | None:
        return self._tokens.get(digest)

    def enrol(
        self,
        digest: bytes,
        certificate: Certificate,
        ecus: Sequence[Ecu],
        enrolled: datetime,
        attestation: Attestation | None = None,
    ) -> Vehicle:
        vehicle_id = certificate.vehicle_id
        token = self._tokens.get(digest)
        if token is None or token.used or token.vehicle_id != vehicle_id:
            raise TrustRefused(Code.ENROL_TOKEN, "enrolment token")
        for vehicle in self._vehicles.values():
            if vehicle.vehicle_id != vehicle_id and {e.ecu_id for e in vehicle.ecus} & {
                e.ecu_id for e in ecus
            }:
                raise PolicyRefused(Code.ENROL_ECU, "ECU")
        self._check_attestation(vehicle_id, attestation)
        if attestation is not None:
            self._attestations[vehicle_id] = replace(attestation, noted=None)
        before = self._vehicles.get(vehicle_id)
        self._server_cas[vehicle_id] = 0
        self._tokens[digest] = replace(token, used=True)
        self._vehicles[vehicle_id] = Vehicle(
            vehicle_id,
            enrolled.replace(microsecond=0),
            before.revision + 1 if before else 1,
            tuple(sorted(ecus, key=lambda ecu: ecu.ecu_id)),
        )
        orders = self._orders.get(vehicle_id, {})
        same = set(ecus) & set(before.ecus if before else ())
        self._orders[vehicle_id] = {e.ecu_id: orders[e.ecu_id] for e in same if e.ecu_id in orders}
        self.revoke(vehicle_id)
        self._add_certificate(certificate)
        return self._vehicles[vehicle_id]

    def _add_certificate(self, certificate: Certificate) -> None:
        self._counters[certificate.serial] = self._counter(certificate)
        self._certificates.append(
            replace(certificate, not_after=certificate.not_after.replace(microsecond=0))
        )

    def _counter(self, certificate: Certificate) -> int:
        same = (
            c for c in self.certificates(certificate.vehicle_id) if c.public_key == certificate.public_key
        )
        return max((self._counters[c.serial] for c in same), default=-1)

    def _check_attestation(self, vehicle_id: str, new: Attestation | None) -> None:
        held = self._attestations.get(vehicle_id)
        if new is None and held is not None:
            raise PolicyRefused(Code.ENROL_IDENTITY, vehicle_id)
        if new is None:
            return
        for other, its in self._attestations.items():
            if other != vehicle_id and _keys(its) & _keys(new):
                raise PolicyRefused(Code.ENROL_IDENTITY, vehicle_id)
        if held and held.attestation_key == new.attestation_key and new.moment < held.moment:
            raise TrustRefused(Code.ENROL_IDENTITY, vehicle_id)

    def open_session(self, session: Session, now: datetime) -> None:
        alive = [s for s in self._sessions if now < s.expires]
        theirs = [s for s in alive if s.vehicle_id == session.vehicle_id][-MAX_SESSIONS + 1 :]
        self._sessions = [s for s in alive if s.vehicle_id != session.vehicle_id or s in theirs]
        self._sessions.append(replace(session, expires=session.expires.replace(microsecond=0)))

    def take_session(self, digest: bytes, now: datetime) -> Session | None:
        found = next((s for s in self._sessions if s.digest == digest), None)
        self._sessions = [s for s in self._sessions if s is not found]
        return found if found is not None and now < found.expires else None

    def attestation(self, vehicle_id: str) -> Attestation | None:
        return self._attestations.get(vehicle_id)

    def owner_of(self, endorsement: bytes) -> str | None:
        return next((v for v, its in self._attestations.items() if its.endorsement == endorsement), None)

    def renew(self, certificate: Certificate, moment: bytes, now: datetime) -> None:
        vehicle_id = certificate.vehicle_id
        held = self._attestations.get(vehicle_id)
        if held is None or self.certificates(vehicle_id)[0].revoked:
            raise TrustRefused(Code.TLS_CLIENT_CERTIFICATE, vehicle_id)
        if moment < held.moment:
            raise TrustRefused(Code.ENROL_IDENTITY, vehicle_id)
        self._attestations[vehicle_id] = replace(
            held, moment=moment, noted=held.noted if certificate.recovery else None
        )
        self._add_certificate(certificate)
        self._certificates = [
            c
            for c in self._certificates
            if c.vehicle_id != vehicle_id or now < c.not_after or c.serial == certificate.serial
        ]

    def note(self, vehicle_id: str, noted: Noted) -> None:
        if vehicle_id in self._attestations:
            noted = replace(noted, at=noted.at.replace(microsecond=0))
            self._attestations[vehicle_id] = replace(self._attestations[vehicle_id], noted=noted)

    def certificate(self, serial: str) -> Certificate | None:
        return next((c for c in self._certificates if c.serial == serial), None)

    def certificates(self, vehicle_id: str) -> tuple[Certificate, ...]:
        return tuple(c for c in reversed(self._certificates) if c.vehicle_id == vehicle_id)

    def revoke(self, vehicle_id: str) -> int:
        valid = [c for c in self._certificates if c.vehicle_id == vehicle_id and not c.revoked]
        self._certificates = [replace(c, revoked=True) if c in valid else c for c in self._certificates]
        return len(valid)

    def vehicle(self, vehicle_id: str) -> Vehicle | None:
        return self._vehicles.get(vehicle_id)

    def vehicle_ids(self) -> Iterator[str]:
        return iter(sorted(self._vehicles))

    def assign(self, vehicle_id: str, orders: Sequence[Order]) -> int:
        vehicle = self._vehicles.get(vehicle_id)
        if vehicle is None:
            raise PolicyRefused(Code.VEHICLE_UNKNOWN, vehicle_id)
        if not {order.ecu_id for order in orders} <= {ecu.ecu_id for ecu in vehicle.ecus}:
            raise PolicyRefused(Code.TARGET_ECU, vehicle_id)
        before = deepcopy(self._orders.setdefault(vehicle_id, {}))
        self._orders[vehicle_id] |= {order.ecu_id: order for order in orders}
        if self._orders[vehicle_id] != before:
            vehicle = replace(vehicle, revision=vehicle.revision + 1)
            self._vehicles[vehicle_id] = vehicle
        return vehicle.revision

    def orders(self, vehicle_id: str) -> tuple[int, tuple[Order, ...]]:
        vehicle = self._vehicles.get(vehicle_id)
        orders = self._orders.get(vehicle_id, {}).values()
        return (vehicle.revision if vehicle else 0), tuple(sorted(orders, key=lambda order: order.ecu_id))

    def record(self, serial: str, report: Report) -> None:
        certificate = self.certificate(serial)
        if certificate is None or certificate.vehicle_id != report.vehicle_id:
            raise TrustRefused(Code.TLS_CLIENT_CERTIFICATE, "report")
        if report.counter <= self._counter(certificate):
            raise TrustRefused(Code.REPORT_REPLAYED, "report")
        self._counters[serial] = report.counter
        kept = replace(report, received=report.received.replace(microsecond=0))
        last, self._last[report.vehicle_id] = self._last.get(report.vehicle_id), kept
        if last is None or last.content != report.content:
            self._reports.setdefault(report.vehicle_id, []).append(kept)

    def last_report(self, vehicle_id: str) -> Report | None:
        return self._last.get(vehicle_id)

    def history(self, vehicle_id: str) -> tuple[Report, ...]:
        return tuple(self._reports.get(vehicle_id, ()))

    def issue(self, vehicle_id: str) -> Issue | None:
        return next(reversed(self._issues.get(vehicle_id, [])), None)

    def add_issue(self, issue: Issue) -> Issue:
        issues = self._issues.setdefault(issue.vehicle_id, [])
        if issues and issue.version != issues[-1].version + 1:
            return issues[-1]
        issues.append(replace(issue, renew_after=issue.renew_after.replace(microsecond=0)))
        del issues[:-2]
        return issues[-1]

    def issue_at(self, vehicle_id: str, version: int) -> Issue | None:
        return next((i for i in self._issues.get(vehicle_id, []) if i.version == version), None)


def _keys(attestation: Attestation) -> set[bytes]:
    return {attestation.endorsement, attestation.attestation_key, attestation.identity_key.spki}
