"""`cellward server`: serve vehicles, let them enrol, see what they run."""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.keyfiles import read_key
from cellward.cli.serverca import ca
from cellward.config import Home
from cellward.core import enrolplan
from cellward.core.errors import Code, PolicyRefused, Unavailable
from cellward.core.keys import Role
from cellward.core.metadata import InstallResult, check_vehicle_id
from cellward.core.owner import Grant
from cellward.core.registration import Registration
from cellward.core.strictjson import SHA256_HEX
from cellward.rollout import inventory
from cellward.rollout.inventory import EcuStatus, VehicleStatus
from cellward.rollout.measured import PROVEN, Verdict

_file = click.Path(path_type=Path, dir_okay=False)
HERE = "this installation"
MAX_PORT = 65535
MAX_AUTHORITIES = 256 * 1024
MAX_WHEEL = 64 * 1024 * 1024


def _address(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT; port 0 is any that is free."""
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port[:6]) > MAX_PORT:
        raise click.BadParameter(f"{value!r} is not HOST:PORT", ctx, param)
    return host.removeprefix("[").removesuffix("]"), int(port)


@click.group()
def server() -> None:
    """Serve repositories, artefacts and enrolment; see who runs what."""


@server.command()
@click.option(
    "--devices", callback=_address, metavar="HOST:PORT", default="127.0.0.1:8443", show_default=True,
    help="Where vehicles with a certificate ask.",
)  # fmt: skip
@click.option(
    "--enrolment", callback=_address, metavar="HOST:PORT", default="127.0.0.1:8444", show_default=True,
    help="Where vehicles without one ask for it.",
)  # fmt: skip
@click.option("--host", "names", multiple=True, metavar="NAME", help="Further name in our certificate.")
@options.as_json
@click.pass_obj
def run(
    home: Home, devices: tuple[str, int], enrolment: tuple[str, int], names: tuple[str, ...], as_json: bool
) -> None:
    """Serve until SIGTERM or SIGINT. TLS 1.3; prints one line when ready, then one a request."""
    from cellward.server.serve import Listen, serve

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    for noisy in ("uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

    def ready(devices: tuple[str, int], enrolment: tuple[str, int]) -> None:
        shown = {"devices": _shown(devices), "enrolment": _shown(enrolment)}
        line = (
            json.dumps(shown)
            if as_json
            else f"ready: devices {shown['devices']}, enrolment {shown['enrolment']}"
        )
        click.echo(line)
        sys.stdout.flush()

    with bootstrap.registry(home) as held:
        parts = bootstrap.repositories(home, held), bootstrap.authorities(home, _now())
        serve(*parts, Listen(devices, enrolment, names), _now, ready)


def _now() -> datetime:
    return datetime.now(UTC)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


server.add_command(ca)


@server.command("enrol-token")
@click.argument("vehicle")
@click.option("--software-identity", is_flag=True, help="Also without a TPM: the token is enough.")
@options.as_json
@click.pass_obj
def enrol_token(home: Home, vehicle: str, software_identity: bool, as_json: bool) -> None:
    """A one-time token that lets VEHICLE enrol with its TPM. It is shown once and kept as a hash."""
    with bootstrap.registry(home) as held:
        token = inventory.new_token(held, vehicle, _now(), software=software_identity)
    days = inventory.TOKEN_LIFETIME.days
    click.echo(json.dumps({"vehicle": vehicle, "token": token, "days": days}) if as_json else token)
    if not as_json:
        click.echo(f"good once, for {vehicle}, for {days} days", err=True)


@server.command("enrol-tokens")
@click.argument("plan", type=_file)
@click.option("-o", "--output", required=True, type=_file, help="File to write, for its owner alone.")
@click.option("--software-identity", is_flag=True, help="Also without a TPM, where the plan names none.")
@options.as_json
@click.pass_obj
def enrol_tokens(home: Home, plan: Path, output: Path, software_identity: bool, as_json: bool) -> None:
    """One-time tokens for the vehicles of a PLAN (docs/formats/enrolment-plan.md) that are not enrolled yet.

    They are in the file alone, and kept as hashes. Where the plan names a vehicle's TPM by its endorsement
    certificate, its token is good with that TPM and no other.
    """
    packs = enrolplan.decode(
        bootstrap.read_file(plan, enrolplan.MAX_SIZE), str(plan), enrolplan.NEEDED_BY_THE_SERVER
    )
    with bootstrap.registry(home) as held:
        tokens = inventory.new_tokens(held, packs, _now(), software=software_identity)
    bootstrap.write_file(output, enrolplan.encode_tokens(tokens), 0o600)
    days, enrolled = inventory.TOKEN_LIFETIME.days, len(packs) - len(tokens)
    if as_json:
        click.echo(json.dumps({"tokens": len(tokens), "enrolled": enrolled, "days": days}))
        return
    click.echo(f"{len(tokens)} tokens in {output}, good once, for {days} days; {enrolled} enrolled already")


@server.command()
@click.argument("vehicle")
@click.option("--key", "key_file", required=True, type=_file, help="PEM of the owner's public P-256 key.")
@click.option("-o", "--output", required=True, type=_file, help="File to write.")
@click.pass_obj
def owner(home: Home, vehicle: str, key_file: Path, output: Path) -> None:
    """Grant that the holder of a key may read the state of health of VEHICLE, as its lawful owner.

    Signed by the device CA: who enrols packs says whose they are. A later grant ends this one.
    """
    from cellward.sign.documents import sign_document

    made = Grant(check_vehicle_id(vehicle), read_key(key_file), _now().replace(microsecond=0))
    signed = sign_document(made.to_sign(), bootstrap.role_signer(home, Role.DEVICE_CA))
    bootstrap.write_file(output, signed.encode())
    click.echo(
        f"key {made.key.fingerprint[:16]} owns {vehicle}; hand it over with `cellward device owner set`"
    )


@server.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=_file,
    metavar="REGISTRATION...",
)
@options.as_json
@click.pass_obj
def register(home: Home, files: tuple[Path, ...], as_json: bool) -> None:
    """Take over what the plant registered of modules: keys to wrap for, keys that verify boot records."""
    taken = [_finished(path) for path in files]
    for registration in taken:
        bootstrap.register(home, registration)
    serials = [registration.serial for registration in taken]
    click.echo(json.dumps({"registered": serials}) if as_json else f"registered {', '.join(serials)}")


def _finished(path: Path) -> Registration:
    held = bootstrap.registration_file(path).read()
    if held is None:
        raise Unavailable(Code.STORAGE_MISSING, str(path), expected="a registration", found="none")
    if held.half:
        raise PolicyRefused(
            Code.MODULE_STATE,
            f"module {held.serial}",
            expected="the registration of a finished line",
            found="one of a line that was cut",
            advice="finish it with `cellward module provision`",
        )
    return held


_forget = click.option("--forget", is_flag=True, help="Not any more.")


@server.command("know-tpm")
@click.argument("files", nargs=-1, required=True, type=_file, metavar="PEM...")
@_forget
@options.as_json
@click.pass_obj
def know_tpm(home: Home, files: tuple[Path, ...], forget: bool, as_json: bool) -> None:
    """Let packs enrol whose TPM was certified by these authorities of its manufacturer."""
    given = {path: bootstrap.read_file(path, MAX_AUTHORITIES) for path in files}
    taken = [c for path, pem in given.items() for c in bootstrap.read_manufacturers(pem, str(path))]
    bootstrap.know_manufacturers(home, taken, forget=forget)
    _say_known(home, as_json)


@server.command("know-agent")
@click.argument("agents", nargs=-1, metavar="[WHEEL|DIGEST]...")
@_forget
@options.as_json
@click.pass_obj
def know_agent(home: Home, agents: tuple[str, ...], forget: bool, as_json: bool) -> None:
    """Let packs have a certificate whose agent is the code in a wheel, has a digest, or is what runs here."""
    digests = {agent: _agent_digest(agent) for agent in agents or (HERE,)}
    for agent, digest in digests.items():
        bootstrap.know_agent(home, digest, agent, forget=forget)
    _say_known(home, as_json)


@server.command()
@options.as_json
@click.pass_obj
def known(home: Home, as_json: bool) -> None:
    """Whose TPMs may enrol, and which agents packs may start."""
    _say_known(home, as_json)


def _say_known(home: Home, as_json: bool) -> None:
    agents = bootstrap.known_agents(home)
    authorities = [c.subject.rfc4514_string() for c in bootstrap.known_manufacturers(home)]
    if as_json:
        click.echo(json.dumps({"agents": agents, "tpm_authorities": authorities}, indent=2))
        return
    for digest, name in agents.items():
        click.echo(f"agent {digest} ({name})")
    for authority in authorities:
        click.echo(f"TPMs of {authority}")
    if not agents or not authorities:
        click.echo("no pack can enrol with its TPM until both are known", err=True)


def _agent_digest(agent: str) -> bytes:
    if SHA256_HEX.fullmatch(agent):
        return bytes.fromhex(agent)
    if agent == HERE:
        return bootstrap.agent_digest()
    return bootstrap.agent_digest(bootstrap.read_file(Path(agent), MAX_WHEEL), agent)


@server.command()
@click.argument("vehicle")
@options.as_json
@click.pass_obj
def revoke(home: Home, vehicle: str, as_json: bool) -> None:
    """Take VEHICLE's certificate away, from its next request on."""
    with bootstrap.registry(home) as held:
        count = inventory.revoke(held, vehicle)
    said = json.dumps({"vehicle": vehicle, "revoked": count})
    click.echo(said if as_json else f"{vehicle}: {count} certificate{'' if count == 1 else 's'} revoked")


@server.command()
@options.as_json
@click.pass_obj
def vehicles(home: Home, as_json: bool) -> None:
    """Who runs what, as last reported, and what is ordered."""
    with bootstrap.registry(home) as held:
        measured = bootstrap.measured(home)
        found = [inventory.status(held, vehicle_id, measured) for vehicle_id in held.vehicle_ids()]
    if as_json:
        click.echo(json.dumps([_facts(status) for status in found], indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not found:
        click.echo("no vehicle yet: `cellward server enrol-token VEHICLE` lets one enrol")
        return
    headings = ("vehicle, ECU", "hardware", "runs (counter)", "ordered (counter)", "last attempt", "measured")
    table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
    for status in found:
        table.add_row(*_head(status), style="bold")
        for number, ecu in enumerate(status.ecus, 1):
            table.add_row(*_row(ecu), end_section=number == len(status.ecus))
    Console().print(table)


def _row(ecu: EcuStatus) -> tuple[str, ...]:
    runs = f"{ecu.installed.version} ({ecu.installed.release_counter})" if ecu.installed else "-"
    ordered = f"{ecu.ordered.version} ({ecu.ordered.release_counter})" if ecu.ordered else "-"
    return (
        f"  {ecu.ecu.ecu_id}",
        ecu.ecu.hardware_id,
        runs,
        ordered,
        _outcome(ecu.result),
        _proof(ecu.measured),
    )


def _proof(verdict: Verdict) -> str:
    """Of what an app says: with its boot's number where both records are authentic."""
    if not verdict.code:
        return "-"
    return f"[green]boot {verdict.boot_count}[/]" if verdict.code == PROVEN else f"[red]{verdict.code}[/]"


def _outcome(result: InstallResult | None) -> str:
    if result is None:
        return "-"
    return f"[{'green' if result.code == 'ok' else 'red'}]{result.code}[/]"


def _head(status: VehicleStatus) -> tuple[str, ...]:
    seen = f"seen {status.last_seen:%m-%d %H:%M}" if status.last_seen else "not seen yet"
    held = status.certificate
    kind = "recovery" if held and held.recovery else "cert."
    certificate = f"{kind} to {held.not_after:%m-%d %H:%M}" if held and not held.revoked else "cert. revoked"
    result = _outcome(status.primary.result) if status.primary else "-"
    return status.vehicle.vehicle_id, "", seen, certificate, result, _vouched(status)


def _vouched(status: VehicleStatus) -> str:
    """By what the controller is known: its TPM, with what it said that was refused, or a file."""
    if status.attestation is None:
        return "[yellow]no TPM[/]"
    noted = status.attestation.noted
    return f"[red]{noted.code}[/]" if noted else "[green]TPM[/]"


def _attestation(status: VehicleStatus) -> dict[str, object] | None:
    held = status.attestation
    if held is None:
        return None
    noted = held.noted
    return {
        "identity_key": held.identity_key.fingerprint,
        "configuration": held.configuration.hex(),
        "noted": noted and {"code": noted.code, "found": noted.found, "at": f"{noted.at:%Y-%m-%dT%H:%M:%SZ}"},
    }


def _facts(status: VehicleStatus) -> dict[str, object]:
    certificate = status.certificate
    return {
        "vehicle": status.vehicle.vehicle_id,
        "enrolled": f"{status.vehicle.enrolled:%Y-%m-%dT%H:%M:%SZ}",
        "last_seen": f"{status.last_seen:%Y-%m-%dT%H:%M:%SZ}" if status.last_seen else None,
        "certificate": None
        if certificate is None
        else {
            "serial": certificate.serial,
            "not_after": f"{certificate.not_after:%Y-%m-%dT%H:%M:%SZ}",
            "revoked": certificate.revoked,
            "recovery": certificate.recovery,
        },
        "attestation": _attestation(status),
        "result": status.primary.result.to_json() if status.primary and status.primary.result else None,
        "attacks_detected": status.primary.attacks_detected if status.primary else "",
        "ecus": [
            {
                "ecu_id": ecu.ecu.ecu_id,
                "hardware_id": ecu.ecu.hardware_id,
                "ordered": ecu.ordered.name if ecu.ordered else None,
                "installed": ecu.installed.to_json() if ecu.installed else None,
                "result": ecu.result.to_json() if ecu.result else None,
                "attacks_detected": ecu.attacks_detected,
                "measured": ecu.measured.to_json(),
            }
            for ecu in status.ecus
        ],
    }
