"""Welch's t-test of fixed against random, added up trace by trace."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellward.lab.leakage.tracer import WINDOWS, Channel, Trace

FIXED, RANDOM = 0, 1
THRESHOLD = 4.5  # ISO/IEC 17825, and Goodwill et al. (NIST 2011)
COUNTS = len(Channel) * WINDOWS  # where the events' counts stand, behind the windows
FEATURES = COUNTS + len(Channel) - 1

Floats = NDArray[np.float64]


def features(trace: Trace) -> Floats:
    """One row: for each channel its windows, then how many steps, branches and accesses there were."""
    return np.concatenate([trace.windows.ravel(), trace.counts]).astype(np.float64)


@dataclass
class Moments:
    """How many traces of each kind, and the sums of features and of their squares, as differences from
    the reference: what never differs is exactly 0."""

    count: NDArray[np.int64]
    sums: Floats
    squares: Floats

    @classmethod
    def empty(cls) -> "Moments":
        return cls(np.zeros(2, np.int64), np.zeros((2, FEATURES)), np.zeros((2, FEATURES)))

    def add(self, kind: int, difference: Floats) -> None:
        self.count[kind] += 1
        self.sums[kind] += difference
        self.squares[kind] += difference * difference

    def merge(self, other: "Moments") -> None:
        self.count += other.count
        self.sums += other.sums
        self.squares += other.squares

    def t(self) -> Floats:
        """For each feature. Infinite where both kinds are constant and not the same."""
        if self.count.min() < 2:
            return np.zeros(FEATURES)
        count = self.count[:, None].astype(np.float64)
        means = self.sums / count
        spread = np.maximum(self.squares - count * means * means, 0.0) / (count - 1.0)
        error = np.sqrt((spread / count).sum(axis=0))
        difference = means[FIXED] - means[RANDOM]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(difference == 0.0, 0.0, difference / error)

    def to_json(self) -> dict[str, Any]:
        """Only the features that ever differed."""
        places = np.flatnonzero(self.squares.any(axis=0))
        return {
            "count": self.count.tolist(),
            "places": places.tolist(),
            "sums": self.sums[:, places].tolist(),
            "squares": self.squares[:, places].tolist(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Moments":
        made = cls.empty()
        made.count += np.array(data["count"], np.int64)
        places = np.array(data["places"], np.intp)
        made.sums[:, places] = np.array(data["sums"]).reshape(2, -1)
        made.squares[:, places] = np.array(data["squares"]).reshape(2, -1)
        return made


def windows_of(t: Floats, channel: Channel) -> Floats:
    """|t| of a channel's windows."""
    return np.abs(t[channel * WINDOWS : (channel + 1) * WINDOWS])


def length_of(t: Floats) -> Floats:
    """|t| of the counts of steps, branches and accesses."""
    return np.abs(t[COUNTS:])
