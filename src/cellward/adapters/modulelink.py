"""A battery module behind its link: a Unix socket of a running one, or a process of our own."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from cellward.core.errors import CellwardError, Code, FormatRefused, Unavailable
from cellward.ports.link import (
    ANSWER,
    HEADER_SIZE,
    MAX_DATA,
    REFUSAL,
    Frame,
    Operation,
    decode_header,
    decode_refusal,
)
from cellward.ports.linksocket import short_address, socket_path
from cellward.ports.linkvalues import (
    AdvanceRequest,
    BurnRequest,
    CloseRequest,
    CutRequest,
    Data,
    EraseRequest,
    FlipRequest,
    Nothing,
    ProgramRequest,
    ReadRequest,
    Reports,
    TamperRequest,
    decode_value,
    encode_value,
)
from cellward.ports.module import BootReport, Conditions, ModuleStatus, TamperSource, Telemetry, Torn

# The longest answer: a boot that exhausts its instruction budget, on a slow machine.
ANSWER_SECONDS = 120.0
END_SECONDS = 10.0

T = TypeVar("T")


class LinkModule:
    """A BenchModule at the other end of `connection`. Not for several threads at once."""

    def __init__(self, connection: socket.socket, name: str, end: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._name = name
        self._end = end
        self._sequence = 0
        connection.settimeout(ANSWER_SECONDS)

    def __enter__(self) -> "LinkModule":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        if self._end is not None:
            self._end()
            self._end = None

    def status(self) -> ModuleStatus:
        return self._ask(Operation.STATUS, Nothing(), ModuleStatus)

    def reports(self) -> tuple[BootReport, ...]:
        return self._ask(Operation.REPORTS, Nothing(), Reports).reports

    def telemetry(self) -> Telemetry:
        return self._ask(Operation.TELEMETRY, Nothing(), Telemetry)

    def read(self, bank: str, offset: int, length: int) -> bytes:
        parts = [
            self._ask(
                Operation.READ,
                ReadRequest(bank, offset + start, min(length - start, MAX_DATA)),
                Data,
            ).data
            for start in range(0, max(length, 1), MAX_DATA)
        ]
        return b"".join(parts)

    def erase_page(self, bank: str, offset: int) -> None:
        self._ask(Operation.ERASE_PAGE, EraseRequest(bank, offset), Nothing)

    def program(self, bank: str, offset: int, data: bytes) -> None:
        for start in range(0, max(len(data), 1), MAX_DATA):
            part = data[start : start + MAX_DATA]
            self._ask(Operation.PROGRAM, ProgramRequest(bank, offset + start, part), Nothing)

    def reset(self) -> tuple[BootReport, ...]:
        return self._ask(Operation.RESET, Nothing(), Reports).reports

    def set_close_request(self, wanted: bool) -> None:
        self._ask(Operation.CLOSE_REQUEST, CloseRequest(wanted), Nothing)

    def exchange(self, request: bytes) -> bytes:
        return self._ask(Operation.EXCHANGE, Data(request), Data).data

    def power_on(self) -> tuple[BootReport, ...]:
        return self._ask(Operation.POWER_ON, Nothing(), Reports).reports

    def power_off(self) -> None:
        self._ask(Operation.POWER_OFF, Nothing(), Nothing)

    def burn(self, offset: int, data: bytes) -> None:
        self._ask(Operation.BURN, BurnRequest(offset, data), Nothing)

    def set_conditions(self, conditions: Conditions) -> None:
        self._ask(Operation.CONDITIONS, conditions, Nothing)

    def advance(self, milliseconds: int) -> None:
        self._ask(Operation.ADVANCE, AdvanceRequest(milliseconds), Nothing)

    def cut_power_at(self, operation: int, torn: Torn) -> None:
        self._ask(Operation.CUT_POWER, CutRequest(operation, torn), Nothing)

    def tamper(self, source: TamperSource) -> None:
        self._ask(Operation.TAMPER, TamperRequest(source), Nothing)

    def attach_debugger(self) -> None:
        self._ask(Operation.ATTACH_DEBUGGER, Nothing(), Nothing)

    def flip_bit(self, bank: str, offset: int, bit: int) -> None:
        self._ask(Operation.FLIP_BIT, FlipRequest(bank, offset, bit), Nothing)

    def _ask(self, operation: Operation, request: object, kind: type[T]) -> T:
        """Raises the refusal the module answered with, or Unavailable (module.absent)."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        frame = Frame(operation, self._sequence, encode_value(request))
        try:
            self._connection.sendall(frame.encode())
        except OSError as error:
            self._raise_last_words(error)
        reply = self._receive()
        if reply.type == REFUSAL and reply.sequence in (self._sequence, 0):
            raise decode_refusal(reply.payload)
        if (reply.type, reply.sequence) != (operation | ANSWER, self._sequence):
            raise FormatRefused(
                Code.LINK_FRAME,
                self._name,
                expected=f"the answer to request {self._sequence}",
                found=f"type 0x{reply.type:02x}, sequence {reply.sequence}",
            )
        return decode_value(kind, reply.payload)

    def _raise_last_words(self, error: OSError) -> None:
        """The process may have said why it went before it went."""
        try:
            reply = self._receive()
        except CellwardError:
            raise self._absent(error.strerror or str(error)) from error
        if reply.type == REFUSAL:
            raise decode_refusal(reply.payload) from error
        raise self._absent(error.strerror or str(error)) from error

    def _receive(self) -> Frame:
        kind, sequence, length = decode_header(self._take(HEADER_SIZE))
        return Frame(kind, sequence, self._take(length))

    def _take(self, count: int) -> bytes:
        buffer = bytearray()
        while len(buffer) < count:
            try:
                data = self._connection.recv(count - len(buffer))
            except TimeoutError as error:
                raise self._absent(f"none within {ANSWER_SECONDS:.0f} s") from error
            except OSError as error:
                raise self._absent(error.strerror or str(error)) from error
            if not data:
                raise self._absent("a closed connection")
            buffer += data
        return bytes(buffer)

    def _absent(self, found: str) -> Unavailable:
        return Unavailable(Code.MODULE_ABSENT, self._name, expected="an answer of the module", found=found)


def connect(state: Path) -> LinkModule | None:
    """The link of the process that runs this module, or None where none listens.

    Raises Unavailable (module.absent), Refused (config.invalid).
    """
    path = socket_path(state)
    if not path.exists():
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(path) as address:
            connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise Unavailable(Code.MODULE_ABSENT, str(path), found=error.strerror or str(error)) from error
    return LinkModule(connection, str(state))


def spawn(state: Path) -> LinkModule:
    """The link of a module process started for this connection alone; it ends with `close`.

    It has no power yet. A state that cannot be opened is refused by the first question.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "cellward.vbms.process", str(state), "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def end() -> None:
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    return LinkModule(ours, str(state), end)
