"""`cellward release lint`: is this target fit for releases?"""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.core import kconfig, policy
from cellward.core.policy import Finding, Profile

EXAMPLE = "bms-m33.toml"
COLOURS = {policy.Severity.ERROR: "red", policy.Severity.WARNING: "yellow"}


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE...")
@click.option("--example", is_flag=True, help=f"Print the profile of the virtual module, {EXAMPLE}.")
@options.as_json
def lint(files: tuple[Path, ...], example: bool, as_json: bool) -> None:
    """Check what a target's bootloader and fuses do against the attack list.

    FILE is a target profile (TOML, docs/formats/target-profile.md), or `.conf` files of a Zephyr project:
    these are one target together, in the order in which its build takes them. Errors (no signature, no
    validation at boot, no fallback, open debug, a published or development key) end with exit status 1.
    """
    if example:
        click.echo(example_profile(), nl=False)
        return
    if not files:
        raise click.UsageError("Missing argument 'FILE...'.")
    targets = [(profile, policy.lint(profile)) for profile in read(files)]
    if as_json:
        click.echo(json.dumps([_facts(profile, found) for profile, found in targets], indent=2))
    else:
        for profile, found in targets:
            _print(profile, found)
    _check(targets)


def example_profile() -> str:
    return resources.files("cellward.cli").joinpath("profiles", EXAMPLE).read_text("utf-8")


def read(files: Sequence[Path]) -> list[Profile]:
    """Raises config.invalid, storage.*."""
    found = [
        policy.decode(bootstrap.read_file(path, policy.PROFILE_LIMIT), str(path))
        for path in files
        if not _is_conf(path)
    ]
    confs = {str(path): bootstrap.read_file(path, kconfig.FILE_LIMIT) for path in files if _is_conf(path)}
    return [*found, kconfig.decode(confs, next(reversed(confs)))] if confs else found


def _is_conf(path: Path) -> bool:
    """Of a Zephyr project, or what Kconfig made of all of them."""
    return path.suffix == ".conf" or path.name == ".config"


def _check(targets: Sequence[tuple[Profile, Sequence[Finding]]]) -> None:
    """Raises PolicyRefused (publish.policy) for the first that has errors; all have been printed."""
    for profile, found in targets:
        policy.check(profile, found)


def _print(profile: Profile, found: Sequence[Finding]) -> None:
    click.secho(profile.name, bold=True)
    for finding in found:
        rows = f" [attack {', '.join(map(str, finding.rows))}]" if finding.rows else ""
        head = click.style(f"  {finding.severity:<8}", fg=COLOURS[finding.severity])
        click.echo(f"{head}{finding.about} is {finding.found}: {finding.reason}{rows}; {finding.advice}")
    if not found:
        click.echo("  nothing to object to")


def _facts(profile: Profile, found: Sequence[Finding]) -> dict[str, object]:
    return {
        "target": profile.name,
        "findings": [
            {
                "severity": finding.severity,
                "about": finding.about,
                "found": finding.found,
                "reason": finding.reason,
                "advice": finding.advice,
                "attacks": list(finding.rows),
            }
            for finding in found
        ],
    }
