"""Where things lie: nothing overlaps, and any bytes read as some trailer."""

import dataclasses
from itertools import combinations, product
from uuid import NAMESPACE_DNS, UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import slots
from cellward.core.errors import Code, FormatRefused
from cellward.core.slots import (
    BMS_M33,
    BMS_M33_18S,
    HARDWARE,
    Fuse,
    Hardware,
    Lifecycle,
    Mark,
    Region,
    Stage,
    Trailer,
    decode_counter,
    decode_lifecycle,
    decode_trailer,
    flag_phrase,
)

MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
SET = b"\x01" + b"\xff" * 7
UNSET = b"\xff" * 8
FUSES = {name: value for name, value in vars(slots).items() if isinstance(value, Fuse)}


@pytest.mark.parametrize("hardware", HARDWARE.values(), ids=lambda h: h.name)
def test_the_bank_is_filled_without_overlap(hardware: Hardware) -> None:
    regions = [hardware.loader, hardware.app, hardware.trailer]
    assert [r.offset for r in regions] == [0, hardware.loader.end, hardware.app.end]
    assert hardware.trailer.end == hardware.bank_size
    assert all(r.offset % hardware.page_size == 0 and r.size % hardware.page_size == 0 for r in regions)
    assert hardware.trailer.size == hardware.page_size  # erasing it must touch nothing else


def test_a_region_ends_behind_its_last_byte() -> None:
    assert Region(0x100, 0x20).end == 0x120


@pytest.mark.parametrize("hardware", HARDWARE.values(), ids=lambda h: h.name)
def test_payloads_are_linked_behind_the_header_of_their_slot(hardware: Hardware) -> None:
    assert hardware.slot(Stage.LOADER) is hardware.loader
    assert hardware.slot(Stage.APP) is hardware.app
    assert hardware.link_address(Stage.LOADER) == 0x0800_0000 + 0x200
    assert hardware.link_address(Stage.APP) == 0x0800_0000 + 0x1_0000 + 0x200
    assert hardware.header_size % 0x200 == 0  # VTOR alignment of the vectors behind it


def test_hardware_ids_are_uuid5_of_the_vendor_s_domain() -> None:
    vendor = uuid5(NAMESPACE_DNS, "cellward.example")
    assert BMS_M33.vendor_id == vendor.bytes
    assert BMS_M33.class_id(Stage.APP) == uuid5(UUID(bytes=vendor.bytes), "bms-m33/app").bytes
    assert BMS_M33.class_id(Stage.LOADER) == uuid5(UUID(bytes=vendor.bytes), "bms-m33/loader").bytes


def test_no_two_hardware_and_stage_share_a_class() -> None:
    ids = [h.class_id(stage) for h, stage in product(HARDWARE.values(), Stage)]
    assert len(set(ids)) == len(ids) == 4


def test_hardware_is_found_by_its_own_name() -> None:
    assert HARDWARE == {"bms-m33": BMS_M33, "bms-m33-18s": BMS_M33_18S}
    assert all(name == hardware.name for name, hardware in HARDWARE.items())


# Trailer -------------------------------------------------------------------------------------


def test_the_magic_is_mcuboot_s_for_alignment_8() -> None:
    assert slots.TRAILER_MAGIC == MAGIC


@pytest.mark.parametrize(
    ("copy_done", "image_ok", "magic", "expected"),
    [
        (UNSET, UNSET, b"\xff" * 16, Trailer(Mark.UNSET, Mark.UNSET, Mark.UNSET)),
        (UNSET, UNSET, MAGIC, Trailer(Mark.SET, Mark.UNSET, Mark.UNSET)),
        (SET, UNSET, MAGIC, Trailer(Mark.SET, Mark.SET, Mark.UNSET)),
        (UNSET, SET, MAGIC, Trailer(Mark.SET, Mark.UNSET, Mark.SET)),
        (SET, SET, MAGIC, Trailer(Mark.SET, Mark.SET, Mark.SET)),
        (b"\x00" * 8, UNSET, MAGIC, Trailer(Mark.SET, Mark.BAD, Mark.UNSET)),
        (UNSET, b"\x81" + b"\xff" * 7, MAGIC, Trailer(Mark.SET, Mark.UNSET, Mark.BAD)),
        (UNSET, UNSET, b"\x00" * 16, Trailer(Mark.BAD, Mark.UNSET, Mark.UNSET)),
        (UNSET, UNSET, b"\xff" * 15 + b"\xfe", Trailer(Mark.BAD, Mark.UNSET, Mark.UNSET)),
        (UNSET, UNSET, MAGIC[:8] + b"\xff" * 8, Trailer(Mark.BAD, Mark.UNSET, Mark.UNSET)),
    ],
)
def test_a_trailer_is_read_in_mcuboot_s_order(
    copy_done: bytes, image_ok: bytes, magic: bytes, expected: Trailer
) -> None:
    assert decode_trailer(copy_done + image_ok + magic) == expected


