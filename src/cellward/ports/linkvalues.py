"""The values in the module link's frames, as bytes.

A value is its dataclass's fields in order: a number is 8 bytes, signed, little-endian; a truth
value one byte, 0 or 1; text and enumerations are a length byte and UTF-8; bytes are a u32 length
and themselves; a sequence is a count byte and its members. docs/formats/module-link.md lists them.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import TypeVar, cast, get_args, get_origin, get_type_hints

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused
from cellward.ports.link import Operation, take_text, text
from cellward.ports.module import BootReport, Conditions, ModuleStatus, TamperSource, Telemetry, Torn

NUMBER_SIZE = 8
MAX_MEMBERS = 255

T = TypeVar("T")


@dataclass(frozen=True)
class Nothing:
    """The request or answer without fields."""


@dataclass(frozen=True)
class ReadRequest:
    bank: str
    offset: int
    length: int


@dataclass(frozen=True)
class EraseRequest:
    bank: str
    offset: int


@dataclass(frozen=True)
class ProgramRequest:
    bank: str
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class BurnRequest:
    """`data` may be the device secret: it never shows."""

    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class CloseRequest:
    wanted: bool


@dataclass(frozen=True)
class AdvanceRequest:
    milliseconds: int


@dataclass(frozen=True)
class CutRequest:
    operation: int
    torn: Torn


@dataclass(frozen=True)
class TamperRequest:
    source: TamperSource


@dataclass(frozen=True)
class FlipRequest:
    bank: str
    offset: int
    bit: int


@dataclass(frozen=True)
class Data:
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Reports:
    reports: tuple[BootReport, ...]


# What each operation carries: the request's value and the answer's.
MESSAGES: dict[Operation, tuple[type, type]] = {
    Operation.STATUS: (Nothing, ModuleStatus),
    Operation.REPORTS: (Nothing, Reports),
    Operation.TELEMETRY: (Nothing, Telemetry),
    Operation.READ: (ReadRequest, Data),
    Operation.ERASE_PAGE: (EraseRequest, Nothing),
    Operation.PROGRAM: (ProgramRequest, Nothing),
    Operation.EXCHANGE: (Data, Data),
    Operation.RESET: (Nothing, Reports),
    Operation.CLOSE_REQUEST: (CloseRequest, Nothing),
    Operation.POWER_ON: (Nothing, Reports),
    Operation.POWER_OFF: (Nothing, Nothing),
    Operation.BURN: (BurnRequest, Nothing),
    Operation.CONDITIONS: (Conditions, Nothing),
    Operation.ADVANCE: (AdvanceRequest, Nothing),
    Operation.CUT_POWER: (CutRequest, Nothing),
    Operation.TAMPER: (TamperRequest, Nothing),
    Operation.ATTACH_DEBUGGER: (Nothing, Nothing),
    Operation.FLIP_BIT: (FlipRequest, Nothing),
}


def encode_value(value: object) -> bytes:
    """Raises FormatRefused (link.frame) for a number or a sequence the format cannot hold."""
    match value:
        case bool():
            return bytes([value])
        case int():
            return _encode_number(value)
        case str():
            return text(value)
        case bytes():
            return wire.u32(len(value)) + value
        case tuple():
            if len(value) > MAX_MEMBERS:
                raise _bad(f"at most {MAX_MEMBERS} members", f"{len(value)}")
            return bytes([len(value)]) + b"".join(encode_value(member) for member in value)
        case _ if is_dataclass(value):
            return b"".join(encode_value(getattr(value, f.name)) for f in fields(value))
        case _:
            raise TypeError(f"the link has no form for {type(value).__name__}")


def _encode_number(value: int) -> bytes:
    limit = 1 << (8 * NUMBER_SIZE - 1)
    if not -limit <= value < limit:
        raise _bad(f"a number of {NUMBER_SIZE} bytes", f"{value.bit_length()} bits")
    return value.to_bytes(NUMBER_SIZE, "little", signed=True)


def decode_value(kind: type[T], payload: bytes) -> T:
    """A `kind` (one of MESSAGES) from exactly these bytes.

    Raises FormatRefused (link.frame, wire.truncated, wire.trailing).
    """
    reader = wire.Reader(payload, f"link value {kind.__name__}")
    value = _take(reader, kind)
    reader.finish()
    return cast("T", value)


def _take(reader: wire.Reader, kind: type) -> object:
    if get_origin(kind) is tuple:
        member = get_args(kind)[0]
        return tuple(_take(reader, member) for _ in range(reader.u8()))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: _take(reader, hints[f.name]) for f in fields(kind)})
    if kind is bool:
        return _take_truth(reader)
    if kind is int:
        return int.from_bytes(reader.take(NUMBER_SIZE), "little", signed=True)
    if kind is bytes:
        return reader.take(reader.u32())
    return _take_text(reader, kind)


def _take_text(reader: wire.Reader, kind: type) -> str:
    value = take_text(reader)
    if not issubclass(kind, StrEnum):
        return value
    try:
        return kind(value)
    except ValueError as error:
        raise _bad(f"one of {', '.join(kind)}", value) from error


def _take_truth(reader: wire.Reader) -> bool:
    value = reader.u8()
    if value > 1:
        raise _bad("0 or 1", f"{value}")
    return bool(value)


def _bad(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.LINK_FRAME, "link value", expected=expected, found=found)
