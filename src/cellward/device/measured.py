"""The measured start: what runs on this controller, in the TPM and in the event log beside it.

The log's entry is written first, so that whoever is cut off knows what was about to be measured: the PCRs
say whether it was.
"""

from collections.abc import Sequence

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.tpm import eventlog
from cellward.core.tpm.eventlog import Event
from cellward.core.tpm.measurement import SELECTION
from cellward.ports.store import Store
from cellward.ports.tpm import TpmMeasurements

LOG = "measured.json"


def measure(tpm: TpmMeasurements, store: Store, events: Sequence[Event]) -> tuple[Event, ...]:
    """Measure what has not been measured like this since the TPM's reset; the log, which is in the Store.

    Raises TrustRefused (attest.pcr) where the PCRs hold what no log of ours says, FormatRefused
    (attest.log) for a log that is full; both until the controller restarts.
    """
    log = measured(tpm, store)
    for event in events:
        last = next((each for each in reversed(log) if each.what == event.what), None)
        if last == event:
            continue
        log = (*log, event)
        store.write(LOG, eventlog.encode(log))
        tpm.pcr_extend(event.pcr, event.digest)
    return log


def measured(tpm: TpmMeasurements, store: Store) -> tuple[Event, ...]:
    """The events that the PCRs hold: the log, the log but for its last entry, or none after a reset."""
    held = _read(store)
    values = tpm.pcr_read(SELECTION)
    for events in (held, held[:-1], ()):
        if eventlog.replay(events, SELECTION) == values:
            return events
    raise TrustRefused(
        Code.ATTEST_PCR,
        "measured start",
        expected="PCRs as the event log says",
        found="others: something else measures into them",
        advice="restart the controller; PCRs 8 to 10 are the agent's",
    )


def _read(store: Store) -> tuple[Event, ...]:
    """A log that is none is as good as lost: the PCRs decide."""
    try:
        return eventlog.decode(store.read(LOG) or b"")
    except FormatRefused:
        return ()
