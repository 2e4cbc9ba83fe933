"""Firmware files as compilers write them, from chosen bytes at chosen addresses."""

import struct
from dataclasses import dataclass

import bincopy

from cellward.core.slots import BMS_M33, Stage

LINK = BMS_M33.link_address(Stage.APP)
Piece = tuple[int, bytes]


def binfile(*pieces: Piece, header: str = "made by a test") -> bincopy.BinFile:
    file = bincopy.BinFile()
    file.header = header
    file.execution_start_address = LINK
    for address, data in pieces:
        file.add_binary(data, address)
    return file


def hex_file(*pieces: Piece) -> bytes:
    return str(binfile(*pieces).as_ihex()).encode()


def srec_file(*pieces: Piece) -> bytes:
    return str(binfile(*pieces).as_srec()).encode()


def hex_record(kind: int, address: int, data: bytes = b"") -> bytes:
    body = bytes([len(data), address >> 8 & 0xFF, address & 0xFF, kind]) + data
    return b":" + (body + bytes([-sum(body) & 0xFF])).hex().upper().encode()


def srec_record(kind: int, body: bytes) -> bytes:
    """`body` is the address and the data."""
    counted = bytes([len(body) + 1]) + body
    return b"S%d" % kind + (counted + bytes([~sum(counted) & 0xFF])).hex().upper().encode()


@dataclass(frozen=True)
class Segment:
    """A program header; `memory` beyond the data is .bss, `virtual` is where it runs."""

    address: int
    data: bytes
    memory: int = 0
    virtual: int | None = None
    type: int = 1  # PT_LOAD


def elf_file(*segments: Segment, machine: int = 40, kind: int = 2) -> bytes:
    start = 52 + 32 * len(segments)
    headers, body = b"", b""
    for segment in segments:
        virtual = segment.address if segment.virtual is None else segment.virtual
        memory = max(segment.memory, len(segment.data))
        fields = (segment.type, start + len(body), virtual, segment.address, len(segment.data), memory, 5, 4)
        headers += struct.pack("<8I", *fields)
        body += segment.data
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    rest = struct.pack(
        "<HHIIIIIHHHHHH", kind, machine, 1, LINK | 1, 52, 0, 0, 52, 32, len(segments), 40, 0, 0
    )
    return ident + rest + headers + body
