"""Step 1: bytes to an Image. Every length is checked before it is used."""

from dataclasses import replace
from struct import Struct

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused
from cellward.core.image.layout import (
    ACCEPTED_FLAGS,
    FIXED_LENGTHS,
    HEADER_SIZE,
    MAGIC,
    MAX_HEADER_SIZE,
    SINGLE_TYPES,
    TLV_HEADER_SIZE,
    TLV_INFO_SIZE,
    TLV_MAGIC,
    TLV_PROTECTED_MAGIC,
    UNPROTECTED_TYPES,
    Entry,
    Image,
    Version,
)

# Magic, load address, sizes of header, protected TLVs and payload, flags, version, pad.
_HEADER = Struct("<2I2H2I2BH2I")
_PAIR = Struct("<2H")  # of an area magic and size, of a TLV type and length


# Magic, load address, sizes of header, protected TLVs and payload, flags, version, pad.
_HEADER = Struct("<2I2H2I2BH2I")
_PAIR = Struct("<2H")  # of an area magic and size, of a TLV type and length


def decode(data: bytes, what: str = "image") -> Image:
    """Decode a file that is exactly one image.

    Raises FormatRefused; wire.trailing where bytes follow the last TLV.
    """
    image, end = _decode(data, what)
    wire.Reader(data, what, start=end).finish()
    return image


def decode_slot(data: bytes, what: str = "slot") -> Image:
    """Decode the image at the start of a flash slot; what follows it is not looked at."""
    image, end = _decode(data, what)
    return replace(image, data=data[:end])


def _decode(data: bytes, what: str) -> tuple[Image, int]:
    if len(data) < HEADER_SIZE:
        raise FormatRefused(
            Code.IMAGE_SIZE, what, expected=f"at least a header of {HEADER_SIZE} bytes", found=f"{len(data)}"
        )
    header = wire.Reader(data, what).fields(_HEADER)
    magic, load_address, header_size, protected_size, payload_size, flags, *version, _pad = header
    if magic != MAGIC:
        raise FormatRefused(
            Code.IMAGE_MAGIC, what, expected=f"0x{MAGIC:08x} at offset 0", found=f"0x{magic:08x}"
        )
    _check_header(what, header_size, flags)
    signed_size = header_size + payload_size + protected_size
    if payload_size == 0 or signed_size + TLV_INFO_SIZE > len(data):
        raise FormatRefused(
            Code.IMAGE_SIZE,
            what,
            expected=f"1 to {len(data) - header_size - protected_size - TLV_INFO_SIZE} bytes of payload",
            found=f"{payload_size}",
        )
    protected = header_size + payload_size
    entries: list[Entry] = []
    if protected_size:
        end = _decode_area(data, what, protected, TLV_PROTECTED_MAGIC, entries)
        if end != signed_size:
            raise _bad_tlv(what, f"a protected area of {protected_size} bytes", f"{end - protected}")
    end = _decode_area(data, what, signed_size, TLV_MAGIC, entries)
    _check_entries(what, entries)
    return (
        Image(
            data,
            load_address,
            header_size,
            payload_size,
            protected_size,
            flags,
            Version(*version),
            tuple(entries),
        ),
        end,
    )


def _check_header(what: str, header_size: int, flags: int) -> None:
    if not HEADER_SIZE <= header_size <= MAX_HEADER_SIZE:
        raise FormatRefused(
            Code.IMAGE_HEADER,
            what,
            expected=f"a header of {HEADER_SIZE} to {MAX_HEADER_SIZE} bytes",
            found=f"{header_size}",
        )
    if flags & ~int(ACCEPTED_FLAGS):  # int: an IntFlag's complement holds only the named flags
        raise FormatRefused(
            Code.IMAGE_FLAGS, what, expected=f"only 0x{ACCEPTED_FLAGS:x}", found=f"0x{flags:x}"
        )


def _decode_area(data: bytes, what: str, start: int, magic: int, entries: list[Entry]) -> int:
    """Append the TLVs of the area at `start`, where the caller has made sure of an info; returns its end."""
    found, total = wire.Reader(data, what, start).fields(_PAIR)
    if found != magic:
        raise _bad_tlv(what, f"0x{magic:04x} at offset {start}", f"0x{found:04x}")
    if total < TLV_INFO_SIZE or start + total > len(data):
        raise _bad_tlv(what, f"an area of 4 to {len(data) - start} bytes", f"{total}")
    reader = wire.Reader(data, what, start + TLV_INFO_SIZE, start + total)
    while reader.remaining:
        if reader.remaining < TLV_HEADER_SIZE:
            raise _bad_tlv(what, f"a TLV header at offset {reader.offset}", f"{reader.remaining} bytes")
        kind, length = reader.fields(_PAIR)
        if length > reader.remaining:
            raise _bad_tlv(what, f"at most {reader.remaining} bytes in TLV 0x{kind:04x}", f"{length}")
        offset = reader.offset
        entries.append(Entry(kind, reader.take(length), magic == TLV_PROTECTED_MAGIC, offset))
    return start + total


def _bad_tlv(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.IMAGE_TLV, what, expected=expected, found=found)


def _check_entries(what: str, entries: list[Entry]) -> None:
    seen: set[int] = set()
    for entry in entries:
        if not entry.protected and entry.type not in UNPROTECTED_TYPES:
            raise FormatRefused(
                Code.IMAGE_TLV_UNKNOWN,
                what,
                expected="only hash, key, signature and encryption TLVs outside the signed area",
                found=f"{entry.name} at offset {entry.offset - TLV_HEADER_SIZE}",
            )
        if entry.protected and entry.type in UNPROTECTED_TYPES:
            raise _bad_tlv(what, f"{entry.name} outside the protected area", "it inside")
        if entry.type in SINGLE_TYPES and entry.type in seen:
            raise FormatRefused(Code.IMAGE_TLV_DUPLICATE, what, expected=f"one {entry.name}", found="two")
        seen.add(entry.type)
        length = FIXED_LENGTHS.get(entry.type)
        if length is not None and length != len(entry.value):
            raise _bad_tlv(what, f"{length} bytes in {entry.name}", f"{len(entry.value)}")
