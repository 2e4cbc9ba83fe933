"""The module on its bench, under firmware of a few lines: what the port alone does not show."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cellward.core.errors import Code, ModuleRefused, Unavailable
from cellward.core.slots import BMS_M33, DATA_BANK_NAME, OTP_DEVICE_SECRET, OTP_LIFECYCLE, Lifecycle
from cellward.ports.module import Outcome, TamperSource
from cellward.vbms.bench import VirtualModule
from cellward.vbms.cpu import Cpu
from cellward.vbms.registers import RAM_BASE, SYS_BASE, TAMPER_BASE, Milestone, Sys
from cellward.vbms.state import LATCH_OFFSET, create
from tests.unit.vbms.programs import RUNNING
from tests.unit.vbms.thumb import idle, milestone, poke, rom, tell

Boot = Callable[..., VirtualModule]


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """Powers a module with this firmware, always with the same state file."""
    create(tmp_path / "m", BMS_M33, "M1")
    opened: list[VirtualModule] = []

    def make(*code: bytes, **how: Any) -> VirtualModule:
        for module in opened:
            module.close()
        opened[:] = [VirtualModule(tmp_path / "m", rom(*code), **how)]
        opened[0].power_on()
        return opened[0]

    yield make
    for module in opened:
        module.close()


def refused(code: Code, call: Callable[[], object]) -> None:
    with pytest.raises(ModuleRefused) as caught:
        call()
    assert caught.value.code is code


@pytest.mark.parametrize("reached", [Milestone.RUNNING, Milestone.UPDATE_ENTERED])
def test_the_bank_that_code_runs_from_is_locked(boot: Boot, reached: Milestone) -> None:
    module = boot(poke(SYS_BASE + Sys.REMAP, 1), milestone(reached), idle())
    assert module.status().outcome in (Outcome.RUNNING, Outcome.UPDATING)
    refused(Code.FLASH_LOCKED, partial(module.erase_page, "b", 0))
    module.erase_page("a", 0)
    module.erase_page(DATA_BANK_NAME, 0)


def test_a_recovering_module_locks_none(boot: Boot) -> None:
    module = boot(milestone(Milestone.RECOVERY), idle())
    module.erase_page("a", 0)


def test_the_latch_is_in_the_state_file(boot: Boot, tmp_path: Path) -> None:
    code = (tell(TAMPER_BASE), RUNNING, idle())
    boot(*code).tamper(TamperSource.CASE)
    assert (tmp_path / "m").read_bytes()[LATCH_OFFSET : LATCH_OFFSET + 4] == b"\x01\0\0\0"
    (report,) = boot(*code).reports()
    assert [event.found for event in report.events] == [1]


def test_a_burned_lifecycle_closes_at_once_and_for_every_process(boot: Boot) -> None:
    module = boot(RUNNING, idle())
    module.burn(OTP_LIFECYCLE.offset, Lifecycle.PRODUCTION.fuses.to_bytes(4, "little"))
    refused(Code.FLASH_LOCKED, partial(module.read, "b", 0, 8))
    refused(Code.FLASH_LOCKED, partial(boot(RUNNING, idle()).read, "b", 0, 8))


def test_a_memory_image_shows_what_a_search_must_find(boot: Boot) -> None:
    module = boot(poke(RAM_BASE + 64, 0x7E7A_5EED), RUNNING, idle())
    module.burn(OTP_DEVICE_SECRET.offset, bytes(range(100, 132)))
    module.program("b", 4096, b"in bankb")
    module.program(DATA_BANK_NAME, 4096, b"in data ")
    image = module.memory_image()
    for needle in (0x7E7A_5EED.to_bytes(4, "little"), bytes(range(100, 132)), b"in bankb", b"in data "):
        assert needle in image
    module.power_off()
    assert 0x7E7A_5EED.to_bytes(4, "little") not in module.memory_image()


def test_a_silent_firmware_is_told_as_such(boot: Boot) -> None:
    module = boot(RUNNING, idle())
    with pytest.raises(Unavailable) as caught:
        module.exchange(b"anybody there?")
    assert caught.value.code is Code.LINK_SILENT
    assert module.status().outcome is Outcome.RUNNING


def test_an_experiment_brings_its_own_core(boot: Boot) -> None:
    made: list[Cpu] = []

    class Counted(Cpu):
        def prepare(self, uc: Any) -> None:
            made.append(self)

    module = boot(RUNNING, idle(), cpu=Counted)
    module.reset()
    assert len(made) == 2
