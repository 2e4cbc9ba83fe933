"""What the core may fetch from, and what opens it."""

from typing import Any

import pytest

from cellward.core.slots import BMS_M33, DATA_BANK, ERASED
from cellward.ports.module import Outcome
from cellward.vbms.cpu import Cpu
from cellward.vbms.registers import (
    ACTIVE_BASE,
    DATA_BASE,
    EXEC_APP_KEY,
    EXEC_LOADER_KEY,
    INACTIVE_BASE,
    LINK_RX_BASE,
    LINK_TX_BASE,
    RAM_BASE,
    SYS_BASE,
    Milestone,
    Sys,
)
from tests.unit.vbms.programs import EXEC_APP, EXEC_LOADER, RESET, RUNNING, Bench, faulted
from tests.unit.vbms.thumb import SPIN, idle, jump, milestone, mov, poke, tell, unless_zero

CODE = milestone(Milestone.APP_ENTERED) + idle()
LOADER = ACTIVE_BASE + BMS_M33.loader.offset
APP = ACTIVE_BASE + BMS_M33.app.offset
TRAILER = ACTIVE_BASE + BMS_M33.trailer.offset
WRONG_LOADER = poke(SYS_BASE + Sys.EXEC_LOADER, EXEC_APP_KEY)
WRONG_APP = poke(SYS_BASE + Sys.EXEC_APP, EXEC_APP_KEY ^ 1)


def go(address: int) -> bytes:
    return mov(3, address + 1) + jump(3)


def call(address: int) -> bytes:
    return mov(3, address + 1) + (0x4798).to_bytes(2, "little")  # blx r3


def remap(bank: int) -> bytes:
    return poke(SYS_BASE + Sys.REMAP, bank)


@pytest.fixture
def full(bench: Bench) -> Bench:
    """The same code everywhere in flash where a jump of these tests goes."""
    size = BMS_M33.bank_size
    for start in (0, size, 2 * size, BMS_M33.app.offset, size + BMS_M33.app.offset, BMS_M33.trailer.offset):
        bench.flash[start : start + len(CODE)] = CODE
    return bench


@pytest.mark.parametrize(
    ("before", "target"),
    [
        (b"", LOADER),
        (b"", APP),
        (EXEC_APP, LOADER),
        (EXEC_LOADER, APP),
        (WRONG_LOADER, LOADER),
        (WRONG_APP, APP),
        (poke(SYS_BASE + Sys.EXEC_LOADER, 1), LOADER),
        (poke(SYS_BASE + Sys.EXEC_APP, EXEC_LOADER_KEY), APP),
        (EXEC_LOADER + EXEC_APP + WRONG_LOADER, LOADER),
        (EXEC_LOADER + EXEC_APP + WRONG_LOADER, APP),
        (EXEC_LOADER + EXEC_APP + WRONG_APP, LOADER),
        (EXEC_LOADER + EXEC_APP + WRONG_APP, APP),
        (EXEC_LOADER + remap(1), LOADER),
        (EXEC_APP + remap(1), APP),
        (EXEC_LOADER + remap(0), LOADER),  # the bank that is active already
        (EXEC_LOADER + EXEC_APP, RAM_BASE),
        (EXEC_LOADER + EXEC_APP, INACTIVE_BASE),
        (EXEC_LOADER + EXEC_APP, DATA_BASE),
        (EXEC_LOADER + EXEC_APP, TRAILER),
        (EXEC_LOADER + EXEC_APP, LINK_RX_BASE),
        (EXEC_LOADER + EXEC_APP, LINK_TX_BASE),
    ],
    ids=lambda value: f"0x{value:x}" if isinstance(value, int) else "",
)
def test_closed_to_the_core(full: Bench, before: bytes, target: int) -> None:
    if target in (RAM_BASE, LINK_TX_BASE):
        for at in range(0, len(CODE), 4):
            before += poke(target + at, int.from_bytes(CODE[at : at + 4], "little"))
    event = faulted(full.boot(before, go(target)))
    assert (event.expected, event.found) == (target, target)
    assert not any(report.milestones for report in full.running.reports())


