"""The vehicle version manifest and its ECU reports (Uptane 5.4.2.1; docs/formats/uptane.md).

A report is signed by its ECU, the manifest by the Primary, each over the canonical JSON of `signed`.
An ECU without a key of its own is vouched for by the Primary, which then signs its report too.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from securesystemslib.formats import encode_canonical

from cellward.core import strictjson
from cellward.core.errors import Code, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata.dialect import KEY_SCHEME
from cellward.core.metadata.roles import MAX_MANIFEST_SIZE
from cellward.core.metadata.target import (
    ECU_ID,
    MAX_LENGTH,
    SEGMENT,
    Target,
    check_target_name,
    check_vehicle_id,
)
from cellward.core.strictjson import SHA256_HEX, Fields, Json, format_time, refuse

MAX_ECUS = 256
MAX_DETAIL = 1024
_CODE = re.compile(r"[a-z0-9_]{1,40}(?:\.[a-z0-9_]{1,40})?", re.ASCII)
_BOOT_RECORDS = re.compile(r"[0-9a-f]{352}", re.ASCII)  # core.bootrecord.PAIR_SIZE bytes
_DER_HEX = re.compile(r"(?:[0-9a-f]{2}){8,72}", re.ASCII)


def canonical(tree: object) -> bytes:
    """Canonical JSON (OLPC, as TUF signs it) of integers, strings, booleans, null, lists and objects."""
    text = encode_canonical(tree)  # type: ignore[arg-type]  # its own type names no object trees
    return (text or "").encode("utf-8")


@dataclass(frozen=True)
class ReportSignature:
    """`key_id`: SHA-256 of the public key's SPKI in hex; `signature`: ECDSA in DER."""

    key_id: str
    signature: bytes

    def to_json(self) -> Json:
        return {"keyid": self.key_id, "method": KEY_SCHEME, "sig": self.signature.hex()}


@dataclass(frozen=True)
class Installed:
    """What an ECU runs, in the words of its target."""

    filename: str
    length: int
    sha256: str
    version: str
    release_counter: int

    @classmethod
    def from_target(cls, target: Target) -> "Installed":
        return cls(target.name, target.length, target.sha256, target.version, target.release_counter)

    def to_json(self) -> Json:
        return {
            "filename": self.filename,
            "length": self.length,
            "hashes": {"sha256": self.sha256},
            "version": self.version,
            "release_counter": self.release_counter,
        }


@dataclass(frozen=True)
class InstallResult:
    """How the last attempt ended: `ok`, or the refusal's code with its two sides."""

    code: str
    expected: str = ""
    found: str = ""
    detail: str = ""

    def to_json(self) -> Json:
        return {"code": self.code, "expected": self.expected, "found": self.found, "detail": self.detail}


