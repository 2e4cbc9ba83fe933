"""How long to wait after failed authentications. Normative: docs/formats/attempts.md.

Three are free, for people mistype. Each one more doubles the wait, to an hour: whoever guesses gets 24 tries
a day, and the owner of a pack that somebody played with waits an hour at most.
"""

from dataclasses import dataclass
from typing import Final

from cellward.core import strictjson
from cellward.core.strictjson import Fields

FREE: Final = 3
FIRST_MS: Final = 10_000
CAP_MS: Final = 3_600_000
MAX_SIZE: Final = 1024
_WHAT = "last authentication"


@dataclass(frozen=True)
class Moment:
    """Of a TPM: which start (its resets and restarts), and the milliseconds since then."""

    start: tuple[int, int]
    milliseconds: int


@dataclass(frozen=True)
class Last:
    """The last try: which one it was, and when."""

    number: int
    at: Moment

    def encode(self) -> bytes:
        resets, restarts = self.at.start
        times = {"resets": resets, "restarts": restarts, "milliseconds": self.at.milliseconds}
        return strictjson.encode({"format": 1, "try": self.number, **times})


def decode(data: bytes) -> Last:
    """Raises FormatRefused (metadata.*)."""
    fields = Fields(strictjson.decode(data, _WHAT, MAX_SIZE), _WHAT)
    fields.integer("format", 1, 1)
    start = fields.integer("resets"), fields.integer("restarts")
    found = Last(fields.integer("try"), Moment(start, fields.integer("milliseconds")))
    fields.finish()
    return found


def delay_ms(failures: int) -> int:
    """Behind so many failures in a row: 0, 0, 0, then 10 s, 20 s, 40 s … an hour."""
    if failures < FREE:
        return 0
    return min(CAP_MS, FIRST_MS << min(failures - FREE, 16))


def left_ms(failures: int, last: Moment, now: Moment) -> int:
    """Of the delay. What passed before a reset does not count: how long the power was off nobody knows."""
    passed = now.milliseconds - (last.milliseconds if last.start == now.start else 0)
    return max(0, delay_ms(failures) - max(0, passed))
