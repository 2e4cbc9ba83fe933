"""Outputs: HEX and ELF hold the image's very bytes, as other tools read them too."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellward.core.errors import Code, PolicyRefused, Refused
from cellward.sign.formats import Format, parse
from cellward.sign.output import decode_output, encode_output, output_format

ADDRESSES = st.sampled_from([0, 0x18, 0xFFF8, 0x0801_0000, 0x0801_FFF1, 0xFFFF_0000])
TEXTUAL = [Format.HEX, Format.ELF]


@given(image=st.binary(min_size=1, max_size=400), address=ADDRESSES, fmt=st.sampled_from(TEXTUAL))
def test_it_comes_back_and_says_where_it_lies(image: bytes, address: int, fmt: Format) -> None:
    file = encode_output(fmt, image, address)
    assert decode_output("x", file) == image
    chunks = parse(fmt, "x", file)
    assert chunks[0].address == address
    assert b"".join(chunk.data for chunk in chunks) == image


@given(st.binary(max_size=200))
def test_the_bare_image_is_itself(image: bytes) -> None:
    image = b"=" + image
    assert encode_output(Format.BIN, image, -1) is image
    assert decode_output("x", image) is image


@settings(max_examples=300)
@given(head=st.sampled_from([b":", b":00000001FF", b":0200000408", b"\x7fELF"]), tail=st.binary(max_size=90))
def test_any_other_bytes_are_refused_or_read(head: bytes, tail: bytes) -> None:
    try:
        decode_output("x", head + tail)
    except Refused as refusal:
        assert refusal.code is Code.FIRMWARE_FORMAT


@pytest.mark.parametrize("address", [0x0801_0000, 0x0800_0001])
def test_binutils_read_the_elf(tmp_path: Path, address: int) -> None:
    image = bytes(range(256)) * 40 + b"\x01"
    (tmp_path / "x.elf").write_bytes(encode_output(Format.ELF, image, address))
    objcopy: list[str | Path] = [
        "arm-none-eabi-objcopy",
        "-O",
        "binary",
        tmp_path / "x.elf",
        tmp_path / "x.bin",
    ]
    subprocess.run(objcopy, check=True)
    assert (tmp_path / "x.bin").read_bytes() == image
    readelf: list[str | Path] = ["arm-none-eabi-readelf", "--wide", "--all", tmp_path / "x.elf"]
    read = subprocess.run(readelf, check=True, capture_output=True, text=True)
    assert read.stderr == ""
    rows = [line.split() for line in read.stdout.splitlines() if line.strip().startswith("LOAD")]
    assert [row[2:6] for row in rows] == [[f"0x{address:08x}"] * 2 + [f"0x{len(image):05x}"] * 2]


@pytest.mark.parametrize("fmt", TEXTUAL)
@pytest.mark.parametrize("address", [-1, 0xFFFF_FFFF, 1 << 32])
def test_an_address_beyond_32_bits(fmt: Format, address: int) -> None:
    with pytest.raises(PolicyRefused) as refusal:
        encode_output(fmt, b"xx", address)
    assert refusal.value.code is Code.FIRMWARE_ADDRESS


def test_the_suffix_decides_unless_somebody_says() -> None:
    said = {
        "a.bin": Format.BIN,
        "a.img": Format.BIN,
        "a": Format.BIN,
        "a.HEX": Format.HEX,
        "a.axf": Format.ELF,
    }
    assert {name: output_format(name) for name in said} == said
    assert output_format("a.hex", "bin") is Format.BIN
    assert output_format("a.img", "elf") is Format.ELF
    with pytest.raises(PolicyRefused) as refusal:
        output_format("a.srec")
    assert refusal.value.code is Code.FIRMWARE_FORMAT


def test_a_file_of_several_parts_is_no_image() -> None:
    first, second = encode_output(Format.HEX, b"one", 0), encode_output(Format.HEX, b"two", 0x100)
    both = first.replace(b":00000001FF\n", b"") + second
    with pytest.raises(Refused) as refusal:
        decode_output("x.hex", both)
    assert refusal.value.code is Code.FIRMWARE_FORMAT
