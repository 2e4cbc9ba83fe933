"""The vehicle's version manifest: what runs, how the last attempts ended, what looked like an attack.

Every cycle begins with one and, when something was tried, ends with one, also after a refusal
(Uptane 5.4.3.6). The Primary signs for its modules until they have keys of their own.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from cellward.core.errors import CellwardError, Code
from cellward.core.metadata import EcuReport, Installed, InstallResult, Manifest, encode_manifest
from cellward.device.memory import Result
from cellward.ports.signer import Signer

DONE = "ok"
TEXT_LIMIT = 1000

Signed = TypeVar("Signed", EcuReport, Manifest)

# Which attack of Uptane section 4.3 a refusal looks like (G11). A refusal that is not here is an
# ordinary one: an expired gate, a full disk, a module that is busy.
ATTACKS: dict[Code, str] = {
    Code.SERVER_SLOW: "slow retrieval",
    Code.METADATA_EXPIRED: "freeze",
    Code.TIME_MISSING: "freeze",
    Code.TIME_NONCE: "freeze",
    Code.TIME_ROLLBACK: "freeze",
    Code.METADATA_TOO_LARGE: "endless data",
    Code.METADATA_VERSION: "rollback",
    Code.METADATA_HASH: "mix and match",
    Code.METADATA_SIGNATURE: "arbitrary software",
    Code.METADATA_MISSING: "dropped files",
    Code.TARGET_MISSING: "arbitrary software, Director alone",
    Code.TARGET_MISMATCH: "mix and match",
    Code.TARGET_VEHICLE: "another vehicle's metadata",
    Code.TARGET_ECU: "another vehicle's metadata",
    Code.TARGET_HARDWARE: "arbitrary software, wrong hardware",
    Code.TARGET_COUNTER: "rollback",
    Code.TARGET_DELEGATION: "arbitrary software",
    Code.TARGET_LENGTH: "endless data",
    Code.TARGET_HASH: "arbitrary software",
    Code.IMAGE_HASH: "arbitrary software",
    Code.IMAGE_SIGNATURE: "arbitrary software",
    Code.IMAGE_NO_SIGNATURE: "arbitrary software",
    Code.IMAGE_KEY_UNKNOWN: "arbitrary software",
    Code.IMAGE_KEY_REVOKED: "arbitrary software",
    Code.IMAGE_COUNTER: "rollback",
    Code.IMAGE_HARDWARE: "arbitrary software, wrong hardware",
    Code.TLS_SERVER: "another server",
    Code.FLASH_READBACK: "tampered link or flash",
    Code.TAMPER: "tampered module",
    Code.TAMPER_LOCKED: "tampered pack controller",
    Code.TAMPER_ALARM: "tampered pack controller",
}


def refused(error: CellwardError, detail: str = "") -> Result:
    """How an attempt ended that was refused. `detail` carries what the safety gates measured."""
    said = f"{error.subject}; {detail}" if detail else error.subject
    attack = ATTACKS.get(error.code, "")
    return Result(
        InstallResult(str(error.code), _cut(error.expected), _cut(error.found), _cut(said)),
        f"{attack}: {error.code}" if attack else "",
    )


def together(result: Result, noticed: Result | None) -> Result:
    """How the cycle ended, with the attack that was noticed beside it."""
    attacks = [each.attack for each in (result, noticed) if each is not None and each.attack]
    return replace(result, attack=_cut("; ".join(dict.fromkeys(attacks))))


def done(detail: str) -> Result:
    return Result(InstallResult(DONE, detail=_cut(detail)))


def _cut(text: str) -> str:
    """Short and in NFC: some of it is a server's or a file's words, and ours must be readable."""
    text = unicodedata.normalize("NFC", text)
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def manifest(
    vehicle: str,
    counter: int,
    now: datetime,
    installed: Mapping[str, Installed | None],
    results: Mapping[str, Result],
    signer: Signer,
    boot_records: Mapping[str, bytes] | None = None,
) -> bytes:
    """The signed manifest: one report for each ECU of `installed`, and the Primary's own. `boot_records`
    are forwarded as the apps forward them: nobody here could verify them."""
    ecus: dict[str, Installed | None] = {vehicle: None, **installed}
    reports = tuple(
        _signed(
            replace(
                _report(ecu_id, counter, now, runs, results.get(ecu_id)),
                boot_records=(boot_records or {}).get(ecu_id, b""),
            ),
            signer,
        )
        for ecu_id, runs in ecus.items()
    )
    return encode_manifest(_signed(Manifest(vehicle, counter, now, reports), signer))


def _report(
    ecu_id: str, counter: int, now: datetime, runs: Installed | None, last: Result | None
) -> EcuReport:
    return EcuReport(
        ecu_id=ecu_id,
        counter=counter,
        time=now,
        installed=runs,
        result=last.result if last else None,
        attacks_detected=last.attack if last else "",
    )


def _signed(document: Signed, signer: Signer) -> Signed:
    return document.signed_by(signer.public_key, signer.sign(document.digest))
