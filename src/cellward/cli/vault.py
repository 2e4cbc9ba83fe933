"""`cellward vault`: named secrets of the pack controller, and the maker's policies that they open by."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.keyfiles import read_key
from cellward.config import Home
from cellward.core import packvault
from cellward.core.packvault import MAX_VALUE
from cellward.core.strictjson import MAX_INTEGER
from cellward.core.tpm import approval, eventlog, measurement
from cellward.core.tpm.eventlog import PCRS, Event
from cellward.device import vault as vaults

_file = click.Path(readable=False, dir_okay=False, path_type=Path)
_name = click.argument("name")


@click.group()
def vault() -> None:
    """Named secrets of the pack controller. Its TPM opens them for approved releases only, the newest file
    only, and on this controller only."""


# --- the maker ---


@vault.command()
@click.option("--counter", required=True, type=click.IntRange(1, MAX_INTEGER), help="Of this release.")
@click.option("--wheel", type=_file, help="Cellward as packs run it.  [default: the code that runs here]")
@click.option(
    "--log", "log_file", type=_file, help="Event log of its start, instead of the agent's code alone."
)
@click.option(
    "--pcr",
    "pcrs",
    multiple=True,
    default=[8],
    show_default=True,
    type=click.IntRange(PCRS[0], PCRS[-1]),
    help="PCRs that must hold what was measured; may be repeated.",
)
@click.option("--key", help="URI of the policy key.  [default: the token's policy key]")
@click.option("-o", "--output", required=True, type=_file, help="File to write.")
@click.pass_obj
def policy(
    home: Home,
    counter: int,
    wheel: Path | None,
    log_file: Path | None,
    pcrs: tuple[int, ...],
    key: str | None,
    output: Path,
) -> None:
    """Maker: approve that vaults open for a release, by what it measures at its start.

    A controller that committed to a later release opens nothing by it. The use of the key is in the signing
    log.
    """
    from cellward.sign.vaultpolicy import approve

    if wheel and log_file:
        raise click.UsageError("--wheel or --log, not both")
    events = _start(wheel, log_file)
    terms = approval.Terms(eventlog.replay(events, sorted(set(pcrs))), counter)
    signer = bootstrap.policy_signer(home, key, f"vaults up to release {counter}")
    made = approve(terms, signer)
    bootstrap.write_file(output, made.encode())
    click.echo(f"release {counter} opens vaults of policy key {made.key_id[:16]}")


# --- the pack controller ---


@vault.command()
@options.device_state
@click.option("--policy-key", "approver", required=True, type=_file, help="PEM of the maker's policy key.")
@click.option("--policy", "policy_file", required=True, type=_file, help="Of the release that runs.")
def init(state: Path, approver: Path, policy_file: Path) -> None:
    """Make an empty vault. It opens by what the policy key approves, and by nothing else."""
    key, data = read_key(approver), _read_policy(policy_file)
    with bootstrap.vault_place(state) as place:
        vaults.create(place, key, data)
    click.echo(f"made a vault of policy key {key.fingerprint[:16]}")


@vault.command()
@options.device_state
@click.argument("policy_file", metavar="POLICY", type=_file)
def accept(state: Path, policy_file: Path) -> None:
    """Keep the policy of another release, before it is started."""
    data = _read_policy(policy_file)
    with bootstrap.vault_place(state) as place:
        found = vaults.accept(place, data)
    click.echo(f"accepted the policy of release {found.terms.counter}")


@vault.command()
@options.device_state
def commit(state: Path) -> None:
    """The release that runs is healthy: policies of earlier ones open nothing any more."""
    with bootstrap.vault_place(state) as place, vaults.opened(place) as found:
        counter = found.commit_release()
    click.echo(f"committed to release {counter}")


@vault.command()
@options.device_state
@_name
@click.argument("file", required=False, type=_file)
@click.option("--exportable", is_flag=True, help="May leave the vault, encrypted to a recipient.")
def put(state: Path, name: str, file: Path | None, exportable: bool) -> None:
    """Put the bytes of FILE, or of standard input, in the vault as NAME."""
    with (
        bootstrap.vault_place(state) as place,
        vaults.opened(place) as found,
        place.memory.hold(MAX_VALUE) as view,
    ):
        size = bootstrap.read_secret(file, view)
        found.put(name, view[:size], exportable=exportable)
        version = found.content.counter
    click.echo(f"put {name}, {size} bytes, version {version}")


@vault.command()
@options.device_state
@_name
def get(state: Path, name: str) -> None:
    """Write the value of NAME to standard output, as it is."""
    with (
        bootstrap.vault_place(state) as place,
        vaults.opened(place) as found,
        found.get(name) as view,
    ):
        bootstrap.print_secret(view)


@vault.command(name="list")
@options.device_state
@options.as_json
def list_(state: Path, as_json: bool) -> None:
    """The names in the vault, without their values."""
    with bootstrap.vault_place(state) as place, vaults.opened(place) as found:
        content = found.content
    if as_json:
        click.echo(json.dumps(_facts(content), indent=2))
        return
    click.echo(f"vault, write {content.counter}: {len(content.values) or 'no'} values")
    for value in content.values:
        leaves = ", exportable" if value.exportable else ""
        click.echo(f"  {value.name:<24} {len(value.ciphertext):>6} bytes, version {value.version}{leaves}")


@vault.command()
@options.device_state
@_name
def remove(state: Path, name: str) -> None:
    """Take NAME out of the vault."""
    with bootstrap.vault_place(state) as place, vaults.opened(place) as found:
        found.remove(name)
    click.echo(f"removed {name}")


@vault.command()
@options.device_state
@click.option("--policy-key", "approver", type=_file, help="PEM of the policy key's successor.")
@click.option("--policy", "policy_file", type=_file, help="Of the release that runs, by the successor.")
def rotate(state: Path, approver: Path | None, policy_file: Path | None) -> None:
    """Encrypt everything under a new vault key; with --policy-key, sealed to another policy key."""
    if (approver is None) != (policy_file is None):
        raise click.UsageError("--policy-key and --policy come together")
    key = approver and read_key(approver)
    data = policy_file and _read_policy(policy_file)
    with bootstrap.vault_place(state) as place, vaults.opened(place) as found:
        found.rotate(vaults.Successor(key, data) if key and data else None)
        count = len(found.content.values)
    click.echo(f"{count} values are under a new key")


@vault.command()
@options.device_state
@_name
@click.option("--to", "recipient", required=True, type=_file, help="PEM of the recipient's P-256 key.")
@click.option("-o", "--output", required=True, type=_file, help="File to write.")
def export(state: Path, name: str, recipient: Path, output: Path) -> None:
    """Encrypt an exportable value to one recipient (docs/formats/controller-vault.md)."""
    key = read_key(recipient)
    with bootstrap.vault_place(state) as place, vaults.opened(place) as found:
        data = found.export(name, key)
    bootstrap.write_file(output, data)
    click.echo(f"exported {name} to key {key.fingerprint[:16]}")


def _start(wheel: Path | None, log_file: Path | None) -> Sequence[Event]:
    if log_file:
        return eventlog.decode(bootstrap.read_file(log_file, eventlog.MAX_SIZE))
    from cellward.cli.server import MAX_WHEEL

    data = None if wheel is None else bootstrap.read_file(wheel, MAX_WHEEL)
    return [measurement.agent(bootstrap.agent_digest(data, str(wheel)))]


def _read_policy(file: Path) -> bytes:
    data = bootstrap.read_file(file, approval.MAX_SIZE)
    approval.decode(data, str(file))
    return data


def _facts(content: packvault.Content) -> dict[str, object]:
    return {
        "counter": content.counter,
        "device": content.device.hex(),
        "policy_key": content.approver.fingerprint,
        "values": [
            {
                "name": value.name,
                "version": value.version,
                "size": len(value.ciphertext),
                "exportable": value.exportable,
            }
            for value in content.values
        ],
    }
