"""The pack controller's agent: one cycle of docs/formats/uptane.md, "Cycle of the Primary"."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime

from cellward.core import trust
from cellward.core.errors import CellwardError, Code, ModuleRefused, PolicyRefused
from cellward.core.metadata import Assignment, Factory, Repository
from cellward.core.slots import Lifecycle, Stage
from cellward.core.tamper import Alarm, Event, State
from cellward.core.trust import Order, TrustedRepository
from cellward.device import clock, health, inventory, report, safety, servercas, verify
from cellward.device.calibrate import Calibrations
from cellward.device.cycle import Connect, Cycle, versions
from cellward.device.fetch import Fetcher
from cellward.device.link import UpdateLink, awake
from cellward.device.memory import Device, Memory, ModuleEntry, Result
from cellward.device.monitor import Monitor
from cellward.device.tamper import Guard
from cellward.device.update import SILENT_WATCH, Looked, Tally, Updater, Watch
from cellward.device.verify import Hints
from cellward.ports.module import Module, ModuleStatus, Outcome, TamperSource
from cellward.ports.signer import Signer
from cellward.ports.transport import Transport

REPORT_PATH = "/v1/report"
# Results that say only how a module was found: forgotten when it is found otherwise.
SILENT = (Code.MODULE_ABSENT, Code.MODULE_BUSY, Code.LINK_FRAME, Code.LINK_SILENT)
OF_CALIBRATION = (Code.CALIBRATION_DEFAULTS, Code.CALIBRATION_LAST_GOOD, Code.CALIBRATION_LIMITS)
FOUND = (*SILENT, Code.BANK_NONE_GOOD, Code.TAMPER, *OF_CALIBRATION)


class Agent:
    """One vehicle's Primary. `connect` opens a module's link for one cycle; a software identity has no
    `guard`, for there is no TPM that could keep what it says."""

    def __init__(
        self,
        device: Device,
        factory: Factory,
        memory: Memory,
        signer: Signer,
        transports: Mapping[Repository, Transport],
        connect: Connect,
        watch: Watch = SILENT_WATCH,
        limits: safety.Limits = safety.PARKED,
        calibrations: Calibrations | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._device = device
        self._factory = factory
        self._memory = memory
        self._signer = signer
        self._server = transports[Repository.DIRECTOR]
        self._fetch = Fetcher(transports, watch.progress)
        self._connect = connect
        self._watch = watch
        self._guard = guard
        self._calibrations = calibrations or Calibrations()

        def gates(serial: str) -> safety.Limits:
            return self._calibrations.of(serial).narrowed(limits)

        self._updater = Updater(
            memory, self._fetch, factory.firmware_keys, factory.release_keys, watch, gates
        )

    def cycle(self, now: datetime) -> Cycle:
        """Steps 1 to 10. `now` is the controller's own clock, which counts where the factory data name no
        time keys; the time is fixed for all steps. What was refused is reported and returned.

        Raises only what makes remembering impossible (storage.*), and tpm.* where the tamper response
        depends on it.
        """
        if self._guard is not None:
            self._guard.sense()  # before anything else
        self._calibrations.refresh()
        with ExitStack() as links:
            ended = None if self._zeroised() else self._cycle(links, now)
        reason = self._zeroised()
        if ended is None or reason is not None:
            assert reason is not None  # noqa: S101  nothing else ends a cycle without its end
            return Monitor(self._device, self._memory, self._connect, self._watch, reason).cycle(now)
        return ended

    def _cycle(self, links: ExitStack, now: datetime) -> Cycle | None:
        """None: what was found on the modules zeroised this controller."""
        tally = Tally()
        modules = self._open(links, tally)
        looked = self._look(modules, tally)
        if self._zeroised():
            return None
        self._observe(looked, now)
        told = None
        try:
            self._said(None)
            hints = self._report(looked, now)  # 1
            told = self._memory.results()
            now = self._time(now)
            refused = self._take_server_cas(hints, tally)
            self._follow(looked, hints, now, tally)  # 2 to 9
            self._said(refused, at_the_end=True)
        except CellwardError as error:
            tally.refusals.append(error)
            self._said(error)
        if told is not None and told != self._memory.results():
            looked = self._tell(modules, now, tally)  # 10
        return Cycle(_versions(looked), tuple(tally.updated), tally.first)

    def _time(self, now: datetime) -> datetime:
        """Uptane 5.4.4.2, step 2: no step behind this one asks the controller's own clock."""
        keys = self._factory.time_keys
        try:
            return clock.ask(self._memory, self._server, keys) if keys else now
        except CellwardError as error:
            if error.code is Code.TIME_ROLLBACK:
                self._happened(Alarm(Event.TIME, error.subject, error.found))
            raise

    # --- tampering ---------------------------------------------------------------------------

    def _happened(self, alarm: Alarm) -> None:
        if self._guard is not None:
            self._guard.happened(alarm)

    def _zeroised(self) -> CellwardError | None:
        return self._unless(State.SOUND, State.LOCKED)

    def _unless(self, *states: State) -> CellwardError | None:
        """Why it is in another state than these."""
        if self._guard is None or self._guard.state in states:
            return None
        return self._guard.noticed()

    def _said(self, error: CellwardError | None, *, at_the_end: bool = False) -> None:
        """Of this vehicle's own entry: the refusal that ended the cycle, and what tampering was noticed. What
        the last cycle refused stays until this one has come to its end."""
        noticed = None if self._guard is None else self._guard.noticed()
        tampering = None if noticed is None else report.refused(noticed)
        if error is not None:
            said: Result | None = report.together(report.refused(error), tampering)
        else:
            said = tampering
        if said is not None or at_the_end:
            self._memory.set_results({self._device.vehicle: said})

    # --- 1 and 10: the report ----------------------------------------------------------------

    def _open(self, links: ExitStack, tally: Tally) -> dict[str, Module]:
        modules = {}
        for entry in self._device.modules:
            try:
                modules[entry.serial] = links.enter_context(self._connect(entry.address))
            except CellwardError as error:
                self._silent(entry, error, tally)
        return modules

    def _look(self, modules: Mapping[str, Module], tally: Tally) -> dict[str, Looked]:
        """Every module that answers; what an open attempt has come to is decided here."""
        looked: dict[str, Looked] = {}
        for entry in self._device.modules:
            if entry.serial not in modules:
                continue
            module = modules[entry.serial]
            try:
                status = awake(module)
                for alarm in _alarms(entry, module, status):
                    self._happened(alarm)
                same_module(entry, status)
                self._updater.conclude(module, entry.serial, tally)
                runs = inventory.installed(module, status)
                if runs:
                    self._memory.set_seen(entry.serial, runs)
                records = UpdateLink(module, entry.serial).boot_records() if runs else b""
                looked[entry.serial] = Looked(entry, module, status, runs, records)
                self._as_found(entry, _condition(status) or self._calibrated(module, status))
            except CellwardError as error:
                self._silent(entry, error, tally)
        return looked

    def _silent(self, entry: ModuleEntry, error: CellwardError, tally: Tally) -> None:
        tally.refusals.append(error)
        self._memory.set_results({ecu.ecu_id: report.refused(error) for ecu in entry.ecus})

    def _calibrated(self, module: Module, status: ModuleStatus) -> CellwardError | None:
        applied = self._calibrations.apply(module, status)
        self._memory.set_calibrated(status.serial, applied.note())
        return applied.said

    def _observe(self, looked: Mapping[str, Looked], now: datetime) -> None:
        """Once a cycle, whatever else comes of it."""
        for serial, found in looked.items():
            limits = self._calibrations.of(serial).calibration
            if limits is None:
                continue
            try:
                measured = found.module.telemetry()
            except CellwardError:
                continue
            health.observe(self._memory, serial, limits, measured, now)

    def _as_found(self, entry: ModuleEntry, condition: CellwardError | None) -> None:
        """It answers. What it is in otherwise is said with its ECUs, unless an attempt that failed says
        more; nothing is refused by it."""
        results = self._memory.results()
        replaced = (*FOUND, report.DONE) if condition else FOUND
        said = report.refused(condition) if condition else None
        for ecu in entry.ecus:
            last = results.get(ecu.ecu_id)
            if last.result.code in replaced if last else condition:
                self._memory.set_results({ecu.ecu_id: said})

    def _report(self, looked: Mapping[str, Looked], now: datetime) -> Hints:
        counter = self._memory.next_counter()
        runs = {
            ecu.ecu_id: looked[module.serial].installed.get(Stage(str(ecu.stage)))
            if module.serial in looked
            else None
            for module in self._device.modules
            for ecu in module.ecus
        }
        records = {f"{serial}/{Stage.APP}": found.boot_records for serial, found in looked.items()}
        results = self._memory.results()
        body = report.manifest(self._device.vehicle, counter, now, runs, results, self._signer, records)
        hints = verify.decode_hints(self._server.post(REPORT_PATH, body, verify.HINTS_LIMIT))
        self._watch.say(f"reported as manifest {counter}")
        return hints

    def _tell(self, modules: Mapping[str, Module], now: datetime, tally: Tally) -> dict[str, Looked]:
        """10: the result, also of a refusal. It is kept, so that a server that is gone hears it later."""
        looked = self._look(modules, tally)
        try:
            self._report(looked, now)
        except CellwardError as error:
            tally.refusals.append(error)
        return looked

    def _take_server_cas(self, hints: Hints, tally: Tally) -> CellwardError | None:
        """A newer statement on server CAs. A bad one is told, and keeps nobody from his update."""
        if not servercas.is_newer(self._memory, hints.server_cas):
            return None
        try:
            root = self._rooted(Repository.IMAGE, hints).root.signed
            taken = servercas.take(self._memory, root, self._fetch.server_cas())
        except CellwardError as error:
            tally.refusals.append(error)
            return error
        self._watch.say(f"server CAs as of version {taken.version}")
        return None

    # --- 2 to 5: what both repositories order --------------------------------------------------

    def _follow(self, looked: Mapping[str, Looked], hints: Hints, now: datetime, tally: Tally) -> None:
        director, image = (self._rooted(repository, hints) for repository in Repository)
        director = verify.refresh(director, hints, now, self._fetch)  # 2, 3
        assignments = trust.check_director_targets(
            director, vehicle_id=self._device.vehicle, ecus=self._device.ecus, now=now
        )
        if not self._anything_new(looked, assignments):
            self._memory.set_trusted(director)
            self._memory.forget_downloads()
            return
        image = verify.refresh(image, hints, now, self._fetch)  # 4
        image = verify.resolve(assignments, image, now, self._fetch)
        orders = trust.match(assignments, image, _counters(looked), now)  # 5
        for state in (image, director):
            self._memory.set_trusted(state)
        self._watch.say("both repositories agree: " + ", ".join(sorted({o.target.name for o in orders})))
        self._memory.forget_downloads(frozenset(order.target.sha256 for order in orders))
        for found in looked.values():
            ordered = [order for order in orders if found.owns(order.ecu_id) and found.differs(order)]
            if ordered:
                self._update(found, ordered, tally)  # 6 to 9

    def _update(self, found: Looked, orders: Sequence[Order], tally: Tally) -> None:
        """A locked pack installs on a module in recovery only: without an app no pack is safer."""
        locked = self._unless(State.SOUND)
        if locked is None or found.status.outcome is Outcome.RECOVERY:
            self._updater.update(found, orders, tally)
            return
        tally.refusals.append(locked)
        self._memory.set_results({order.ecu_id: report.refused(locked) for order in orders})

    def _rooted(self, repository: Repository, hints: Hints) -> TrustedRepository:
        """What is trusted of it, with the newest root. Also of the Image repository when nothing is
        ordered: a rotation of its keys must reach idle vehicles (K4)."""
        state = self._memory.trusted(repository, self._factory)
        return verify.refresh_root(state, hints, self._fetch, self._memory.set_trusted)

    def _anything_new(self, looked: Mapping[str, Looked], assignments: Sequence[Assignment]) -> bool:
        """Whether a module that answers runs something else than ordered. An order that is withdrawn
        or carried out is no longer held against the images that fell back."""
        ordered = [Order(ecu.ecu_id, a.target) for a in assignments for ecu in a.ecu_identifiers]
        anything = False
        for serial, found in looked.items():
            if any(found.owns(order.ecu_id) and found.differs(order) for order in ordered):
                anything = True
            else:
                self._memory.unreject(serial)
        return anything


