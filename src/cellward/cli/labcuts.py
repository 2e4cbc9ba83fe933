"""`cellward lab powercut`, and how its results look on a terminal and for a build server."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from cellward.cli import labview
from cellward.core.errors import Code, ModuleRefused

if TYPE_CHECKING:
    from cellward.lab.powercut.campaign import Finding
    from cellward.lab.powercut.runner import Summary

MOST_FINDINGS = 20


@click.command()
@click.option("--smoke", is_flag=True, help="A sample of every scenario, for a minute.")
@click.option("--scenario", default="", help="Only scenarios whose name contains this.")
@click.option("--naive", is_flag=True, help="Cut the example that must fail, to see that it does.")
@click.option(
    "--rom",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A ROM of yours, ELF with symbols; default: the packaged one.",
)
@labview.campaign_options
def powercut(
    smoke: bool,
    scenario: str,
    naive: bool,
    rom: Path | None,
    results: Path | None,
    seed: int,
    cores: int,
    html: Path | None,
    junit: Path | None,
    as_json: bool,
) -> None:
    """Cut the power at every flash and fuse operation of a module's life, and boot what is left.

    Between operations, and in the middle of each: nothing done, half done, garbage. Exit status 1 when
    a module bricks, an image runs that must not, contactors close for one that is not committed, a
    tampered module keeps its secret, or the plant cannot finish what it began.
    """
    labview.check_installed()
    from cellward.lab.powercut import report
    from cellward.lab.powercut.runner import Options, run

    options = Options(seed, smoke, cores, results, scenario, naive, rom)
    if not options.scenarios:
        raise click.UsageError(f"no scenario's name contains {scenario!r}")
    with labview.bar("operations cut", "promises broken", hidden=as_json) as progress:
        summary = run(options, progress)
    labview.conclude(
        summary,
        lambda: _show(summary),
        _found(summary),
        page=lambda: report.render(summary),
        html=html,
        suite="power cuts",
        cases=_cases(summary),
        junit=junit,
        as_json=as_json,
    )


def _found(summary: "Summary") -> ModuleRefused | None:
    if not (summary.findings or summary.differing):
        return None
    return ModuleRefused(
        Code.POWER_CUT,
        "module",
        expected="every promise kept after every cut",
        found=f"{len(summary.findings)} broken in {summary.cuts} cuts, "
        f"{len(summary.differing)} audits that differ",
    )


def _show(summary: "Summary") -> None:
    console = Console(highlight=False)
    table = Table(title="Power cuts", title_justify="left")
    for column in ("scenario", "operations", "cuts", "boots that ended", "broken"):
        table.add_column(column, justify="left" if column in ("scenario", "boots that ended") else "right")
    for survey in summary.surveys:
        results = summary.of(survey.scenario)
        broken = sum(len(result.findings) for result in results)
        table.add_row(
            survey.scenario,
            f"{len(survey.kinds) - 1}",
            f"{sum(result.cuts for result in results)}",
            ", ".join(f"{number} {name}" for name, number in summary.outcomes(survey.scenario).items()),
            f"[{'red' if broken else 'green'}]{broken}[/]",
        )
    console.print(table)
    for finding in summary.findings[:MOST_FINDINGS]:
        console.print(f"[red]broken[/red] {finding.scenario}, {_line(finding)}")
    colour = "red" if summary.findings else "green"
    console.print(
        f"{summary.cuts} cuts ({summary.twice} of them twice), "
        f"[{colour}]{summary.bricks} bricks, {summary.wrong_images} wrong images[/]; "
        f"{summary.rate:.0f} cuts/s and core; {summary.audited - len(summary.differing)} of "
        f"{summary.audited} audited boots as with real crypto"
    )
    for text in summary.differing:
        console.print(f"[red]differs[/red] {text}")


def _line(found: "Finding") -> str:
    where = f"{found.phase}, operation {found.number}, {found.variant}"
    return f"{where}: {found.promise.name.lower()}, {found.detail}"


def _cases(summary: "Summary") -> dict[str, list[str]]:
    """One for each scenario."""
    return {
        survey.scenario: [_line(found) for found in summary.findings if found.scenario == survey.scenario]
        for survey in summary.surveys
    }
