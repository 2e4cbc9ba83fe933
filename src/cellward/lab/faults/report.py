"""The page with the pictures: one self-contained HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass

from cellward.lab import page
from cellward.lab.faults.outcome import Counts, Outcome, broken
from cellward.lab.faults.results import Summary, grouped
from cellward.lab.faults.symbols import Symbols

CELL, GAP, ROW_CELLS = 7, 1, 110
MEANINGS = {
    Outcome.BYPASS: "the bad image ran, or the hardware's gate opened for it",
    Outcome.COUNTER: "the security counter is above what was authorised",
    Outcome.STATE: "flash or fuses differ from what they should be",
    Outcome.GOOD: "the good image runs; without the fault none would",
    Outcome.RECOVERY: "no image runs; without the fault the good one would",
    Outcome.RESET: "one more reset, then as without the fault",
    Outcome.CRASH: "the core stopped; the watchdog's reset follows",
    Outcome.HANG: "the instruction budget ran out; the watchdog's reset follows",
    Outcome.REFUSED: "as without the fault",
}


@dataclass(frozen=True)
class Cell:
    """One instruction of the heat map, in SVG units. `shares`: outcomes from the worst, with where
    each begins and how high it is, so that the whole cell is all faults there."""

    x: int
    y: int
    title: str
    shares: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Row:
    """A function: `broken` faults out of `faults` got through."""

    name: str
    broken: int
    faults: int
    height: int
    cells: tuple[Cell, ...]


def outcomes(counts: Counts) -> list[tuple[Outcome, int]]:
    """Worst first, without those that did not happen."""
    return [(outcome, counts[outcome]) for outcome in Outcome if counts[outcome]]


def css(outcome: Outcome) -> str:
    return outcome.replace(" ", "-")


def _cell(index: int, address: int, where: str, counts: Counts) -> Cell:
    step = CELL + GAP
    all_ = counts.total()
    shares, top = [], 0.0
    for outcome, number in outcomes(counts):
        height = CELL * number / all_
        shares.append((css(outcome), round(top, 2), round(height, 2)))
        top += height
    told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes(counts))
    return Cell(
        index % ROW_CELLS * step, index // ROW_CELLS * step, f"0x{address:08x} {where}: {told}", tuple(shares)
    )


def heat_map(summary: Summary, files: Sequence[Symbols]) -> list[Row]:
    """Every instruction that was hit, by function, in the order of the code."""
    by_function: dict[tuple[str, str], list[tuple[int, Counts]]] = {}
    where: dict[int, str] = {}
    for address, counts in sorted(summary.heat.items()):
        file = next((f for f in files if f.function(address)), files[0])
        where[address] = file.line(address)
        by_function.setdefault((file.name, file.function(address)), []).append((address, counts))
    rows = []
    for (file_name, name), hits in by_function.items():
        cells = tuple(_cell(i, address, where[address], counts) for i, (address, counts) in enumerate(hits))
        rows.append(
            Row(
                name=f"{name} · {file_name}",
                broken=sum(broken(counts) for _, counts in hits),
                faults=sum(counts.total() for _, counts in hits),
                height=cells[-1].y + CELL + GAP,
                cells=cells,
            )
        )
    return rows


def render(summary: Summary, files: Sequence[Symbols]) -> str:
    table = [
        (model, [(summary.counts(model, scenario), scenario) for scenario in summary.scenarios])
        for model in summary.models
    ]
    return page.render(
        "cellward.lab.faults",
        summary=summary,
        rows=heat_map(summary, files),
        width=ROW_CELLS * (CELL + GAP),
        cell=CELL,
        table=table,
        outcomes=outcomes,
        broken=broken,
        css=css,
        meanings=MEANINGS,
        groups=grouped(summary.bypasses),
    )
