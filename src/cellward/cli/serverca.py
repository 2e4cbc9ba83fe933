"""`cellward server ca`: another CA for the server, without locking out the packs that pin the old one.

docs/runbooks/server-ca-rotation.md has the order of the steps; what would lock somebody out is refused.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509

from cellward import bootstrap
from cellward.cli import options
from cellward.config import Home
from cellward.core import serverca
from cellward.core.errors import Code, PolicyRefused, Unavailable
from cellward.core.serverca import ServerCas

NAMED_AT_MOST = 20


@click.group()
def ca() -> None:
    """The CA that packs know this server by: make another, tell the packs, change over."""


@ca.command()
@click.argument("name")
@options.as_json
@click.pass_obj
def new(home: Home, name: str, as_json: bool) -> None:
    """Make a further CA, its key in the token. NAME is server-ca-SOMETHING; it is not used yet."""
    pem = bootstrap.new_server_ca(home, name, datetime.now(UTC))
    key = serverca.fingerprint(serverca.check_ca(pem))
    click.echo(
        json.dumps({"name": name, "key": key}) if as_json else f"{name}: key {key[:16]}, not shown yet"
    )


@ca.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options.as_json
@click.pass_obj
def state(home: Home, names: tuple[str, ...], as_json: bool) -> None:
    """Sign the next statement: packs are to accept these CAs, no others; not without the shown one."""
    shown = bootstrap.shown_server_ca(home)
    if shown not in names:
        raise PolicyRefused(
            Code.SERVER_CA_BEHIND,
            "statement on server CAs",
            expected=f"{shown}, which the listeners show",
            found=", ".join(names)[:200],
            advice="`cellward server ca use` changes over first",
        )
    certificates = [bootstrap.server_ca_certificate(home, name) for name in names]
    with bootstrap.registry(home) as held:
        stated = bootstrap.repositories(home, held).server_cas.state(certificates)
    said = {"version": stated.version, "accepted": list(names)}
    click.echo(json.dumps(said) if as_json else f"version {stated.version}: {', '.join(names)}")


@ca.command()
@click.argument("name")
@click.option("--anyway", is_flag=True, help="Lock out the packs that have not asked for the statement yet.")
@options.as_json
@click.pass_obj
def use(home: Home, name: str, anyway: bool, as_json: bool) -> None:
    """Show certificates of this CA from the next start of `server run` on.

    Refused while a pack has not taken a statement that accepts it: such a pack would need the statement by
    hand (`ca export`, `device server-ca`).
    """
    certificate = bootstrap.server_ca_certificate(home, name)
    with bootstrap.registry(home) as held:
        since = bootstrap.repositories(home, held).server_cas.accepted_since(certificate)
        if since is None:
            raise PolicyRefused(
                Code.SERVER_CA_BEHIND,
                f"server CA {name}",
                expected="one that the newest statement accepts",
                found="one that it does not",
                advice=f"`cellward server ca state` with it and {bootstrap.shown_server_ca(home)}",
            )
        behind = held.behind_server_cas(since)
    if behind and not anyway:
        raise PolicyRefused(
            Code.SERVER_CA_BEHIND,
            f"server CA {name}",
            expected=f"every pack to have asked for statement {since}",
            found=f"{len(behind)} that have not: {_some(behind)}",
            advice="wait for them, or lock them out with --anyway",
        )
    bootstrap.show_server_ca(home, name)
    said = f"{name} is shown from the next start of `cellward server run` on"
    click.echo(json.dumps({"shown": name, "locked_out": list(behind)}) if as_json else said)


@ca.command("list")
@options.as_json
@click.pass_obj
def list_(home: Home, as_json: bool) -> None:
    """Which CAs there are, which one is shown, which ones packs accept, and who has not heard of it yet."""
    with bootstrap.registry(home) as held:
        newest = bootstrap.repositories(home, held).server_cas.newest()
        behind = held.behind_server_cas(newest.version) if newest else ()
    shown = bootstrap.shown_server_ca(home)
    rows = [_facts(name, pem, shown, newest) for name, pem in bootstrap.server_cas(home).items()]
    if as_json:
        facts = {"cas": rows, "version": newest.version if newest else None, "behind": list(behind)}
        click.echo(json.dumps(facts, indent=2))
        return
    for row in rows:
        said = [word for word in ("shown", "accepted") if row[word]]
        click.echo(
            f"{row['name']:<16} key {str(row['key'])[:16]} until {row['not_after']}  {', '.join(said)}"
        )
    if newest is None:
        click.echo("no statement yet: packs accept the CA of their factory data")
    elif behind:
        click.echo(f"version {newest.version}; {len(behind)} packs have not asked for it: {_some(behind)}")
    else:
        click.echo(f"version {newest.version}, which every pack has asked for")


@ca.command()
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def export(home: Home, output: Path) -> None:
    """The newest statement as a file, for packs that cannot get in any more (`device server-ca`)."""
    with bootstrap.registry(home) as held:
        newest = bootstrap.repositories(home, held).server_cas.newest()
    if newest is None:
        raise Unavailable(
            Code.STORAGE_MISSING,
            "statement on server CAs",
            expected="one",
            found="none",
            advice="`cellward server ca state` signs one",
        )
    bootstrap.write_file(output, newest.data)
    click.echo(f"wrote version {newest.version} to {output}")


def _facts(name: str, pem: bytes, shown: str, newest: ServerCas | None) -> dict[str, object]:
    until = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    return {
        "name": name,
        "key": serverca.fingerprint(pem),
        "not_after": f"{until:%Y-%m-%d}",
        "shown": name == shown,
        "accepted": newest is not None and pem in newest.certificates,
    }


def _some(vehicles: Sequence[str]) -> str:
    more = ", …" if len(vehicles) > NAMED_AT_MOST else ""
    return ", ".join(vehicles[:NAMED_AT_MOST]) + more
