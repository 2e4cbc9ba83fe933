"""The `cellward` program: finds the sub-command, and turns a refusal into one line and exit 1."""

import errno
import os
import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import click

from cellward import __version__
from cellward.config import Home
from cellward.core.errors import CellwardError, Code, Refused, Unavailable

# In the order of the data's way. Imported when called: `keys` must not pay for `server`.
COMMANDS = {
    "keys": "make and list the signing keys in the token",
    "image": "sign, show and verify MCUboot images",
    "calibration": "sign, show and verify cell limits and sensor corrections",
    "release": "what belongs together: create, check, approve, withdraw",
    "log": "the signing log: show, verify, checkpoints and proofs",
    "repo": "publish images and order them for vehicles",
    "server": "serve repositories, artefacts and enrolment",
    "device": "the pack controller: enrol, poll, verify, install",
    "vault": "the pack controller's secrets: sealed in its TPM, for approved releases",
    "module": "the battery module: provision, boot, status",
    "verify": "any artefact, offline: who signed it, when, and what is wrong",
    "evidence": "clause or attack, control, test, last result",
    "lab": "attack the boot chain: faults, power cuts, leakage",
    "demo": "the whole way in a temporary directory",
}

EXIT_REFUSED = 1
EXIT_BUG = 70


class Lazy(click.Group):
    """A group whose commands live in cellward.cli.<name>."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"cellward.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cellward")
@click.option(
    "--data",
    envvar="CELLWARD_DATA",
    default="cellward-data",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The maker's data directory.",
)
@click.pass_context
def cellward(ctx: click.Context, data: Path) -> None:
    """Firmware security for battery management systems: what the maker did not sign does not run."""
    ctx.obj = Home(data)


def report(error: CellwardError, as_json: bool) -> None:
    """One line for people, or one JSON object on the same stream for programs that asked for it."""
    verb = "refused" if isinstance(error, Refused) else "failed"
    if as_json:
        import json

        click.echo(json.dumps({verb: error.facts()}), err=True)
    else:
        line = " ".join(f"{verb} {error}".split())  # a token's label or a file's name may hold anything
        click.echo(
            "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line), err=True
        )


def _bug(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, value, trace)
    os._exit(EXIT_BUG)


def run() -> None:
    """Entry point. Exit status 1 refused, 2 usage, 70 a bug."""
    sys.excepthook = _bug
    try:
        status = int(cellward.main(standalone_mode=False) or 0)
        click.echo(nl=False)  # flushes: a full disk behind the output is found out here
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        report(Unavailable(Code.STORAGE_FULL, "output", found=error.strerror or ""), as_json=False)
        status = EXIT_REFUSED
    except CellwardError as error:
        report(error, as_json="--json" in sys.argv)
        status = EXIT_REFUSED
    except click.exceptions.Abort:
        status = 130
    except click.exceptions.Exit as exit_:
        status = exit_.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exit without freeing every object first, as mypy does: a tenth of `image sign`.

    Every command has closed and synced what it opened by then.
    """
    try:
        click.echo(nl=False)
        click.echo(nl=False, err=True)
    except OSError:  # nobody reads any more (`cellward … | head`)
        status = status or 1
    os._exit(status)


if __name__ == "__main__":
    run()
