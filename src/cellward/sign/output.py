"""A signed image as the file that a programmer wants: the bare bytes, Intel HEX, or ELF.

HEX and ELF say where the image lies. HEX is, byte for byte, what imgtool writes for the same image.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import PurePath

from cellward.core.errors import Code, PolicyRefused
from cellward.sign.formats import ELF_MAGIC, SUFFIXES, Format, detect, parse, refused

_RECORD = 16
_WORD = 1 << 32


def output_format(name: str, wanted: str | None = None) -> Format:
    """By what the caller says (bin, hex, elf), else by the name's suffix; one that says nothing is bin.

    Raises PolicyRefused (firmware.format) for a suffix of a format that is read, but not written.
    """
    if wanted is not None:
        return Format[wanted.upper()]
    suffix = PurePath(name).suffix.lower()
    found = SUFFIXES.get(suffix, Format.BIN)
    if found not in _ENCODERS:
        raise PolicyRefused(
            Code.FIRMWARE_FORMAT, name, expected="an output that ends in .bin, .hex or .elf", found=suffix
        )
    return found


def encode_output(fmt: Format, image: bytes, address: int) -> bytes:
    """The file. `address`: where the image's first byte will lie; the bare image says nothing of it.

    Raises PolicyRefused (firmware.address) where the image does not fit below 4 GiB.
    """
    if fmt is not Format.BIN and not 0 <= address <= _WORD - len(image):
        raise PolicyRefused(
            Code.FIRMWARE_ADDRESS,
            f"{fmt} output",
            expected=f"{len(image)} bytes inside 32 bits of address",
            found=f"0x{address:x}",
        )
    return _ENCODERS[fmt](image, address)


def _bin(image: bytes, _address: int) -> bytes:
    return image


def _hex(image: bytes, address: int) -> bytes:
    """Intel Hexadecimal Object File Format Specification, revision A (1988), 32-bit addresses."""
    return b"\n".join([*_records(image, address), _record(1, 0, b""), b""])


def _records(image: bytes, address: int) -> Iterator[bytes]:
    upper, end = (0 if address + len(image) <= 0x10000 else -1), address + len(image)
    at = address
    while at < end:
        if at >> 16 != upper:
            upper = at >> 16
            yield _record(4, 0, upper.to_bytes(2, "big"))
        stop = min(at + _RECORD, (upper + 1) << 16, end)
        yield _record(0, at & 0xFFFF, image[at - address : stop - address])
        at = stop


def _record(kind: int, offset: int, data: bytes) -> bytes:
    body = bytes([len(data), offset >> 8, offset & 0xFF, kind]) + data
    return b":" + (body + bytes([-sum(body) & 0xFF])).hex().upper().encode()


def decode_output(name: str, data: bytes) -> bytes:
    """The image in a file of any of these formats. What is not HEX or ELF is the bare image.

    Raises FormatRefused (firmware.format) for a damaged file, and for one that holds other parts too.
    """
    if not data.startswith((ELF_MAGIC, b":")):
        return data
    fmt = detect(name, data)
    chunks = [(chunk.address or 0, chunk.data) for chunk in parse(fmt, name, data)]
    for (address, part), (following, _) in pairwise(chunks):
        if address + len(part) != following:
            raise refused(name, "one image in one piece", f"a gap at 0x{address + len(part):08x}")
    return b"".join(part for _, part in chunks)


_NAMES = b"\0.image\0.shstrtab\0"


def _elf(image: bytes, address: int) -> bytes:
    """One segment to load, for ARM, and a section of the same bytes: objcopy goes by sections.

    It is for programmers and debuggers; nothing says where it starts, since a boot chain starts it.
    """
    start = 52 + 32
    sections = start + len(image) + len(_NAMES)
    aligned = -(-sections // 4) * 4
    header = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 40, 1, 0, 52, aligned, 0x0500_0000, 52, 32, 1, 40, 3, 2
    )
    segment = struct.pack("<8I", 1, start, address, address, len(image), len(image), 4, 1)
    table = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (_NAMES.index(b".image"), 1, 2, address, start, len(image), 0, 0, 1, 0),
        (_NAMES.index(b".shstrtab"), 3, 0, 0, start + len(image), len(_NAMES), 0, 0, 1, 0),
    ]
    rows = b"".join(struct.pack("<10I", *row) for row in table)
    return header + segment + image + _NAMES + bytes(aligned - sections) + rows


_ENCODERS: dict[Format, Callable[[bytes, int], bytes]] = {
    Format.BIN: _bin,
    Format.HEX: _hex,
    Format.ELF: _elf,
}
