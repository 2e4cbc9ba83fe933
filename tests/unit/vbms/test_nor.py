"""NOR flash: what a program, an erase and a cut may and may not leave behind."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, ModuleRefused
from cellward.core.slots import BMS_M33, DATA_BANK, DATA_PAGE_SIZE, DATA_SIZE, ERASED
from cellward.ports.module import Torn
from cellward.vbms.cut import Cuts, PowerCut
from cellward.vbms.nor import Area, Nor, flash_size

PAGE = BMS_M33.page_size
SIZE = BMS_M33.bank_size
BLANK = bytes([ERASED]) * flash_size(BMS_M33)


class Flash:
    def __init__(self, seed: int = 0) -> None:
        self.memory = bytearray(BLANK)
        self.cuts = Cuts(seed)
        self.nor = Nor(BMS_M33, memoryview(self.memory), self.cuts)


def refused(code: Code, call: Callable[[], object]) -> None:
    with pytest.raises(ModuleRefused) as caught:
        call()
    assert caught.value.code is code


def test_needs_both_banks() -> None:
    refused(Code.FLASH_RANGE, lambda: Nor(BMS_M33, memoryview(bytearray(8)), Cuts()))


@pytest.mark.parametrize(
    ("bank", "offset", "length", "code"),
    [
        (3, 0, 8, Code.FLASH_RANGE),
        (-1, 0, 8, Code.FLASH_RANGE),
        (0, SIZE - 8, 16, Code.FLASH_RANGE),  # never over the end of bank a into bank b
        (0, -8, 8, Code.FLASH_RANGE),
        (0, 1, 8, Code.FLASH_ALIGNMENT),
        (0, 0, 9, Code.FLASH_ALIGNMENT),
        (0, 0, 0, Code.FLASH_ALIGNMENT),
    ],
)
def test_program_refuses(bank: int, offset: int, length: int, code: Code) -> None:
    flash = Flash()
    refused(code, lambda: flash.nor.program(bank, offset, bytes(length)))
    assert flash.memory == BLANK
    assert flash.cuts.operations == 0


def test_the_data_flash_is_the_third_bank() -> None:
    flash = Flash()
    flash.nor.program(DATA_BANK, DATA_SIZE - 8, b"the last")
    assert flash.memory[-8:] == b"the last"
    flash.nor.program(DATA_BANK, 0, bytes(3 * DATA_PAGE_SIZE))
    before = bytes(flash.memory)
    for offset, code in ((DATA_SIZE, Code.FLASH_RANGE), (DATA_PAGE_SIZE // 2, Code.FLASH_ALIGNMENT)):
        refused(code, partial(flash.nor.erase, DATA_BANK, offset))
    refused(Code.FLASH_RANGE, lambda: flash.nor.program(DATA_BANK, DATA_SIZE - 8, bytes(16)))
    refused(Code.FLASH_RANGE, lambda: flash.nor.read(DATA_BANK, DATA_SIZE, 1))
    assert flash.memory == before
    flash.nor.erase(DATA_BANK, DATA_PAGE_SIZE)
    pages = flash.nor.read(DATA_BANK, 0, 3 * DATA_PAGE_SIZE)
    assert pages == bytes(DATA_PAGE_SIZE) + b"\xff" * DATA_PAGE_SIZE + bytes(DATA_PAGE_SIZE)
    assert flash.memory[: 2 * SIZE] == BLANK[: 2 * SIZE]


@pytest.mark.parametrize("torn", list(Torn))
def test_operations_of_the_data_flash_count_and_are_cut(torn: Torn) -> None:
    flash = Flash()
    flash.nor.program(DATA_BANK, 0, bytes(DATA_PAGE_SIZE))
    flash.nor.erase(DATA_BANK, DATA_PAGE_SIZE)
    assert flash.cuts.operations == DATA_PAGE_SIZE // 8 + 1
    flash.cuts.order(1, torn)
    with pytest.raises(PowerCut):
        flash.nor.erase(DATA_BANK, 0)
    erased = flash.nor.read(DATA_BANK, 0, DATA_PAGE_SIZE).count(ERASED)
    assert erased == {Torn.NONE: 0, Torn.HALF: DATA_PAGE_SIZE // 2}.get(torn, erased)
    assert flash.nor.read(DATA_BANK, DATA_PAGE_SIZE, DATA_PAGE_SIZE) == b"\xff" * DATA_PAGE_SIZE


@pytest.mark.parametrize("bank", [0, 1, DATA_BANK])
@pytest.mark.parametrize("bit", [0, 7])
def test_damage_is_one_bit_either_way(bank: int, bit: int) -> None:
    flash = Flash()
    for value in (0xFF ^ 1 << bit, 0xFF):
        flash.nor.flip(bank, 100, bit)
        assert flash.memory[bank * SIZE + 100] == value
    assert flash.memory == BLANK
    assert flash.cuts.operations == 0
    for offset, wrong in ((flash.nor.size(bank), 0), (-1, 0), (0, 8), (0, -1)):
        refused(Code.FLASH_RANGE, partial(flash.nor.flip, bank, offset, wrong))
    assert flash.memory == BLANK


def test_a_phrase_is_programmed_once() -> None:
    flash = Flash()
    flash.nor.program(1, 0, b"\xfe" + b"\xff" * 7)
    before = bytes(flash.memory)
    # Even a value that only clears more bits: the phrase's ECC is spent.
    refused(Code.FLASH_UNERASED, lambda: flash.nor.program(1, 0, b"\xfc" + b"\xff" * 7))
    assert flash.memory == before
    flash.nor.erase(1, 0)
    flash.nor.program(1, 0, b"\xfc" + b"\xff" * 7)
    assert flash.memory[SIZE] == 0xFC


def test_a_long_program_stops_at_the_spent_phrase() -> None:
    flash = Flash()
    flash.nor.program(0, 16, bytes(8))
    refused(Code.FLASH_UNERASED, lambda: flash.nor.program(0, 0, b"\x11" * 32))
    assert bytes(flash.memory[:32]) == b"\x11" * 16 + bytes(8) + b"\xff" * 8


def test_locks_are_the_askers() -> None:
    flash = Flash()
    lock = (Area(0, 64, 128),)
    for offset in (56, 64, 120):
        refused(Code.FLASH_LOCKED, partial(flash.nor.program, 0, offset, bytes(16), lock))
    refused(Code.FLASH_LOCKED, lambda: flash.nor.erase(0, 0, lock))
    assert flash.memory == BLANK
    flash.nor.program(0, 56, bytes(8), lock)
    flash.nor.program(0, 128, bytes(8), lock)
    flash.nor.program(1, 64, bytes(8), lock)
    flash.nor.program(0, 64, bytes(8))


@pytest.mark.parametrize("operation", [1, 2, 7, 16])
@pytest.mark.parametrize("torn", list(Torn))
def test_a_cut_write_stops_at_its_phrase(operation: int, torn: Torn) -> None:
    flash = Flash()
    flash.cuts.order(operation, torn)
    with pytest.raises(PowerCut) as caught:
        flash.nor.program(0, 0, bytes(128))
    assert caught.value.code is Code.POWER_CUT
    done = 8 * (operation - 1)
    assert bytes(flash.memory[:done]) == bytes(done)
    assert bytes(flash.memory[done + 8 :]) == BLANK[done + 8 :]
    cell = bytes(flash.memory[done : done + 8])
    if torn is not Torn.GARBAGE:
        assert cell == {Torn.NONE: b"\xff" * 8, Torn.HALF: bytes(4) + b"\xff" * 4}[torn]
    else:
        assert cell not in (bytes(8), b"\xff" * 8)
    flash.nor.program(0, 256, bytes(128))  # the order is spent


@pytest.mark.parametrize("torn", list(Torn))
def test_a_cut_erase(torn: Torn) -> None:
    flash = Flash()
    flash.nor.program(0, 0, bytes(2 * PAGE))
    flash.cuts.order(1, torn)
    with pytest.raises(PowerCut):
        flash.nor.erase(0, 0)
    page = bytes(flash.memory[:PAGE])
    assert page.count(ERASED) == {Torn.NONE: 0, Torn.HALF: PAGE // 2}.get(torn, page.count(ERASED))
    assert (torn is Torn.GARBAGE) == (0 < page.count(ERASED) < PAGE // 4)
    assert bytes(flash.memory[PAGE : 2 * PAGE]) == bytes(PAGE)


def test_garbage_is_repeatable() -> None:
    def torn(seed: int) -> bytes:
        flash = Flash(seed)
        flash.cuts.order(1, Torn.GARBAGE)
        with pytest.raises(PowerCut):
            flash.nor.program(0, 0, bytes(8))
        return bytes(flash.memory[:8])

    assert torn(1) == torn(1)
    assert torn(1) != torn(2)


@given(
    phrases=st.lists(st.tuples(st.integers(0, 15), st.binary(min_size=8, max_size=8)), max_size=12),
    cut=st.integers(0, 14),
    torn=st.sampled_from(Torn),
)
def test_bits_only_fall_and_never_beyond_what_was_asked(
    phrases: list[tuple[int, bytes]], cut: int, torn: Torn
) -> None:
    memory = bytearray(b"\xff" * flash_size(SMALL))
    cuts = Cuts()
    nor = Nor(SMALL, memoryview(memory), cuts)
    cuts.order(cut, torn)
    for index, data in phrases:
        before = bytes(memory)
        with suppress(ModuleRefused):
            nor.program(0, index * 8, data)
        assert memory[2 * SIZE_SMALL :] == before[2 * SIZE_SMALL :]  # the data flash, not byte by byte
        for at, (old, new) in enumerate(zip(before[: 2 * SIZE_SMALL], memory, strict=False)):
            wanted = data[at - index * 8] if index * 8 <= at < index * 8 + 8 else 0xFF
            assert new & ~old == 0
            assert old & ~new & wanted == 0


SIZE_SMALL = 128
SMALL = replace(BMS_M33, bank_size=SIZE_SMALL, page_size=64)
