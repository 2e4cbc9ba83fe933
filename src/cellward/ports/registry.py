"""Who drives which ECUs, what they were ordered, what they reported: the server's memory.

Times are aware datetimes in UTC, kept to the second. Every method is one transaction: it happens
whole or not at all, also when the process dies in the middle. Every method raises Unavailable
(storage.database) when the database is locked, full, damaged or of another make.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cellward.core.keys import PublicKey
from cellward.core.metadata.target import Ecu, Target


@dataclass(frozen=True)
class Vehicle:
    """`revision` rises whenever the ECUs or their orders change."""

    vehicle_id: str
    enrolled: datetime
    revision: int
    ecus: tuple[Ecu, ...]


@dataclass(frozen=True)
class Certificate:
    """A client certificate the device CA issued. `serial` is lower-case hex without leading zeros.

    `public_key` verifies the reports of who shows it: the certified key, or of an attested vehicle the
    identity key in its TPM. `recovery`: good for the vehicle's own updates alone.
    """

    serial: str
    vehicle_id: str
    public_key: PublicKey
    not_after: datetime
    revoked: bool = False
    recovery: bool = False


@dataclass(frozen=True)
class Token:
    """A one-time enrolment token; only its SHA-256 is ever stored. `software`: it is enough by itself, for
    a software identity; any other introduces a TPM, and where `endorsement` is not empty, the one whose
    certificate has this SHA-256."""

    digest: bytes
    vehicle_id: str
    expires: datetime
    used: bool = False
    software: bool = False
    endorsement: bytes = b""


@dataclass(frozen=True)
class Noted:
    """A proof that was this TPM's own and was refused."""

    code: str
    found: str
    at: datetime


@dataclass(frozen=True)
class Attestation:
    """What an attested vehicle is known by. `endorsement` is the Name of its TPM's endorsement key,
    `attestation_key` a TPMT_PUBLIC, `configuration` the digest that was measured at its enrolment,
    `moment` that of the last quote; `noted` what was refused since the last certificate."""

    endorsement: bytes
    attestation_key: bytes
    identity_key: PublicKey
    configuration: bytes
    moment: bytes
    noted: Noted | None = None


@dataclass(frozen=True)
class Session:
    """A challenge that is open, good once. `digest` is SHA-256 of its name; `context` is the asker's
    affair, kept as it is."""

    digest: bytes
    vehicle_id: str
    nonce: bytes
    expires: datetime
    context: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Order:
    """`ecu_id` is to run `target`, as the Image repository had signed it when it was ordered."""

    ecu_id: str
    target: Target


@dataclass(frozen=True)
class Report:
    """A verified vehicle manifest. `content` is a digest over what it says, counters and times
    left out: two reports with the same content say the same thing."""

    vehicle_id: str
    counter: int
    received: datetime
    content: bytes
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Issue:
    """What the Director signed for one vehicle at one time; `version` is that of all three roles."""

    vehicle_id: str
    version: int
    revision: int
    signed_by: str
    renew_after: datetime
    targets: bytes = field(repr=False)
    snapshot: bytes = field(repr=False)
    timestamp: bytes = field(repr=False)


MAX_SESSIONS = 8  # of one vehicle: the oldest gives way, so that nobody can keep a vehicle out


class Registry(Protocol):
    """The server's memory. Hot calls (certificate, vehicle, record, issue) cost one key look-up."""

    def add_token(self, *tokens: Token) -> None:
        """All of them or, if the process dies in the middle, none."""
        ...

    def token(self, digest: bytes) -> Token | None: ...

    def enrol(
        self,
        digest: bytes,
        certificate: Certificate,
        ecus: Sequence[Ecu],
        enrolled: datetime,
        attestation: Attestation | None = None,
    ) -> Vehicle:
        """Use the token up, register the vehicle with exactly these ECUs and its TPM, if it has one,
        revoke its older certificates. A public key that reported before goes on counting from where it was.

        Raises TrustRefused (enrol.token) when the token is used or unknown, PolicyRefused
        (enrol.ecu) when an ECU belongs to another vehicle, (enrol.identity) when the TPM or one of its keys
        does, when an attested vehicle comes without one, or with its own at an earlier moment.
        """
        ...

    # --- attested vehicles

    def open_session(self, session: Session, now: datetime) -> None:
        """Keep it, and the vehicle's MAX_SESSIONS - 1 newest that have not expired."""
        ...

    def take_session(self, digest: bytes, now: datetime) -> Session | None:
        """The session, unless it has expired; it is not there any more."""
        ...

    def attestation(self, vehicle_id: str) -> Attestation | None: ...

    def owner_of(self, endorsement: bytes) -> str | None:
        """The vehicle with this TPM."""
        ...

    def renew(self, certificate: Certificate, moment: bytes, now: datetime) -> None:
        """A further certificate for an attested vehicle whose last one was not revoked. Those that expired
        are forgotten; what was noted is settled, unless it is a recovery certificate.

        Raises TrustRefused (tls.client_certificate) for a revoked vehicle, (enrol.identity) where `moment`
        is behind the last one.
        """
        ...

    def note(self, vehicle_id: str, noted: Noted) -> None:
        """Without effect for a vehicle that is not attested."""
        ...

    # --- identity

    def certificate(self, serial: str) -> Certificate | None: ...

    def certificates(self, vehicle_id: str) -> tuple[Certificate, ...]:
        """All of them, those issued last first."""
        ...

    def revoke(self, vehicle_id: str) -> int:
        """Revoke every certificate of the vehicle; returns how many were still valid."""
        ...

    def vehicle(self, vehicle_id: str) -> Vehicle | None: ...

    def vehicle_ids(self) -> Iterator[str]:
        """All of them, sorted."""
        ...

    def took_server_cas(self, vehicle_id: str, version: int) -> None:
        """It asked for this statement on server CAs; forgotten when it enrols again. Of no effect for an
        unknown vehicle, or after a later version."""
        ...

    def behind_server_cas(self, version: int) -> tuple[str, ...]:
        """Vehicles that have not asked for this statement or a later one, sorted."""
        ...

    def assign(self, vehicle_id: str, orders: Sequence[Order]) -> int:
        """Replace what these ECUs were ordered; returns the revision, risen if anything changed.

        Raises PolicyRefused (vehicle.unknown, target.ecu) for an ECU that is not the vehicle's.
        """
        ...

    def orders(self, vehicle_id: str) -> tuple[int, tuple[Order, ...]]:
        """The revision and its orders, read together; revision 0 for an unknown vehicle."""
        ...

    def record(self, serial: str, report: Report) -> None:
        """Keep the report, signed by the public key of the certificate `serial`; append it to the history
        if its content is new.

        Raises TrustRefused (report.replayed) when its counter is not above the last one of that key, with
        whichever certificate, or the certificate is unknown.
        """
        ...

    def last_report(self, vehicle_id: str) -> Report | None: ...

    def history(self, vehicle_id: str) -> tuple[Report, ...]:
        """Every report that said something new, oldest first. Append-only."""
        ...

    def issue(self, vehicle_id: str) -> Issue | None:
        """The newest."""
        ...

    def add_issue(self, issue: Issue) -> Issue:
        """Add it if it is the successor of the newest; returns the newest, which is another
        process's when that one came first. A version, once added, never changes.
        """
        ...

    def issue_at(self, vehicle_id: str, version: int) -> Issue | None:
        """The newest and the one before it are kept, so that a cycle under way can finish."""
        ...
