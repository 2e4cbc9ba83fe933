"""Firmware readers under arbitrary and mutated bytes, and against the writers of other tools."""

from importlib.resources import files

import bincopy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellward.core.errors import Code, Refused
from cellward.core.slots import BMS_M33, ERASED, Stage
from cellward.sign.firmware import capacity, read_firmware
from tests.support.firmware import LINK, Segment, elf_file, hex_file, srec_file

ROOM = capacity(BMS_M33, Stage.APP)
NAMES = st.sampled_from(["app.bin", "app.hex", "app.srec", "app.elf", "app", "app.zip", ""])
REAL = {name: (files("cellward.vbms") / "firmware" / name).read_bytes() for name in
        ("app-1.4.0.elf", "app-1.4.0.hex", "app-1.5.0.srec")}  # fmt: skip


def only_refused(name: str, data: bytes, fill_gaps: bool) -> None:
    """A payload that fits, at the link address, or a refusal of this file."""
    try:
        firmware = read_firmware(name, data, BMS_M33, Stage.APP, fill_gaps=fill_gaps)
    except Refused as error:
        assert error.code.startswith("firmware.")
        return
    assert 0 < len(firmware.payload) <= ROOM
    assert firmware.address == firmware.segments[0].address == LINK
    covered = sum(span.size for span in (*firmware.segments, *firmware.gaps))
    assert covered == len(firmware.payload)


@given(NAMES, st.binary(max_size=600), st.booleans())
def test_arbitrary_bytes(name: str, data: bytes, fill_gaps: bool) -> None:
    only_refused(name, data, fill_gaps)


@given(NAMES, st.text(":S0123456789ABCDEFabcdef \n\r", max_size=300), st.booleans())
@example("app.hex", ":0000000000", True)
@example("app.srec", "S0030000FC", True)
def test_arbitrary_records(name: str, text: str, fill_gaps: bool) -> None:
    only_refused(name, text.encode(), fill_gaps)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_behind_an_elf_header(data: bytes) -> None:
    header = elf_file(Segment(LINK, b"code"))
    only_refused("app.elf", header[:52] + data, fill_gaps=True)
    only_refused("app.elf", header[:16] + data, fill_gaps=True)


EDIT = st.tuples(st.integers(0, 2**16), st.sampled_from(["set", "drop", "add"]), st.binary(max_size=6))


@given(st.sampled_from(sorted(REAL)), st.lists(EDIT, min_size=1, max_size=6), st.booleans())
def test_edited_real_firmware(name: str, edits: list[tuple[int, str, bytes]], fill_gaps: bool) -> None:
    data = bytearray(REAL[name])
    # An ELF file is decided in its first bytes, a text file everywhere.
    reach = 200 if name.endswith(".elf") else len(data)
    for place, kind, new in edits:
        start = place % min(reach, max(len(data), 1))
        end = start + (0 if kind == "add" else len(new))
        data[start:end] = b"" if kind == "drop" else new
    only_refused(name, bytes(data), fill_gaps)


PIECES = st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=64)), min_size=1, max_size=8)


@given(PIECES)
def test_what_other_tools_write_is_what_arrives(pieces: list[tuple[int, bytes]]) -> None:
    """Laid out by a dict of bytes here, written by bincopy and by hand, read by us."""
    memory: dict[int, int] = {LINK: 0x55}
    kept = []
    for offset, data in pieces:
        places = range(LINK + 1 + offset, LINK + 1 + offset + len(data))
        if not any(place in memory for place in places):
            memory.update(zip(places, data, strict=True))
            kept.append((places.start, data))
    whole = [(LINK, b"\x55"), *kept]
    expected = bytes(memory.get(place, ERASED) for place in range(LINK, max(memory) + 1))
    for name, file in (
        ("app.hex", hex_file(*whole)),
        ("app.srec", srec_file(*whole)),
        ("app.elf", elf_file(*(Segment(*piece) for piece in whole))),
    ):
        assert read_firmware(name, file, BMS_M33, Stage.APP).payload == expected


@given(PIECES)
def test_what_bincopy_calls_an_overlap_is_one(pieces: list[tuple[int, bytes]]) -> None:
    file = elf_file(Segment(LINK, b"\x55"), *(Segment(LINK + offset, data) for offset, data in pieces))
    theirs = bincopy.BinFile()
    try:
        for address, data in [(LINK, b"\x55"), *((LINK + offset, data) for offset, data in pieces)]:
            theirs.add_binary(data, address)
    except bincopy.AddDataError:
        with pytest.raises(Refused) as error:
            read_firmware("app.elf", file, BMS_M33, Stage.APP)
        assert error.value.code is Code.FIRMWARE_OVERLAP
