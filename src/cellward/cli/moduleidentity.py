"""What a module's firmware tells of itself, and how much of it is proven."""

from typing import Any

from rich.console import Console
from rich.table import Table

from cellward.core import bootrecord
from cellward.core.bootrecord import BootRecord
from cellward.core.errors import Code, TrustRefused
from cellward.core.registration import Registration
from cellward.core.slots import Stage
from cellward.device.link import UpdateLink
from cellward.ports.module import Module
from cellward.ports.updatevalues import Answerer, Identity


def ask(module: Module, held: Registration | None) -> dict[str, Any]:
    """IDENTIFY, DIGEST and BOOT_RECORD. With a registration, all that can be proven must be.

    Raises TrustRefused (boot.record) for a module, a record or an update key that is not the registered
    one's, and what the link raises.
    """
    link = UpdateLink(module, module.status().serial)
    identity = link.identity()
    records = link.boot_records() if identity.where is Answerer.APP else b""
    if held is not None:
        _check(identity, records, held)
    digests = {stage: link.digest(stage) for stage in Stage}
    return {
        "serial": identity.serial,
        "answers": identity.where.name.lower(),
        "bank": identity.bank,
        "lifecycle": identity.lifecycle,
        "counter": identity.counter,
        "revoked": identity.revoked,
        "update_key": identity.update_key.hex() if any(identity.update_key) else None,
        "images": {
            str(stage): None
            if found is None
            else {"version": str(found.version), "counter": found.counter, "file": found.sha256.hex()}
            for stage, found in digests.items()
        },
        "records": [
            _facts(bootrecord.decode(records[at : at + bootrecord.SIZE]))
            for at in range(0, len(records), bootrecord.SIZE)
        ],
        "verified": held is not None and bool(records),
    }


def _check(identity: Identity, records: bytes, held: Registration) -> None:
    if identity.serial != held.serial:
        raise _not(f"module {held.serial}", f"module {identity.serial}", identity.serial)
    if any(identity.update_key) and identity.update_key != held.keys.update.spki[-65:]:
        raise _not("the registered update key", "another one", identity.serial)
    if records:
        keys = bootrecord.RecordKeys(held.keys.rom_record, held.keys.loader_record)
        bootrecord.verify(records, keys, None)


def _not(expected: str, found: str, serial: str) -> TrustRefused:
    return TrustRefused(Code.BOOT_RECORD, f"module {serial}", expected=expected, found=found)


def _facts(record: BootRecord) -> dict[str, Any]:
    return {
        "by": record.by.name.lower(),
        "lifecycle": record.lifecycle,
        "bank": record.bank,
        "boot_count": record.boot_count,
        "counter": record.counter,
        "version": str(record.version),
        "digest": record.digest.hex(),
    }


def show(facts: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in ("serial", "answers", "bank", "lifecycle", "counter", "revoked"):
        table.add_row(name, f"{facts[name]}")
    table.add_row("update key", facts["update_key"] or "not held by this stage")
    for stage, image in facts["images"].items():
        said = (
            "no image"
            if image is None
            else f"{image['version']}, counter {image['counter']}, {image['file']}"
        )
        table.add_row(stage, said)
    for record in facts["records"]:
        said = f"{record['version']}, boot {record['boot_count']}, {record['digest']}"
        table.add_row(f"measured by {record['by']}", said)
    proof = "[green]with the registered keys[/]" if facts["verified"] else "no: claims"
    table.add_row("verified", proof)
    Console(highlight=False).print(table)
