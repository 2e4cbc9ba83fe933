"""`cellward verify FILE…`: any artefact, offline, by the keys that one holds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellward import bootstrap
from cellward.cli.keyfiles import read_key
from cellward.core.errors import Code, PolicyRefused
from cellward.core.verdict import ROLES, Verdict, judge

if TYPE_CHECKING:
    from cellward.core.keys import PublicKey

MAX_FILE = 64 * 1024 * 1024


class _RoleKey(click.ParamType[tuple[str, Path]]):
    """ROLE=PEM."""

    name = "role=pem"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        role, separator, path = str(value).partition("=")
        if not separator or role not in ROLES:
            self.fail(f"{value!r}: say ROLE=PEM, with a role of {', '.join(ROLES)}", param, ctx)
        return role, Path(path)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(readable=False, path_type=Path))
@click.option(
    "--key", "keys", multiple=True, type=_RoleKey(), help="A key that is trusted for a role; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(files: tuple[Path, ...], keys: tuple[tuple[str, Path], ...], as_json: bool) -> None:
    """Verify images, releases, approvals, SBOMs and log proofs, together and offline.

    Says of each file who signed it, when, and under which key, or what is wrong with it. A file that is not
    signed by itself is good where a release among the files names it. Exit status 1 when one is not good.
    """
    held: dict[str, list[PublicKey]] = {}
    for role, path in keys:
        held.setdefault(role, []).append(read_key(path))
    read = {str(path): bootstrap.read_file(path, MAX_FILE) for path in files}
    verdicts = judge(read, held)
    if as_json:
        click.echo(json.dumps([_facts(verdict) for verdict in verdicts], indent=2))
    else:
        click.echo("\n".join(_lines(verdict) for verdict in verdicts))
    bad = [verdict for verdict in verdicts if verdict.refusal is not None]
    if len(bad) == 1 and bad[0].refusal is not None:
        raise bad[0].refusal
    if bad:
        raise PolicyRefused(
            Code.VERIFY_BAD,
            f"{len(bad)} of {len(verdicts)} files",
            expected="every file good",
            found="not good: " + ", ".join(verdict.name for verdict in bad),
        )


def _lines(verdict: Verdict) -> str:
    mark = click.style("✓", "green") if verdict.refusal is None else click.style("✗", "red")
    says = verdict.says if verdict.refusal is None else (str(verdict.refusal),)
    return "\n".join([f"{mark} {verdict.name} ({verdict.kind})", *(f"    {line}" for line in says)])


def _facts(verdict: Verdict) -> dict[str, object]:
    refusal = verdict.refusal
    return {
        "file": verdict.name,
        "kind": verdict.kind,
        "good": refusal is None,
        "says": list(verdict.says),
        "refusal": None if refusal is None else {"code": refusal.code, "text": str(refusal)},
    }
