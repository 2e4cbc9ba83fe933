"""`cellward device owner` and `device health`: who may read the pack's state of health, and his reading."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.core import owner as owners
from cellward.core.errors import CellwardError
from cellward.core.health import Record, verify
from cellward.core.keys import PublicKey
from cellward.core.metadata import Factory
from cellward.core.strictjson import format_time
from cellward.device.attested import tpm_signer
from cellward.device.health import record
from cellward.device.memory import Device, Memory
from cellward.device.owner import answered, appoint, appointed, authority
from cellward.device.owner import challenge as new_challenge
from cellward.device.vault import opened
from cellward.ports.module import Module

MAX_SIGNATURE = 256
_file = click.Path(readable=False, dir_okay=False, path_type=Path)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _enrolled(state: Path) -> tuple[Memory, Device, Factory]:
    memory = Memory(bootstrap.device_store(state))
    return memory, memory.device().with_tpm(), memory.factory()


# --- who he is ---


@click.group()
def owner() -> None:
    """The pack's owner: may read its state of health, and do nothing else."""


@owner.command(name="set")
@options.device_state
@options.as_json
@click.argument("grant", type=_file)
def set_(state: Path, grant: Path, as_json: bool) -> None:
    """Take the maker's GRANT (`cellward server owner`): from now on its owner may read, nobody before him.

    Only who can enrol packs can make one, and an older one is refused: an owner cannot pass the pack on by
    himself, nor come back after he has sold it.
    """
    _, device, factory = _enrolled(state)
    data = bootstrap.read_file(grant, owners.MAX_SIZE)
    with bootstrap.vault_place(state) as place, opened(place) as vault:
        found = appoint(vault, data, authority(factory), device.vehicle, str(grant))
    _show_owner(found.vehicle, found.key, found.at, as_json)


@owner.command()
@options.device_state
@options.as_json
def show(state: Path, as_json: bool) -> None:
    """Who the owner is."""
    _, device, factory = _enrolled(state)
    with bootstrap.vault_place(state) as place, opened(place) as vault:
        found = appointed(vault, authority(factory), device.vehicle)
    _show_owner(found.vehicle, found.key, found.at, as_json)


def _show_owner(vehicle: str, key: PublicKey, at: datetime, as_json: bool) -> None:
    if as_json:
        facts = {"vehicle": vehicle, "owner_key": key.fingerprint, "granted": format_time(at)}
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"{vehicle} is owned by who has key {key.fingerprint[:16]}, granted {format_time(at)}")


# --- his reading ---


@click.group()
def health() -> None:
    """The pack's state of health (Regulation (EU) 2023/1542, Article 14), for its owner."""


@health.command()
@options.device_state
@click.option("-o", "--output", required=True, type=_file, help="File to write, for the owner to sign.")
def challenge(state: Path, output: Path) -> None:
    """A text for the owner to sign: `openssl dgst -sha256 -sign owner.pem -out signature FILE`.

    It is good once, for ten minutes, and until somebody else tries to authenticate.
    """
    _, device, _ = _enrolled(state)
    with bootstrap.vault_place(state) as place:
        made = new_challenge(place, device.vehicle, _now())
    bootstrap.write_file(output, made.encode())
    click.echo(f"sign {output} until {format_time(made.until)}")


@health.command()
@options.device_state
@click.option(
    "--signature", "signature_file", required=True, type=_file, help="The owner's, of the challenge."
)
@click.option("-o", "--output", type=_file, help="File for the record, signed by the pack's identity key.")
@options.as_json
def read(state: Path, signature_file: Path, output: Path | None, as_json: bool) -> None:
    """Print the pack's state of health, for the owner who signed the challenge.

    A wrong signature uses the challenge up, and after three of them each further try has to wait. Nothing is
    written but that; no module is asked for more than what it measures.
    """
    memory, device, factory = _enrolled(state)
    signature = bootstrap.read_file(signature_file, MAX_SIGNATURE)
    with bootstrap.vault_place(state) as place, ExitStack() as links:
        with opened(place) as vault:
            grant = appointed(vault, authority(factory), device.vehicle)
        asked = answered(place, grant, signature, _now())
        signer = tpm_signer(place.tpm)
        made = record(memory, device, _reached(device, links), asked.nonce, signer, _now()).encode()
    if output is not None:
        bootstrap.write_file(output, made)
    found = verify(made, frozenset([signer.public_key.fingerprint]))
    if as_json:
        click.echo(json.dumps(found.tree(), indent=2))
        return
    for line in _lines(found):
        click.echo(line)


def _reached(device: Device, links: ExitStack) -> dict[str, Module]:
    """As they are: a module that waits in its update engine is left there."""
    found: dict[str, Module] = {}
    for entry in device.modules:
        with suppress(CellwardError):
            found[entry.serial] = links.enter_context(bootstrap.connect_module(Path(entry.address)))
    return found


def _lines(found: Record) -> Iterator[str]:
    yield f"{found.vehicle}, {format_time(found.at)}, signed by pack key {found.key.fingerprint}"
    for module in found.modules:
        runs = ", ".join(f"{stage} {version}" for stage, version in sorted(module.firmware.items()))
        yield f"module {module.serial} ({module.hardware}): {runs or 'firmware never seen'}"
        if module.tampered:
            yield "  TAMPERED    its secret is destroyed, its contactors stay open"
        yield f"  calibration {module.calibration or 'none in force'}"
        now, seen = module.measured, module.observed
        if now is None:
            yield f"  measured    nothing: {module.silent}"
        else:
            yield f"  charge      {now.charge_permille / 10:.1f} %, as the module estimates it"
            yield f"  cells       {now.cells}, {now.cell_lowest_mv} to {now.cell_highest_mv} mV"
            yield f"  temperature {now.temperature_lowest_dc / 10} to {now.temperature_highest_dc / 10} °C"
            yield f"  pack        {now.pack_mv} mV, {now.current_ma} mA"
        if seen is not None:
            yield (
                f"  {'harmful':<11} at {seen.looks} looks since {format_time(seen.since)}: "
                f"deep discharge {seen.deep_discharge}, overcharge {seen.overcharge}, "
                f"extreme temperature {seen.extreme_temperature}, "
                f"while charging {seen.extreme_temperature_charging}"
            )
    for parameter, why in found.absent.items():
        yield f"absent: {parameter} ({why})"
