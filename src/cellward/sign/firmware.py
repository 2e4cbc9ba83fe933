"""Firmware as one payload for one slot: where it must lie, what may be missing, how much fits."""

from dataclasses import dataclass, field
from itertools import pairwise

from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused
from cellward.core.image import TLV_MAGIC, TLV_PROTECTED_MAGIC, Tlv, encode_area
from cellward.core.keys import DIGEST_SIZE, RSA3072_PKCS1_SIZE, RSA3072_SIGNATURE_SIZE
from cellward.core.slots import ERASED, Hardware, Stage
from cellward.sign.formats import Chunk, Format, detect, parse

# The TLVs of the largest image: both key TLVs and the longer key and signature, those of RSA-3072.
_PROTECTED = [(Tlv.SECURITY_COUNTER, bytes(4)), (Tlv.UUID_VENDOR, bytes(16)), (Tlv.UUID_CLASS, bytes(16))]
_PLAIN = [
    (Tlv.SHA256, bytes(DIGEST_SIZE)),
    (Tlv.KEYHASH, bytes(DIGEST_SIZE)),
    (Tlv.PUBKEY, bytes(RSA3072_PKCS1_SIZE)),
    (Tlv.RSA3072_PSS, bytes(RSA3072_SIGNATURE_SIZE)),
]
PLAIN_ROOM = len(encode_area(TLV_MAGIC, _PLAIN))
TLV_ROOM = len(encode_area(TLV_PROTECTED_MAGIC, _PROTECTED)) + PLAIN_ROOM


@dataclass(frozen=True)
class Span:
    """`size` bytes from `address`."""

    address: int
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size

    def __str__(self) -> str:
        return f"0x{self.address:08x} to 0x{self.end:08x} ({self.size} bytes)"


@dataclass(frozen=True)
class Firmware:
    """A payload for the slot at `address`. `gaps` between the `segments` read as erased flash."""

    payload: bytes = field(repr=False)
    format: Format
    address: int
    segments: tuple[Span, ...]
    gaps: tuple[Span, ...]


def capacity(hardware: Hardware, stage: Stage) -> int:
    """Bytes of payload that fit into the slot beside header and TLVs."""
    return hardware.slot(stage).size - hardware.header_size - TLV_ROOM


def read_firmware(
    name: str, data: bytes, hardware: Hardware, stage: Stage, *, fill_gaps: bool = False
) -> Firmware:
    """The payload for the slot of `stage`, from any format of `formats`.

    Raises Refused: firmware.empty, .format, .overlap, .address, .too_large, and .gap for a gap that
    holds a whole erase page unless `fill_gaps`.
    """
    if not data:
        raise _empty(name, "0 bytes")
    fmt = detect(name, data)
    link = hardware.link_address(stage)
    runs = _runs(name, [_at(chunk, link) for chunk in parse(fmt, name, data) if chunk.data])
    _check_place(name, runs, hardware, stage)
    spans = tuple(Span(address, sum(map(len, parts))) for address, parts in runs)
    gaps = tuple(Span(a.end, b.address - a.end) for a, b in pairwise(spans))
    if not fill_gaps:
        _check_gaps(name, gaps, hardware.page_size)
    return Firmware(_payload(runs, gaps), fmt, link, spans, gaps)


Run = tuple[int, list[bytes]]
"""An address, and adjacent bytes from there."""


def _at(chunk: Chunk, link: int) -> tuple[int, bytes]:
    return (link if chunk.address is None else chunk.address), chunk.data


def _runs(name: str, placed: list[tuple[int, bytes]]) -> list[Run]:
    """Sorted and joined. Two bytes for one address are refused, even equal ones."""
    runs: list[Run] = []
    end = -1
    for address, data in sorted(placed, key=lambda item: item[0]):
        if address < end:
            last = min(end, address + len(data)) - 1
            raise FormatRefused(
                Code.FIRMWARE_OVERLAP,
                name,
                expected="one byte for each address",
                found=f"two for 0x{address:08x} to 0x{last:08x}",
            )
        if address == end:
            runs[-1][1].append(data)
        else:
            runs.append((address, [data]))
        end = address + len(data)
    if not runs:
        raise _empty(name, "no data records or loadable segments")
    return runs


def _empty(name: str, found: str) -> FormatRefused:
    return FormatRefused(Code.FIRMWARE_EMPTY, name, expected="at least one byte", found=found)


def _check_place(name: str, runs: list[Run], hardware: Hardware, stage: Stage) -> None:
    link, room = hardware.link_address(stage), capacity(hardware, stage)
    slot_end = hardware.active_base + hardware.slot(stage).end
    first, (last, parts) = runs[0][0], runs[-1]
    if first != link:
        raise PolicyRefused(
            Code.FIRMWARE_ADDRESS,
            name,
            expected=f"its first byte at 0x{link:08x}: the {stage} slot of {hardware.name} behind the header",
            found=f"0x{first:08x}",
            advice="correct the link address, or name the stage it is for; with ELF, link with -n",
        )
    if last >= slot_end:
        raise PolicyRefused(
            Code.FIRMWARE_ADDRESS,
            name,
            expected=f"nothing outside the {stage} slot, which ends at 0x{slot_end:08x}",
            found=f"{Span(last, sum(map(len, parts)))}",
            advice="leave configuration and option bytes out of the firmware",
        )
    size = last + sum(map(len, parts)) - link
    if size > room:
        raise Refused(
            Code.FIRMWARE_TOO_LARGE,
            name,
            expected=f"at most {room} bytes beside header and TLVs in the {stage} slot of {hardware.name}",
            found=f"{size}: {size - room} bytes too many",
        )


def _check_gaps(name: str, gaps: tuple[Span, ...], page: int) -> None:
    for gap in gaps:
        first_page = -(-gap.address // page) * page
        if first_page + page <= gap.end:
            raise PolicyRefused(
                Code.FIRMWARE_GAP,
                name,
                expected=f"no gap that holds a whole page of {page} bytes",
                found=f"{gap}",
                advice="configuration may lie there, and an update erases it: --fill-gaps if it does not",
            )


def _payload(runs: list[Run], gaps: tuple[Span, ...]) -> bytes:
    """Bounded by the slot: `_check_place` came first."""
    parts: list[bytes] = []
    for (_, data), gap in zip(runs, (*gaps, Span(0, 0)), strict=True):
        parts += [*data, bytes([ERASED]) * gap.size]
    return b"".join(parts)
