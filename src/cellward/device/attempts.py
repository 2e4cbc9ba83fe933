"""Failed authentications are slow: counted in the TPM, and before they are judged.

A try raises one counter; a success raises another one up to it. So a power cut saves no try, an old state
directory put back forgets none, and nothing ever goes down. The wait is measured by the TPM's time since its
start: its clock can be set, and goes back in a cut; the attested time needs a server. A reset begins the wait
anew, as whoever cuts the power would like it to be over.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from cellward.core import attempts
from cellward.core.attempts import Last, Moment
from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.ports.store import Store
from cellward.ports.tpm import RELEASE_COUNTER, SETTLED_COUNTER, TRIED_COUNTER, Tpm

LAST: Final = "attempts.json"


@dataclass(frozen=True)
class Attempts:
    """All authentications towards this controller count together. One process has it at a time."""

    tpm: Tpm
    store: Store

    @property
    def failures(self) -> int:
        """Since the last success; a try that was cut off is one."""
        tried, settled = self._counters()
        return tried - settled

    @property
    def tried(self) -> int:
        """The number of the last try; no other has it, and none comes back to it."""
        return self._counters()[0]

    def wait_ms(self) -> int:
        """With power, until the next try may be. An embedded TPM has power while somebody runs it."""
        tried, settled = self._counters()
        if not attempts.delay_ms(tried - settled):
            return 0
        now = self._now()
        last = self._last()
        if last is None or last.number != tried:  # lost, cut off or put back: the wait begins now
            last = Last(tried, now)
            self.store.write(LAST, last.encode())
        return attempts.left_ms(tried - settled, last.at, now)

    @contextmanager
    def charged(self, subject: str) -> Iterator[None]:
        """Judge inside: what ends without an exception is a success and forgives, all else is a failure.

        Raises PolicyRefused (auth.delay) before anything is judged, Unavailable (tpm.*, storage.*).
        """
        wait = self.wait_ms()
        if wait:
            raise PolicyRefused(
                Code.AUTH_DELAY,
                subject,
                expected="no try so soon after others that failed",
                found=f"{self.failures} failed, {-(-wait // 1000)} s to wait with the power on",
                advice="wait; a restart begins the wait anew",
            )
        self.tpm.increment(TRIED_COUNTER)
        self.store.write(LAST, Last(self.tpm.counter(TRIED_COUNTER), self._now()).encode())
        yield
        self.forgive()

    def forgive(self) -> None:
        for _ in range(self.failures):
            self.tpm.increment(SETTLED_COUNTER)

    def _counters(self) -> tuple[int, int]:
        """Tried and settled. Made where there are none: a counter that is made later begins above all."""
        self.tpm.define_counter(RELEASE_COUNTER)  # before any other: the fleet's begin alike
        tried, settled = self.tpm.define_counter(TRIED_COUNTER), self.tpm.define_counter(SETTLED_COUNTER)
        while tried < settled:
            self.tpm.increment(TRIED_COUNTER)
            tried += 1
        return tried, settled

    def _last(self) -> Last | None:
        """What is no record is as good as lost: the wait is the longer for it."""
        data = self.store.read(LAST)
        try:
            return None if data is None else attempts.decode(data)
        except FormatRefused:
            return None

    def _now(self) -> Moment:
        clock = self.tpm.clock()
        return Moment((clock.resets, clock.restarts), clock.since_start)
