"""The module's process: hostile clients, several clients, kills, sockets with long paths."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.adapters.modulelink import LinkModule, connect, spawn
from cellward.core.errors import CellwardError, Code, FormatRefused, Unavailable
from cellward.core.slots import BMS_M33, OTP_REVOKED
from cellward.ports.link import (
    ANSWER,
    HEADER_SIZE,
    REFUSAL,
    Frame,
    FrameReader,
    Operation,
    decode_refusal,
)
from cellward.ports.linksocket import SUN_PATH, short_address, socket_path
from cellward.ports.linkvalues import EraseRequest, encode_value
from cellward.ports.module import Conditions, Outcome
from cellward.vbms.process import HANDLERS, MAX_CLIENTS, answer
from cellward.vbms.state import create
from tests.fakes.module import FakeModule

RUN = """
import sys; from pathlib import Path
from cellward.vbms.process import run
run(Path(sys.argv[1]), print)
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    create(tmp_path / "m.state", BMS_M33, "M0001")
    return tmp_path / "m.state"


def start(state: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-uc", RUN, state], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f"module M0001 is ready at {socket_path(state)}\n"
    return process


def stop(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    code = process.wait(10)
    if process.stdout is not None:
        process.stdout.close()
    return code


@pytest.fixture
def process(state: Path) -> Iterator["subprocess.Popen[str]"]:
    process = start(state)
    yield process
    if process.poll() is None:
        stop(process)


def client(state: Path) -> LinkModule:
    module = connect(state)
    assert module is not None
    return module


def raw_client(state: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(socket_path(state)))
    return connection


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(4096):
        received += data
    connection.close()
    return received


# Answers --------------------------------------------------------------------------------------------


@given(st.integers(0, 255), st.integers(0, 0xFFFF), st.binary(max_size=60))
def test_any_request_is_answered_or_refused(kind: int, sequence: int, payload: bytes) -> None:
    reply = answer(FakeModule(), Frame(kind, sequence, payload))
    assert reply.sequence == sequence
    assert reply.type in (kind | ANSWER, REFUSAL)


def test_every_operation_is_handled() -> None:
    assert set(HANDLERS) == set(Operation)


def test_an_unknown_operation_is_refused() -> None:
    reply = answer(FakeModule(), Frame(0x3F, 7))
    assert (reply.type, reply.sequence) == (REFUSAL, 7)
    assert decode_refusal(reply.payload).code is Code.LINK_FRAME


# The running process ----------------------------------------------------------------------------------


def test_socket_is_for_its_owner_and_goes_with_the_process(
    state: Path, process: "subprocess.Popen[str]"
) -> None:
    path = socket_path(state)
    assert path.stat().st_mode & 0o777 == 0o600
    assert stop(process) == 0
    assert not path.exists()
    assert connect(state) is None


def test_clients_share_the_module_and_survive_a_hostile_one(
    state: Path, process: "subprocess.Popen[str]"
) -> None:
    with client(state) as one, client(state) as other:
        one.erase_page("b", 0)
        one.program("b", 0, b"shared!!")
        assert other.read("b", 0, 8) == b"shared!!"
        for hostile in (b"GET / HTTP/1.1\r\n\r\n", b"CWL2\xff\xff\xff\xff\0\0\0\0", bytes(5000)):
            connection = raw_client(state)
            connection.sendall(hostile)
            (frame,) = FrameReader().feed(until_closed(connection))
            assert (frame.type, decode_refusal(frame.payload).code) == (REFUSAL, Code.LINK_FRAME)
        half = raw_client(state)
        half.sendall(Frame(Operation.STATUS, 1).encode()[: HEADER_SIZE - 1])
        half.close()
        assert one.status().operations == other.status().operations == 2
    assert process.poll() is None


def test_pipelined_requests_are_answered_in_order(state: Path, process: "subprocess.Popen[str]") -> None:
    with raw_client(state) as connection:
        requests = [Frame(Operation.STATUS, n) for n in range(3)]
        requests.append(Frame(Operation.ERASE_PAGE, 3, encode_value(EraseRequest("z", 0))))
        connection.sendall(b"".join(request.encode() for request in requests))
        reader, seen = FrameReader(), list[Frame]()
        while len(seen) < 4:
            seen += reader.feed(connection.recv(4096))
    assert [frame.sequence for frame in seen] == [0, 1, 2, 3]
    assert [frame.type for frame in seen] == [Operation.STATUS | ANSWER] * 3 + [REFUSAL]
    assert process.poll() is None


def test_too_many_clients_are_turned_away(state: Path, process: "subprocess.Popen[str]") -> None:
    held = [raw_client(state) for _ in range(MAX_CLIENTS)]
    time.sleep(0.3)
    assert until_closed(raw_client(state)) == b""
    held.pop().close()
    time.sleep(0.3)
    with client(state) as module:
        assert module.status().serial == "M0001"
    for connection in held:
        connection.close()
    assert process.poll() is None


def test_the_firmware_runs_between_requests(state: Path, process: "subprocess.Popen[str]") -> None:
    with client(state) as module:
        before = module.telemetry().at_ms
        time.sleep(0.5)
        assert before + 100 <= module.telemetry().at_ms <= before + 5000
    assert process.poll() is None


def test_a_killed_process_leaves_its_work_and_no_obstacle(
    state: Path, process: "subprocess.Popen[str]"
) -> None:
    with client(state) as module:
        module.program("b", 8, b"durable!")
        module.burn(OTP_REVOKED.offset, b"\x08\0\0\0")
        module.set_conditions(Conditions(soc_permille=123, welded_contactor=True))
        stop(process, signal.SIGKILL)
        with pytest.raises(Unavailable) as caught:
            module.status()
        assert caught.value.code is Code.MODULE_ABSENT
    assert socket_path(state).exists()
    assert connect(state) is None  # the socket is stale
    again = subprocess.Popen([sys.executable, "-uc", RUN, state], stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    assert "module M0001 is ready" in again.stdout.readline()
    with client(state) as module:
        assert module.status().revoked == 8
        assert module.read("b", 8, 8) == b"durable!"
        telemetry = module.telemetry()
        assert (telemetry.soc_permille, telemetry.contactors_closed) == (123, True)
    assert stop(again, signal.SIGINT) == 0


def test_a_second_process_is_refused(state: Path, process: "subprocess.Popen[str]") -> None:
    with spawn(state) as module, pytest.raises(Unavailable) as caught:
        module.status()
    assert caught.value.code is Code.MODULE_BUSY
    with client(state) as module:
        assert module.status().outcome is Outcome.RECOVERY
    assert process.poll() is None


# A process for one purpose ------------------------------------------------------------------------------


def test_a_spawned_module_starts_without_power_and_ends_with_its_link(state: Path) -> None:
    with spawn(state) as module:
        assert module.status().outcome is Outcome.OFF
        assert connect(state) is None
        module.power_on()
        assert module.status().outcome is Outcome.RECOVERY
    with spawn(state) as module:  # unlocked again
        assert module.status().outcome is Outcome.OFF


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path: path.unlink(), Code.STORAGE_MISSING),
        (lambda path: path.write_bytes(b"other"), Code.MODULE_STATE),
    ],
)
def test_a_spawned_process_tells_what_is_wrong(
    state: Path, spoil: Callable[[Path], object], code: Code
) -> None:
    spoil(state)
    with spawn(state) as module:
        time.sleep(0.3)  # its last words are there before the question
        with pytest.raises(CellwardError) as caught:
            module.status()
    assert caught.value.code is code


