"""`cellward module`: the battery module on the bench and at the plant."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.keyfiles import key_hash, quorum
from cellward.cli.modulecalibrate import calibrate
from cellward.core.errors import Code, ModuleRefused, Unavailable
from cellward.core.slots import HARDWARE, Stage
from cellward.ports.module import BootReport, Conditions, Module, Outcome, TamperSource, Telemetry, Torn

IMAGE_LIMIT = 4 * 1024 * 1024
REVOCATION_LIMIT = 4096

_file = click.Path(dir_okay=False, path_type=Path)
Command = Callable[..., Any]


@click.group()
def module() -> None:
    """Make, boot and look at a battery module."""


@module.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def firmware(folder: Path) -> None:
    """Copy the packaged firmware (loader and apps, as a build leaves them) and its SBOM into FOLDER."""
    from cellward.sign.billofmaterials import SBOM_NAME, firmware_sbom
    from cellward.vbms.packaged import packaged, packaged_names

    files, store = {name: packaged(name) for name in packaged_names()}, bootstrap.DirectoryStore(folder)
    files[SBOM_NAME] = firmware_sbom(files)
    for name, data in files.items():
        store.write(name, data)
    click.echo(f"wrote {len(files)} files to {folder}")


@module.command()
@options.module_state
@click.option("--hardware", type=click.Choice(list(HARDWARE)), required=True)
@click.option("--serial", required=True, help="Up to 16 ASCII characters.")
def create(state: Path, hardware: str, serial: str) -> None:
    """Make a blank module: erased flash, no fuse burned."""
    from cellward.vbms.state import create as create_state

    create_state(state, HARDWARE[hardware], serial)
    click.echo(f"made {state}: blank {hardware}, serial {serial}")


@module.command()
@options.module_state
@click.option(
    "--firmware-key",
    "firmware_keys",
    required=True,
    multiple=True,
    help="A PEM public key, or the SHA-256 of one in hex. Repeat it for up to 4 slots.",
)
@click.option(
    "--development-key",
    "development_keys",
    multiple=True,
    help="The same, for the slots behind; a closed module does not take what such a key signs.",
)
@click.option(
    "--root-key",
    "root_keys",
    multiple=True,
    type=_file,
    help="A PEM public key of the quorum that may revoke slot keys. Repeat it for up to 4.",
)
@click.option(
    "--root-threshold",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="How many of them must sign.",
)
@click.option("--loader", required=True, type=_file, help="Signed loader image.")
@click.option("--app", required=True, type=_file, help="Signed app image.")
@click.option(
    "--register",
    "register",
    required=True,
    type=_file,
    help="The module's registration: keys that verify its records. Secret; made here, or gone on with.",
)
@click.option(
    "--close/--keep-open",
    default=True,
    show_default=True,
    help="Close the programmer's port and the debug port, or leave them open.",
)
@options.as_json
def provision(
    state: Path,
    firmware_keys: tuple[str, ...],
    development_keys: tuple[str, ...],
    root_keys: tuple[Path, ...],
    root_threshold: int,
    loader: Path,
    app: Path,
    register: Path,
    close: bool,
    as_json: bool,
) -> None:
    """Plant: burn keys, identity and device secret, write the first images to bank a, close.

    Both images are verified first as ROM and loader will. Repeating the command finishes a line that
    lost power, and changes nothing on a module that is finished.
    """
    from cellward.vbms.plant import NO_QUORUM, Order
    from cellward.vbms.plant import provision as provision_module

    hashes = [key_hash(key) for key in (*firmware_keys, *development_keys)]
    images = {
        Stage.LOADER: bootstrap.read_file(loader, IMAGE_LIMIT),
        Stage.APP: bootstrap.read_file(app, IMAGE_LIMIT),
    }
    with bootstrap.connect_module(state, power=False) as target:
        order = Order(
            hardware=HARDWARE[target.status().hardware],
            key_hashes=hashes,
            images=images,
            development=(1 << len(hashes)) - (1 << len(firmware_keys)),
            root_quorum=quorum(root_threshold, root_keys).digest if root_keys else NO_QUORUM,
            close=close,
        )
        changed = provision_module(target, order, os.urandom, bootstrap.registration_file(register))
        facts = _status_facts(target)
    said = f"module {facts['serial']}: {'provisioned' if changed else 'was provisioned already'}"
    said += f", lifecycle {facts['lifecycle']}"
    click.echo(json.dumps({**facts, "changed": changed}, indent=2) if as_json else said)


@module.command()
@options.module_state
@click.option("--off", is_flag=True, help="Start without power.")
def run(state: Path, off: bool) -> None:
    """Run the module until interrupted; other commands talk to it through STATE.sock."""
    from cellward.vbms.process import run as run_process

    run_process(state, click.echo, power=not off)


@module.command()
@options.module_state
@options.as_json
def boot(state: Path, as_json: bool) -> None:
    """Switch the module off and on, and show how it boots, stage by stage."""
    with bootstrap.connect_module(state, power=False) as target:
        target.power_off()
        _show_boot(target, target.power_on(), as_json)


@module.command()
@options.module_state
@options.as_json
def reset(state: Path, as_json: bool) -> None:
    """Pull the reset pin of a running module, and show how it boots."""
    with bootstrap.running_module(state) as target:
        _show_boot(target, target.reset(), as_json)


@module.command()
@options.module_state
@options.as_json
def status(state: Path, as_json: bool) -> None:
    """Identity, fuses and banks; of a running module also its last boot and what it measures."""
    with bootstrap.connect_module(state, power=False) as target:
        facts = _status_facts(target)
        if as_json:
            click.echo(json.dumps(facts, indent=2))
            return
        from cellward.cli.moduleview import show_status

        show_status(facts, target.telemetry())


@module.command("power-cut")
@options.module_state
@click.option(
    "--operation",
    type=click.IntRange(0, 1_000_000_000),
    default=0,
    show_default=True,
    help="Cut in the n-th flash or fuse operation from now; 0 cuts at once.",
)
@click.option(
    "--torn", type=click.Choice([torn.value for torn in Torn]), default=Torn.NONE.value, show_default=True
)
def power_cut(state: Path, operation: int, torn: str) -> None:
    """Cut a running module's power, at once or in the middle of an operation to come."""
    with bootstrap.running_module(state) as target:
        if operation:
            target.cut_power_at(operation, Torn(torn))
            click.echo(f"the power goes in operation {operation} from now, torn: {torn}")
        else:
            target.power_off()
            click.echo("the power is off")


