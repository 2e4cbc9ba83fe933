"""`cellward device enrol`: a pack controller gets its certificate, and what enrolling many is made of."""

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.devicesession import measurements
from cellward.core import strictjson
from cellward.core.errors import CellwardError, Code, FormatRefused, Refused
from cellward.core.metadata import MAX_FACTORY_SIZE, Factory, Repository, decode_factory
from cellward.device import identity
from cellward.device.attested import Controller
from cellward.device.identity import Identity
from cellward.device.measured import measure
from cellward.device.memory import Attested, Device, Memory, ModuleEntry
from cellward.device.tamper import Guard

TOKEN_ENVIRONMENT = "CELLWARD_ENROL_TOKEN"
TOKEN_FILE_LIMIT = 4096
_file = click.Path(dir_okay=False, path_type=Path)

factory_option = click.option("--factory", "factory_file", required=True, type=_file, help="Factory data.")
server_option = click.option("--server", help="URL of the enrolment listener; by default the factory data's.")
software_option = click.option(
    "--software-identity", is_flag=True, help="Without a TPM: a key in a file, nothing attested."
)


@dataclass(frozen=True)
class Station:
    """What packs are enrolled with, the same for all: factory data, enrolment listener, the agent's digest.
    `software`: without a TPM."""

    data: bytes
    factory: Factory
    url: str
    code: bytes
    software: bool

    @classmethod
    def of(cls, factory_file: Path, server: str | None, *, software: bool) -> "Station":
        data = bootstrap.read_file(factory_file, MAX_FACTORY_SIZE)
        factory = decode_factory(data)
        return cls(data, factory, server or _first(factory.enrol_urls), bootstrap.agent_digest(), software)


