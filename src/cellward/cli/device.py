"""`cellward device`: the pack controller's agent."""

import hashlib
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.devicecalibrate import calibrate
from cellward.cli.deviceenrol import enrol, identity_facts
from cellward.cli.deviceowner import health, owner
from cellward.cli.deviceplan import enrol_plan
from cellward.cli.deviceserverca import server_ca
from cellward.cli.devicesession import Agents, agents
from cellward.cli.devicetamper import remembered, said, tamper
from cellward.core import serverca, strictjson
from cellward.core.errors import CellwardError
from cellward.core.metadata import Factory, Repository, Role
from cellward.device import clock, identity
from cellward.device.cycle import Cycle
from cellward.device.memory import Device, Memory
from cellward.device.update import Watch

JITTER = 0.1  # of the interval, so that a fleet does not poll in step

_file = click.Path(dir_okay=False, path_type=Path)


def _now() -> datetime:
    return datetime.now(UTC)


@click.group()
def device() -> None:
    """The pack controller: enrol once, then poll, verify, install and report."""


for _command in (enrol, enrol_plan, calibrate, owner, health, tamper, server_ca):
    device.add_command(_command)


@device.command()
@options.device_state
@click.option("--authorities", type=_file, help="Write the certificates, PEM, of who certified it.")
@options.as_json
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
@options.device_state
@click.option("--once", is_flag=True, help="One cycle; exit status 1 if something was refused.")
@click.option("--interval", type=click.FloatRange(min=0.1), default=300.0, show_default=True, help="Seconds.")
@options.as_json
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
        "refusal": error and error.facts(),
    }


# --- status ---


@device.command()
@options.device_state
@options.as_json
def status(state: Path, as_json: bool) -> None:
    """What this controller remembers: certificate, trusted metadata, modules, tampering, last results."""
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
        "identity": identity_facts(enrolled),
        "certificate": _certificate(enrolled, factory, memory),
        "attested_time": attested and strictjson.format_time(attested),
        "server_cas": _server_cas(memory, factory),
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
        "tamper": remembered(memory.store),
        "results": {ecu: {**r.result.to_json(), "attack": r.attack} for ecu, r in results.items()},
    }


def _server_cas(memory: Memory, factory: Factory) -> dict[str, object]:
    """Version 0: those of the factory data."""
    held = memory.server_cas()
    certificates = held.certificates if held else (factory.server_ca,)
    return {"version": held.version if held else 0, "keys": [serverca.fingerprint(c) for c in certificates]}


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
    cas = facts["server_cas"]
    since = f"version {cas['version']}" if cas["version"] else "the factory's"
    yield f"server CAs   {since}: {', '.join(key[:16] for key in cas['keys'])}"
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
    if facts["tamper"]:
        yield f"tampering    {facts['tamper']['state']}"
        yield from (f"             {said(entry)}" for entry in facts["tamper"]["events"])
    for ecu, result in facts["results"].items():
        sides = [f"{side} {result[side]}" for side in ("expected", "found") if result[side]]
        yield f"last         {ecu}: {result['code']}" + (f": {', '.join(sides)}" if sides else "")


def _calibration(note: dict[str, str]) -> str:
    said = [f"version {note['version']}, {note['source']}" if note["version"] else note["source"]]
    said += [note["module"]] if note["module"] else []
    said += [f"{note['code']}: expected {note['expected']}, found {note['found']}"] if note["code"] else []
    return "; ".join(said)
