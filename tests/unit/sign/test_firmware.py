"""Firmware of every format into the payload of one slot."""

import struct
import time
import tracemalloc
from collections.abc import Callable
from importlib.resources import files

import bincopy
import pytest

from cellward.core import image
from cellward.core.errors import Code, Refused
from cellward.core.slots import BMS_M33, ERASED, Stage
from cellward.sign.firmware import TLV_ROOM, Firmware, Span, capacity, read_firmware
from cellward.sign.formats import Format
from tests.support.firmware import (
    LINK,
    Piece,
    Segment,
    elf_file,
    hex_file,
    hex_record,
    srec_file,
    srec_record,
)

PAGE = BMS_M33.page_size
FORMATS: dict[str, Callable[..., bytes]] = {
    "app.hex": hex_file,
    "app.srec": srec_file,
    "app.elf": lambda *pieces: elf_file(*(Segment(*piece) for piece in pieces)),
}

# The bytes of a text file, record by record; offsets are from the link address.
UPPER = hex_record(4, 0, (LINK >> 16).to_bytes(2, "big"))
END = hex_record(1, 0)
S_END = srec_record(7, LINK.to_bytes(4, "big"))


def data_record(offset: int, data: bytes) -> bytes:
    return hex_record(0, (LINK & 0xFFFF) + offset, data)


def s3(offset: int, data: bytes) -> bytes:
    return srec_record(3, (LINK + offset).to_bytes(4, "big") + data)


def read(name: str, data: bytes, *, fill_gaps: bool = False) -> Firmware:
    return read_firmware(name, data, BMS_M33, Stage.APP, fill_gaps=fill_gaps)


def refusal(name: str, data: bytes, *, fill_gaps: bool = False) -> Refused:
    with pytest.raises(Refused) as error:
        read(name, data, fill_gaps=fill_gaps)
    return error.value


