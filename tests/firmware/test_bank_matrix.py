"""The whole bank matrix, before the tables of core.banks and before the real ROM and loader.

{test, confirm, revert, permanent} x {counter lower, equal, higher} x {bank a good, bad} x {bank b good,
bad}, bad in the loader or in the app. What must come is worked out from the tables with Python's
verification; what comes is the ARM binary's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest

from cellward.core.banks import ACTIONS, TRANSITIONS, Action, Candidate, Event, State, choose, state_of
from cellward.core.errors import Refused
from cellward.core.image import Trust, decode, verify
from cellward.core.slots import BANKS, BMS_M33, TRAILER_MAGIC, Stage, Trailer, decode_trailer, flag_phrase
from cellward.ports.module import Outcome
from tests.firmware.rig import KEY, Rig, release

pytest.importorskip("unicorn")

COMMITTED = 8
VERSIONS = {"a": "1.3.0", "b": "1.4.0"}
UNSET = b"\xff" * 8
# copy_done and image_ok of bank b, as MCUboot's tools and update paths leave them.
MODES = {
    "test": (UNSET, UNSET),
    "confirm": (flag_phrase(), flag_phrase()),
    "revert": (flag_phrase(), UNSET),
    "permanent": (UNSET, flag_phrase()),
}
COUNTERS = {"lower": COMMITTED - 1, "equal": COMMITTED, "higher": COMMITTED + 1}
BAD: dict[str, Stage | None] = {"good": None, "bad loader": Stage.LOADER, "bad app": Stage.APP}


@dataclass(frozen=True)
class Boot:
    """`bank` None: recovery."""

    outcome: Outcome
    bank: str | None
    counter: int


# What must come -----------------------------------------------------------------------------------


@dataclass
class Bank:
    images: dict[Stage, bytes]
    state: State

    def good(self, stage: Stage, counter: int) -> bool:
        trust = Trust(
            keys={KEY.public.key_hash: None},
            counter=counter,
            hardware=(BMS_M33.vendor_id, BMS_M33.class_id(stage)),
        )
        try:
            verify(decode(self.images[stage], stage), trust, stage)
        except Refused:
            return False
        return True

    @property
    def commits(self) -> int:
        """The lower of its two counters, so that a commit does not lock out its own loader."""
        return min(decode(image).counter or 0 for image in self.images.values())


class Module:
    """ROM and loader in the words of the tables."""

    def __init__(self, banks: dict[str, Bank]) -> None:
        self.banks = banks
        self.counter = COMMITTED

    def boots(self) -> Iterator[Boot]:
        refused: str | None = None
        while True:
            name = next((bank for bank in self._order(refused) if self._qualifies(bank, refused)), None)
            if name is None:
                yield Boot(Outcome.RECOVERY, None, self.counter)
                return
            counter, bank = self.counter, self.banks[name]
            if not bank.good(Stage.APP, counter):
                refused = name
            elif bank.state is State.TRIAL:
                refused, bank.state = None, TRANSITIONS[State.TRIAL, Event.CONFIRM]
            else:
                yield Boot(Outcome.RUNNING, name, counter)
                return
            yield Boot(Outcome.RESET, name, counter)

    def _order(self, refused: str | None) -> Iterator[str]:
        a, b = (self.banks[bank] for bank in BANKS)
        for index in choose(self._candidate(a), self._candidate(b)):
            if BANKS[index] != refused:
                yield BANKS[index]

    @staticmethod
    def _candidate(bank: Bank) -> Candidate:
        app = decode(bank.images[Stage.APP])
        version = app.version
        fields = version.major, version.minor, version.revision, version.build
        return Candidate(TRAILERS[bank.state], app.counter or 0, fields)

    def _qualifies(self, name: str, refused: str | None) -> bool:
        """With what the ROM then writes: copy_done for a trial, the counter for a commit."""
        bank = self.banks[name]
        if not bank.good(Stage.LOADER, self.counter):
            return False
        if refused is not None and not bank.good(Stage.APP, self.counter):
            return False
        if ACTIONS[bank.state] is Action.START:
            bank.state = TRANSITIONS[bank.state, Event.START]
        elif bank.commits > self.counter:
            if not bank.good(Stage.APP, self.counter):
                return False
            self.counter = bank.commits
        return True


TRAILERS: dict[State, Trailer] = {
    state_of(trailer): trailer
    for trailer in (
        decode_trailer(b"".join(flags) + magic)
        for flags in MODES.values()
        for magic in (TRAILER_MAGIC, 2 * UNSET)
    )
}


def expected(rig: Rig, counter: str) -> Module:
    banks = {}
    for name, release_counter in zip(BANKS, (COMMITTED, COUNTERS[counter]), strict=True):
        start = BANKS.index(name) * BMS_M33.bank_size
        slots = {stage: start + BMS_M33.slot(stage).offset for stage in Stage}
        whole = release(VERSIONS[name], release_counter)
        images = {stage: bytes(rig.flash[at : at + len(whole[stage])]) for stage, at in slots.items()}
        banks[name] = Bank(images, state_of(decode_trailer(bytes(rig.trailer(name)))))
    return Module(banks)


# What comes ---------------------------------------------------------------------------------------


def module(mode: str, counter: str, a: str, b: str) -> Rig:
    """Bank a is confirmed at the fuses' counter, bank b what the mode leaves."""
    rig = Rig.planted(COMMITTED)
    rig.stage("a", release(VERSIONS["a"], COMMITTED), confirmed=True, started=True)
    rig.stage("b", release(VERSIONS["b"], COUNTERS[counter]))
    rig.trailer("b")[:16] = b"".join(MODES[mode])
    for number, bad in enumerate((BAD[a], BAD[b])):
        if bad is not None:
            rig.flash[number * BMS_M33.bank_size + BMS_M33.slot(bad).offset + 0x400] ^= 1
    return rig


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("counter", COUNTERS)
def test_the_binary_does_what_the_tables_say(mode: str, counter: str) -> None:
    for a, b in product(BAD, BAD):
        rig = module(mode, counter, a, b)
        model = expected(rig, counter)
        must = list(model.boots())
        reports = rig.boot()
        came = [
            Boot(report.outcome, None if report.outcome is Outcome.RECOVERY else report.bank, report.counter)
            for report in reports
        ]
        states = {bank: state_of(decode_trailer(bytes(rig.trailer(bank)))) for bank in BANKS}
        rig.off()
        assert came == must, (a, b)
        assert states == {bank: model.banks[bank].state for bank in BANKS}, (a, b)


def test_nothing_older_than_the_fuses_ever_runs() -> None:
    """Of the matrix itself: what the tables say is also what is wanted."""
    for mode, counter, a, b in product(MODES, COUNTERS, BAD, BAD):
        boots = list(expected(module(mode, counter, a, b), counter).boots())
        last = boots[-1]
        good = {"a": a == "good", "b": b == "good" and counter != "lower" and mode != "revert"}
        assert (last.bank is None) == (not any(good.values())), (mode, counter, a, b)
        assert last.bank is None or good[last.bank], (mode, counter, a, b)
        assert last.counter == COMMITTED + (last.bank == "b" and counter == "higher")
        assert all(boot.counter <= last.counter for boot in boots)