@module.command()
@options.module_state
@click.option(
    "--register", type=_file, help="The module's registration: its boot records are verified with it."
)
@options.as_json
def identify(state: Path, register: Path | None, as_json: bool) -> None:
    """Ask the firmware over the update link who it is, what it holds, and what was measured at its boot."""
    from cellward.cli.moduleidentity import ask, show

    held = None if register is None else bootstrap.registration_file(register).read()
    if register is not None and held is None:
        raise Unavailable(Code.STORAGE_MISSING, str(register), expected="a registration", found="none")
    with bootstrap.connect_module(state) as target:
        facts = ask(target, held)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        show(facts)


module.add_command(calibrate)


@module.command()
@options.module_state
@click.option("--revocation", required=True, type=_file, help="As `cellward keys revoke-slot` makes it.")
def revoke(state: Path, revocation: Path) -> None:
    """Hand over a slot key's revocation; the ROM carries it out.

    At the next boot that has a confirmed and committed bank, or, where no bank is good, at once. What the
    ROM refuses is one of that boot's events.
    """
    from cellward.device.link import UpdateLink

    data = bootstrap.read_file(revocation, REVOCATION_LIMIT)
    with bootstrap.connect_module(state) as target:
        before = target.status()
        UpdateLink(target, before.serial).revoke(data)
        after = target.status()
    done = after.revoked != before.revoked
    click.echo(f"module {after.serial}: {'revoked' if done else 'handed over; the next boot carries it out'}")


@module.command()
@options.module_state
@click.option(
    "--source",
    type=click.Choice([source.value for source in TamperSource]),
    default=TamperSource.CASE.value,
    show_default=True,
)
def tamper(state: Path, source: str) -> None:
    """Let a tamper sensor see something. The module destroys its secret: there is no way back."""
    with bootstrap.connect_module(state, power=False) as target:
        target.tamper(TamperSource(source))
        status = target.status()
    told = "at its next power-on" if status.outcome is Outcome.OFF else f"lifecycle {status.lifecycle}"
    click.echo(f"module {status.serial}: {source} tampered with, {told}")


