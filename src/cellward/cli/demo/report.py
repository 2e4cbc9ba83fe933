"""The page of results: one self-contained HTML file with the chain and the timeline as SVG."""

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from cellward.cli.demo.journal import Actor, Journal, Step
from cellward.core.errors import Code

WIDTH = 1080
LANE = 44
LEFT = 130


@dataclass(frozen=True)
class Bar:
    """A step as a rectangle of the timeline, in SVG units."""

    x: float
    y: float
    width: float
    step: Step


@dataclass(frozen=True)
class Station:
    """A box of the chain's picture: who verifies what there. `number` as in DESIGN section 1."""

    name: str
    place: str
    checks: tuple[str, ...]


CHAIN = (
    Station("sign", "maker, key in the HSM", ("MCUboot image", "own signature checked")),
    Station("publish", "maker", ("gate: the device's own verifier", "four roles, signed in the HSM")),
    Station("serve", "server", ("TLS 1.3, both sides", "certificate in the registry")),
    Station(
        "verify", "pack controller", ("Director and Image agree", "length, hash, the image", "safety gates")
    ),
    Station("install", "battery module", ("programming port closed", "verified in the flash")),
    Station("ROM", "battery module", ("loader verified", "bank chosen by the table")),
    Station("loader", "battery module", ("app verified", "flash closed")),
    Station("app", "battery module", ("self-test, confirm", "watches bank and pack")),
)


# Where a refusal's code belongs in the picture, when not where it was reported.
STOPPED_AT = {Code.UPDATE_FELL_BACK: "app", Code.POWER_CUT: "install"}
STOPPED_BY = {
    "publish gate": "publish",
    "Director": "publish",
    "server": "serve",
    "pack controller": "verify",
    "module rom": "ROM",
    "module loader": "loader",
    "module app": "app",
    "update engine": "install",
    "programming port": "install",
}


def stopped(journal: Journal) -> dict[str, list[str]]:
    """The codes that each station refused with, each once."""
    at: dict[str, list[str]] = {station.name: [] for station in CHAIN}
    for refusal in journal.refusals:
        station = STOPPED_AT.get(Code(refusal.code)) or STOPPED_BY[refusal.refused_by]
        if refusal.code not in at[station]:
            at[station].append(refusal.code)
    return at


def bars(journal: Journal) -> list[Bar]:
    total = journal.seconds or 1.0
    lanes = {actor: index for index, actor in enumerate(Actor)}
    scale = (WIDTH - LEFT - 10) / total
    return [
        Bar(
            x=round(LEFT + step.started * scale, 1),
            y=lanes[step.actor] * LANE + 8,
            width=max(round(step.seconds * scale, 1), 2.0),
            step=step,
        )
        for step in journal.steps
    ]


def ticks(journal: Journal) -> list[tuple[float, int]]:
    """Where the timeline's second marks stand: x and seconds."""
    total = journal.seconds or 1.0
    every = next((s for s in (1, 2, 5, 10, 20, 30, 60) if total / s <= 14), 120)
    scale = (WIDTH - LEFT - 10) / total
    return [(round(LEFT + s * scale, 1), s) for s in range(0, int(total) + 1, every)]


def render(journal: Journal) -> str:
    """The page as HTML; everything in it is escaped, nothing is loaded from elsewhere."""
    environment = Environment(
        loader=PackageLoader("cellward.cli.demo", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        journal=journal,
        chain=CHAIN,
        stopped=stopped(journal),
        actors=list(Actor),
        bars=bars(journal),
        ticks=ticks(journal),
        width=WIDTH,
        lane=LANE,
        left=LEFT,
        held=sum(refusal.holds for refusal in journal.refusals),
    )