def _alarms(entry: ModuleEntry, module: Module, status: ModuleStatus) -> Iterator[Alarm]:
    subject = f"module {entry.serial}"
    if (status.serial, status.hardware) != (entry.serial, entry.hardware):
        yield Alarm(Event.MODULE_SWAPPED, subject, f"{status.serial} ({status.hardware}) answers")
    elif status.lifecycle is Lifecycle.TAMPERED:
        events = [event for report in module.reports() for event in report.events]
        latched = max((event.found for event in events if event.code is Code.TAMPER), default=0)
        sources = [source.value for bit, source in enumerate(TamperSource) if latched >> bit & 1]
        yield Alarm(Event.MODULE_TAMPERED, subject, f"latched by {', '.join(sources) or 'what it forgot'}")


def same_module(entry: ModuleEntry, status: ModuleStatus) -> ModuleStatus:
    """A swapped module is another ECU: it must be enrolled, not updated under its neighbour's name."""
    if (status.serial, status.hardware) != (entry.serial, entry.hardware):
        raise PolicyRefused(
            Code.PLAN_HARDWARE,
            f"module at {entry.address}",
            expected=f"{entry.serial} ({entry.hardware})",
            found=f"{status.serial} ({status.hardware})",
            advice="enrol the vehicle again after a module was swapped",
        )
    return status


def _condition(status: ModuleStatus) -> CellwardError | None:
    """In which a module does not drive a pack, in words for the report."""
    subject = f"module {status.serial}"
    if status.lifecycle is Lifecycle.TAMPERED:
        return ModuleRefused(
            Code.TAMPER,
            subject,
            expected="a module that nobody tampered with",
            found="its secret destroyed, contactors open for good",
        )
    if status.outcome is Outcome.RECOVERY:
        return ModuleRefused(
            Code.BANK_NONE_GOOD,
            subject,
            expected="a bank that is good",
            found="the ROM's recovery: no app, contactors open",
            advice="order loader and app",
        )
    return None


def _counters(looked: Mapping[str, Looked]) -> dict[str, int]:
    return {
        f"{serial}/{stage}": runs.release_counter
        for serial, found in looked.items()
        for stage, runs in found.installed.items()
    }


def _versions(looked: Mapping[str, Looked]) -> dict[str, str]:
    return {
        ecu: version
        for serial, found in looked.items()
        for ecu, version in versions(serial, found.installed).items()
    }
