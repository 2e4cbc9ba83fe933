"""`cellward calibration`: cell limits, sensor corrections and OCV table of a pack, as a signed file."""

import json
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.keyfiles import read_key
from cellward.config import Home
from cellward.core import calibration as calibrations
from cellward.core.calibration import PackCalibration
from cellward.core.keys import PublicKey
from cellward.core.slots import COUNTER_MAX, HARDWARE
from cellward.ports.signer import Role

EXAMPLE = "calibration.toml"
_file = click.Path(readable=False, dir_okay=False, path_type=Path)


@click.group()
def calibration() -> None:
    """Sign, show and verify calibrations: what a pack's sensor reads, and how far its cells may go."""


@calibration.command()
def example() -> None:
    """Print a calibration in TOML to start from."""
    click.echo(example_source(), nl=False)


def example_source() -> str:
    return resources.files("cellward.cli").joinpath("profiles", EXAMPLE).read_text("utf-8")


@calibration.command()
@click.argument("source", type=_file)
@click.option("--key", help="URI of the calibration key.  [default: the token's calibration key]")
@click.option("-o", "--output", required=True, type=_file, help="File to write.")
@options.as_json
@click.pass_obj
def sign(home: Home, source: Path, key: str | None, output: Path, as_json: bool) -> None:
    """Check the calibration in SOURCE (TOML) and sign it. The use of the key is in the signing log."""
    from cellward.sign.documents import sign_document

    now = datetime.now(UTC).replace(microsecond=0)
    data = bootstrap.read_file(source, calibrations.MAX_SOURCE)
    made = calibrations.from_source(data, now, str(source))
    signer = bootstrap.calibration_signer(home, key, f"{made.hardware} {made.version}")
    bootstrap.write_file(output, sign_document(made.to_sign(), signer).encode())
    _show(made, as_json, signed_by=signer.public_key)


@calibration.command()
@click.argument("file", type=_file)
@options.as_json
def show(file: Path, as_json: bool) -> None:
    """What the calibration in FILE says. Nothing of it is verified."""
    _show(calibrations.decode(_read(file), str(file)), as_json, signed_by=None)


@calibration.command()
@click.argument("file", type=_file)
@click.option(
    "--calibration-key",
    "keys",
    multiple=True,
    type=_file,
    help="PEM of a key that calibrations are signed with; may be repeated.  [default: the token's]",
)
@click.option("--hardware", type=click.Choice(list(HARDWARE)), help="That it must be for.")
@click.option("--serial", help="Of the module that it must be good for.")
@click.option("--counter", type=click.IntRange(0, COUNTER_MAX), default=0, help="It must not be below.")
@options.as_json
@click.pass_obj
def verify(
    home: Home,
    file: Path,
    keys: tuple[Path, ...],
    hardware: str | None,
    serial: str | None,
    counter: int,
    as_json: bool,
) -> None:
    """Verify who signed the calibration in FILE and, with --hardware, --serial and --counter, what for."""
    trusted = [read_key(path) for path in keys]
    trusted = trusted or [bootstrap.role_signer(home, Role.CALIBRATION).public_key]
    verified = calibrations.verify(_read(file), trusted, str(file))
    found = verified.calibration
    serial = found.serial if serial is None else serial
    calibrations.check_device(found, hardware or found.hardware, serial, counter, str(file))
    _show(found, as_json, signed_by=verified.key)


def _read(file: Path) -> bytes:
    return bootstrap.read_file(file, calibrations.MAX_SIZE)


def _show(found: PackCalibration, as_json: bool, *, signed_by: PublicKey | None) -> None:
    if as_json:
        facts = json.loads(found.to_sign().payload)
        click.echo(json.dumps({**facts, "signed_by": signed_by and signed_by.fingerprint}, indent=2))
        return
    limits, first, last = found.temperatures, found.ocv[0], found.ocv[-1]
    whose = f"module {found.serial}" if found.serial else "every module"
    lines = {
        "for": f"{found.hardware}, {whose}; {found.chemistry}",
        "counter": f"{found.counter}",
        "created": f"{found.created:%Y-%m-%d %H:%M} UTC",
        "cells": f"{found.cell_under_mv} to {found.cell_over_mv} mV",
        "charge": f"{_celsius(limits.charge_under_dc, limits.charge_over_dc)}, {_amperes(found.charge_ma)}",
        "discharge": f"{_celsius(limits.discharge_under_dc, limits.discharge_over_dc)}, "
        f"{_amperes(found.discharge_ma)}",
        "sensor": f"gain {found.current_gain_ppm:+} ppm, offset {found.current_offset_ma:+} mA",
        "OCV": f"{len(found.ocv)} points, {first} to {last}",
        "signed": signed_by.fingerprint if signed_by else "not verified",
    }
    click.echo(f"calibration {found.version}")
    for name, text in lines.items():
        click.echo(f"  {name:<10} {text}")


def _celsius(under: int, over: int) -> str:
    return f"{under / 10} to {over / 10} °C"


def _amperes(milliamperes: int) -> str:
    return f"at most {milliamperes / 1000:g} A"
