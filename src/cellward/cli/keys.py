"""`cellward keys`: the roles' keys in the token."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cellward import bootstrap
from cellward.config import Home
from cellward.core.keys import Algorithm
from cellward.ports.signer import Role
from cellward.sign.keys import RoleKey, init_roles, list_roles, named_key, new_firmware_key

Command = Callable[..., Any]
_token = click.option(
    "--token",
    envvar="CELLWARD_TOKEN",
    default=bootstrap.default_token,
    show_default="pkcs11:token=cellward, made in the data directory",
    help="PKCS#11 URI of the token.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def keys() -> None:
    """Make, list and export the signing keys in the token."""


@keys.command()
@_token
@_json
@click.pass_obj
def init(home: Home, token: str, as_json: bool) -> None:
    """Make a key for every role that has none. Keys are generated in the token and cannot leave it."""
    store = bootstrap.key_store(home, token, create=True)
    _show(list(init_roles(store)), as_json, init=True)


@keys.command()
@click.argument("role", type=click.Choice([Role.FIRMWARE.value]))
@click.option("--name", required=True, help="firmware-NAME: what `image sign --key` is then given.")
@click.option(
    "--algorithm",
    type=click.Choice(["p256", "rsa-3072", "ed25519"]),
    default=Algorithm.P256.value,
    show_default=True,
    help="ECDSA P-256, RSA-3072-PSS, or Ed25519 for others' bootloaders: modules know no Ed25519.",
)
@_token
@_json
@click.pass_obj
def new(home: Home, role: str, name: str, algorithm: str, token: str, as_json: bool) -> None:
    """Make a further key for a ROLE: a module has four slots for firmware keys, and one can be revoked.

    Like the others it is generated in the token and cannot leave it.
    """
    made = new_firmware_key(bootstrap.key_store(home, token), name, Algorithm(algorithm))
    _show([made], as_json, init=True)


@keys.command("list")
@_token
@_json
@click.pass_obj
def list_(home: Home, token: str, as_json: bool) -> None:
    """The roles' keys, and what the token says of them.

    "always" sensitive, "never" extractable and "local" are the token's own word that the value was made
    inside and has never been outside.
    """
    _show(list_roles(bootstrap.key_store(home, token)), as_json, init=False)


@keys.command()
@click.argument("name")
@_token
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False, path_type=Path),
    help="File to write; default is the terminal.",
)
@click.pass_obj
def export(home: Home, name: str, token: str, output: Path | None) -> None:
    """The public key of a role, or of a further firmware key by its NAME, as PEM."""
    pem = named_key(bootstrap.key_store(home, token), name).public_key.pem()
    if output is None:
        click.echo(pem, nl=False)
        return
    bootstrap.write_file(output, pem)
    click.echo(f"wrote {output}")


@keys.command("revoke-slot")
@click.argument("key")
@_token
@click.option(
    "--root-key",
    "root_keys",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="PEM of every key of the quorum that the modules hold. [default: the root role's alone]",
)
@click.option("--root-threshold", type=click.IntRange(1, 4), default=1, show_default=True)
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write."
)
@click.pass_obj
def revoke_slot(
    home: Home, key: str, token: str, root_keys: tuple[Path, ...], root_threshold: int, output: Path
) -> None:
    """Revoke the firmware key KEY (PEM, or its SHA-256 in hex) in every module that is given the file.

    Signed by the root role's key. There is no way back: a module that has taken it never boots what KEY
    signed again.
    """
    from cellward.cli.keyfiles import key_hash, quorum
    from cellward.core.revocation import Quorum
    from cellward.sign.revocation import revoke

    digest = key_hash(key)
    key_of_root = bootstrap.key_store(home, token).signer(Role.ROOT)
    root = bootstrap.logged(home, key_of_root, Role.ROOT, "revocation", f"slot key {digest.hex()}")
    known = quorum(root_threshold, root_keys) if root_keys else Quorum.of(1, (root.public_key,))
    bootstrap.write_file(output, revoke(root, known, digest))
    click.echo(f"wrote {output}: revokes key {digest.hex()[:16]}")


def _show(rows: list[RoleKey], as_json: bool, *, init: bool) -> None:
    if as_json:
        click.echo(json.dumps([_facts(row, init) for row in rows], indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    headings = ["key", "fingerprint", "sensitive", "extractable", "local", *(["now"] if init else [])]
    table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for row in rows:
        said, print_ = row.key.attributes, row.key.public_key.fingerprint
        table.add_row(
            f"[bold]{row.key.label}[/]\n{row.key.public_key.algorithm}",
            f"{print_[:32]}\n{print_[32:]}",
            _life(said.sensitive, said.always_sensitive, "yes", "always"),
            _life(not said.extractable, said.never_extractable, "no", "never"),
            "yes" if said.local else "no",
            *((("made" if row.created else "kept"),) if init else ()),
        )
    Console().print(table)
    if not rows:
        click.echo("no key yet: `cellward keys init` makes them")


def _life(now: bool, ever: bool, good: str, best: str) -> str:
    """What the token says of the flag today, or `best` where it vouches for the key's whole life."""
    if now and ever:
        return f"[green]{best}[/]"
    return good if now else f"[red]{'no' if good == 'yes' else 'yes'}[/]"


def _facts(row: RoleKey, init: bool) -> dict[str, object]:
    said = row.key.attributes
    facts: dict[str, object] = {
        "role": row.role.value,
        "name": row.key.label,
        "algorithm": row.key.public_key.algorithm.value,
        "fingerprint": row.key.public_key.fingerprint,
        "attributes": {
            "SENSITIVE": said.sensitive,
            "ALWAYS_SENSITIVE": said.always_sensitive,
            "EXTRACTABLE": said.extractable,
            "NEVER_EXTRACTABLE": said.never_extractable,
            "LOCAL": said.local,
        },
    }
    return facts | ({"created": row.created} if init else {})
