"""`cellward verify FILE…`: any artefact, offline, by the keys that one holds."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.keyfiles import read_key
from cellward.cli.keyoptions import now
from cellward.core.errors import Code, PolicyRefused
from cellward.core.keys import KeyStage, Role
from cellward.core.known import Anchor, GivenKeys, Known, RegisterKeys
from cellward.core.register import split
from cellward.core.verdict import Verdict, judge

if TYPE_CHECKING:
    from cellward.core.keys import PublicKey

MAX_FILE = 64 * 1024 * 1024
ROLES = (Role.FIRMWARE, Role.CALIBRATION, Role.RELEASE, Role.APPROVAL, Role.LOG, Role.ROOT)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_path = click.Path(readable=False, path_type=Path)


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
@click.argument("files", nargs=-1, required=True, type=_path)
@click.option(
    "--key", "keys", multiple=True, type=_RoleKey(), help="A key that is trusted for a role; may be repeated."
)
@click.option(
    "--register",
    "register_file",
    type=_path,
    help="The maker's key register: it knows the keys of each role.",
)
@click.option(
    "--register-hash",
    metavar="SHA256",
    help="Of the register's first line, known from elsewhere; or --key root=PEM, each root key in that line.",
)
@click.option(
    "--for",
    "stage",
    type=click.Choice([each.value for each in KeyStage]),
    default=KeyStage.PRODUCTION.value,
    show_default=True,
    help="Which keys of the register may have signed.",
)
@click.option(
    "--pack-key",
    "packs",
    multiple=True,
    metavar="SHA256",
    callback=lambda ctx, param, value: frozenset(_hash(text, "--pack-key") for text in value),
    help="Fingerprint of a pack's identity key, which signs its health records; may be repeated.",
)
@options.as_json
def verify(
    files: tuple[Path, ...],
    keys: tuple[tuple[str, Path], ...],
    register_file: Path | None,
    register_hash: str | None,
    stage: str,
    packs: frozenset[str],
    as_json: bool,
) -> None:
    """Verify images, releases, approvals, SBOMs, log proofs, key registers and their ceremonies, and packs'
    health records, together and offline.

    Says of each file who signed it, when, and under which key, or what is wrong with it. A file that is not
    signed by itself is good where a release among the files names it. Exit status 1 when one is not good.

    With --register a key counts for what the register says: purpose, stage, validity, state; by the time of a
    log proof among the files, or else by now.
    """
    held: dict[str, list[PublicKey]] = {}
    for role, path in keys:
        held.setdefault(role, []).append(read_key(path))
    anchor: Anchor = (
        _hash(register_hash, "--register-hash") if register_hash is not None else held.get(Role.ROOT)
    )
    known = _known(held, register_file, anchor, KeyStage(stage))
    read = {str(path): bootstrap.read_file(path, MAX_FILE) for path in files}
    verdicts = judge(read, known, anchor, packs)
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


def _known(
    held: "dict[str, list[PublicKey]]", register_file: Path | None, anchor: Anchor, stage: KeyStage
) -> Known:
    if register_file is None:
        return GivenKeys(held)
    if set(held) - {Role.ROOT}:
        raise click.UsageError("--register: it knows the keys of every role; --key is for root alone then.")
    what = str(register_file)
    chain = split(bootstrap.read_file(register_file, MAX_FILE), what)
    return RegisterKeys.verified(chain, anchor, stage, now(), what)


def _hash(text: str, option: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise click.UsageError(f"{option}: a SHA-256, 64 hex digits.")
    return text.lower()


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
