"""`cellward demo`: the whole way in a temporary directory, ending in a page of results."""

import re
import tempfile
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cellward import bootstrap
from cellward.cli.demo.journal import Journal
from cellward.cli.demo.report import render
from cellward.cli.demo.scenes import Scenes
from cellward.cli.demo.stage import Stage, Unexpected

__all__ = ["demo"]

DIGEST = re.compile(r"\b([0-9a-f]{16})[0-9a-f]{48}\b")


@click.command()
@click.option(
    "--report",
    default="report.html",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the page of results goes.",
)
def demo(report: Path) -> None:
    """Sign, publish, serve, update, attack and fall back, every part real; under a minute."""
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="cellward-demo-") as folder,
        Stage(Path(folder), console) as stage,
    ):
        Scenes(stage).play()
        journal = stage.journal
    bootstrap.write_file(report, render(journal).encode())
    _show(journal, report, console)
    broken = [refusal.attack for refusal in journal.refusals if not refusal.holds]
    if broken:
        raise Unexpected("demo", "refusals that change nothing", ", ".join(broken))


def _short(text: str) -> str:
    """Digests to 16 digits; the page has them whole. Square brackets are no markup."""
    return escape(DIGEST.sub(r"\1…", text))


def _show(journal: Journal, report: Path, console: Console) -> None:
    table = Table(title="What was refused", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading in ("attack or accident", "refused by", "code, expected, found", "afterwards"):
        table.add_column(heading, overflow="fold", ratio=1 if heading == "refused by" else 2)
    for refusal in journal.refusals:
        table.add_row(
            refusal.attack,
            refusal.refused_by,
            f"[red]{refusal.code}[/red]\nexpected {_short(refusal.expected)}\nfound {_short(refusal.found)}",
            f"[{'green' if refusal.holds else 'red'}]{refusal.proof}[/]",
            end_section=True,
        )
    console.print()
    console.print(table)
    held = sum(refusal.holds for refusal in journal.refusals)
    facts = [f"{len(journal.steps)} steps in {journal.seconds:.0f} s"]
    facts += [f"{held} of {len(journal.refusals)} refusals left running what must run"]
    facts += [f"{name}: {value}" for name, value in journal.facts]
    console.print(Panel("\n".join([*facts, f"report: {report}"]), title="The whole way", expand=False))
