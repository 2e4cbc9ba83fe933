"""The module link's frames: how a programmer talks to a module, over any transport.

Normative text: docs/formats/module-link.md. Pure, so that a socket carries it today and CAN (UDS)
can carry the same bytes tomorrow. Values of the messages are in ports/linkvalues.py.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from cellward.core import wire
from cellward.core.errors import (
    CellwardError,
    Code,
    FormatRefused,
    ModuleRefused,
    PolicyRefused,
    Refused,
    TrustRefused,
    Unavailable,
)

MAGIC = b"CWL2"
HEADER_SIZE = 12
MAX_PAYLOAD = 64 * 1024
# Flash data per frame: leaves room for the fields beside it.
MAX_DATA = 32 * 1024
MAX_TEXT = 255
ANSWER = 0x80  # or'ed to the operation by its answer


class Operation(IntEnum):
    """What a frame asks for. Extend-only; the answer has the bit ANSWER set."""

    STATUS = 0x01
    REPORTS = 0x02
    TELEMETRY = 0x03
    READ = 0x10
    ERASE_PAGE = 0x11
    PROGRAM = 0x12
    EXCHANGE = 0x13
    RESET = 0x20
    CLOSE_REQUEST = 0x21
    POWER_ON = 0x40
    POWER_OFF = 0x41
    BURN = 0x42
    CONDITIONS = 0x43
    ADVANCE = 0x44
    CUT_POWER = 0x45
    TAMPER = 0x46
    ATTACH_DEBUGGER = 0x47
    FLIP_BIT = 0x48


REFUSAL = 0x7F  # instead of the answer, as UDS's negative response


@dataclass(frozen=True)
class Frame:
    """`type` is an Operation, one with ANSWER, or REFUSAL; `sequence` (u16) pairs them."""

    type: int
    sequence: int
    payload: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        return b"".join(
            (
                MAGIC,
                wire.u32(len(self.payload)),
                bytes([self.type, 0]),
                wire.u16(self.sequence),
                self.payload,
            )
        )


def decode_header(header: bytes) -> tuple[int, int, int]:
    """Type, sequence and payload length of the frame that starts with these HEADER_SIZE bytes.

    Raises FormatRefused (link.frame) before a byte of the payload is waited for.
    """
    reader = wire.Reader(header, "link frame")
    if reader.take(len(MAGIC)) != MAGIC:
        raise _bad_frame(f"magic {MAGIC.hex()}", header[: len(MAGIC)].hex())
    length = reader.u32()
    kind, reserved = reader.u8(), reader.u8()
    sequence = reader.u16()
    reader.finish()
    if length > MAX_PAYLOAD:
        raise _bad_frame(f"at most {MAX_PAYLOAD} bytes of payload", f"{length}")
    if reserved != 0:
        raise _bad_frame("a reserved byte of 0", f"{reserved}")
    return kind, sequence, length


class FrameReader:
    """Cuts a byte stream into frames; holds at most one frame's bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes.

        Raises FormatRefused (link.frame): the stream cannot be followed any further.
        """
        self._buffer += data
        frames = []
        while len(self._buffer) >= HEADER_SIZE:
            kind, sequence, length = decode_header(bytes(self._buffer[:HEADER_SIZE]))
            end = HEADER_SIZE + length
            if len(self._buffer) < end:
                break
            frames.append(Frame(kind, sequence, bytes(self._buffer[HEADER_SIZE:end])))
            del self._buffer[:end]
        return frames


def _bad_frame(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.LINK_FRAME, "link frame", expected=expected, found=found)


# The class of a refusal on the wire; the codes travel as their stable names. Extend-only.
_KINDS: tuple[type[CellwardError], ...] = (
    Refused,
    FormatRefused,
    TrustRefused,
    PolicyRefused,
    ModuleRefused,
    Unavailable,
)


def text(value: str) -> bytes:
    """A string of at most MAX_TEXT UTF-8 bytes, cut at a character where it is longer."""
    raw = value.encode("utf-8", "replace")[:MAX_TEXT].decode("utf-8", "ignore").encode()
    return bytes([len(raw)]) + raw


def take_text(reader: wire.Reader) -> str:
    """Raises FormatRefused (wire.truncated, link.frame)."""
    raw = reader.take(reader.u8())
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _bad_frame("UTF-8 text", raw.hex()) from error


def encode_refusal(error: CellwardError) -> bytes:
    """Kind, code, subject, expected, found, advice."""
    kind = next((_KINDS.index(known) for known in type(error).__mro__ if known in _KINDS), 0)
    sides = (error.code, error.subject, error.expected, error.found, error.advice)
    return bytes([kind]) + b"".join(text(side) for side in sides)


def decode_refusal(payload: bytes) -> CellwardError:
    """The refusal that the other side raised.

    Raises FormatRefused (link.frame, wire.*) for bytes that are none.
    """
    reader = wire.Reader(payload, "link refusal")
    kind = reader.u8()
    code, subject, expected, found, advice = (take_text(reader) for _ in range(5))
    reader.finish()
    if kind >= len(_KINDS):
        raise _bad_frame(f"a kind of refusal below {len(_KINDS)}", f"{kind}")
    try:
        known = Code(code)
    except ValueError as error:
        raise _bad_frame("a stable code", code) from error
    return _KINDS[kind](known, subject, expected=expected, found=found, advice=advice)
