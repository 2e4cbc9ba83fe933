"""`cellward module calibrate`: what the plant measured of a pack, into the module's vault."""

import json
from pathlib import Path
from typing import Any

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.core.errors import Code, ModuleRefused
from cellward.core.vault import Calibration, Name, decode_calibration
from cellward.device.calibrate import block_of
from cellward.device.link import UpdateLink
from cellward.ports.module import Module


@click.command()
@options.module_state
@click.option("--version", type=click.IntRange(0, 2**32 - 1), required=True, help="Of this calibration.")
@click.option("--current-gain-ppm", type=int, default=0, show_default=True)
@click.option("--current-offset-ma", type=int, default=0, show_default=True)
@click.option("--cell-over-mv", type=int, required=True, help="Contactors open above it.")
@click.option("--cell-under-mv", type=int, required=True, help="Contactors open below it.")
@options.as_json
def calibrate(
    state: Path,
    version: int,
    current_gain_ppm: int,
    current_offset_ma: int,
    cell_over_mv: int,
    cell_under_mv: int,
    as_json: bool,
) -> None:
    """Plant: write the calibration into the module's vault, before the module is closed.

    It is in force when the next boot has committed it, which this waits for. Repeating the command
    changes nothing. A module without one keeps to safe defaults and says so at every boot.
    """
    wanted = Calibration(current_gain_ppm, current_offset_ma, cell_over_mv, cell_under_mv)
    with bootstrap.connect_module(state) as target:
        changed = bring(target, version, wanted)
        facts = _facts(target)
    said = f"module {facts['serial']}: calibration {version} {'in force' if changed else 'was there already'}"
    click.echo(json.dumps({**facts, "changed": changed}, indent=2) if as_json else said)


def bring(module: Module, version: int, wanted: Calibration) -> bool:
    """Whether it had to be written. Raises ModuleRefused (lifecycle.closed, vault.*, link.*), and what the
    link raises."""
    link = UpdateLink(module, module.status().serial)
    if block_of(link) == (version, wanted):
        return False
    link.vault_write(Name.CALIBRATION, version, wanted.encode())
    link.restart()
    held = block_of(link)
    if held != (version, wanted):
        raise ModuleRefused(
            Code.FLASH_READBACK,
            "calibration",
            expected=f"version {version} as it was written",
            found="none" if held is None else f"version {held[0]}",
        )
    return True


def _facts(module: Module) -> dict[str, Any]:
    serial = module.status().serial
    version, counter, value = UpdateLink(module, serial).vault_read(Name.CALIBRATION)
    held = decode_calibration(value)
    return {
        "serial": serial,
        "version": version,
        "counter": counter,
        "current_gain_ppm": held.current_gain_ppm,
        "current_offset_ma": held.current_offset_ma,
        "cell_over_mv": held.cell_over_mv,
        "cell_under_mv": held.cell_under_mv,
    }
