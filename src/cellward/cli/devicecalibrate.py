"""`cellward device calibrate`: a signed calibration for the pack's modules, from a file, without a server."""

import json
from contextlib import ExitStack
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.core import calibration
from cellward.core.calibration import PackCalibration
from cellward.device.agent import same_module
from cellward.device.calibrate import InModule, Taken, block_of, hand_over, meant, take
from cellward.device.link import UpdateLink, awake
from cellward.device.memory import Memory, ModuleEntry
from cellward.device.vault import opened
from cellward.ports.module import Module, ModuleStatus


@click.command()
@options.device_state
@options.as_json
@click.argument("file", type=click.Path(readable=False, dir_okay=False, path_type=Path))
def calibrate(state: Path, file: Path, as_json: bool) -> None:
    """Apply the signed calibration in FILE to this pack's modules that it is for.

    It is taken if a calibration key of the factory data has signed it, it is for this hardware and serial,
    its numbers go together, and it is newer than what was applied. It is kept in the controller's vault, and
    checked again at the start of every cycle. Nothing is reset: the module, while it is not closed, uses its
    part from its next start on. Repeating the command changes nothing.
    """
    memory, what = Memory(bootstrap.device_store(state)), str(file)
    device, keys = memory.device().with_tpm(), memory.factory().calibration_keys
    data = bootstrap.read_file(file, calibration.MAX_SIZE)
    found, entries = meant(data, keys, device.modules, what)
    with bootstrap.device_lock(state), ExitStack() as links:
        modules = {entry: _connected(entry, links) for entry in entries}
        blocks = {e: block_of(UpdateLink(module, e.serial)) for e, (module, _) in modules.items()}
        with bootstrap.vault_place(state) as place, opened(place) as vault:
            taken = take(vault, data, found, blocks, what)
        handed = {
            entry.serial: hand_over(UpdateLink(module, entry.serial), status.lifecycle, found)
            for entry, (module, status) in modules.items()
        }
    _show(found, taken, handed, as_json)


def _connected(entry: ModuleEntry, links: ExitStack) -> tuple[Module, ModuleStatus]:
    module = links.enter_context(bootstrap.connect_module(Path(entry.address)))
    return module, same_module(entry, awake(module))


def _show(found: PackCalibration, taken: list[Taken], handed: dict[str, InModule], as_json: bool) -> None:
    if as_json:
        modules = [
            {"serial": t.entry.serial, "changed": t.changed, "module": handed[t.entry.serial]} for t in taken
        ]
        click.echo(json.dumps({"version": f"{found.version}", "modules": modules}, indent=2))
        return
    for each in taken:
        serial, how = each.entry.serial, "kept" if each.changed else "was kept already"
        click.echo(f"module {serial}: calibration {found.version} {how}; {handed[serial]}")