@pytest.mark.parametrize("bit", range(128))
def test_every_bit_of_the_magic_counts(bit: int) -> None:
    flipped = (int.from_bytes(MAGIC, "big") ^ 1 << bit).to_bytes(16, "big")
    assert decode_trailer(UNSET + UNSET + flipped).magic is Mark.BAD


@pytest.mark.parametrize("first", range(256))
def test_a_flag_is_its_first_byte(first: int) -> None:
    phrase = bytes([first]) + b"\xff" * 7
    expected = {0x01: Mark.SET, 0xFF: Mark.UNSET}.get(first, Mark.BAD)
    assert decode_trailer(phrase + UNSET + MAGIC).copy_done is expected
    assert decode_trailer(UNSET + phrase + MAGIC).image_ok is expected


@pytest.mark.parametrize(("size", "code"), [(0, Code.TRUNCATED), (31, Code.TRUNCATED), (33, Code.TRAILING)])
def test_a_trailer_has_one_size(size: int, code: Code) -> None:
    with pytest.raises(FormatRefused) as refusal:
        decode_trailer((UNSET + UNSET + MAGIC + b"\xff")[:size])
    assert refusal.value.code is code


def test_the_offsets_from_the_end_say_where_the_decoder_reads() -> None:
    page = bytearray(b"\xff" * slots.TRAILER_SIZE)
    page[-slots.COPY_DONE_FROM_END] = 0x00
    assert decode_trailer(bytes(page)).copy_done is Mark.BAD
    page[-slots.IMAGE_OK_FROM_END] = 0x01
    assert decode_trailer(bytes(page)).image_ok is Mark.SET
    page[-slots.MAGIC_FROM_END :] = MAGIC
    assert decode_trailer(bytes(page)).magic is Mark.SET


def test_the_phrase_sets_a_flag_with_one_write() -> None:
    assert flag_phrase() == SET
    assert len(flag_phrase()) == slots.WRITE_SIZE


# Fuses ---------------------------------------------------------------------------------------


# In silicon since the first module: a fuse never moves.
SILICON = {
    "OTP_SLOT_KEYS": Fuse(0x000, 128),
    "OTP_REVOKED": Fuse(0x080, 4),
    "OTP_LIFECYCLE": Fuse(0x084, 4),
    "OTP_DEBUG_LOCK": Fuse(0x088, 4),
    "OTP_DEVELOPMENT": Fuse(0x08C, 4),
    "OTP_ROOT_QUORUM": Fuse(0x0A0, 32),
    "OTP_COUNTER": Fuse(0x0C0, 128),
    "OTP_VENDOR_ID": Fuse(0x140, 16),
    "OTP_LOADER_CLASS": Fuse(0x150, 16),
    "OTP_APP_CLASS": Fuse(0x160, 16),
    "OTP_SERIAL": Fuse(0x170, 16),
    "OTP_VAULT_CALIBRATION": Fuse(0x180, 32),
    "OTP_VAULT_KEYS": Fuse(0x1A0, 32),
    "OTP_BOOT_EPOCH": Fuse(0x1C0, 32),
    "OTP_DEVICE_SECRET": Fuse(0x1E0, 32),
}


def test_no_fuse_ever_moved() -> None:
    assert {name: FUSES[name] for name in SILICON} == SILICON
    assert (slots.OTP_SIZE, slots.OTP_SLOT_KEY_COUNT) == (0x200, 4)


