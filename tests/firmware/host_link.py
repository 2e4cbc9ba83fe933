"""The module's end of the update link on the host, on a fake module (firmware/test/link_main.c)."""

import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, IntEnum

from cellward.core import wire
from cellward.core.banks import State, state_of
from cellward.core.slots import BMS_M33, TRAILER_SIZE, decode_trailer
from cellward.ports.updatelink import Answer, Request, decode_answer, encode_request
from cellward.vbms.registers import Where
from tests.firmware.host_verifier import ENVIRONMENT
from tests.firmware.rig import FIRMWARE, built

LINK = FIRMWARE / "build" / "host" / "link"


class Region(IntEnum):
    BANK_A = 0
    BANK_B = 1
    DATA = 2
    FUSES = 3


class Result(Enum):
    RUNS = 0
    RESET = 1
    POWER_CUT = 2
    SILENT = 3


@dataclass(frozen=True)
class View:
    """`touched`: flash commands carried out, by bank; `pages`: of the data flash, by number."""

    touched: tuple[int, ...]
    pages: frozenset[int]
    retain: int
    faults: int
    operations: int
    milestones: frozenset[int]
    contactors: int
    events: tuple[tuple[int, int, int, int], ...]


class HostLink:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._sequence = 0

    def _do(self, what: str, body: bytes = b"") -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(what.encode() + wire.u32(len(body)) + body)
        stdin.flush()
        prefix = stdout.read(4)
        assert len(prefix) == 4, "the firmware died: " + self._report()
        return stdout.read(int.from_bytes(prefix, "little"))

    def _report(self) -> str:
        stderr = self._process.stderr
        return stderr.read().decode() if stderr else ""

    def fresh(self) -> None:
        self.off()
        self._do("R")

    def off(self) -> None:
        self._do("O")

    def poke(self, region: Region, offset: int, data: bytes) -> None:
        self._do("P", bytes([region]) + wire.u32(offset) + data)

    def peek(self, region: Region, offset: int, size: int) -> bytes:
        return self._do("G", bytes([region]) + wire.u32(offset) + wire.u32(size))

    def pack(self, address: int, value: int) -> None:
        self._do("K", wire.u32(address) + wire.u32(value & 0xFFFF_FFFF))

    def cut_after(self, operations: int, torn: int = 0) -> None:
        self._do("C", wire.u32(operations) + bytes([torn]))

    def handover(self, handover: bytes) -> None:
        self._do("H", handover)

    def start(self, where: Where, active: int = 0, scalar: bytes = bytes(32)) -> Result:
        return Result(self._do("S", bytes([where, active]) + scalar)[0])

    def frame(self, frame: bytes) -> tuple[Result, bytes]:
        said = self._do("X", frame)
        return Result(said[0]), said[1:]

    def idle(self, ticks: int) -> Result:
        return Result(self._do("I", wire.u32(ticks))[0])

    def ask(self, request: Request, payload: bytes = b"") -> Answer:
        """The answer; the module must still run, or reset because it was asked to."""
        self._sequence = self._sequence + 1 & 0xFF
        result, data = self.frame(encode_request(request, self._sequence, payload))
        assert result in (Result.RUNS, Result.RESET), result
        answer = decode_answer(data)
        assert (answer.type, answer.sequence) == (request | 0x80, self._sequence)
        return answer

    def view(self) -> View:
        data = self._do("V")
        words = struct.unpack(f"<{len(data) // 4}I", data)
        pages = frozenset(n for n in range(32) if words[3] >> n & 1)
        reached = frozenset(n for n in range(32) if words[7] >> n & 1)
        events = tuple(tuple(words[at : at + 4]) for at in range(10, len(words), 4))
        return View(words[0:3], pages, words[4], words[5], words[6], reached, words[8], events)

    def state(self, bank: int) -> State:
        trailer = self.peek(Region(bank), BMS_M33.bank_size - TRAILER_SIZE, TRAILER_SIZE)
        return state_of(decode_trailer(trailer))


@contextmanager
def host_link() -> Iterator[HostLink]:
    built("host")
    process = subprocess.Popen(
        [LINK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with process:
        yield HostLink(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0, process.stderr and process.stderr.read().decode()


def begin() -> bytes:
    return bytes(4)


def image(stage: int, length: int, wrapped: bytes = b"") -> bytes:
    return bytes([stage, len(wrapped), 0, 0]) + wire.u32(length) + wrapped


def chunks(data: bytes, size: int = 2048) -> Sequence[bytes]:
    """Payloads of DATA."""
    return [wire.u32(at) + data[at : at + size] for at in range(0, len(data), size)]