@pytest.mark.parametrize(
    ("before", "target"),
    [
        (EXEC_LOADER, LOADER),
        (EXEC_APP, APP),
        (EXEC_APP + EXEC_LOADER, APP),
        (WRONG_LOADER + EXEC_LOADER, LOADER),
        (remap(1) + EXEC_LOADER, LOADER),
        (EXEC_LOADER + poke(SYS_BASE + Sys.LOCK, 1) + remap(1), LOADER),  # ignored: nothing changed
        (poke(SYS_BASE + Sys.LOCK, 1) + EXEC_APP, APP),  # a later stage opens the next one's slot
    ],
    ids=lambda value: f"0x{value:x}" if isinstance(value, int) else "",
)
def test_open_to_the_core(full: Bench, before: bytes, target: int) -> None:
    full.boot(before, RUNNING, go(target))
    (report,) = full.running.reports()
    assert [m.name for m in report.milestones] == ["running", "app_entered"]


def test_a_slot_ends_where_the_next_begins(bench: Bench) -> None:
    """Code that runs off the end of the loader's slot is not in the app's."""
    nops = (0xBF00).to_bytes(2, "little")
    for start in (BMS_M33.loader.end - 4, BMS_M33.loader.end - 2):
        bench.flash[start : start + 2] = nops
    event = faulted(bench.boot(EXEC_LOADER, go(ACTIVE_BASE + BMS_M33.loader.end - 4)))
    assert event.found == APP


def test_a_reset_closes_both(full: Bench) -> None:
    cause = mov(0, SYS_BASE + Sys.RESET_CAUSE) + (0x6803).to_bytes(2, "little")  # ldr r3, [r0]
    first, second, *_ = full.boot(cause, unless_zero(3, go(LOADER)), EXEC_LOADER, EXEC_APP, RESET, SPIN)
    assert (first.outcome, second.cause) == (Outcome.RESET, "software")
    assert second.events[0].found == LOADER


def test_running_code_that_closes_its_own_slot_is_at_its_end(bench: Bench) -> None:
    code = WRONG_LOADER + CODE
    bench.flash[: len(code)] = code
    event = faulted(bench.boot(EXEC_LOADER, go(LOADER)))
    assert event.found == LOADER + len(WRONG_LOADER) - 2  # where the store is


def test_code_that_has_run_does_not_run_again(bench: Bench) -> None:
    """A block translated while it was allowed is not remembered."""
    code = milestone(Milestone.LOADER_ENTERED) + jump(14)
    bench.flash[: len(code)] = code
    reports = bench.boot(EXEC_LOADER, call(LOADER), WRONG_APP, call(LOADER))
    assert [m.name for m in reports[0].milestones] == ["loader_entered"]
    assert reports[0].events[0].found == LOADER


def test_data_flash_is_read_where_it_is_mapped(bench: Bench) -> None:
    start = DATA_BANK * BMS_M33.bank_size
    bench.flash[start + 2048 : start + 2052] = b"\x44\x33\x22\x11"
    (report,) = bench.boot(tell(DATA_BASE + 2048), tell(DATA_BASE + 0x7FFC), RUNNING, idle())
    assert [event.found for event in report.events] == [0x1122_3344, 0xFFFF_FFFF]


@pytest.mark.parametrize("address", [DATA_BASE, DATA_BASE + 0x8000, LINK_RX_BASE])
def test_not_written_by_a_store(bench: Bench, address: int) -> None:
    assert faulted(bench.boot(poke(address, 0))).found == address
    assert bytes(bench.flash) == bytes([ERASED]) * len(bench.flash)


def test_an_experiment_hooks_the_core(full: Bench) -> None:
    seen: list[int] = []

    class Watched(Cpu):
        def prepare(self, uc: Any) -> None:
            uc.hook_add(1 << 2, lambda _uc, at, _size, _data: seen.append(at), begin=LOADER, end=LOADER)

    full.boot(EXEC_LOADER, RUNNING, go(LOADER), cpu=Watched)
    assert seen == [LOADER]
    full.running.reset()
    assert seen == [LOADER, LOADER]
