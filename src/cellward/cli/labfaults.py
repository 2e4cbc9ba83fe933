"""`cellward lab faults`, and how its results look on a terminal and for a build server."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from cellward.cli import labview
from cellward.core.errors import Code, ModuleRefused

if TYPE_CHECKING:
    from cellward.lab.faults.campaign import Kind
    from cellward.lab.faults.outcome import Counts
    from cellward.lab.faults.results import Summary
    from cellward.lab.faults.runner import Subject

MOST_PLACES = 40
_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--smoke", is_flag=True, help="Where decisions are made, for a minute.")
@click.option("--inside-crypto", is_flag=True, help="Instead, skip all that is inside the library.")
@click.option("--pairs", type=click.IntRange(1), help="Sample so many runs with two faults instead.")
@click.option("--target", type=_file, help="Attack this firmware of yours (TOML; see docs/lab.md).")
@click.option("--rom", type=_file, help="ROM to attack, ELF with symbols; default: the packaged one.")
@click.option("--loader", type=_file, help="Loader to attack, ELF with symbols.")
@click.option("--scenario", default="", help="Only this one, or those whose name contains it.")
@labview.campaign_options
def faults(
    smoke: bool,
    inside_crypto: bool,
    pairs: int | None,
    target: Path | None,
    rom: Path | None,
    loader: Path | None,
    scenario: str,
    results: Path | None,
    seed: int,
    cores: int,
    html: Path | None,
    junit: Path | None,
    as_json: bool,
) -> None:
    """Inject every fault of five models at every executed instruction, and see what gets through.

    Skip 1, skip 2, opcode bit flip, register flip or stuck, flash-read flip; in ROM and loader outside
    the crypto library, from reset to the jump. A bypass counts when it is one with real crypto too.
    Exit status 1 when there is one.
    """
    labview.check_installed()
    from cellward.lab.faults import report
    from cellward.lab.faults.campaign import Kind
    from cellward.lab.faults.runner import Options, run

    if sum((smoke, inside_crypto, pairs is not None)) > 1 or (inside_crypto and target is not None):
        raise click.UsageError("one of --smoke, --pairs and --inside-crypto, and the last without --target")
    kind = Kind.SMOKE if smoke else Kind.INSIDE if inside_crypto else Kind.PAIRS if pairs else Kind.SINGLE
    subject = _subject(target, seed, rom, loader, kind)
    options = Options(seed, kind, pairs or 0, cores, results, scenario)
    if not options.of(subject.smoke if smoke else subject.scenarios):
        raise click.UsageError(f"no scenario's name contains {scenario!r}")
    with labview.bar("faults", "got through", hidden=as_json) as progress:
        summary = run(subject, options, progress)
    labview.conclude(
        summary,
        lambda: _show(summary),
        _found(summary),
        page=lambda: report.render(summary, subject.symbols),
        html=html,
        suite=f"faults: {summary.title}",
        cases=_cases(summary),
        junit=junit,
        as_json=as_json,
    )


def _subject(
    target: Path | None, seed: int, rom: Path | None, loader: Path | None, kind: "Kind"
) -> "Subject":
    from cellward.lab.faults.campaign import Kind
    from cellward.lab.faults.elf import ElfSubject
    from cellward.lab.faults.subject import InsideSubject, ModuleSubject
    from cellward.lab.faults.target import read_file, read_target

    if target is not None:
        return ElfSubject(read_target(target))
    made = InsideSubject if kind is Kind.INSIDE else ModuleSubject
    return made(seed, *(b"" if path is None else read_file(path) for path in (rom, loader)))


def _found(summary: "Summary") -> ModuleRefused | None:
    if not (summary.bypasses or summary.differing):
        return None
    return ModuleRefused(
        Code.BOOT_INTEGRITY,
        summary.title,
        expected="no fault that gets through",
        found=f"{len(summary.bypasses)} of {summary.faults}, {len(summary.differing)} audits that differ",
    )


def _show(summary: "Summary") -> None:
    from cellward.lab.faults.models import Model
    from cellward.lab.faults.results import grouped

    console = Console(highlight=False)
    table = Table(title=f"Faults: {summary.title}", title_justify="left")
    table.add_column("scenario")
    for model in summary.models:
        table.add_column(model)
    for scenario in summary.scenarios:
        told = (_told(summary.counts(model, scenario)) for model in summary.models)
        table.add_row(scenario, *told, end_section=True)
    console.print(table)
    for address, where, found in grouped(summary.bypasses)[:MOST_PLACES]:
        console.print(f"[red]{len(found):5}[/red] {address} {where}: {found[0].fault}; {found[0].scenario}")
    colour = "red" if summary.bypasses else "green"
    console.print(
        f"{summary.faults} faults, [{colour}]{len(summary.bypasses)} bypasses[/], "
        f"{len(summary.unconfirmed)} not confirmed with real crypto; {summary.rate:.0f} faults/s and core; "
        f"{summary.audited - len(summary.differing)} of {summary.audited} audited runs as with real crypto"
    )
    if summary.models == [Model.PAIR]:
        low, high = summary.interval
        rate = len(summary.bypasses) / summary.faults
        console.print(f"rate of pairs that get through: {rate:.2e}, 95 % interval {low:.1e} to {high:.1e}")
    for text in summary.differing:
        console.print(f"[red]differs[/red] {text}")


def _told(counts: "Counts") -> str:
    from cellward.lab.faults.outcome import Outcome

    def line(outcome: Outcome) -> str:
        colour = "red" if outcome.broken else "yellow" if outcome in (Outcome.STATE, Outcome.HANG) else ""
        text = f"{counts[outcome]} {outcome}"
        return f"[{colour}]{text}[/]" if colour else text

    return "\n".join(line(outcome) for outcome in Outcome if counts[outcome])


def _cases(summary: "Summary") -> dict[str, list[str]]:
    """For each scenario and model, what got through."""
    cases = {}
    for scenario in summary.scenarios:
        for model in summary.models:
            counts = summary.counts(model, scenario)
            if counts:
                cases[f"{scenario}: {model}: {counts.total()} faults"] = [
                    f"0x{bypass.address:08x} {bypass.where}: {bypass.fault}"
                    for bypass in summary.bypasses
                    if bypass.scenario == scenario and bypass.model == model
                ]
    return cases
