"""The agent with a certificate: one from a file, or with a TPM one that is renewed while it runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cellward import bootstrap
from cellward.core import tamper
from cellward.core.errors import CellwardError, Code, Refused
from cellward.core.metadata import Factory, Repository
from cellward.core.tamper import State
from cellward.core.tpm import measurement
from cellward.core.tpm.eventlog import Event
from cellward.core.tpm.keys import identity_key
from cellward.core.tpm.measurement import ModuleImage
from cellward.device import identity, inventory
from cellward.device.agent import Agent
from cellward.device.attested import Controller
from cellward.device.calibrate import Calibrations, kept
from cellward.device.cycle import Cycling
from cellward.device.identity import Identity
from cellward.device.link import awake
from cellward.device.measured import measure
from cellward.device.memory import Attested, Device, Memory, ModuleEntry
from cellward.device.monitor import Monitor
from cellward.device.tamper import Guard
from cellward.device.update import Watch
from cellward.ports.module import Module
from cellward.ports.tpm import KeyName, Tpm
from cellward.ports.transport import Transport

RETRY_SECONDS = 60.0

Agents = Callable[[], Cycling]  # the one to use now


@contextmanager
def agents(state: Path, watch: Watch) -> Iterator[Agents]:
    """Raises Unavailable (enrol.missing, tpm.*) and what `identity.load` raises."""
    memory = Memory(bootstrap.device_store(state))
    device, factory = memory.device(), memory.factory()
    with ExitStack() as stack:
        if device.attested is not None:
            tpm, code = stack.enter_context(bootstrap.tpm(state)), bootstrap.agent_digest()
            guard = bootstrap.guard(state, tpm)
            held = Calibrations(factory.calibration_keys, device.modules, lambda: _kept(state, tpm))
            renewing = _Renewing(device, device.attested, factory, memory, guard, watch, code, held)
            yield stack.enter_context(renewing).agent
            return
        me = identity.load(memory.store, device.vehicle, factory.device_ca)

        def connect(me: Identity, server_ca: bytes, new: ExitStack) -> Agent:
            transports = _transports(factory, server_ca, me, new)
            return Agent(device, factory, memory, me, transports, link, watch)

        connected = stack.enter_context(_Connected(memory, factory, connect))
        yield lambda: connected.agent(me)


@dataclass
class _Connected:
    """The agent with its connections: new ones for another certificate, and for other server CAs."""

    memory: Memory
    factory: Factory
    connect: Callable[[Identity, bytes, ExitStack], Agent]
    _by: tuple[Identity, bytes] | None = None
    _agent: Agent | None = None
    _connections: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "_Connected":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What was there is not used again."""
        self._agent = None
        self._connections.close()

    def agent(self, me: Identity) -> Agent:
        by = me, self.memory.server_ca(self.factory)
        if self._agent is None or by != self._by:
            with ExitStack() as new:
                self._agent, self._by = self.connect(*by, new), by
                self._connections.close()
                self._connections = new.pop_all()
        return self._agent


@dataclass
class _Renewing:
    """A certificate is asked for at the start and at half of its life; a cycle is never interrupted, and
    while no new one is to be had the old one is used for as long as the server takes it."""

    device: Device
    attested: Attested
    factory: Factory
    memory: Memory
    guard: Guard
    watch: Watch
    code: bytes  # the digest of what was started: what lies on the disk may be newer by now
    calibrations: Calibrations = field(default_factory=Calibrations)
    _me: Identity | None = None
    _due: float = 0.0
    _connected: _Connected = field(init=False)

    def __post_init__(self) -> None:
        self._connected = _Connected(self.memory, self.factory, self._connect)

    def __enter__(self) -> "_Renewing":
        return self

    def __exit__(self, *_: object) -> None:
        self._connected.close()

    def agent(self) -> Cycling:
        """Raises what keeps a controller without any certificate from getting one."""
        reason = self._without_keys()
        if reason is not None:
            self._me = None
            self._connected.close()
            return Monitor(self.device, self.memory, link, self.watch, reason)
        if self._me is None or time.monotonic() >= self._due:
            try:
                self._me = self._renew()
                term = self._me.not_after - self._me.not_before
                self._due = time.monotonic() + term.total_seconds() / 2
            except CellwardError as error:
                if self._me is None:
                    raise
                self.watch.say(f"certificate not renewed: {error}")
                self._due = time.monotonic() + RETRY_SECONDS
        return self._connected.agent(self._me)

    def _without_keys(self) -> CellwardError | None:
        """Why there is nobody any more who could say anything to a server: its keys are not in this TPM, by
        a zeroisation or because it is another one."""
        self.guard.sense()
        if self.guard.state in (State.ZEROISING, State.ZEROISED):
            return self.guard.noticed()
        area = self.guard.tpm.key(KeyName.IDENTITY)
        if area is not None and identity_key(area).key.fingerprint == self.attested.identity_key:
            return None
        return tamper.refusal(State.ZEROISED, self.guard.log, f"identity key of {self.device.vehicle}")

    def _renew(self) -> Identity:
        events = measurements(self.device, self.memory.factory_data(), self.code)
        log = measure(self.guard.tpm, self.memory.store, events)
        server_ca = self.memory.server_ca(self.factory)
        with bootstrap.transport(self.attested.server, server_ca) as transport:
            return self._certificate(self._controller(log, transport))

    def _controller(self, log: Sequence[Event], transport: Transport) -> Controller:
        return Controller(self.guard.tpm, log, transport, self.factory.device_ca, self.device.vehicle)

    def _connect(self, me: Identity, server_ca: bytes, new: ExitStack) -> Agent:
        transports = _transports(self.factory, server_ca, me, new)
        signer = self._controller((), transports[Repository.DIRECTOR]).signer
        parts = self.device, self.factory, self.memory, signer, transports, link, self.watch
        return Agent(*parts, calibrations=self.calibrations, guard=self.guard)

    def _certificate(self, controller: Controller) -> Identity:
        try:
            return controller.renew()
        except Refused as refused:
            if refused.code is not Code.ATTEST_UNKNOWN:
                raise
            self.watch.say(f"{refused}; asking for a certificate for recovery")
            return controller.renew(recovery=True)


def measurements(device: Device, factory: bytes, code: bytes) -> list[Event]:
    """The agent's code, the factory data, and what the modules that answer say that they run."""
    return [measurement.agent(code), measurement.configuration(factory)] + [
        measurement.module(image) for entry in device.modules for image in _images(entry)
    ]


def _images(entry: ModuleEntry) -> list[ModuleImage]:
    """Nothing of a module that does not answer: the report says why."""
    with suppress(CellwardError), link(entry.address) as module:
        runs = inventory.installed(module, awake(module))
        return [ModuleImage(entry.serial, s, bytes.fromhex(i.sha256)) for s, i in runs.items()]
    return []


def link(address: str) -> AbstractContextManager[Module]:
    return bootstrap.connect_module(Path(address))


def _kept(state: Path, tpm: Tpm) -> dict[str, bytes]:
    with bootstrap.running_vault(state, tpm) as place:
        return kept(place)


def _transports(
    factory: Factory, server_ca: bytes, me: Identity, stack: ExitStack
) -> dict[Repository, Transport]:
    """The map's first server of each repository; one connection where it is the same one."""
    urls = {Repository.DIRECTOR: factory.director_urls[0], Repository.IMAGE: factory.image_urls[0]}
    opened = {
        url: stack.enter_context(bootstrap.transport(url, server_ca, me.certificate_pem, me.key_pem))
        for url in dict.fromkeys(urls.values())
    }
    return {repository: opened[url] for repository, url in urls.items()}
