"""`cellward device server-ca`: the statement on server CAs by hand, for a pack that is locked out."""

import json
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.core import serverca
from cellward.core.metadata import Repository
from cellward.device import servercas
from cellward.device.memory import Memory


@click.command("server-ca")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@options.device_state
@options.as_json
def server_ca(file: Path, state: Path, as_json: bool) -> None:
    """Accept the server CAs of a statement, which the root of the Image repository must have signed.

    The agent takes statements from the server by itself; this is for a pack that was away while the server's
    CA was changed. Stop the agent first.
    """
    data = bootstrap.read_file(file, serverca.MAX_SIZE)
    memory = Memory(bootstrap.device_store(state))
    memory.device()  # before a lock file is made in the wrong place
    with bootstrap.device_lock(state):
        root = memory.trusted(Repository.IMAGE, memory.factory()).root.signed
        taken = servercas.take(memory, root, data)
    keys = [serverca.fingerprint(pem) for pem in taken.certificates]
    if as_json:
        click.echo(json.dumps({"version": taken.version, "keys": keys}))
        return
    click.echo(f"version {taken.version}: servers of {', '.join(key[:16] for key in keys)}")
