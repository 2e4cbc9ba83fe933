"""How a module looks on a terminal."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from rich.console import Console
from rich.table import Table

from cellward.core.errors import CellwardError
from cellward.core.image import decode_slot
from cellward.core.slots import Hardware, Stage
from cellward.device.link import UpdateLink
from cellward.ports.module import (
    BootEvent,
    BootReport,
    Milestone,
    Module,
    ModuleStatus,
    Outcome,
    Telemetry,
)
from cellward.ports.updatevalues import StageDigest

# Who passes a milestone, and what it means.
MILESTONES = {
    "rom_entered": ("ROM", "started"),
    "trial_started": ("ROM", "bank started on trial"),
    "counter_raised": ("ROM", "committed: security counter raised"),
    "loader_entered": ("loader", "verified by the ROM, runs"),
    "app_entered": ("app", "verified by the loader, runs"),
    "selftest_passed": ("app", "self-test passed"),
    "selftest_failed": ("app", "self-test failed"),
    "confirmed": ("app", "confirmed itself"),
    "running": ("app", "in charge"),
    "recovery": ("ROM", "recovery: no bank is good, contactors open"),
    "update_entered": ("loader", "update engine waits for the link"),
    "key_revoked": ("ROM", "slot key revoked"),
    "vault_committed": ("ROM", "vault's new value committed"),
    "zeroised": ("ROM", "device secret and keys destroyed"),
}
GOOD = {Outcome.RUNNING: "green", Outcome.RESET: "yellow"}
DECIMAL_BELOW = 100_000


def claims(module: Module, status: ModuleStatus, hardware: Hardware, bank: str) -> dict[str, Any]:
    """What the images of a bank say of themselves, by stage; None where there is no image, or where a
    closed module without power shows none."""
    if not status.lifecycle.closed:
        return {str(stage): _claim(module, hardware, bank, stage) for stage in Stage}
    if status.outcome not in (Outcome.RUNNING, Outcome.UPDATING, Outcome.RECOVERY):
        return dict.fromkeys(map(str, Stage))
    link, other = UpdateLink(module, status.serial), bank != status.active_bank
    return {str(stage): _told(link.digest(stage, other=other)) for stage in Stage}


def _told(found: StageDigest | None) -> dict[str, Any] | None:
    """By the firmware's own word: the only one there is of a closed module."""
    if found is None:
        return None
    return {
        "version": str(found.version),
        "counter": found.counter,
        "file": found.sha256.hex(),
        "digest_holds": True,
    }


def _claim(module: Module, hardware: Hardware, bank: str, stage: Stage) -> dict[str, Any] | None:
    slot = hardware.slot(stage)
    try:
        image = decode_slot(module.read(bank, slot.offset, slot.size))
    except CellwardError:
        return None
    return {
        "version": str(image.version),
        "counter": image.counter,
        "file": sha256(image.data).hexdigest(),
        "digest_holds": image.digest == image.stated_digest,
    }


def show_boot(reports: tuple[BootReport, ...], telemetry: Telemetry) -> None:
    console = Console(highlight=False)
    for number, report in enumerate(reports, 1):
        console.print(_boot_table(number, report))
    show_telemetry(telemetry)


def _boot_table(number: int, report: BootReport) -> Table:
    colour = GOOD.get(report.outcome, "red")
    table = Table(
        title=f"boot {number}: {report.cause} reset, bank {report.bank}, "
        f"counter {report.counter}: [{colour}]{report.outcome}[/{colour}]",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for heading in ("ms", "who", "what", "code", "expected", "found"):
        table.add_column(heading, justify="right" if heading == "ms" else "left")
    for row in _rows(report):
        table.add_row(*row)
    return table


def _rows(report: BootReport) -> Iterator[tuple[str, ...]]:
    """Milestones and refusals by time; at the same millisecond a stage enters, refuses, goes on."""
    marks: list[tuple[int, int, int, tuple[str, ...]]] = []
    for index, milestone in enumerate(report.milestones):
        rank = 0 if milestone.name.endswith("_entered") else 2
        marks.append((milestone.at_ms, rank, index, _milestone_row(milestone)))
    marks += [(event.at_ms, 1, index, _event_row(event)) for index, event in enumerate(report.events)]
    return (row for *_, row in sorted(marks, key=lambda mark: mark[:3]))


def _milestone_row(milestone: Milestone) -> tuple[str, ...]:
    who, what = MILESTONES.get(milestone.name, ("?", milestone.name))
    colour = "red" if milestone.name in ("selftest_failed", "recovery") else "green"
    return (f"{milestone.at_ms}", who, f"[{colour}]{what}[/{colour}]", "", "", "")


def _event_row(event: BootEvent) -> tuple[str, ...]:
    who = "ROM" if event.where == "rom" else event.where
    code = event.code or f"0x{event.status:08x}"
    said = f"[red]refused[/red], bank {event.bank}"
    return (f"{event.at_ms}", who, said, code, _number(event.expected), _number(event.found))


def _number(value: int) -> str:
    return f"{value}" if value < DECIMAL_BELOW else f"0x{value:08x}"


def show_telemetry(telemetry: Telemetry) -> None:
    contactors = "closed" if telemetry.contactors_closed else "open"
    asked = "closed" if telemetry.close_requested else "open"
    cells, sensors = telemetry.cells_mv, telemetry.temperatures_dc
    Console(highlight=False).print(
        f"contactors {contactors} (asked for: {asked}), {len(cells)} cells "
        f"{min(cells)} to {max(cells)} mV, pack {telemetry.pack_mv} mV, {telemetry.current_ma} mA, "
        f"{min(sensors) / 10:.1f} to {max(sensors) / 10:.1f} °C, charge {telemetry.soc_permille / 10:.1f} %"
    )


def show_status(facts: dict[str, Any], telemetry: Telemetry) -> None:
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in ("serial", "hardware", "lifecycle", "debug", "outcome", "active_bank", "counter"):
        table.add_row(name.replace("_", " "), f"{facts[name]}")
    for number, key in enumerate(facts["slot_keys"]):
        marks = " [red]revoked[/red]" if facts["revoked"] >> number & 1 else ""
        marks += " [yellow]development[/yellow]" if facts["development"] >> number & 1 else ""
        table.add_row(f"slot key {number}", f"{key}{marks}")
    table.add_row("root quorum", facts["root_quorum"] if facts["root_quorum"].strip("0") else "none")
    for name, bank in facts["banks"].items():
        table.add_row(f"bank {name}", bank["state"])
        for stage in Stage:
            table.add_row(f"  {stage}", _claim_text(bank[stage]))
    console.print(table)
    show_telemetry(telemetry)


def _claim_text(claim: dict[str, Any] | None) -> str:
    if claim is None:
        return "no image"
    holds = "" if claim["digest_holds"] else " [red](digest does not hold)[/red]"
    return f"{claim['version']}, counter {claim['counter']}, SHA-256 {claim['file']}{holds}"
