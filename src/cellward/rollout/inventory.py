"""The inventory (Uptane 5.3.2.2): vehicles, their ECUs, who may speak for them, what they run."""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cellward.core.enrolment import MAX_ECUS
from cellward.core.enrolplan import Pack
from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.metadata import (
    Ecu,
    EcuReport,
    Installed,
    InstallResult,
    Manifest,
    Target,
    check_vehicle_id,
    decode_manifest,
    verify_manifest,
)
from cellward.core.slots import HARDWARE, Stage
from cellward.ports.registry import Attestation, Certificate, Registry, Report, Token, Vehicle
from cellward.rollout.measured import Measured, Verdict

TOKEN_LIFETIME = timedelta(days=7)
TOKEN_BYTES = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# --- enrolment


def new_token(registry: Registry, vehicle_id: str, now: datetime, *, software: bool = False) -> str:
    """A one-time enrolment token; nobody can read it again, for the registry keeps its hash. `software`: it
    lets a vehicle enrol without a TPM.

    Raises FormatRefused (metadata.format) for a vehicle id of another form.
    """
    check_vehicle_id(vehicle_id)
    token, kept = _new_token(vehicle_id, now, software=software)
    registry.add_token(kept)
    return token


def new_tokens(
    registry: Registry, packs: Iterable[Pack], now: datetime, *, software: bool = False
) -> dict[str, str]:
    """A token for each of these vehicles that is not enrolled, all of them or none. Where the plan names its
    TPM, the token introduces that one alone."""
    wanted = (pack for pack in packs if registry.vehicle(pack.vehicle) is None)
    made = {
        pack.vehicle: _new_token(pack.vehicle, now, software=software, endorsement=pack.endorsement)
        for pack in wanted
    }
    registry.add_token(*(kept for _, kept in made.values()))
    return {vehicle: token for vehicle, (token, _) in made.items()}


