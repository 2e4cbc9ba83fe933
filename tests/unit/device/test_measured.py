"""The measured start: the log says what the PCRs hold, also after a cut between the two."""

import pytest

from cellward.core.errors import Code, FormatRefused, TrustRefused, Unavailable
from cellward.core.tpm import eventlog, measurement
from cellward.core.tpm.eventlog import Event
from cellward.core.tpm.measurement import SELECTION
from cellward.device.measured import LOG, measure, measured
from tests.fakes.store import MemoryStore
from tests.fakes.tpm import MemoryTpm
from tests.support.attestedpack import start

EVENTS = start()


class Cut(MemoryTpm):
    """The power of the agent goes at the n-th extension, before it or behind it."""

    def __init__(self, at: int, *, behind: bool) -> None:
        super().__init__()
        self.left, self.behind = at, behind

    def pcr_extend(self, index: int, digest: bytes) -> None:
        self.left -= 1
        if self.left == 0 and not self.behind:
            raise Unavailable(Code.TPM_FAILED, "cut")
        super().pcr_extend(index, digest)
        if self.left == 0:
            raise Unavailable(Code.TPM_FAILED, "cut")


def true_log(tpm: MemoryTpm, store: MemoryStore) -> list[Event]:
    """As a server would find it."""
    log = eventlog.decode(store.read(LOG) or b"")
    assert eventlog.replay(log, SELECTION) == tpm.pcr_read(SELECTION)
    return list(log)


def test_what_was_measured_is_not_measured_again_but_what_changed_is() -> None:
    tpm, store = MemoryTpm(), MemoryStore()
    assert list(measure(tpm, store, EVENTS)) == EVENTS
    measure(tpm, store, EVENTS)
    assert true_log(tpm, store) == EVENTS
    changed = measurement.agent(b"\7" * 32)
    measure(tpm, store, [changed, *EVENTS[1:]])
    measure(tpm, store, EVENTS)  # and back again
    assert true_log(tpm, store) == [*EVENTS, changed, EVENTS[0]]


def test_a_reset_begins_a_new_log() -> None:
    tpm, store = MemoryTpm(), MemoryStore()
    measure(tpm, store, [measurement.agent(b"\7" * 32), *EVENTS])
    tpm.start()
    measure(tpm, store, EVENTS)
    assert true_log(tpm, store) == EVENTS


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("at", range(1, len(EVENTS) + 1))
def test_a_cut_at_any_extension_is_made_good(at: int, behind: bool) -> None:
    tpm, store = Cut(at, behind=behind), MemoryStore()
    with pytest.raises(Unavailable):
        measure(tpm, store, EVENTS)
    measure(tpm, store, EVENTS)
    assert true_log(tpm, store) == EVENTS


@pytest.mark.parametrize("index", SELECTION)
def test_what_another_measured_is_not_covered_up(index: int) -> None:
    tpm, store = MemoryTpm(), MemoryStore()
    measure(tpm, store, EVENTS)
    tpm.pcr_extend(index, b"\7" * 32)
    before, values = store.read(LOG), tpm.pcr_read(SELECTION)
    for _ in range(2):
        with pytest.raises(TrustRefused) as refused:
            measure(tpm, store, [measurement.agent(b"\1" * 32)])
        assert refused.value.code is Code.ATTEST_PCR
    assert (store.read(LOG), tpm.pcr_read(SELECTION)) == (before, values)


@pytest.mark.parametrize("data", [b"", b"no log", eventlog.encode(start(agent=bytes(32)))])
def test_a_log_that_is_lost(data: bytes) -> None:
    tpm, store = MemoryTpm(), MemoryStore()
    store.write(LOG, data)
    assert measured(tpm, store) == ()
    measure(tpm, store, EVENTS)
    store.write(LOG, data)
    with pytest.raises(TrustRefused):
        measure(tpm, store, EVENTS)


def test_a_full_log_changes_nothing() -> None:
    tpm, store = MemoryTpm(), MemoryStore()
    events = [measurement.agent(bytes([n % 2]) * 32) for n in range(eventlog.MAX_EVENTS + 1)]
    with pytest.raises(FormatRefused) as refused:
        measure(tpm, store, events)
    assert refused.value.code is Code.ATTEST_LOG
    assert len(true_log(tpm, store)) == eventlog.MAX_EVENTS
