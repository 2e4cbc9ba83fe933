"""`cellward lab leakage`, and how its results look on a terminal and for a build server."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from cellward.cli import labview
from cellward.core.errors import Code, ModuleRefused

if TYPE_CHECKING:
    from cellward.lab.leakage.runner import Summary, Verdict

MOST_SITES = 8


@click.command()
@click.option("--smoke", is_flag=True, help="A few traces of every routine, for a minute.")
@click.option("--routine", default="", help="Only routines whose binary and name contain this.")
@click.option(
    "--target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Look at these routines of yours (TOML; see docs/lab.md).",
)
@click.option("--traces", type=click.IntRange(4, 10_000_000), default=1000, show_default=True)
@labview.campaign_options
def leakage(
    smoke: bool,
    routine: str,
    target: Path | None,
    traces: int,
    results: Path | None,
    seed: int,
    cores: int,
    html: Path | None,
    junit: Path | None,
    as_json: bool,
) -> None:
    """Trace every routine that handles a secret, with one secret and with others, and compare.

    What is executed, where it branches, which addresses it touches and how long it takes must be the
    same for every secret: exactly, and by Welch's t-test (|t| below 4.5). What a probe would see of the
    values is told as information. Exit status 1 when a routine leaks.
    """
    labview.check_installed()
    from cellward.lab.leakage import report
    from cellward.lab.leakage.runner import Options, run

    options = Options(seed, smoke, cores, results, routine, target, traces)
    with labview.bar("traces", "jobs with a difference", hidden=as_json) as progress:
        summary = run(options, progress)
    if not summary.verdicts:
        raise click.UsageError(f"no routine's name contains {routine!r}")
    labview.conclude(
        summary,
        lambda: _show(summary),
        _found(summary),
        page=lambda: report.render(summary),
        html=html,
        suite="leakage",
        cases=_cases(summary),
        junit=junit,
        as_json=as_json,
    )


def _found(summary: "Summary") -> ModuleRefused | None:
    if not (summary.leaking or summary.wrong):
        return None
    return ModuleRefused(
        Code.LEAKAGE,
        "constant time",
        expected="the same trace for every secret, and the known answer",
        found=f"{len(summary.leaking)} routines that leak, {summary.wrong} wrong answers",
    )


def _show(summary: "Summary") -> None:
    console = Console(highlight=False)
    table = Table(title="Leakage", title_justify="left")
    table.add_column("routine", no_wrap=True)
    for column in ("traces", "steps", "not the same", "|t|", "values |t|"):
        table.add_column(column, justify="right")
    for verdict in summary.verdicts:
        most = verdict.most_t
        worst = max(t for name, t in most.items() if name != "values")
        colour = "red" if verdict.leaks else "green"
        table.add_row(
            f"{verdict.binary.partition('-')[0].removesuffix('.elf')} {verdict.routine}",
            f"{verdict.traces}",
            f"{verdict.counts[0]}",
            f"[{colour}]{max(verdict.differing.values())}[/]",
            f"[{colour}]{worst:.1f}[/]",
            f"[dim]{most['values']:.0f}[/]",
        )
    console.print(table)
    for verdict in summary.leaking:
        for line in _sites(verdict):
            console.print(f"[red]leaks[/red] {verdict.binary}, {verdict.routine}: {line}")
    colour = "red" if summary.leaking or summary.wrong else "green"
    console.print(
        f"{len(summary.verdicts)} routines, {summary.traces} traces, "
        f"[{colour}]{len(summary.leaking)} leak, {summary.wrong} wrong answers[/]"
    )
    console.print("Values are information: they show in every code without masking, this one's too.")


def _sites(verdict: "Verdict") -> list[str]:
    differing = ", ".join(f"{count} by {name}" for name, count in verdict.differing.items() if count)
    lines = [f"of {verdict.traces} traces {differing or 'none differs'}"]
    for site in verdict.sites[:MOST_SITES]:
        lines.append(f"{site.channel} at 0x{site.address:08x} in {site.function or 'no function'}")
    return lines


def _cases(summary: "Summary") -> dict[str, list[str]]:
    """One for each routine."""
    cases = {}
    for verdict in summary.verdicts:
        wrong = [f"{verdict.wrong} wrong answers"] if verdict.wrong else []
        cases[f"{verdict.binary} {verdict.routine}"] = wrong + (_sites(verdict) if verdict.leaks else [])
    return cases
