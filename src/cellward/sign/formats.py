"""What compilers deliver: raw binary, Intel HEX, Motorola S-record, ELF32 for ARM.

Each parser returns the chunks of bytes with their flash addresses, in the file's order. All of a
file's claims are checked: what a truncated or edited file still says must not become firmware.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import PurePath

from cellward.core.errors import Code, FormatRefused
from cellward.core.image import MAGIC as IMAGE_MAGIC

ELF_MAGIC = b"\x7fELF"
# 2 MiB of flash as text is 6 MB with the usual 16 bytes a line, and 30 MB with one byte a line.
MAX_TEXT = 32 * 1024 * 1024
MAX_SEGMENTS = 256
_WORD = 1 << 32


class Format(StrEnum):
    BIN = "binary"
    HEX = "Intel HEX"
    SREC = "S-record"
    ELF = "ELF32 ARM"


SUFFIXES: dict[str, Format] = {
    "": Format.BIN,
    ".bin": Format.BIN,
    ".img": Format.BIN,
    ".raw": Format.BIN,
    ".hex": Format.HEX,
    ".ihex": Format.HEX,
    ".ihx": Format.HEX,
    ".srec": Format.SREC,
    ".s19": Format.SREC,
    ".s28": Format.SREC,
    ".s37": Format.SREC,
    ".mot": Format.SREC,
    ".elf": Format.ELF,
    ".axf": Format.ELF,
    ".out": Format.ELF,
}


@dataclass(frozen=True)
class Chunk:
    """Bytes and the address they are loaded at; None where the format carries no addresses."""

    address: int | None
    data: bytes


def detect(name: str, data: bytes) -> Format:
    """By content; the name decides only where the content could be anything.

    Raises FormatRefused (firmware.format): a damaged .hex must not be signed as a raw binary.
    """
    if data.startswith(ELF_MAGIC):
        return Format.ELF
    if data[:4] == IMAGE_MAGIC.to_bytes(4, "little"):
        raise refused(name, "firmware as the compiler delivers it", "a MCUboot image already")
    start = data[:64].lstrip()
    if data[:4096].isascii():
        if start[:1] == b":":
            return Format.HEX
        if start[:1] == b"S" and start[1:2].isdigit():
            return Format.SREC
    named = SUFFIXES.get(PurePath(name).suffix.lower())
    if named is not Format.BIN:
        wanted = f"{named}, as the name says" if named else ".bin, .hex, .srec or .elf"
        raise refused(name, wanted, f"bytes {data[:4].hex()} …")
    return Format.BIN


def parse(fmt: Format, name: str, data: bytes) -> list[Chunk]:
    """Raises FormatRefused (firmware.format)."""
    if fmt is Format.BIN:
        return [Chunk(None, data)]
    if fmt is Format.ELF:
        return list(_elf(name, data))
    if len(data) > MAX_TEXT:
        raise refused(name, f"at most {MAX_TEXT} bytes of {fmt}", f"{len(data)}")
    return list((_hex if fmt is Format.HEX else _srec)(name, data))


def refused(name: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.FIRMWARE_FORMAT, name, expected=expected, found=found)


Record = tuple[int, int, bytes]
"""Type, address field, data."""


def _records(name: str, data: bytes, fmt: Format, unpack: Callable[[str], Record]) -> Iterator[Record]:
    """The records of a text file that ends where the format says it ends."""
    import bincopy

    for number, line in enumerate(data.splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        try:
            yield unpack(text.decode("ascii"))
        except (bincopy.Error, ValueError, LookupError) as error:
            raise refused(f"{name}, line {number}", f"a record of {fmt}", "a damaged one") from error


def _hex(name: str, data: bytes) -> Iterator[Chunk]:
    """Intel Hexadecimal Object File Format Specification, revision A (1988)."""
    base, segmented, ended = 0, False, False
    for kind, address, value in _records(name, data, Format.HEX, _unpack_hex):
        if ended:
            raise refused(name, "the end-of-file record last", "records after it")
        if kind == 0:
            if segmented and address + len(value) > 0x10000:
                raise refused(
                    name, "data inside its 64 KiB segment", f"{len(value)} bytes at 0x{address:04x}"
                )
            yield _chunk(name, base + address, value)
        elif kind == 1:
            ended = True
        elif kind in (2, 4) and len(value) == 2:
            segmented = kind == 2
            base = int.from_bytes(value, "big") << (4 if segmented else 16)
        elif kind not in (3, 5):  # start addresses: the vector table decides, not they
            raise refused(name, "record types 0 to 5", f"type {kind} with {len(value)} bytes")
    if not ended:
        raise refused(name, "an end-of-file record", "the end of the file: it is truncated")


def _unpack_hex(text: str) -> Record:
    import bincopy

    kind, address, _, value = bincopy.unpack_ihex(text)
    return kind, address, bytes(value)


_SREC_ADDRESS = {0: 2, 1: 2, 2: 3, 3: 4, 5: 2, 6: 3, 7: 4, 8: 3, 9: 2}


def _srec(name: str, data: bytes) -> Iterator[Chunk]:
    """Motorola S-records; S0 and the start address are allowed and ignored, the count is checked."""
    count, ended = 0, False
    for kind, address, value in _records(name, data, Format.SREC, _unpack_srec):
        if ended:
            raise refused(name, "the termination record last", "records after it")
        if kind in (1, 2, 3):
            count += 1
            yield _chunk(name, address, value)
        elif kind in (5, 6):
            if address != count % (1 << 8 * _SREC_ADDRESS[kind]):
                raise refused(name, f"{address} data records, as S{kind} says", f"{count}")
        elif kind in (7, 8, 9):
            ended = True
    if not ended:
        raise refused(name, "a termination record (S7, S8 or S9)", "the end of the file: it is truncated")


def _unpack_srec(text: str) -> Record:
    import bincopy

    kind, address, _, value = bincopy.unpack_srec(text)
    if int(text[2:4], 16) <= _SREC_ADDRESS[int(kind)]:
        raise ValueError("no room for address and checksum")  # bincopy takes the checksum as address
    return int(kind), address, bytes(value)


def _chunk(name: str, address: int, value: bytes) -> Chunk:
    if address + len(value) > _WORD:
        raise refused(name, "addresses of 32 bits", f"{len(value)} bytes at 0x{address:x}")
    return Chunk(address, value)


_EHDR, _PHDR = 52, 32


def _elf(name: str, data: bytes) -> Iterator[Chunk]:
    """PT_LOAD segments at their physical addresses: where .data is stored, not where it runs.

    Bytes beyond p_filesz (.bss) are no part of the image.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    _check_elf(name, data)
    try:
        segments = list(ELFFile(BytesIO(data)).iter_segments())
    except (ELFError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise refused(name, "program headers", type(error).__name__) from error
    for segment in segments:
        if segment["p_type"] != "PT_LOAD" or segment["p_filesz"] == 0:
            continue
        offset, size = segment["p_offset"], segment["p_filesz"]
        if size > segment["p_memsz"] or offset + size > len(data):
            raise refused(
                name, f"a segment inside the file's {len(data)} bytes", f"bytes {offset} to {offset + size}"
            )
        yield _chunk(name, segment["p_paddr"], data[offset : offset + size])


def _check_elf(name: str, data: bytes) -> None:
    """Everything that pyelftools would loop or seek by, bounded before it sees the file."""
    if len(data) < _EHDR:
        raise refused(name, f"an ELF header of {_EHDR} bytes", f"{len(data)} bytes")
    half = [int.from_bytes(data[offset : offset + 2], "little") for offset in range(0, _EHDR, 2)]
    kind, machine, entry_size, count = half[8], half[9], half[21], half[22]
    if data[4:7] != b"\x01\x01\x01" or machine != 40 or kind != 2:
        raise refused(
            name,
            "a linked ELF32 little-endian executable for ARM",
            f"class {data[4]}, data {data[5]}, version {data[6]}, machine {machine}, type {kind}",
        )
    offset = int.from_bytes(data[28:32], "little")
    if entry_size != _PHDR or not 0 < count <= MAX_SEGMENTS or offset + count * _PHDR > len(data):
        raise refused(
            name,
            f"1 to {MAX_SEGMENTS} program headers of {_PHDR} bytes inside the file",
            f"{count} of {entry_size} bytes at {offset}",
        )