def _new_token(
    vehicle_id: str, now: datetime, *, software: bool, endorsement: bytes = b""
) -> tuple[str, Token]:
    """Who steals a token must not be able to choose the weaker way: one that names a TPM is for that."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    enough = software and not endorsement
    kept = Token(_digest(token), vehicle_id, now + TOKEN_LIFETIME, software=enough, endorsement=endorsement)
    return token, kept


def open_token(registry: Registry, token: str, now: datetime) -> Token:
    """The token, still good at `now`. `Registry.enrol` uses it up.

    Raises TrustRefused (enrol.token).
    """
    return check_token(registry.token(_digest(token)), now)


def check_token(held: Token | None, now: datetime) -> Token:
    """As `open_token`, of one that was looked up."""
    if held is None or held.used or held.expires <= now:
        found = "an unknown one" if held is None else "a used one" if held.used else "an expired one"
        raise TrustRefused(
            Code.ENROL_TOKEN,
            "enrolment token",
            expected="one that is good",
            found=found,
            advice="ask for another with `cellward server enrol-token`",
        )
    return held


def check_endorsement(token: Token, certificate: bytes) -> Token:
    """A token that introduces the TPM with this endorsement certificate. Raises PolicyRefused
    (enrol.identity)."""
    found = hashlib.sha256(certificate).digest()
    if token.endorsement not in (b"", found):
        raise PolicyRefused(
            Code.ENROL_IDENTITY,
            f"vehicle {token.vehicle_id}",
            expected=f"the TPM that its token names, {token.endorsement.hex()[:16]}",
            found=found.hex()[:16],
        )
    return token


def check_software(token: Token) -> Token:
    """A token that is enough without a TPM. Raises PolicyRefused (enrol.identity)."""
    if not token.software:
        raise PolicyRefused(
            Code.ENROL_IDENTITY,
            f"vehicle {token.vehicle_id}",
            expected="the TPM that its token introduces",
            found="a software identity",
            advice="`cellward server enrol-token --software-identity` makes a token for one",
        )
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def check_ecus(ecus: Sequence[Ecu]) -> Sequence[Ecu]:
    """Image slots of hardware we know, each once; the Primary itself is no such slot.

    Raises FormatRefused (request.format), PolicyRefused (enrol.ecu).
    """
    if not 0 < len(ecus) <= MAX_ECUS or len({ecu.ecu_id for ecu in ecus}) != len(ecus):
        raise FormatRefused(
            Code.REQUEST_FORMAT,
            "enrolment",
            expected=f"1 to {MAX_ECUS} different ECUs",
            found=f"{len(ecus)}, {len({ecu.ecu_id for ecu in ecus})} different",
        )
    for ecu in ecus:
        if ecu.stage not in set(Stage) or ecu.hardware_id not in HARDWARE:
            raise PolicyRefused(
                Code.ENROL_ECU,
                f"ECU {ecu.ecu_id}",
                expected=f"SERIAL/{'|'.join(Stage)} of {', '.join(HARDWARE)}",
                found=ecu.hardware_id,
            )
    return ecus


# --- identity


def authenticate(registry: Registry, serial: str, common_name: str, now: datetime) -> Certificate:
    """The certificate of this connection, looked up again for each request: resumed sessions would
    never see a revocation list.

    Raises TrustRefused (tls.client_certificate).
    """
    certificate = registry.certificate(serial)
    found = ""
    if certificate is None:
        found = "an unknown one"
    elif certificate.vehicle_id != common_name:
        found = "one of another vehicle"
    elif certificate.revoked:
        found = "a revoked one"
    elif certificate.not_after <= now:
        found = "an expired one"
    if certificate is None or found:
        raise TrustRefused(
            Code.TLS_CLIENT_CERTIFICATE,
            "client certificate",
            expected="one that the registry holds and has not revoked",
            found=found,
            advice="enrol the vehicle again",
        )
    return certificate


# --- reports


def accept_report(
    registry: Registry, certificate: Certificate, vehicle: Vehicle, data: bytes, now: datetime
) -> Manifest:
    """Verify a manifest and keep it (Uptane 5.3.2.1(3), (4)).

    Raises FormatRefused (metadata.*), TrustRefused (target.vehicle, report.signature,
    report.replayed), PolicyRefused (report.ecu); nothing is kept then.
    """
    # The counter is compared where it is raised, in one transaction: 0 is below any.
    manifest = verify_manifest(data, certificate.public_key, vehicle.vehicle_id, 0)
    expected = {ecu.ecu_id for ecu in vehicle.ecus}
    found = {report.ecu_id for report in manifest.reports} - {vehicle.vehicle_id}
    if found != expected:
        raise PolicyRefused(
            Code.REPORT_ECU,
            f"manifest of {vehicle.vehicle_id}",
            expected=f"reports of {', '.join(sorted(expected))}",
            found=", ".join(sorted(found)) or "none",
            advice="enrol the vehicle again if its modules were exchanged",
        )
    report = Report(vehicle.vehicle_id, manifest.counter, now, _content(manifest), data)
    registry.record(certificate.serial, report)
    return manifest


def _content(manifest: Manifest) -> bytes:
    """A digest over what the ECUs say, without the counters and times that every report changes."""
    said = {
        report.ecu_id: replace(report, counter=0, time=_EPOCH, signatures=()).to_json()
        for report in manifest.reports
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()


# --- who runs what


@dataclass(frozen=True)
class EcuStatus:
    """`ordered` is None without an order; the rest is what was reported last. `measured` is an app's
    alone: whether what it says of its module is proven."""

    ecu: Ecu
    ordered: Target | None
    installed: Installed | None
    result: InstallResult | None
    attacks_detected: str
    measured: Verdict = field(default_factory=Verdict)


@dataclass(frozen=True)
class VehicleStatus:
    """`certificate` is the newest; `last_seen` is None before the first report. `primary` is what the
    controller said of itself: refusals that concern no ECU alone are there. `attestation` is None where
    a token alone vouched for the controller, whose key is in a file."""

    vehicle: Vehicle
    certificate: Certificate | None
    attestation: Attestation | None
    last_seen: datetime | None
    primary: EcuReport | None
    ecus: tuple[EcuStatus, ...]


def status(registry: Registry, vehicle_id: str, measured: Measured | None = None) -> VehicleStatus:
    """Raises PolicyRefused (vehicle.unknown)."""
    vehicle = known_vehicle(registry, vehicle_id)
    orders = {order.ecu_id: order.target for order in registry.orders(vehicle_id)[1]}
    last = registry.last_report(vehicle_id)
    manifest = decode_manifest(last.body) if last else None
    ecus = []
    for ecu in vehicle.ecus:
        report = manifest.report(ecu.ecu_id) if manifest else None
        ecus.append(
            EcuStatus(
                ecu,
                orders.get(ecu.ecu_id),
                report.installed if report else None,
                report.result if report else None,
                report.attacks_detected if report else "",
                _measured(ecu, manifest, measured),
            )
        )
    certificate = next(iter(registry.certificates(vehicle_id)), None)
    primary = manifest.report(vehicle_id) if manifest else None
    seen = last.received if last else None
    return VehicleStatus(vehicle, certificate, registry.attestation(vehicle_id), seen, primary, tuple(ecus))


def _measured(ecu: Ecu, manifest: Manifest | None, measured: Measured | None) -> Verdict:
    if measured is None or manifest is None or ecu.stage != Stage.APP:
        return Verdict()
    return measured.judge(manifest, ecu.ecu_id.partition("/")[0])


def known_vehicle(registry: Registry, vehicle_id: str) -> Vehicle:
    """Raises PolicyRefused (vehicle.unknown)."""
    vehicle = registry.vehicle(vehicle_id)
    if vehicle is None:
        raise PolicyRefused(
            Code.VEHICLE_UNKNOWN, f"vehicle {vehicle_id}", expected="one that is enrolled", found="none"
        )
    return vehicle


def check_scope(
    registry: Registry,
    certificate: Certificate,
    stored_name: str,
    published: Callable[[], Iterable[Target]],
) -> None:
    """Which artefacts this certificate gets: for recovery, those alone that its vehicle was ordered, and the
    releases that they were `published` with.

    Raises PolicyRefused (attest.recovery).
    """
    if not certificate.recovery:
        return
    vehicle_id = certificate.vehicle_id
    ordered = {order.target.stored_name for order in registry.orders(vehicle_id)[1]}
    releases = (t.release_name for t in published() if t.release and t.stored_name in ordered)
    if stored_name not in ordered and stored_name not in releases:
        raise PolicyRefused(
            Code.ATTEST_RECOVERY,
            f"artefact {stored_name[:80]}",
            expected=f"one that is ordered for {vehicle_id}",
            found="another",
            advice="a certificate for recovery is good for the vehicle's own update",
        )


def revoke(registry: Registry, vehicle_id: str) -> int:
    """Take the vehicle's certificates away; how many were valid. Raises PolicyRefused (vehicle.unknown)."""
    known_vehicle(registry, vehicle_id)
    return registry.revoke(vehicle_id)