# Sockets with long paths --------------------------------------------------------------------------------


def test_a_long_path_is_reached_through_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    state = folder / "m.state"
    assert len(os.fsencode(socket_path(state))) > SUN_PATH
    create(state, BMS_M33, "M0001")
    process = start(state)
    with client(state) as module:
        assert module.status().serial == "M0001"
    assert stop(process) == 0


def test_a_long_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 120)
    with pytest.raises(CellwardError) as caught, short_address(path):
        pass
    assert caught.value.code is Code.CONFIG
    with pytest.raises(CellwardError) as caught, short_address(tmp_path / "none" / ("n" * 100)):
        pass
    assert caught.value.code is Code.STORAGE_MISSING


# The client ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"", Code.MODULE_ABSENT),
        (b"CWL2", Code.MODULE_ABSENT),
        (b"HTTP/1.1 200 OK\r\n\r\n", Code.LINK_FRAME),
        (Frame(Operation.STATUS | ANSWER, 2).encode(), Code.LINK_FRAME),  # of another request
        (Frame(Operation.READ | ANSWER, 1).encode(), Code.LINK_FRAME),
        (Frame(Operation.STATUS | ANSWER, 1, b"\x01").encode(), Code.TRUNCATED),
        (Frame(REFUSAL, 1, b"\xff").encode(), Code.TRUNCATED),
    ],
)
def test_a_client_believes_no_module(reply: bytes, code: Code) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(reply)
    theirs.shutdown(socket.SHUT_WR)
    with theirs, LinkModule(ours, "module") as module, pytest.raises(CellwardError) as caught:
        module.status()
    assert caught.value.code is code
    assert isinstance(caught.value, FormatRefused | Unavailable)
