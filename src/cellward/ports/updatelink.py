"""Frames of the update link, the controller's side. Normative: docs/formats/update-link.md.

Pure. The C side's numbers (firmware/include/generated/updatelink.h) come from here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from cellward.core import wire
from cellward.core.errors import CODE_OF_STATUS, STATUS_OK, Code, FormatRefused, ModuleRefused

PROTOCOL = 1
REQUEST_HEADER_SIZE = 4
ANSWER_HEADER_SIZE = 8
MAX_DATA = 2048
DATA_UNIT = 16  # of all data but an image's last: an AES block
MAX_PAYLOAD = MAX_DATA + 64
MAX_VALUE = 1024  # of the vault
ANSWER = 0x80
WRAPPED_KEY_SIZE = 113  # ephemeral point 65, tag 32, key 16
IDENTITY_SIZE = 97


class Request(IntEnum):
    """Extend-only."""

    IDENTIFY = 0x01
    BOOT_RECORD = 0x02
    DIGEST = 0x03
    ENTER_UPDATE = 0x10
    BEGIN = 0x20
    IMAGE = 0x21
    DATA = 0x22
    COPY = 0x23
    FINISH = 0x24
    ABORT = 0x25
    REVOKE = 0x30
    VAULT_WRITE = 0x40
    VAULT_READ = 0x41
    RESTART = 0x50


@dataclass(frozen=True)
class Answer:
    """A frame of the module. `status` is a word of core.errors."""

    type: int
    sequence: int
    status: int
    payload: bytes = field(default=b"", repr=False)


def encode_request(request: Request, sequence: int, payload: bytes = b"") -> bytes:
    """Raises FormatRefused (link.frame) for a payload of more than MAX_PAYLOAD bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise FormatRefused(
            Code.LINK_FRAME, "request", expected=f"at most {MAX_PAYLOAD} bytes", found=f"{len(payload)}"
        )
    return bytes([request, sequence & 0xFF]) + wire.u16(len(payload)) + payload


def decode_answer(data: bytes) -> Answer:
    """Raises FormatRefused (link.frame, wire.*)."""
    reader = wire.Reader(data, "answer of the module")
    kind, sequence, length, status = reader.u8(), reader.u8(), reader.u16(), reader.u32()
    payload = reader.take(length)
    reader.finish()
    if not kind & ANSWER:
        raise FormatRefused(
            Code.LINK_FRAME, "answer of the module", expected="an answer", found=f"type 0x{kind:02x}"
        )
    return Answer(kind, sequence, status, payload)


def accepted(answer: Answer, request: Request, sequence: int, subject: str) -> bytes:
    """The payload of the answer to this request, if the module did what was asked.

    Raises FormatRefused (link.frame) for another request's answer, ModuleRefused with the code the
    module answered with.
    """
    if answer.status != STATUS_OK:
        code = CODE_OF_STATUS.get(answer.status, Code.LINK_FRAME)
        raise ModuleRefused(
            code, subject, expected=f"{request.name.lower()} to be done", found=f"0x{answer.status:08x}"
        )
    if (answer.type, answer.sequence) != (request | ANSWER, sequence & 0xFF):
        raise FormatRefused(
            Code.LINK_FRAME,
            subject,
            expected=f"the answer to request {sequence & 0xFF}",
            found=f"type 0x{answer.type:02x}, sequence {answer.sequence}",
        )
    return answer.payload


class Dialogue:
    """One question after the other to a module. `exchange` carries a frame there and the answer back."""

    def __init__(self, exchange: Callable[[bytes], bytes], subject: str) -> None:
        self._exchange = exchange
        self._subject = subject
        self._sequence = 0

    def ask(self, request: Request, payload: bytes = b"") -> bytes:
        """The payload of the answer. Raises as `accepted`, and what `exchange` raises."""
        self._sequence = (self._sequence + 1) & 0xFF
        answer = decode_answer(self._exchange(encode_request(request, self._sequence, payload)))
        return accepted(answer, request, self._sequence, self._subject)
