"""The sums of a campaign's results."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellward.lab.faults.campaign import Bypass, Result
from cellward.lab.faults.models import Model
from cellward.lab.faults.outcome import Counts, total, wilson


@dataclass
class Summary:
    """Everything that was found. `jobs`: how many there are to do in all."""

    title: str
    jobs: int
    results: Sequence[Result]
    regions: Sequence[tuple[str, Any]] = field(default=(), repr=False)  # names of code, with their Symbols

    @property
    def faults(self) -> int:
        return sum(result.faults for result in self.results)

    @property
    def seconds(self) -> float:
        """Of all cores together."""
        return sum(result.seconds for result in self.results)

    @property
    def rate(self) -> float:
        """Faults a second on one core."""
        return self.faults / self.seconds if self.seconds else 0.0

    @property
    def bypasses(self) -> list[Bypass]:
        return [bypass for result in self.results for bypass in result.bypasses if bypass.confirmed]

    @property
    def unconfirmed(self) -> list[Bypass]:
        return [bypass for result in self.results for bypass in result.bypasses if not bypass.confirmed]

    @property
    def audited(self) -> int:
        return sum(result.audited for result in self.results)

    @property
    def differing(self) -> list[str]:
        return [f"{r.scenario}: {text}" for r in self.results for text in r.differing]

    @property
    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(result.scenario for result in self.results))

    def counts(self, model: Model | None = None, scenario: str | None = None) -> Counts:
        return total(
            counts
            for result in self.results
            if scenario in (None, result.scenario)
            for name, counts in result.counts.items()
            if model is None or name == model
        )

    @property
    def models(self) -> list[Model]:
        """Those that were tried."""
        return [model for model in Model if self.counts(model)]

    @property
    def interval(self) -> tuple[float, float]:
        """Of the rate of bypasses, with 95 % (Wilson)."""
        return wilson(len(self.bypasses), self.faults)

    @property
    def heat(self) -> dict[int, Counts]:
        heat: dict[int, Counts] = {}
        for result in self.results:
            for address, counts in result.heat.items():
                heat.setdefault(address, Counter()).update(counts)
        return heat

    def to_json(self) -> dict[str, Any]:
        return {
            "campaign": self.title,
            "jobs": {"done": len(self.results), "all": self.jobs},
            "faults": self.faults,
            "bypasses": len(self.bypasses),
            "unconfirmed": len(self.unconfirmed),
            "rate": round(self.rate, 1),
            "seconds": round(self.seconds, 1),
            "audited": self.audited,
            "differing": self.differing,
            "interval": self.interval,
            "table": {
                model: {name: _named(self.counts(model, name)) for name in self.scenarios}
                for model in self.models
            },
            "found": [_told(bypass) for bypass in (*self.bypasses, *self.unconfirmed)],
        }


def _named(counts: Counts) -> dict[str, int]:
    return {str(outcome): number for outcome, number in counts.items()}


def _told(bypass: Bypass) -> dict[str, Any]:
    return {
        "scenario": bypass.scenario,
        "step": bypass.step,
        "address": f"0x{bypass.address:08x}",
        "where": bypass.where,
        "fault": bypass.fault,
        "outcome": bypass.outcome,
        "confirmed": bypass.confirmed,
    }


def grouped(bypasses: Iterable[Bypass]) -> list[tuple[str, str, list[Bypass]]]:
    """By address: `0x…`, where that is, and its bypasses; most first."""
    places: dict[tuple[int, str], list[Bypass]] = {}
    for bypass in bypasses:
        places.setdefault((bypass.address, bypass.where), []).append(bypass)
    ranked = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(f"0x{address:08x}", where, found) for (address, where), found in ranked]