@pytest.mark.parametrize("value", [BMS_M33.loader, BMS_M33, Trailer(*[Mark.SET] * 3), slots.OTP_COUNTER])
def test_layout_and_trailers_are_values(value: object) -> None:
    field = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)


@pytest.mark.parametrize("name", FUSES)
def test_fuses_are_whole_words_inside_the_otp(name: str) -> None:
    fuse = FUSES[name]
    assert fuse.offset % 4 == 0
    assert fuse.size % 4 == 0
    assert fuse.offset >= 0
    assert fuse.offset + fuse.size <= slots.OTP_SIZE


def test_fuses_never_overlap() -> None:
    assert len(FUSES) == 15
    for a, b in combinations(FUSES.values(), 2):
        assert a.offset + a.size <= b.offset or b.offset + b.size <= a.offset


def test_each_slot_key_has_a_hash_and_a_revocation_bit() -> None:
    assert slots.OTP_SLOT_KEYS.size == slots.OTP_SLOT_KEY_COUNT * 32
    assert slots.OTP_REVOKED.size * 8 >= slots.OTP_SLOT_KEY_COUNT


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 31, 32, 33, 1023, 1024])
def test_the_counter_is_a_thermometer(count: int) -> None:
    assert decode_counter(((1 << count) - 1).to_bytes(128, "little")) == count


def test_the_counter_stops_at_the_first_gap() -> None:
    assert decode_counter((0b1011).to_bytes(128, "little")) == 2
    assert decode_counter((0b1110).to_bytes(128, "little")) == 0


@pytest.mark.parametrize("old", range(9))
def test_a_burn_that_is_cut_leaves_a_value_between_old_and_new(old: int) -> None:
    """Any subset of the bits that were being burned."""
    new = 8
    burning = range(old, new)
    for subset in range(1 << len(burning)):
        bits = (1 << old) - 1 | sum(1 << bit for i, bit in enumerate(burning) if subset >> i & 1)
        assert old <= decode_counter(bits.to_bytes(128, "little")) <= new


@pytest.mark.parametrize("size", [0, 127, 129])
def test_the_counter_has_one_size(size: int) -> None:
    with pytest.raises(FormatRefused) as refusal:
        decode_counter(bytes(size))
    assert refusal.value.code is Code.TRUNCATED
    assert refusal.value.expected == "128 bytes"
    assert refusal.value.found == f"{size}"


def test_the_counter_s_maximum_is_all_fuses() -> None:
    assert slots.COUNTER_MAX == 1024 == decode_counter(b"\xff" * 128)


# Lifecycle -----------------------------------------------------------------------------------

STATES = list(Lifecycle)
WORDS = st.integers(0, 0xFFFF_FFFF)


def test_each_state_has_a_byte_of_its_own() -> None:
    assert [state.fuses for state in STATES] == [0, 0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000]
    assert [decode_lifecycle(state.fuses) for state in STATES] == STATES
    assert [state.closed for state in STATES] == [False, False, True, True, True]


@given(WORDS, WORDS)
def test_no_burn_leads_a_lifecycle_back(held: int, burned: int) -> None:
    before, after = (STATES.index(decode_lifecycle(word)) for word in (held, held | burned))
    assert after >= before


@given(st.sampled_from(STATES), st.sampled_from(STATES), WORDS)
def test_a_torn_burn_is_a_step_or_none(old: Lifecycle, new: Lifecycle, torn: int) -> None:
    """Any of the bits of `new` over `old`: one of the two, whatever else is burned already."""
    assert decode_lifecycle(old.fuses | new.fuses & torn) in (old, new)


def test_pages_of_the_data_flash_are_its_own() -> None:
    assert [page.value for page in slots.DataPage] == [0, 2, 4, 6, 15]
    assert (slots.DataPage.PLANT.value + 1) * slots.DATA_PAGE_SIZE <= slots.DATA_SIZE
    assert len(slots.BANKS) == slots.DATA_BANK
    assert slots.DATA_BANK_NAME not in slots.BANKS
