"""The module as a process of its own: it runs its firmware and answers the module link.

`python -m cellward.vbms.process STATE --fd N` serves one inherited connection and ends with it;
`run` serves the Unix socket beside the state file until it is told to stop.
"""

import argparse
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from cellward.core.errors import CellwardError, Code, FormatRefused, Unavailable
from cellward.ports.link import ANSWER, REFUSAL, Frame, FrameReader, Operation, encode_refusal
from cellward.ports.linksocket import short_address, socket_path
from cellward.ports.linkvalues import MESSAGES, Data, Nothing, Reports, decode_value, encode_value
from cellward.ports.module import BenchModule

if TYPE_CHECKING:
    from cellward.vbms.bench import VirtualModule

PACE_S = 0.1  # how often the firmware gets its share of real time
MAX_CATCH_UP_MS = 1000
MAX_CLIENTS = 16
SEND_TIMEOUT_S = 5.0
RECEIVE_BYTES = 64 * 1024

Handler = Callable[[BenchModule, Any], object]


HANDLERS: dict[Operation, Handler] = {
    Operation.STATUS: lambda module, _: module.status(),
    Operation.REPORTS: lambda module, _: Reports(module.reports()),
    Operation.TELEMETRY: lambda module, _: module.telemetry(),
    Operation.READ: lambda module, ask: Data(module.read(ask.bank, ask.offset, ask.length)),
    Operation.ERASE_PAGE: lambda module, ask: module.erase_page(ask.bank, ask.offset),
    Operation.PROGRAM: lambda module, ask: module.program(ask.bank, ask.offset, ask.data),
    Operation.EXCHANGE: lambda module, ask: Data(module.exchange(ask.data)),
    Operation.RESET: lambda module, _: Reports(module.reset()),
    Operation.CLOSE_REQUEST: lambda module, ask: module.set_close_request(ask.wanted),
    Operation.POWER_ON: lambda module, _: Reports(module.power_on()),
    Operation.POWER_OFF: lambda module, _: module.power_off(),
    Operation.BURN: lambda module, ask: module.burn(ask.offset, ask.data),
    Operation.CONDITIONS: lambda module, ask: module.set_conditions(ask),
    Operation.ADVANCE: lambda module, ask: module.advance(ask.milliseconds),
    Operation.CUT_POWER: lambda module, ask: module.cut_power_at(ask.operation, ask.torn),
    Operation.TAMPER: lambda module, ask: module.tamper(ask.source),
    Operation.ATTACH_DEBUGGER: lambda module, _: module.attach_debugger(),
    Operation.FLIP_BIT: lambda module, ask: module.flip_bit(ask.bank, ask.offset, ask.bit),
}


def answer(module: BenchModule, frame: Frame) -> Frame:
    """Carry out one request. Every refusal becomes a REFUSAL frame; anything else is a bug."""
    try:
        if frame.type not in list(Operation):
            raise FormatRefused(
                Code.LINK_FRAME, "link frame", expected="a known operation", found=f"0x{frame.type:02x}"
            )
        operation = Operation(frame.type)
        request: object = decode_value(MESSAGES[operation][0], frame.payload)
        value = HANDLERS[operation](module, request)
        return Frame(operation | ANSWER, frame.sequence, encode_value(Nothing() if value is None else value))
    except CellwardError as error:
        return refusal(error, frame.sequence)


def refusal(error: CellwardError, sequence: int = 0) -> Frame:
    return Frame(REFUSAL, sequence, encode_refusal(error))


class LinkServer:
    """Serves a module to a few clients, one request at a time, and lets its firmware run between."""

    def __init__(self, module: "VirtualModule") -> None:
        self._module = module
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, FrameReader] = {}
        self._stopping = False
        self._ran_at = time.monotonic()

    def listen(self, listener: socket.socket) -> None:
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def add(self, client: socket.socket) -> None:
        client.settimeout(SEND_TIMEOUT_S)
        self._clients[client] = FrameReader()
        self._selector.register(client, selectors.EVENT_READ, self._receive)

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        self._stopping = True

    def serve(self, *, until_alone: bool = False) -> None:
        """Until `stop`, or with `until_alone` until the last client has gone."""
        while not self._stopping and (self._clients or not until_alone):
            for key, _ in self._selector.select(PACE_S):
                key.data(key.fileobj)
            self._run_firmware()

    def close(self) -> None:
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()

    def _run_firmware(self) -> None:
        elapsed = int((time.monotonic() - self._ran_at) * 1000)
        if elapsed < PACE_S * 1000:
            return
        self._ran_at = time.monotonic()
        if self._module.machine.powered:
            self._module.advance(min(elapsed, MAX_CATCH_UP_MS))
        self._module.save()

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
        else:
            self.add(client)

    def _receive(self, client: socket.socket) -> None:
        try:
            data = client.recv(RECEIVE_BYTES)
            if not data:
                self._drop(client)
                return
            for frame in self._clients[client].feed(data):
                client.sendall(answer(self._module, frame).encode())
            self._module.save()
        except FormatRefused as error:  # the stream is lost, the module is not
            self._say_and_drop(client, error)
        except OSError:
            self._drop(client)

    def _say_and_drop(self, client: socket.socket, error: CellwardError) -> None:
        try:
            client.sendall(refusal(error).encode())
        except OSError:
            pass
        finally:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._clients[client]
        client.close()


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A listening socket at `path`, for its owner alone. The caller holds the state file's lock, so
    a socket left there by a killed process is nobody's.

    Raises Unavailable (storage.failed), Refused (config.invalid).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with short_address(path) as address:
            path.unlink(missing_ok=True)
            listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise Unavailable(Code.STORAGE_FAILED, str(path), found=error.strerror or str(error)) from error
    finally:
        os.umask(mask)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def open_module(state: Path) -> "VirtualModule":
    """Raises what VirtualModule raises, and Unavailable (module.absent) without the emulator."""
    try:
        from cellward.vbms.bench import VirtualModule
    except ModuleNotFoundError as error:
        raise Unavailable(
            Code.MODULE_ABSENT,
            "the emulated module",
            expected="the optional package unicorn",
            found=f"no {error.name}",
            advice="install cellward[module]",
        ) from error
    return VirtualModule(state)


def run(state: Path, ready: Callable[[str], None], *, power: bool = True) -> None:
    """Serve the module of `state` until SIGTERM or SIGINT. `ready` is called with the line to show.

    Raises what `open_module` and `listening` raise.
    """
    module = open_module(state)
    server = LinkServer(module)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.stop)
    try:
        with listening(socket_path(state)) as listener:
            server.listen(listener)
            if power:
                module.power_on()
            ready(f"module {module.status().serial} is ready at {socket_path(state)}")
            server.serve()
    finally:
        server.close()
        module.close()


def serve_one(state: Path, connection: socket.socket) -> int:
    """Serve the inherited connection; a state that cannot be opened is told through it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's: the parent decides
    try:
        module = open_module(state)
    except CellwardError as error:
        connection.sendall(refusal(error).encode())
        return 1
    server = LinkServer(module)
    signal.signal(signal.SIGTERM, server.stop)
    server.add(connection)
    try:
        server.serve(until_alone=True)
    finally:
        server.close()
        module.close()
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="cellward.vbms.process")
    parser.add_argument("state", type=Path)
    parser.add_argument("--fd", type=int, required=True)
    chosen = parser.parse_args(arguments)
    return serve_one(chosen.state, socket.socket(fileno=chosen.fd))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
