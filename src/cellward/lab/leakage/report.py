"""The page with a strip of |t| for each routine: one self-contained HTML file."""

from dataclasses import dataclass
from math import isinf, log10

from cellward.lab import page
from cellward.lab.leakage.module import NOT_TRACED
from cellward.lab.leakage.runner import Summary, Verdict
from cellward.lab.leakage.statistics import THRESHOLD
from cellward.lab.leakage.tracer import WINDOWS, Channel

WIDTH, HEIGHT = 3 * WINDOWS, 28
MOST_T = 1000.0  # the top of a strip; logarithmic
TITLES = {
    Channel.STEPS: "instructions",
    Channel.BRANCHES: "branches",
    Channel.MEMORY: "memory addresses",
    Channel.VALUES: "values (information)",
}


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    height: float
    css: str
    title: str


@dataclass(frozen=True)
class Strip:
    title: str
    bars: tuple[Bar, ...]


def height(t: float) -> float:
    """From 0 to HEIGHT."""
    shown = MOST_T if isinf(t) else min(t, MOST_T)
    return round(HEIGHT * log10(1 + shown) / log10(1 + MOST_T), 2)


def used(events: int) -> int:
    """Windows that so many events fill (tracer.c, `window_of`)."""
    return -(-events // max(-(-events // WINDOWS), 1))


def strips(verdict: Verdict) -> list[Strip]:
    return [_strip(verdict, channel) for channel in Channel]


def _strip(verdict: Verdict, channel: Channel) -> Strip:
    gated = channel is not Channel.VALUES
    width = WIDTH / max(used(verdict.counts[channel if gated else Channel.MEMORY]), 1)
    bars = tuple(
        Bar(
            x=round(width * window, 2),
            width=round(width, 2),
            height=height(float(t)),
            css="value" if not gated else "bad" if t >= THRESHOLD else "low",
            title=f"window {window}: |t| {t:.1f}",
        )
        for window, t in enumerate(verdict.windows(channel))
        if t > 0 and width * window < WIDTH
    )
    return Strip(TITLES[channel], bars)


def render(summary: Summary) -> str:
    return page.render(
        "cellward.lab.leakage",
        summary=summary,
        rows=[(verdict, strips(verdict)) for verdict in summary.verdicts],
        width=WIDTH,
        height=HEIGHT,
        line=HEIGHT - height(THRESHOLD),
        threshold=THRESHOLD,
        not_traced=NOT_TRACED if summary.of_module else {},
    )
