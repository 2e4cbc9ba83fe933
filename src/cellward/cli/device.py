"""`cellward device`: the pack controller's agent."""

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cellward import bootstrap
from cellward.cli.devicecalibrate import calibrate
from cellward.cli.devicesession import Agents, agents, enrol_attested
from cellward.core import strictjson
from cellward.core.errors import CellwardError, Code, FormatRefused, Refused
from cellward.core.metadata import MAX_FACTORY_SIZE, Factory, Repository, Role, decode_factory
from cellward.device import clock, identity
from cellward.device.agent import Cycle
from cellward.device.memory import Device, Memory, ModuleEntry
from cellward.device.update import Watch

TOKEN_ENVIRONMENT = "CELLWARD_ENROL_TOKEN"
TOKEN_FILE_LIMIT = 4096
JITTER = 0.1  # of the interval, so that a fleet does not poll in step

_state = click.option(
    "--state",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The controller's state directory.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_file = click.Path(dir_okay=False, path_type=Path)


def _now() -> datetime:
    return datetime.now(UTC)


@click.group()
def device() -> None:
    """The pack controller: enrol once, then poll, verify, install and report."""


device.add_command(calibrate)

# --- enrol ---


@device.command()
@_state
@click.option("--factory", "factory_file", required=True, type=_file, help="Factory data.")
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
@click.option("--server", help="URL of the enrolment listener; by default the factory data's.")
@click.option("--software-identity", is_flag=True, help="Without a TPM: a key in a file, nothing attested.")
@click.option("--again", is_flag=True, help="Replace a certificate that is still valid.")
@_json
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
    data = bootstrap.read_file(factory_file, MAX_FACTORY_SIZE)
    factory = decode_factory(data)
    token = identity.check_token(_token(token_file))
    with bootstrap.device_lock(state):
        store = bootstrap.device_store(state)
        memory = Memory(store)
        _check_not_enrolled(memory, state, vehicle, again)
        for repository in Repository:
            memory.trusted(repository, factory)  # a token is not spent on roots that nobody signed
        enrolled = Device(vehicle, tuple(_entry(path) for path in modules))
        url = server or _first(factory.enrol_urls)
        with bootstrap.transport(url, factory.server_ca) as transport:
            if software_identity:
                ca, ecus = factory.device_ca, enrolled.ecus
                got = identity.enrol(store, transport, ca, vehicle, token, ecus, _now())
            else:
                enrolled, got = enrol_attested(state, enrolled, url, data, transport, token)
        memory.set_device(enrolled, data)
    facts = {
        "vehicle": vehicle,
        "ecus": [ecu.ecu_id for ecu in enrolled.ecus],
        "identity": _identity(enrolled),
        "certificate": {
            "key": got.public_key.fingerprint,
            "not_after": strictjson.format_time(got.not_after),
        },
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"enrolled {vehicle} with {', '.join(facts['ecus'])}")
    click.echo(
        f"certificate for key {got.public_key.fingerprint[:16]} until {strictjson.format_time(got.not_after)}"
    )


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


def _check_not_enrolled(memory: Memory, state: Path, vehicle: str, again: bool) -> None:
    """A second enrolment by mistake would revoke the certificate in use; another vehicle's counters
    and trusted metadata are not ours to go on with."""
    try:
        held = memory.device()
        until = _enrolled_until(memory, held)
    except CellwardError as error:
        if error.code in (Code.ENROL_MISSING, Code.ENROL_CERTIFICATE, Code.STORAGE_MISSING):
            return
        raise
    other = held.vehicle != vehicle
    if other or (not again and (until is None or _now() < until)):
        term = f"until {strictjson.format_time(until)}" if until else "with its TPM"
        raise Refused(
            Code.ENROL_DONE,
            str(state),
            expected=f"a state directory of {vehicle}" if other else "a controller without a certificate",
            found=f"{held.vehicle}, enrolled {term}",
            advice="take another directory" if other else "--again replaces it",
        )


def _enrolled_until(memory: Memory, held: Device) -> datetime | None:
    """None: for as long as the TPM is there."""
    if held.attested is not None:
        return None
    return identity.load(memory.store, held.vehicle, memory.factory().device_ca).not_after


def _entry(path: Path) -> ModuleEntry:
    """The module says who it is; its address is kept absolute, for `run` may start elsewhere."""
    address = path.absolute()
    with bootstrap.connect_module(address) as module:
        status = module.status()
    return ModuleEntry(status.serial, status.hardware, str(address))


@device.command()
@_state
@click.option("--authorities", type=_file, help="Write the certificates, PEM, of who certified it.")
@_json
def tpm(state: Path, authorities: Path | None, as_json: bool) -> None:
    """Which TPM this controller has. An embedded one is made, and brings its own authorities: the maker
    takes them with `cellward server know-tpm`, as he would those of a TPM's manufacturer."""
    with bootstrap.tpm(state) as found:
        its = found.facts()
        certificate = found.ek_certificate()
    if authorities is not None:
        bootstrap.write_file(authorities, bootstrap.tpm_authorities(state))
    fingerprint = hashlib.sha256(certificate).hexdigest()
    facts = {
        "manufacturer": its.manufacturer,
        "model": its.model,
        "endorsement_certificate": fingerprint,
        "failed_tries": its.failed_tries,
        "locked_out": its.locked_out,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"{its.manufacturer} {its.model}, certificate {fingerprint[:16]}")
    click.echo(f"failed tries {its.failed_tries}" + (", locked out" if its.locked_out else ""))


# --- run ---


@device.command()
@_state
@click.option("--once", is_flag=True, help="One cycle; exit status 1 if something was refused.")
@click.option("--interval", type=click.FloatRange(min=0.1), default=300.0, show_default=True, help="Seconds.")
@_json
def run(state: Path, once: bool, interval: float, as_json: bool) -> None:
    """Poll, verify, install, confirm, report: once or for ever."""
    Memory(bootstrap.device_store(state)).device()  # before a lock file is made in the wrong place
    with bootstrap.device_lock(state), _watch(as_json) as watch, agents(state, watch) as current:
        while True:
            refusal = _one(current, watch, as_json)
            if once and refusal is not None:
                raise refusal
            if once:
                return
            if refusal is not None:
                watch.say(str(refusal))
            time.sleep(interval * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  no secret


def _one(current: Agents, watch: Watch, as_json: bool) -> CellwardError | None:
    """One cycle, shown. Neither a full disk nor a server that gives no certificate must end the loop of a
    pack that nobody looks at."""
    try:
        cycle = current().cycle(_now())
    except CellwardError as error:
        return error
    _show(cycle, watch, as_json)
    return cycle.refusal


@contextmanager
def _watch(as_json: bool) -> Iterator[Watch]:
    """Lines for people with progress on a terminal; nothing but the results where JSON was asked for."""
    if as_json:
        yield Watch()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    tasks: dict[str, Any] = {}

    def say(text: str) -> None:
        console.print(f"{_now():%H:%M:%S} {text}", markup=False, soft_wrap=True)

    def progress(what: str, now: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=now)
        if now >= total:
            bar.remove_task(tasks.pop(what))

    with bar if console.is_terminal else nullcontext():
        yield Watch(say, progress)


def _show(cycle: Cycle, watch: Watch, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_facts(cycle)))
        return
    runs = ", ".join(f"{ecu} {version}" for ecu, version in sorted(cycle.installed.items()))
    watch.say(f"{cycle.outcome}; runs {runs or 'nothing'}")


def _facts(cycle: Cycle) -> dict[str, object]:
    error = cycle.refusal
    return {
        "outcome": cycle.outcome,
        "installed": dict(cycle.installed),
        "updated": list(cycle.updated),
        "refusal": None
        if error is None
        else {
            "code": str(error.code),
            "subject": error.subject,
            "expected": error.expected,
            "found": error.found,
            "advice": error.advice,
        },
    }


# --- status ---


@device.command()
@_state
@_json
def status(state: Path, as_json: bool) -> None:
    """What this controller remembers: certificate, trusted metadata, modules, last results."""
    memory = Memory(bootstrap.device_store(state))
    facts = _remembered(memory)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for line in _lines(facts):
        click.echo(line)


def _remembered(memory: Memory) -> dict[str, Any]:
    enrolled, factory = memory.device(), memory.factory()
    trusted = {r: memory.trusted(r, factory) for r in Repository}
    results, attested = memory.results(), clock.latest(memory, factory.time_keys)
    return {
        "vehicle": enrolled.vehicle,
        "identity": _identity(enrolled),
        "certificate": _certificate(enrolled, factory, memory),
        "attested_time": attested and strictjson.format_time(attested),
        "trusted": {str(r): {str(role): t.version(role) for role in Role} for r, t in trusted.items()},
        "modules": [
            {
                "serial": entry.serial,
                "hardware": entry.hardware,
                "address": entry.address,
                "installed": {s: dict(seen.to_json()) for s, seen in memory.seen(entry.serial).items()},
                "calibration": memory.calibrated(entry.serial) or None,
            }
            for entry in enrolled.modules
        ],
        "results": {ecu: {**r.result.to_json(), "attack": r.attack} for ecu, r in results.items()},
    }


def _identity(enrolled: Device) -> dict[str, object]:
    """Where the key is that signs reports: what a server can believe of this controller depends on it."""
    if enrolled.attested is None:
        return {"kind": "software", "attested": False}
    return {"kind": "tpm", "attested": True, **asdict(enrolled.attested)}


def _certificate(enrolled: Device, factory: Factory, memory: Memory) -> dict[str, str] | None:
    """None with a TPM: that one is in the running agent's memory."""
    if enrolled.attested is not None:
        return None
    me = identity.load(memory.store, enrolled.vehicle, factory.device_ca)
    return {"key": me.public_key.fingerprint, "not_after": strictjson.format_time(me.not_after)}


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    certificate = facts["certificate"]
    yield f"vehicle      {facts['vehicle']}"
    if certificate:
        yield "identity     software: a key in a file, not attested"
        yield f"certificate  key {certificate['key'][:16]} until {certificate['not_after']}"
    else:
        its = facts["identity"]
        yield f"identity     TPM: key {its['identity_key'][:16]}, certificates of hours by {its['server']}"
    yield f"time         {facts['attested_time'] or 'never attested yet'}"
    for repository, versions in facts["trusted"].items():
        yield f"{repository:<12} " + ", ".join(f"{role} {version}" for role, version in versions.items())
    for module in facts["modules"]:
        runs = [
            f"{stage} {i['version']} (counter {i['release_counter']})"
            for stage, i in module["installed"].items()
        ]
        runs_what = ", ".join(runs) or "never seen running"
        yield f"module       {module['serial']} ({module['hardware']}): {runs_what}"
        if module["calibration"]:
            yield f"calibration  {module['serial']}: {_calibration(module['calibration'])}"
    for ecu, result in facts["results"].items():
        sides = [f"{side} {result[side]}" for side in ("expected", "found") if result[side]]
        yield f"last         {ecu}: {result['code']}" + (f": {', '.join(sides)}" if sides else "")


def _calibration(note: dict[str, str]) -> str:
    said = [f"version {note['version']}, {note['source']}" if note["version"] else note["source"]]
    said += [note["module"]] if note["module"] else []
    said += [f"{note['code']}: expected {note['expected']}, found {note['found']}"] if note["code"] else []
    return "; ".join(said)
