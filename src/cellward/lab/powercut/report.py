"""The page with the cut timeline: one self-contained HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

from cellward.lab import page
from cellward.lab.powercut.campaign import Survey
from cellward.lab.powercut.judge import Promise
from cellward.lab.powercut.runner import Summary

WIDTH, HEIGHT = 1060, 26
LEAST = 1.5  # SVG units that a single operation is drawn with
PHASE_LEAST = 90.0  # and a phase, for its name
CLASSES = {
    "running a": "old",
    "running b": "new",
    "recovery": "recovery",
}
MEANINGS = {
    "old": "bank a runs",
    "new": "bank b runs",
    "recovery": "recovery takes a signed image",
    "broken": "a promise is broken",
    "none": "not cut in this sample",
}


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    css: str
    title: str


@dataclass(frozen=True)
class Mark:
    """Where a phase begins."""

    x: float
    name: str


@dataclass(frozen=True)
class Row:
    scenario: str
    operations: int
    cuts: int
    broken: int
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]


def css(outcome: str) -> str:
    return CLASSES.get(outcome, "broken")


def timeline(summary: Summary) -> list[Row]:
    return [_row(summary, survey) for survey in summary.surveys]


def places(phases: Sequence[str]) -> list[float]:
    """Where each operation begins, and where the last one ends. Within a phase to scale; a phase is as
    wide as the root of its length, so that the five operations of a commit show beside an install."""
    runs = [len(list(run)) for _, run in groupby(phases)]
    free = WIDTH - PHASE_LEAST * len(runs)
    unit = free / sum(map(sqrt, runs))
    starts = [0.0]
    for length in runs:
        width = PHASE_LEAST + unit * sqrt(length)
        first = starts[-1]
        starts += [first + width * number / length for number in range(1, length + 1)]
    return [round(start, 2) for start in starts]


def _row(summary: Summary, survey: Survey) -> Row:
    worst: dict[int, str] = {}
    for result in summary.of(survey.scenario):
        worst.update(result.worst)
    count = len(survey.phases)
    at = places(survey.phases)
    known = [(number, worst.get(number, "")) for number in range(count)]
    bars = []
    for (phase, outcome), run in groupby(known, key=lambda item: (survey.phases[item[0]], item[1])):
        numbers = [number for number, _ in run]
        if outcome:
            first, last = numbers[0], numbers[-1]
            operations = f"operation {first}" if first == last else f"operations {first} to {last}"
            bars.append(
                Bar(
                    at[first],
                    round(max(at[last + 1] - at[first], LEAST), 2),
                    css(outcome),
                    f"{phase}, {operations}: {outcome.lower()}",
                )
            )
    # What is broken is drawn last: no neighbour may hide it.
    bars.sort(key=lambda bar: bar.css == "broken")
    marks = tuple(
        Mark(at[number], survey.phases[number])
        for number in range(count)
        if number == 0 or survey.phases[number] != survey.phases[number - 1]
    )
    results = summary.of(survey.scenario)
    return Row(
        survey.scenario,
        count - 1,
        sum(result.cuts for result in results),
        sum(len(result.findings) for result in results),
        tuple(bars),
        marks,
    )


def promises(summary: Summary) -> Sequence[tuple[Promise, int]]:
    return [(promise, summary.broken(promise)) for promise in Promise]


def render(summary: Summary) -> str:
    return page.render(
        "cellward.lab.powercut",
        summary=summary,
        rows=timeline(summary),
        promises=promises(summary),
        meanings=MEANINGS,
        width=WIDTH,
        height=HEIGHT,
    )