@dataclass(frozen=True)
class _Signed(ABC):
    """Something signed over the canonical JSON of `to_json()`."""

    signatures: tuple[ReportSignature, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def to_json(self) -> Json:
        """What `signed` holds."""

    @property
    def digest(self) -> bytes:
        """What a Signer signs: SHA-256 of the canonical JSON."""
        return hashlib.sha256(canonical(self.to_json())).digest()

    def signed_by(self, key: PublicKey, signature: bytes) -> Self:
        """A copy that carries this signature (DER) by `key`."""
        return replace(self, signatures=(*self.signatures, ReportSignature(key.fingerprint, signature)))

    def envelope(self) -> Json:
        return {"signed": self.to_json(), "signatures": [s.to_json() for s in self.signatures]}


@dataclass(frozen=True)
class EcuReport(_Signed):
    """One ECU's version report. `attacks_detected` names the refusal that looks like an attack;
    `boot_records` are the pair that a module's app forwards, empty for all others."""

    ecu_id: str
    counter: int
    time: datetime
    installed: Installed | None = None
    result: InstallResult | None = None
    attacks_detected: str = ""
    boot_records: bytes = field(default=b"", repr=False)

    def to_json(self) -> Json:
        records = {"boot_records": self.boot_records.hex()} if self.boot_records else {}
        return {
            **records,
            "ecu_id": self.ecu_id,
            "counter": self.counter,
            "time": format_time(self.time),
            "installed": self.installed.to_json() if self.installed else None,
            "result": self.result.to_json() if self.result else None,
            "attacks_detected": self.attacks_detected,
        }


@dataclass(frozen=True)
class Manifest(_Signed):
    """The vehicle's report. `counter` rises with every manifest of this vehicle."""

    vehicle_id: str
    counter: int
    time: datetime
    reports: tuple[EcuReport, ...]

    def to_json(self) -> Json:
        return {
            "_type": "manifest",
            "vehicle_id": self.vehicle_id,
            "primary_ecu_id": self.vehicle_id,
            "counter": self.counter,
            "time": format_time(self.time),
            "ecu_version_reports": {report.ecu_id: report.envelope() for report in self.reports},
        }

    def report(self, ecu_id: str) -> EcuReport | None:
        return next((report for report in self.reports if report.ecu_id == ecu_id), None)


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON with sorted keys: equal manifests are equal bytes. The signatures are over canonical JSON.

    Raises FormatRefused for what `decode_manifest` would refuse: nobody sends what nobody reads.
    """
    data = strictjson.encode(manifest.envelope())
    decode_manifest(data)
    return data


def decode_manifest(data: bytes) -> Manifest:
    """Raises FormatRefused (metadata.format, metadata.too_large). Signatures: `verify_manifest`."""
    envelope = Fields(strictjson.decode(data, "manifest", MAX_MANIFEST_SIZE), "manifest")
    signed = envelope.fields("signed")
    if signed.text("_type") != "manifest":
        refuse("manifest", "the type manifest", repr(signed.text("_type")[:40]))
    vehicle_id = check_vehicle_id(signed.text("vehicle_id"))
    if signed.text("primary_ecu_id") != vehicle_id:
        refuse("manifest", f"the Primary {vehicle_id}", repr(signed.text("primary_ecu_id")[:80]))
    reports = signed.fields("ecu_version_reports")
    if len(reports.names()) > MAX_ECUS:
        refuse("manifest", f"at most {MAX_ECUS} reports", f"{len(reports.names())}")
    manifest = Manifest(
        vehicle_id=vehicle_id,
        counter=signed.integer("counter", 1),
        time=signed.time("time"),
        reports=tuple(_report(reports.fields(ecu_id), ecu_id) for ecu_id in reports.names()),
        signatures=_signatures(envelope),
    )
    # Every field is understood, or the signature would cover something that was dropped here.
    signed.finish()
    envelope.finish()
    return manifest


def _report(envelope: Fields, ecu_id: str) -> EcuReport:
    signed = envelope.fields("signed")
    installed, result = signed.optional_fields("installed"), signed.optional_fields("result")
    report = EcuReport(
        ecu_id=signed.text("ecu_id", ECU_ID),
        counter=signed.integer("counter"),
        time=signed.time("time"),
        installed=_installed(installed) if installed else None,
        result=_result(result) if result else None,
        attacks_detected=signed.text("attacks_detected", limit=MAX_DETAIL),
        boot_records=bytes.fromhex(signed.text("boot_records", _BOOT_RECORDS))
        if "boot_records" in signed
        else b"",
        signatures=_signatures(envelope),
    )
    if report.ecu_id != ecu_id:
        refuse("manifest", f"the report of {ecu_id[:80]!r}", f"that of {report.ecu_id!r}")
    signed.finish()
    envelope.finish()
    return report


def _installed(fields: Fields) -> Installed:
    installed = Installed(
        filename=check_target_name(fields.text("filename")),
        length=fields.integer("length", 1, MAX_LENGTH),
        sha256=fields.sha256("hashes"),
        version=fields.text("version", SEGMENT),
        release_counter=fields.integer("release_counter"),
    )
    fields.finish()
    return installed


def _result(fields: Fields) -> InstallResult:
    result = InstallResult(
        code=fields.text("code", _CODE),
        expected=fields.text("expected", limit=MAX_DETAIL),
        found=fields.text("found", limit=MAX_DETAIL),
        detail=fields.text("detail", limit=MAX_DETAIL),
    )
    fields.finish()
    return result


def _signatures(envelope: Fields) -> tuple[ReportSignature, ...]:
    found = []
    for entry in envelope.items("signatures", 8):
        signature = Fields(entry, f"{envelope.what} signature")
        if signature.text("method") != KEY_SCHEME:
            refuse(signature.what, KEY_SCHEME, repr(signature.text("method")[:40]))
        found.append(
            ReportSignature(
                signature.text("keyid", SHA256_HEX), bytes.fromhex(signature.text("sig", _DER_HEX))
            )
        )
        signature.finish()
    return tuple(found)


def verify_manifest(
    data: bytes,
    public_key: PublicKey,
    vehicle_id: str,
    last_counter: int,
    ecu_keys: Mapping[str, PublicKey] | None = None,
) -> Manifest:
    """The manifest, if it is this vehicle's next one (Uptane 5.3.2.1(3), (4)).

    `public_key` is the Primary's; `ecu_keys` holds the keys of ECUs that have one (by ECU id).

    1. form and limits                                          FormatRefused
    2. the vehicle is the one that the connection proved        target.vehicle
    3. the Primary's signature                                  report.signature
    4. every ECU report: its ECU's signature                    report.signature
    5. the counter is above the last accepted one               report.replayed
    """
    manifest = decode_manifest(data)  # 1
    if manifest.vehicle_id != vehicle_id:  # 2
        raise TrustRefused(
            Code.TARGET_VEHICLE, "manifest", expected=f"vehicle {vehicle_id}", found=manifest.vehicle_id
        )
    _verify_signature(manifest, public_key, f"manifest of {vehicle_id}")  # 3
    for report in manifest.reports:  # 4
        key = (ecu_keys or {}).get(report.ecu_id, public_key)
        _verify_signature(report, key, f"report of {report.ecu_id}")
    if manifest.counter <= last_counter:  # 5
        raise TrustRefused(
            Code.REPORT_REPLAYED,
            f"manifest of {vehicle_id}",
            expected=f"a counter above {last_counter}",
            found=f"{manifest.counter}",
        )
    return manifest


def _verify_signature(signed: _Signed, key: PublicKey, subject: str) -> None:
    ours = [s for s in signed.signatures if s.key_id == key.fingerprint]
    if not ours:
        raise TrustRefused(
            Code.REPORT_SIGNATURE,
            subject,
            expected=f"a signature by key {key.fingerprint[:16]}",
            found="none",
        )
    key.verify(signed.digest, ours[0].signature, code=Code.REPORT_SIGNATURE, subject=subject)
