"""One process, two listeners, until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

import uvicorn
from starlette.types import ASGIApp

from cellward.core.errors import CellwardError, Code, Unavailable
from cellward.rollout.attested import Known
from cellward.server.access import AccessLog
from cellward.server.ca import SERVER_LIFETIME, Authority
from cellward.server.device_api import Clock, DeviceApi, Repositories
from cellward.server.enrolment import EnrolmentApi
from cellward.server.lane import Lane
from cellward.server.tls import HANDSHAKE_SECONDS, HANGUP_SECONDS, Connection, load_key, server_context

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 10
BACKLOG = 1024
MAX_CONNECTIONS = {"devices": 4096, "enrolment": 256}
ROTATION_CHECK_SECONDS = 600.0
LOCAL_NAMES = ("localhost", "127.0.0.1")
logger = logging.getLogger("cellward.server")

# Called once with the addresses that are listened on: devices, enrolment.
Ready = Callable[[tuple[str, int], tuple[str, int]], None]


@dataclass(frozen=True)
class Listen:
    """Where to listen (port 0: any), and under which names besides localhost."""

    devices: tuple[str, int]
    enrolment: tuple[str, int]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Authorities:
    """Ours, and whose word on packs is taken."""

    server_ca: Authority
    device_ca: Authority
    known: Known


class _Listener(uvicorn.Server):
    """A uvicorn server on a socket of ours, with our TLS, which leaves the signals alone."""

    def __init__(self, name: str, app: ASGIApp, bound: socket.socket, tls: ssl.SSLContext) -> None:
        super().__init__(
            uvicorn.Config(
                AccessLog(app, name),
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._bound = bound
        self._tls = tls
        self._limit = MAX_CONNECTIONS[name]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._bound.getsockname()[:2]
        return host, port

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        server = await asyncio.get_running_loop().create_server(
            self._connection,
            sock=self._bound,
            ssl=self._tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=HANGUP_SECONDS,
        )
        self.servers = [server]
        self.started = True

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state, self._limit)


def serve(
    repositories: Repositories, authorities: Authorities, listen: Listen, clock: Clock, ready: Ready
) -> None:
    """Serve until a signal; then finish the requests under way, for at most GRACE_SECONDS.

    Raises Unavailable (server.address) when an address is taken or not ours.
    """
    import uvloop

    with ExitStack() as sockets:
        bound = [sockets.enter_context(bind(address)) for address in (listen.devices, listen.enrolment)]
        runner = sockets.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(_serve(repositories, authorities, listen, clock, ready, bound))


def bind(address: tuple[str, int]) -> socket.socket:
    """A socket bound to HOST:PORT. Raises Unavailable (server.address)."""
    host, port = address
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as failing:
            bound = failing.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
            failing.pop_all()
    except (OSError, UnicodeError) as error:
        raise Unavailable(
            Code.SERVER_ADDRESS,
            f"{host}:{port}",
            expected="an address to listen on",
            found=getattr(error, "strerror", None) or str(error),
        ) from error
    bound.setblocking(False)  # noqa: FBT003  its name says it
    return bound


async def _serve(
    repositories: Repositories,
    authorities: Authorities,
    listen: Listen,
    clock: Clock,
    ready: Ready,
    sockets: Sequence[socket.socket],
) -> None:
    lane = Lane()
    contexts = [server_context(authorities.device_ca.pem), server_context(None)]
    names = (*LOCAL_NAMES, *listen.names)
    expires = await lane.run(_renew, contexts, authorities.server_ca, names, clock())
    apps = (
        DeviceApi(repositories, lane, clock).app(),
        EnrolmentApi(repositories.registry, authorities.device_ca, authorities.known, lane, clock).app(),
    )
    listeners = [
        _Listener(name, app, bound, context)
        for name, app, bound, context in zip(MAX_CONNECTIONS, apps, sockets, contexts, strict=True)
    ]
    _stop_on_signals(listeners)
    rotation = asyncio.create_task(_rotate(lane, contexts, authorities.server_ca, names, clock, expires))
    running = [asyncio.create_task(listener.serve()) for listener in listeners]
    try:
        while not all(listener.started for listener in listeners):
            if any(task.done() for task in running):
                break
            await asyncio.sleep(0.005)
        else:
            ready(listeners[0].address, listeners[1].address)
        await asyncio.gather(*running)
    finally:
        rotation.cancel()
        lane.close()


def _stop_on_signals(listeners: Sequence[_Listener]) -> None:
    def stop() -> None:
        for listener in listeners:
            listener.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _renew(
    contexts: Sequence[ssl.SSLContext], server_ca: Authority, names: Sequence[str], now: datetime
) -> datetime:
    """A new key and certificate for both listeners; returns when it is to be replaced."""
    key, certificate = server_ca.issue_server(names, now)
    for context in contexts:
        load_key(context, key, certificate)
    return now + SERVER_LIFETIME / 2


async def _rotate(
    lane: Lane,
    contexts: Sequence[ssl.SSLContext],
    server_ca: Authority,
    names: Sequence[str],
    clock: Clock,
    due: datetime,
) -> None:
    """Replace the server's certificate at half of its life, for as long as the server runs."""
    while True:
        await asyncio.sleep(ROTATION_CHECK_SECONDS)
        if clock() >= due:
            try:
                due = await lane.run(_renew, contexts, server_ca, names, clock())
            except CellwardError as error:
                logger.warning("%s", error)  # tried again; the old one has half of its life left
                due = clock() + timedelta(seconds=ROTATION_CHECK_SECONDS)
