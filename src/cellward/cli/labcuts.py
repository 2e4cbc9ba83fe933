"""`cellward lab powercut`, and how its results look on a terminal and for a build server."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cellward import bootstrap
from cellward.core.errors import Code, ModuleRefused

if TYPE_CHECKING:
    from cellward.lab.powercut.runner import Summary

MOST_FINDINGS = 20
_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--smoke", is_flag=True, help="A sample of every scenario, for half a minute.")
@click.option("--scenario", default="", help="Only scenarios whose name contains this.")
@click.option("--naive", is_flag=True, help="Cut the example that must fail, to see that it does.")
@click.option("--results", type=_file, help="Keep results here; a second start goes on with them.")
@click.option("--seed", type=click.IntRange(0, 1 << 32), default=1, show_default=True)
@click.option("--cores", type=click.IntRange(0, 1024), default=0, help="0: all of them.")
@click.option("--html", type=_file, help="Write a page with the timeline of cuts.")
@click.option("--junit", type=_file, help="Write JUnit XML.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def powercut(
    smoke: bool,
    scenario: str,
    naive: bool,
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
    from cellward.lab.powercut import report
    from cellward.lab.powercut.runner import Options, run

    options = Options(seed, smoke, cores, results, scenario, naive)
    if not options.scenarios:
        raise click.UsageError(f"no scenario's name contains {scenario!r}")
    with _progress(hidden=as_json) as progress:
        summary = run(options, progress)
    if html is not None:
        bootstrap.write_file(html, report.render(summary).encode())
    if junit is not None:
        bootstrap.write_file(junit, _junit(summary).encode())
    if as_json:
        click.echo(json.dumps(summary.to_json(), indent=2))
    else:
        _show(summary)
    if summary.findings or summary.differing:
        raise ModuleRefused(
            Code.POWER_CUT,
            "module",
            expected="every promise kept after every cut",
            found=f"{len(summary.findings)} broken in {summary.cuts} cuts, "
            f"{len(summary.differing)} audits that differ",
        )


@contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[int, int, int], None]]:
    """A bar on standard error; what is yielded moves it."""
    columns = (
        TextColumn("operations cut"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[broken]} promises broken"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as bar:
        task = bar.add_task("cuts", total=None, broken=0)

        def move(done: int, all_: int, broken: int) -> None:
            bar.update(task, completed=done, total=all_, broken=broken)

        yield move


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
        where = f"{finding.scenario}, {finding.phase}, operation {finding.number}, {finding.variant}"
        console.print(f"[red]{finding.promise.name.lower()}[/red] {where}: {finding.detail}")
    colour = "red" if summary.findings else "green"
    console.print(
        f"{summary.cuts} cuts, [{colour}]{summary.bricks} bricks, {summary.wrong_images} wrong images[/]; "
        f"{summary.rate:.0f} cuts/s and core; {summary.audited - len(summary.differing)} of "
        f"{summary.audited} audited boots as with real crypto"
    )
    for text in summary.differing:
        console.print(f"[red]differs[/red] {text}")


def _junit(summary: "Summary") -> str:
    """One test case for each scenario."""
    broken = {
        survey.scenario: [finding for finding in summary.findings if finding.scenario == survey.scenario]
        for survey in summary.surveys
    }
    suite = ET.Element(
        "testsuite",
        name="power cuts",
        tests=str(len(broken)),
        failures=str(sum(1 for found in broken.values() if found)),
    )
    for name, found in broken.items():
        cuts = sum(result.cuts for result in summary.of(name))
        case = ET.SubElement(suite, "testcase", classname="powercut", name=f"{name}: {cuts} cuts")
        if found:
            failure = ET.SubElement(case, "failure", message=f"{len(found)} promises broken")
            failure.text = "\n".join(
                f"{f.phase}, operation {f.number}, {f.variant}: {f.promise.name.lower()}, {f.detail}"
                for f in found
            )
    return ET.tostring(suite, encoding="unicode")
