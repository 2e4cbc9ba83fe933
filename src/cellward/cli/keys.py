"""`cellward keys`: the roles' keys in the token, and what the key register says of them."""

from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import keyoptions, options
from cellward.cli.keysceremony import ceremony
from cellward.cli.keyschange import attest, revoke, revoke_slot, rotate
from cellward.cli.keyview import show, show_rows
from cellward.config import Home
from cellward.core.keys import KeyStage
from cellward.ports.signer import Role
from cellward.sign.keys import init_roles, list_roles, named_key, new_key


@click.group()
def keys() -> None:
    """Make, list and export the signing keys in the token; agree on which may sign what."""


@keys.command()
@keyoptions.token
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([role.value for role in Role]),
    help="Only this role, as for a person's own token; may be repeated.",
)
@options.as_json
@click.pass_obj
def init(home: Home, token: str, roles: tuple[str, ...], as_json: bool) -> None:
    """Make a key for every role that has none. Keys are generated in the token and cannot leave it."""
    store = bootstrap.key_store(home, token, create=True)
    rows = list(init_roles(store, [Role(role) for role in roles]))
    show_rows(rows, bootstrap.key_register(home), json_wanted=as_json, init=True)


@keys.command()
@click.argument("role", type=click.Choice([role.value for role in Role]))
@click.option("--name", required=True, help="ROLE-NAME: what --key is then given.")
@keyoptions.algorithm
@keyoptions.stage
@keyoptions.years
@keyoptions.draft
@keyoptions.token
@options.as_json
@click.pass_obj
def new(
    home: Home,
    role: str,
    name: str,
    algorithm: str | None,
    stage: str,
    years: int,
    draft_file: Path | None,
    token: str,
    as_json: bool,
) -> None:
    """Make a further key for a ROLE: a module has four slots for firmware keys, and one can be revoked.

    Like the others it is generated in the token and cannot leave it. Where there is a key register the key
    signs nothing before its root has agreed: --draft begins that.
    """
    purpose = Role(role)
    before = keyoptions.newest(home) if draft_file is not None else None
    made = new_key(
        bootstrap.key_store(home, token), purpose, name, keyoptions.algorithm_of(purpose, algorithm)
    )
    if before is None or draft_file is None:
        show_rows([made], bootstrap.key_register(home), json_wanted=as_json, init=True)
        return
    from cellward.core import register
    from cellward.sign.ceremony import custody, entry_of

    store = bootstrap.key_store(home, token)
    entry = entry_of(
        made.key.public_key,
        name,
        purpose,
        KeyStage(stage),
        keyoptions.validity(years),
        custody(store, made.key),
    )
    keyoptions.tell(draft_file, home, register.added(before, [entry], keyoptions.now()), json_wanted=as_json)


@keys.command("list")
@keyoptions.token
@options.as_json
@click.pass_obj
def list_(home: Home, token: str, as_json: bool) -> None:
    """The roles' keys, what the token says of them, and what the register says.

    "always" sensitive, "never" extractable and "local" are the token's own word that the value was made
    inside and has never been outside.
    """
    rows = list_roles(bootstrap.key_store(home, token))
    show_rows(rows, bootstrap.key_register(home), json_wanted=as_json, init=False)


@keys.command()
@click.argument("name")
@keyoptions.token
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False, path_type=Path),
    help="File to write; default is the terminal.",
)
@click.pass_obj
def export(home: Home, name: str, token: str, output: Path | None) -> None:
    """The public key of a role, or of a further key by its NAME, as PEM."""
    pem = named_key(bootstrap.key_store(home, token), name).public_key.pem()
    if output is None:
        click.echo(pem, nl=False)
        return
    bootstrap.write_file(output, pem)
    click.echo(f"wrote {output}")


for _command in (show, rotate, revoke, revoke_slot, attest, ceremony):
    keys.add_command(_command)