@click.command()
@options.device_state
@factory_option
@click.option("--vehicle", required=True, help="The vehicle's id; the token was made for it.")
@click.option(
    "--token-file",
    type=_file,
    help=f"The one-time token; otherwise {TOKEN_ENVIRONMENT} is read.",
)
@click.option(
    "--module",
    "modules",
    required=True,
    multiple=True,
    type=_file,
    help="State file of a battery module. Repeat it for more.",
)
@server_option
@software_option
@click.option("--again", is_flag=True, help="Replace a certificate that is still valid.")
@options.as_json
def enrol(
    state: Path,
    factory_file: Path,
    vehicle: str,
    token_file: Path | None,
    modules: tuple[Path, ...],
    server: str | None,
    software_identity: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Get a certificate for this controller and register its modules.

    Its keys are made in the TPM, which attests what started: the one that CELLWARD_TPM names, or an embedded
    swtpm in the state directory. The server shows a software identity as a pack without a TPM.
    """
    station = Station.of(factory_file, server, software=software_identity)
    token = identity.check_token(_token(token_file))
    with bootstrap.device_lock(state):
        check_not_enrolled(state, vehicle, again=again)
        wanted = Device(vehicle, tuple(module_entry(path) for path in modules))
        enrolled, got = enrol_pack(state, wanted, station, token)
    key, until = got.public_key.fingerprint, strictjson.format_time(got.not_after)
    facts = {
        "vehicle": vehicle,
        "ecus": [ecu.ecu_id for ecu in enrolled.ecus],
        "identity": identity_facts(enrolled),
        "certificate": {"key": key, "not_after": until},
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"enrolled {vehicle} with {', '.join(ecu.ecu_id for ecu in enrolled.ecus)}")
    click.echo(f"certificate for key {key[:16]} until {until}")


def enrol_pack(
    state: Path, wanted: Device, station: Station, token: str, tpm: str | None = None
) -> tuple[Device, Identity]:
    """The controller whose state directory this is, by whoever has its lock; `tpm` as for bootstrap.tpm.

    Raises what the server refuses with, and what keys, TPM and storage do, PolicyRefused (tamper.*); nothing
    is enrolled then.
    """
    store = bootstrap.device_store(state)
    memory = Memory(store)
    for repository in Repository:
        memory.trusted(repository, station.factory)  # a token is not spent on roots that nobody signed
    server_ca = memory.server_ca(station.factory, station.data)
    with bootstrap.transport(station.url, server_ca) as transport:
        if station.software:
            device_ca = station.factory.device_ca
            now = datetime.now(UTC)
            got = identity.enrol(store, transport, device_ca, wanted.vehicle, token, wanted.ecus, now)
            enrolled = wanted
        else:
            with bootstrap.tpm(state, tpm) as its:
                log = measure(its, store, measurements(wanted, station.data, station.code))
                controller = Controller(its, log, transport, station.factory.device_ca, wanted.vehicle)
                got = _enrol_sound(bootstrap.guard(state, its), controller, station.data, token, wanted)
                attested = Attested(station.url, controller.signer.public_key.fingerprint)
            enrolled = replace(wanted, attested=attested)
    memory.set_device(enrolled, station.data)
    return enrolled, got


def _enrol_sound(guard: Guard, controller: Controller, data: bytes, token: str, wanted: Device) -> Identity:
    """It lifts a lock: a token that is spent now is the maker's word, by a server that this pack trusted
    before. Raises PolicyRefused (tamper.*) before one is, and what the server refuses with."""
    guard.check_quiet()
    guard.check_maker(data)
    noticed = guard.noticed()
    got = controller.enrol(token, wanted.ecus, spend=noticed is not None)
    if noticed is not None or not guard.log:
        guard.enrolled(f"vehicle {wanted.vehicle}", data)
    return got


def check_not_enrolled(state: Path, vehicle: str, *, again: bool = False) -> None:
    """A second enrolment by mistake would revoke the certificate in use. Raises Refused (enrol.done)."""
    held = enrolled_as(state, vehicle)
    if held is not None and not again:
        until = _enrolled_until(Memory(bootstrap.device_store(state)), held)
        term = f"until {strictjson.format_time(until)}" if until else "with its TPM"
        raise _done(
            state, "a controller without a certificate", f"{vehicle}, enrolled {term}", "--again replaces it"
        )


def enrolled_as(state: Path, vehicle: str) -> Device | None:
    """What was decided when this controller was enrolled; None where that is still to be done, or done again.

    Raises Refused (enrol.done) for another vehicle's: its counters and trusted metadata are not ours to go
    on with.
    """
    memory = Memory(bootstrap.device_store(state))
    try:
        held = memory.device()
        until = _enrolled_until(memory, held)
    except CellwardError as error:
        if error.code in (Code.ENROL_MISSING, Code.ENROL_CERTIFICATE, Code.STORAGE_MISSING):
            return None
        raise
    if held.vehicle != vehicle:
        raise _done(
            state, f"a state directory of {vehicle}", f"that of {held.vehicle}", "take another directory"
        )
    return held if until is None or datetime.now(UTC) < until else None


def _done(state: Path, expected: str, found: str, advice: str) -> Refused:
    return Refused(Code.ENROL_DONE, str(state), expected=expected, found=found, advice=advice)


def _enrolled_until(memory: Memory, held: Device) -> datetime | None:
    """None: for as long as the TPM is there."""
    if held.attested is not None:
        return None
    return identity.load(memory.store, held.vehicle, memory.factory().device_ca).not_after


def identity_facts(enrolled: Device) -> dict[str, Any]:
    """Where the key is that signs reports: what a server can believe of this controller depends on it."""
    if enrolled.attested is None:
        return {"kind": "software", "attested": False}
    return {"kind": "tpm", "attested": True, **asdict(enrolled.attested)}


def module_entry(path: Path) -> ModuleEntry:
    """The module says who it is; its address is kept absolute, for `run` may start elsewhere."""
    address = path.absolute()
    with bootstrap.connect_module(address) as module:
        status = module.status()
    return ModuleEntry(status.serial, status.hardware, str(address))


def _token(file: Path | None) -> str:
    """From a file or the environment; an argument would be seen by every process."""
    if file is None:
        return os.environ.get(TOKEN_ENVIRONMENT, "")
    return bootstrap.read_file(file, TOKEN_FILE_LIMIT).decode("ascii", "replace")


def _first(urls: tuple[str, ...]) -> str:
    if not urls:
        raise FormatRefused(
            Code.CONFIG,
            "factory data",
            expected="the URL of the enrolment listener",
            found="none",
            advice="name it with --server",
        )
    return urls[0]