def _conditions(command: Command) -> Command:
    options = (
        click.option("--load-ma", type=int, help="Drawn while the contactors are closed; negative charges."),
        click.option("--ambient-dc", type=int, help="Tenths of a degree Celsius."),
        click.option("--supply-mv", type=int),
        click.option("--soc-permille", type=click.IntRange(0, 1000)),
        click.option("--faulty-cell", type=(int, int), metavar="CELL MV", help="A cell stuck at a voltage."),
        click.option(
            "--faulty-sensor", type=(int, int), metavar="SENSOR DC", help="A sensor stuck at a value."
        ),
        click.option("--pack-sense-offset-mv", type=int),
        click.option("--welded-contactor", is_flag=True),
        click.option("--front-end-dead", is_flag=True),
        click.option("--limits-stuck", is_flag=True),
        click.option("--isolation-fault", is_flag=True),
        click.option("--interlock-open", is_flag=True),
        click.option("--healthy", is_flag=True, help="Take all faults and loads back."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@module.command()
@options.module_state
@click.option("--close/--open", "close", default=None, help="Ask the app for closed or open contactors.")
@_conditions
@options.as_json
def pack(state: Path, close: bool | None, as_json: bool, healthy: bool, **given: Any) -> None:
    """What a running module's pack measures; options put faults and loads on it.

    Faults given together replace those from before; --healthy alone takes them back.
    """
    chosen = {name: value for name, value in given.items() if value not in (None, False)}
    for name, unit in (("faulty_cell", "mv"), ("faulty_sensor", "dc")):
        if name in chosen:
            chosen[name], chosen[f"{name}_{unit}"] = chosen[name]
    with bootstrap.running_module(state) as target:
        if chosen or healthy:
            target.set_conditions(Conditions(**chosen))
        if close is not None:
            target.set_close_request(close)
        target.advance(200)
        telemetry = target.telemetry()
    if as_json:
        click.echo(json.dumps(asdict(telemetry), indent=2))
        return
    from cellward.cli.moduleview import show_telemetry

    show_telemetry(telemetry)


def _show_boot(target: Module, reports: tuple[BootReport, ...], as_json: bool) -> None:
    """Print what happened; a module that does not run its app is a refusal afterwards."""
    status, telemetry = target.status(), target.telemetry()
    if as_json:
        click.echo(json.dumps(_boot_facts(reports, telemetry), indent=2))
    else:
        from cellward.cli.moduleview import show_boot

        show_boot(reports, telemetry)
    if status.outcome is not Outcome.RUNNING:
        raise ModuleRefused(
            _why_not(reports),
            f"module {status.serial}",
            expected="an app that runs",
            found=status.outcome,
            advice="the boot's events say what was refused",
        )


def _why_not(reports: tuple[BootReport, ...]) -> Code:
    if not reports or reports[-1].outcome is Outcome.HANG:
        return Code.MODULE_HANG
    return Code.POWER_CUT if reports[-1].outcome is Outcome.POWER_CUT else Code.BANK_NONE_GOOD


def _boot_facts(reports: tuple[BootReport, ...], telemetry: Telemetry) -> dict[str, Any]:
    boots = []
    for report in reports:
        facts = asdict(report)
        for event, told in zip(facts["events"], report.events, strict=True):
            event["code"] = told.code
        boots.append(facts)
    return {"outcome": reports[-1].outcome if reports else None, "boots": boots, "pack": asdict(telemetry)}


def _status_facts(target: Module) -> dict[str, Any]:
    status = target.status()
    return {
        "serial": status.serial,
        "hardware": status.hardware,
        "lifecycle": status.lifecycle,
        "debug": "locked" if status.debug_locked else "open",
        "outcome": status.outcome,
        "active_bank": status.active_bank,
        "counter": status.counter,
        "slot_keys": [key.hex() for key in status.slot_keys],
        "revoked": status.revoked,
        "development": status.development,
        "root_quorum": status.root_quorum.hex(),
        "banks": {bank.name: _bank_facts(target, status.hardware, bank.name) for bank in status.banks},
    }


def _bank_facts(target: Module, hardware: str, bank: str) -> dict[str, Any]:
    """State of the trailer, and what the slots claim to hold; nothing of it is verified here."""
    from cellward.cli.moduleview import claims

    status = target.status()
    return {"state": status.bank(bank).state.name.lower(), **claims(target, status, HARDWARE[hardware], bank)}
