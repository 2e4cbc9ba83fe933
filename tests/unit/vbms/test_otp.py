"""Fuses: one way, closed after the plant, the secret for the ROM alone."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, ModuleRefused
from cellward.core.slots import (
    OTP_COUNTER,
    OTP_DEBUG_LOCK,
    OTP_DEVELOPMENT,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_REVOKED,
    OTP_SERIAL,
    OTP_SIZE,
    OTP_SLOT_KEYS,
    Fuse,
    Lifecycle,
)
from cellward.ports.module import Torn
from cellward.vbms.cut import Cuts, PowerCut
from cellward.vbms.otp import Otp

SECRET = OTP_DEVICE_SECRET.offset


class Fuses:
    def __init__(self) -> None:
        self.memory = bytearray(OTP_SIZE)
        self.cuts = Cuts()
        self.otp = Otp(memoryview(self.memory), self.cuts)


def refused(code: Code, call: Callable[[], object]) -> None:
    with pytest.raises(ModuleRefused) as caught:
        call()
    assert caught.value.code is code


def test_blank() -> None:
    otp = Fuses().otp
    assert (otp.counter, otp.lifecycle, otp.serial, otp.revoked, otp.slot_keys) == (
        0,
        Lifecycle.BLANK,
        "",
        0,
        (),
    )
    refused(Code.FLASH_RANGE, lambda: Otp(memoryview(bytearray(4)), Cuts()))


def test_burns_add_bits() -> None:
    fuses = Fuses()
    fuses.otp.burn_word(OTP_COUNTER.offset, 0b101)
    fuses.otp.burn_word(OTP_COUNTER.offset, 0b010)
    assert fuses.otp.word(OTP_COUNTER.offset) == 0b111
    assert fuses.otp.counter == 3
    assert fuses.cuts.operations == 2


@pytest.mark.parametrize(
    ("offset", "code"),
    [(OTP_SIZE, Code.FLASH_RANGE), (-4, Code.FLASH_RANGE), (2, Code.FLASH_ALIGNMENT)],
)
def test_words_are_inside_and_aligned(offset: int, code: Code) -> None:
    fuses = Fuses()
    refused(code, lambda: fuses.otp.burn_word(offset, 1))
    refused(code, lambda: fuses.otp.word(offset))
    refused(code, lambda: fuses.otp.write(offset, b"\xff" * 4))
    assert not any(fuses.memory)


def test_lock_closes_the_cpus_burns_until_reset() -> None:
    fuses = Fuses()
    fuses.otp.locked = True
    refused(Code.OTP_LOCKED, lambda: fuses.otp.burn_word(0, 1))
    assert not any(fuses.memory)
    fuses.otp.reset()
    fuses.otp.burn_word(0, 1)


@pytest.mark.parametrize("bit", range(0, 32, 7))
def test_any_lifecycle_bit_ends_the_plants_access(bit: int) -> None:
    fuses = Fuses()
    fuses.otp.write(OTP_LIFECYCLE.offset, (1 << bit).to_bytes(4, "little"))
    assert fuses.otp.lifecycle is list(Lifecycle)[1 + bit // 8]
    before = bytes(fuses.memory)
    refused(Code.OTP_LOCKED, lambda: fuses.otp.write(OTP_SERIAL.offset, b"\xff" * 4))
    assert fuses.memory == before
    fuses.otp.burn_word(OTP_COUNTER.offset, 1)  # the boot chain's commit stays possible


LATE = (OTP_REVOKED, OTP_LIFECYCLE, OTP_DEBUG_LOCK, OTP_DEVELOPMENT)


def lifecycle_word(state: Lifecycle) -> bytes:
    return state.fuses.to_bytes(4, "little")


@pytest.mark.parametrize("state", Lifecycle)
@pytest.mark.parametrize("offset", range(0, OTP_SIZE, 4))
def test_what_each_lifecycle_leaves_to_the_plant(state: Lifecycle, offset: int) -> None:
    fuses = Fuses()
    fuses.otp.write(OTP_LIFECYCLE.offset, lifecycle_word(state))
    before, data = bytes(fuses.memory), b"\xff\xff\xff\xff"
    late = any(fuse.offset == offset for fuse in LATE)
    if state is Lifecycle.BLANK or (state is Lifecycle.PROVISIONED and late):
        fuses.otp.write(offset, data)
        assert bytes(fuses.memory[offset : offset + 4]) == data
    else:
        refused(Code.OTP_LOCKED, lambda: fuses.otp.write(offset, data))
        assert fuses.memory == before


def test_a_late_burn_takes_no_neighbour_along() -> None:
    fuses = Fuses()
    fuses.otp.write(OTP_LIFECYCLE.offset, lifecycle_word(Lifecycle.PROVISIONED))
    before = bytes(fuses.memory)
    for offset, size in ((OTP_REVOKED.offset - 4, 8), (OTP_DEVELOPMENT.offset, 8), (0, OTP_SIZE)):
        refused(Code.OTP_LOCKED, partial(fuses.otp.write, offset, b"\xff" * size))
    assert fuses.memory == before
    fuses.otp.write(OTP_REVOKED.offset, b"\xff" * 16)
    assert fuses.otp.lifecycle is Lifecycle.RETIRED


@pytest.mark.parametrize("state", Lifecycle)
@pytest.mark.parametrize("target", Lifecycle)
def test_the_plant_moves_the_lifecycle_forward_only(state: Lifecycle, target: Lifecycle) -> None:
    fuses, states = Fuses(), list(Lifecycle)
    fuses.memory[OTP_LIFECYCLE.offset : OTP_LIFECYCLE.offset + 4] = lifecycle_word(state)
    burn = partial(fuses.otp.write, OTP_LIFECYCLE.offset, lifecycle_word(target))
    if state.closed:
        refused(Code.OTP_LOCKED, burn)
        assert fuses.otp.lifecycle is state
    elif states.index(target) < states.index(state):
        refused(Code.OTP_ONE_WAY, burn)
        assert fuses.otp.lifecycle is state
    else:
        burn()
        assert fuses.otp.lifecycle is target
        assert fuses.otp.word(OTP_LIFECYCLE.offset) == state.fuses | target.fuses


@given(st.lists(st.integers(0, 0xFFFF_FFFF), max_size=6))
def test_no_burn_leads_back(words: list[int]) -> None:
    fuses, states = Fuses(), list(Lifecycle)
    for word in words:
        before = states.index(fuses.otp.lifecycle)
        fuses.otp.burn_word(OTP_LIFECYCLE.offset, word)
        assert states.index(fuses.otp.lifecycle) >= before


def test_a_late_burn_never_clears() -> None:
    fuses = Fuses()
    fuses.otp.write(OTP_REVOKED.offset, b"\x02\0\0\0")
    fuses.otp.write(OTP_LIFECYCLE.offset, lifecycle_word(Lifecycle.PROVISIONED))
    refused(Code.OTP_ONE_WAY, lambda: fuses.otp.write(OTP_REVOKED.offset, b"\x01\0\0\0"))
    fuses.otp.write(OTP_REVOKED.offset, b"\x03\0\0\0")
    assert fuses.otp.revoked == 3


def test_the_debug_lock_is_any_of_its_bits() -> None:
    for bit in range(32):
        fuses = Fuses()
        assert not fuses.otp.debug_locked
        fuses.otp.burn_word(OTP_DEBUG_LOCK.offset, 1 << bit)
        assert fuses.otp.debug_locked


def test_a_tamper_event_hides_the_secret_over_a_reset() -> None:
    fuses = Fuses()
    fuses.otp.write(SECRET, b"\x5a" * 32)
    fuses.otp.tampered = True
    fuses.otp.reset()
    assert [fuses.otp.word(SECRET + at) for at in range(0, 32, 4)] == [0] * 8
    fuses.otp.burn_word(SECRET, 0xFFFF_FFFF)  # zeroisation needs no look
    fuses.otp.tampered = False
    assert fuses.otp.word(SECRET) == 0xFFFF_FFFF


def test_a_write_never_clears() -> None:
    fuses = Fuses()
    fuses.otp.write(0, b"\x0f\x00\x00\x01")
    refused(Code.OTP_ONE_WAY, lambda: fuses.otp.write(0, b"\x0e\xff\xff\xff"))
    assert bytes(fuses.memory[:4]) == b"\x0f\x00\x00\x01"
    fuses.otp.write(0, b"\x0f\x00\x00\x01")
    assert fuses.cuts.operations == 1  # what is there already is not burned again


def test_the_secret_shows_to_the_shadow_until_hidden_and_to_nobody_else() -> None:
    fuses = Fuses()
    fuses.otp.write(SECRET, b"\x5a" * 32)
    assert fuses.otp.word(SECRET + 28) == 0x5A5A5A5A
    for fuse in (OTP_DEVICE_SECRET, Fuse(SECRET - 4, 8), Fuse(0, OTP_SIZE)):
        refused(Code.OTP_LOCKED, partial(fuses.otp.public, fuse))
    fuses.otp.secret_hidden = True
    assert [fuses.otp.word(SECRET + at) for at in (0, 28)] == [0, 0]
    assert fuses.otp.word(SECRET - 4) == 0
    fuses.otp.reset()
    assert fuses.otp.word(SECRET) == 0x5A5A5A5A


def test_a_line_that_lost_power_adds_to_the_secret() -> None:
    fuses = Fuses()
    fuses.cuts.order(3, Torn.HALF)
    with pytest.raises(PowerCut):
        fuses.otp.write(SECRET, b"\x0f" * 32)
    fuses.otp.write(SECRET, b"\xf0" * 32)
    assert bytes(fuses.memory[SECRET : SECRET + 12]) == b"\xff" * 10 + b"\xf0" * 2


@pytest.mark.parametrize("torn", list(Torn))
def test_a_cut_burn_sets_some_of_its_bits(torn: Torn) -> None:
    fuses = Fuses()
    fuses.otp.burn_word(4, 0x0000_0001)
    fuses.cuts.order(1, torn)
    with pytest.raises(PowerCut):
        fuses.otp.burn_word(4, 0xFFFF_FFF0)
    word = fuses.otp.word(4)
    assert word & 0xF == 1
    assert {Torn.NONE: word == 1, Torn.HALF: word == 0xFFF1}.get(torn, 1 < word < 0xFFFF_FFF1)


def test_identity() -> None:
    fuses = Fuses()
    fuses.otp.write(OTP_SLOT_KEYS.offset + 32, b"\xab" * 32)
    fuses.otp.write(OTP_REVOKED.offset, b"\x02\0\0\0")
    fuses.otp.write(OTP_SERIAL.offset, b"M1\x80".ljust(16, b"\0"))
    assert fuses.otp.slot_keys == (bytes(32), b"\xab" * 32)  # so that bit 1 of revoked is its own
    assert (fuses.otp.revoked, fuses.otp.serial) == (2, "M1\\x80")


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 0xFFFF_FFFF)), max_size=20))
def test_no_sequence_of_burns_clears_a_bit(burns: list[tuple[int, int]]) -> None:
    fuses = Fuses()
    for word, bits in burns:
        before = fuses.otp.word(4 * word)
        fuses.otp.burn_word(4 * word, bits)
        assert fuses.otp.word(4 * word) == before | bits
