"""What a boot after a cut must not be. The judge reads the memories; it does not ask the firmware."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cellward.core.banks import State
from cellward.core.slots import OTP_VAULT_CALIBRATION, Lifecycle
from cellward.lab.powercut.bench import Bench
from cellward.ports.module import Outcome


class Promise(StrEnum):
    BRICK = "a brick: no bank boots and recovery takes no signed image"
    WRONG_IMAGE = "a wrong image: not released, older than what was committed, or of a revoked key"
    CONTACTORS = "closed contactors without a confirmed and committed image"
    COUNTER = "a counter that was raised without a confirmed image"
    LAST_KEY = "no slot key left"
    SECRET = "a tampered module whose secret can still be read"
    VAULT = "a vault with neither the old nor the new value, or the old one after the commit"
    COUNT = "a boot count that was told before"
    PLANT = "a module that the plant's command does not finish"


@dataclass(frozen=True)
class Breach:
    promise: Promise
    detail: str


@dataclass(frozen=True)
class Before:
    """What the memories said when the power came back."""

    counter: int
    revoked: int
    lifecycle: Lifecycle
    latched: bool
    vault: int  # committed counter of the calibration
    registered: int  # how often the plant had written its registration

    @classmethod
    def of(cls, bench: Bench, registered: int) -> "Before":
        fuses = int.from_bytes(bench.fuse(OTP_VAULT_CALIBRATION), "little")
        vault = ((fuses + 1) & ~fuses).bit_length() - 1
        return cls(bench.counter, bench.revoked, bench.lifecycle, bench.latched, vault, registered)


@dataclass(frozen=True)
class Seen:
    """How the boot ended, and in which bank."""

    outcome: Outcome
    bank: str


def judge(bench: Bench, before: Before, seen: Seen, *, recovery: bool) -> Iterator[Breach]:
    """`recovery`: no bank needs to boot, as long as the ROM's recovery does."""
    if seen.outcome is Outcome.RUNNING:
        yield from _running(bench, before, seen.bank)
    elif not (recovery and seen.outcome is Outcome.RECOVERY):
        yield Breach(Promise.BRICK, f"outcome {seen.outcome}")
    if bench.revoked and not _usable_keys(bench):
        yield Breach(Promise.LAST_KEY, f"revoked 0x{bench.revoked:x}")


def _usable_keys(bench: Bench) -> int:
    return sum(1 for slot, key in enumerate(bench.slot_keys) if any(key) and not bench.revoked >> slot & 1)


def _running(bench: Bench, before: Before, bank: str) -> Iterator[Breach]:
    release = bench.release_in(bank)
    if release is None:
        yield Breach(Promise.WRONG_IMAGE, f"bank {bank} runs what was never released")
        return
    if release.counter < before.counter:
        yield Breach(
            Promise.WRONG_IMAGE, f"{release.name}, counter {release.counter}, runs after {before.counter}"
        )
    if bench.revoked >> bench.slot_of(release) & 1:
        yield Breach(Promise.WRONG_IMAGE, f"{release.name} runs, its key is revoked")
    raised = bench.counter > before.counter
    if raised and (bench.state(bank) is not State.CONFIRMED or bench.counter > release.counter):
        yield Breach(Promise.COUNTER, f"{before.counter} to {bench.counter} by {release.name}")