@pytest.fixture(params=sorted(FORMATS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(name: str, *pieces: Piece) -> bytes:
    return FORMATS[name](*pieces)


# --- what arrives in the slot ---


def test_one_piece(name: str) -> None:
    firmware = read(name, made(name, (LINK, b"firmware")))
    assert firmware.payload == b"firmware"
    assert firmware.address == LINK
    assert firmware.segments == (Span(LINK, 8),)
    assert firmware.gaps == ()


def test_a_small_gap_reads_as_erased_flash_and_is_reported(name: str) -> None:
    firmware = read(name, made(name, (LINK, b"ab"), (LINK + 5, b"cd")))
    assert firmware.payload == b"ab" + bytes([ERASED]) * 3 + b"cd"
    assert firmware.gaps == (Span(LINK + 2, 3),)


def test_pieces_that_touch_are_one(name: str) -> None:
    firmware = read(name, made(name, (LINK, b"ab"), (LINK + 2, b"cd")))
    assert firmware.payload == b"abcd"
    assert firmware.segments == (Span(LINK, 4),)


def test_the_order_in_the_file_means_nothing() -> None:
    pieces = [data_record(0, b"ab"), data_record(0x20, b"cd")]
    turned = b"\n".join([UPPER, *reversed(pieces), END])
    assert read("app.hex", turned) == read("app.hex", b"\n".join([UPPER, *pieces, END]))


def test_a_raw_binary_lies_at_the_link_address() -> None:
    firmware = read("app.bin", b"\x00\x20raw")
    assert firmware.payload == b"\x00\x20raw"
    assert (firmware.format, firmware.address) == (Format.BIN, LINK)


def test_bss_is_no_part_of_the_image_and_data_lies_where_it_is_stored() -> None:
    data = elf_file(
        Segment(LINK, b"code"),
        Segment(LINK + 4, b"data", memory=4096, virtual=0x2000_0000),
        Segment(0x2000_1000, b"", memory=8192),
        Segment(0, b"notes", type=4),
    )
    assert read("app.elf", data).payload == b"codedata"


@pytest.mark.parametrize("version", ["1.3.0", "1.4.0", "1.5.0"])
def test_what_the_compiler_really_delivers(version: str) -> None:
    folder = files("cellward.vbms") / "firmware"
    raw = (folder / f"app-{version}.bin").read_bytes()
    others = [f"app-{version}.{suffix}" for suffix in ("elf", "hex", "srec")]
    found = [name for name in others if (folder / name).is_file()]
    assert len(found) == 2
    for name in found:
        firmware = read(name, (folder / name).read_bytes())
        assert len(firmware.payload) == len(raw)
        for span in firmware.segments:
            part = slice(span.address - LINK, span.end - LINK)
            assert firmware.payload[part] == raw[part], name


# --- what is refused ---


def test_nothing() -> None:
    assert refusal("app.bin", b"").code is Code.FIRMWARE_EMPTY
    assert refusal("app.elf", elf_file(Segment(LINK, b"", memory=64))).code is Code.FIRMWARE_EMPTY
    assert refusal("app.hex", END).code is Code.FIRMWARE_EMPTY


@pytest.mark.parametrize("address", [LINK - 0x200, LINK - 1, LINK + 1, 0, BMS_M33.link_address(Stage.LOADER)])
def test_another_address(name: str, address: int) -> None:
    error = refusal(name, made(name, (address, b"firmware")))
    assert error.code is Code.FIRMWARE_ADDRESS
    assert f"0x{LINK:08x}" in error.expected
    assert f"0x{address:08x}" in error.found


@pytest.mark.parametrize("address", [0x0820_0000, 0x1000_1000, 0xFFFF_FF00])
def test_bytes_outside_the_slot(name: str, address: int) -> None:
    for fill in (False, True):
        error = refusal(name, made(name, (LINK, b"a"), (address, b"option bytes")), fill_gaps=fill)
        assert error.code is Code.FIRMWARE_ADDRESS


def test_the_largest_that_fits_and_one_byte_more() -> None:
    room = capacity(BMS_M33, Stage.APP)
    assert read("app.bin", b"\xff" * room).payload == b"\xff" * room
    error = refusal("app.bin", b"\xff" * (room + 1))
    assert error.code is Code.FIRMWARE_TOO_LARGE
    assert error.found == f"{room + 1}: 1 bytes too many"


def test_the_room_for_tlvs_is_that_of_the_largest_image() -> None:
    unsigned = image.build(
        b"x", version=image.Version(1, 0, 0), counter=1, hardware=(bytes(16), bytes(16)), header_size=512
    )
    plain = [(image.Tlv.SHA256, bytes(32)), (image.Tlv.KEYHASH, bytes(32)), (image.Tlv.PUBKEY, bytes(398))]
    area = image.encode_area(image.TLV_MAGIC, [*plain, (image.Tlv.RSA3072_PSS, bytes(384))])
    assert len(unsigned.body) + len(area) == 512 + 1 + TLV_ROOM


def test_overlap(name: str) -> None:
    data = {
        "app.hex": b"\n".join([UPPER, data_record(0, b"abcd"), data_record(3, b"x"), END]),
        "app.srec": b"\n".join([s3(0, b"abcd"), s3(3, b"x"), S_END]),
        "app.elf": made("app.elf", (LINK, b"abcd"), (LINK + 3, b"x")),
    }[name]
    error = refusal(name, data)
    assert error.code is Code.FIRMWARE_OVERLAP
    assert f"0x{LINK + 3:08x} to 0x{LINK + 3:08x}" in error.found


def test_overlap_that_bincopy_does_not_see() -> None:
    """Grown piece by piece over a later one: bincopy drops the later one and says nothing."""
    pieces = [data_record(20, b"\x03" * 4), data_record(0, b"\x01" * 16), data_record(16, b"\x02" * 16)]
    data = b"\n".join([UPPER, *pieces, END])
    bincopy.BinFile().add_ihex(data.decode())
    assert refusal("app.hex", data).code is Code.FIRMWARE_OVERLAP


def test_equal_bytes_twice_are_still_two() -> None:
    data = b"\n".join([UPPER, data_record(0, b"same"), data_record(0, b"same"), END])
    assert refusal("app.hex", data).code is Code.FIRMWARE_OVERLAP


def test_a_gap_of_a_whole_page_is_refused_unless_asked_for(name: str) -> None:
    first_page = -(-(LINK + 1) // PAGE) * PAGE
    data = made(name, (LINK, b"a"), (first_page + PAGE, b"b"))
    error = refusal(name, data)
    assert error.code is Code.FIRMWARE_GAP
    assert "--fill-gaps" in error.advice
    firmware = read(name, data, fill_gaps=True)
    assert firmware.payload[1:-1] == bytes([ERASED]) * (len(firmware.payload) - 2)
    assert read(name, made(name, (LINK, b"a"), (first_page + PAGE - 1, b"b"))).gaps


def test_gigabytes_of_nothing_are_refused_without_being_made(name: str) -> None:
    data = made(name, (LINK, b"a"), (0xF000_0000, b"b"))
    tracemalloc.start()
    start = time.monotonic()
    refusal(name, data, fill_gaps=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 1024 * 1024
    assert time.monotonic() - start < 5


def test_many_scattered_records_take_no_quadratic_time() -> None:
    """Never touching: bincopy's own list of segments takes half a minute for these."""
    pieces = [data_record(offset, b"x") for offset in range(0, 0xFE00, 2)]
    data = b"\n".join([UPPER, *pieces, END])
    start = time.monotonic()
    assert len(read("app.hex", data).gaps) == len(pieces) - 1
    assert time.monotonic() - start < 5


# --- text formats ---


@pytest.mark.parametrize(("name", "make"), [("app.hex", hex_file), ("app.srec", srec_file)])
def test_a_file_that_ends_too_early(name: str, make: Callable[..., bytes]) -> None:
    lines = make((LINK, bytes(100))).splitlines()
    assert read(name, b"\n".join(lines)).payload == bytes(100)
    for kept in range(1, len(lines)):
        assert refusal(name, b"\n".join(lines[:kept])).code is Code.FIRMWARE_FORMAT, kept


def test_every_flipped_bit_of_a_record_is_seen() -> None:
    for name, data in (("app.hex", hex_file((LINK, b"ab"))), ("app.srec", srec_file((LINK, b"ab")))):
        reference = read(name, data)
        for position in range(len(data)):
            for bit in range(8):
                flipped = bytearray(data)
                flipped[position] ^= 1 << bit
                try:
                    assert read(name, bytes(flipped)).payload == reference.payload
                except Refused as error:
                    assert error.code.startswith("firmware.")


@pytest.mark.parametrize(
    "line",
    [
        data_record(4, b"x")[:-2],  # too short for its length
        data_record(4, b"x")[:-1] + b"!",  # no checksum
        hex_record(6, 0),
        hex_record(2, 0, b"\x01"),  # a segment address of one byte
        hex_record(4, 0, b"\x01"),  # an upper address of one byte
        END + b"\n" + END,  # records after the end
        b"rubbish",
        b":zz",
        b":",
        b":  00000001FF ",
        b":00          ",
    ],
)
def test_hex_records_that_are_none(line: bytes) -> None:
    data = b"\n".join([UPPER, data_record(0, b"ab"), line, END])
    assert refusal("app.hex", data).code is Code.FIRMWARE_FORMAT


def test_hex_with_segment_addresses() -> None:
    """Type 02, from 16-bit tools: it cannot reach this flash, and its data wrap at 64 KiB."""
    segment = hex_record(2, 0, b"\x10\x00")
    far = b"\n".join([segment, hex_record(0, 0, b"ab"), END])
    assert refusal("app.hex", far).found == "0x00010000"
    wraps = b"\n".join([segment, hex_record(0, 0xFFFF, b"ab"), END])
    assert refusal("app.hex", wraps).code is Code.FIRMWARE_FORMAT
    # The last address record counts: bincopy would add the two.
    both = b"\n".join([segment, UPPER, data_record(0, b"ab"), END])
    assert read("app.hex", both).payload == b"ab"


@pytest.mark.parametrize(
    "line",
    [
        srec_record(3, bytes(2)),  # no room for the address: bincopy takes the checksum for its last byte
        srec_record(3, bytes(3)),
        srec_record(5, b"\0\7"),  # a count of seven
        srec_record(4, bytes(8)),
        s3(4, b"x")[:-2] + b"00",
        S_END + b"\n" + S_END,
        b"S",
        b"Sx",
    ],
)
def test_srec_records_that_are_none(line: bytes) -> None:
    data = b"\n".join([srec_record(0, b"\0\0name"), s3(0, b"ab"), line, S_END])
    assert refusal("app.srec", data).code is Code.FIRMWARE_FORMAT


def test_srec_counts_its_records() -> None:
    for kind, count in ((5, b"\0\2"), (6, b"\0\0\2")):
        data = b"\n".join([s3(0, b"a"), s3(1, b"b"), srec_record(kind, count), S_END])
        assert read("app.srec", data).payload == b"ab"


def test_blank_lines_and_carriage_returns_are_fine() -> None:
    data = hex_file((LINK, b"ab")).replace(b"\n", b"\r\n\r\n")
    assert read("app.hex", b"\r\n" + data).payload == b"ab"


# --- which format ---


def test_content_decides_over_the_name() -> None:
    assert read("app.bin", elf_file(Segment(LINK, b"x"))).format is Format.ELF
    assert read("app.bin", hex_file((LINK, b"x"))).format is Format.HEX
    assert read("app.hex", srec_file((LINK, b"x"))).format is Format.SREC


@pytest.mark.parametrize("name", ["app.hex", "app.elf", "app.srec", "app.zip", "app.s37"])
def test_bytes_that_could_be_anything_are_a_raw_binary_only_by_name(name: str) -> None:
    assert refusal(name, b"\x00\x01\x02\x03" * 9).code is Code.FIRMWARE_FORMAT
    assert read("app", b"\x00\x01\x02\x03" * 9).format is Format.BIN


def test_an_image_is_not_signed_again() -> None:
    error = refusal("app.bin", image.MAGIC.to_bytes(4, "little") + bytes(100))
    assert error.code is Code.FIRMWARE_FORMAT
    assert "MCUboot" in error.found


# --- ELF ---


def patched(offset: int, value: int, width: str = "H") -> bytes:
    data = bytearray(elf_file(Segment(LINK, b"code")))
    struct.pack_into(f"<{width}", data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        elf_file(Segment(LINK, b"x"), machine=62),
        elf_file(Segment(LINK, b"x"), kind=1),
        elf_file(),
        b"\x7fELF",
        b"\x7fELF\x02\x01\x01".ljust(64, b"\0"),
        patched(4, 0x0102),  # 64 bits
        patched(42, 0),  # e_phentsize
        patched(44, 0xFFFF),  # e_phnum: "look into a section header"
        patched(28, 0xFFFF_FFF0, "I"),  # e_phoff
        patched(52 + 4, 0xFFFF_FFFF, "I"),  # p_offset
        patched(52 + 16, 0x7FFF_FFFF, "I"),  # p_filesz, gigabytes
        patched(52 + 20, 1, "I"),  # p_memsz below p_filesz
    ],
)
def test_elf_files_that_are_none(data: bytes) -> None:
    assert refusal("app.elf", data).code is Code.FIRMWARE_FORMAT


def test_the_section_table_is_not_looked_at() -> None:
    data = bytearray(elf_file(Segment(LINK, b"code")))
    struct.pack_into("<I", data, 32, 0xFFFF_FFF0)
    struct.pack_into("<HHH", data, 46, 0xFFFF, 0xFFFF, 0xFFFF)
    assert read("app.elf", bytes(data)).payload == b"code"


def test_an_address_beyond_32_bits() -> None:
    assert refusal("app.elf", elf_file(Segment(0xFFFF_FFFF, b"xx"))).code is Code.FIRMWARE_FORMAT
