"""The pack controller's agent: one cycle of docs/formats/uptane.md, "Cycle of the Primary"."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime

from cellward.core import plan, trust
from cellward.core.errors import CellwardError, Code, ModuleRefused, PolicyRefused, Unavailable
from cellward.core.image import VerifiedImage
from cellward.core.metadata import Assignment, Factory, Installed, Repository, Role
from cellward.core.plan import Plan
from cellward.core.slots import Stage
from cellward.core.trust import Order, TrustedRepository
from cellward.device import confirm, inventory, report, safety, verify
from cellward.device.confirm import Conclusion, Verdict
from cellward.device.fetch import Fetcher, Progress
from cellward.device.install import install
from cellward.device.memory import Attempt, Device, Memory, ModuleEntry, Result
from cellward.device.verify import Hints
from cellward.ports.module import Module, ModuleStatus
from cellward.ports.signer import Signer
from cellward.ports.transport import Transport

REPORT_PATH = "/v1/report"

Connect = Callable[[str], AbstractContextManager[Module]]


@dataclass(frozen=True)
class Watch:
    """Whoever looks on: a line for each step taken, and how far the long ones are."""

    say: Callable[[str], None] = lambda _: None
    progress: Progress = lambda what, now, total: None


@dataclass(frozen=True)
class Cycle:
    """How a cycle ended. `installed` maps an ECU id to the version it runs now."""

    installed: Mapping[str, str]
    updated: tuple[str, ...]  # serials
    refusal: CellwardError | None

    @property
    def outcome(self) -> str:
        if self.refusal is not None:
            return "refused"
        return "updated" if self.updated else "nothing to do"


@dataclass(frozen=True)
class Looked:
    """A module as it was found at the start of a cycle."""

    entry: ModuleEntry
    module: Module
    status: ModuleStatus
    installed: Mapping[Stage, Installed]

    def differs(self, order: Order) -> bool:
        runs = self.installed.get(Stage(order.target.stage))
        return runs is None or runs.sha256 != order.target.sha256


class Agent:
    """One vehicle's Primary. `connect` opens the link at a module's address, for one cycle."""

    def __init__(
        self,
        device: Device,
        factory: Factory,
        memory: Memory,
        signer: Signer,
        transports: Mapping[Repository, Transport],
        connect: Connect,
        watch: Watch = Watch(),
        limits: safety.Limits = safety.PARKED,
    ) -> None:
        self._device = device
        self._factory = factory
        self._memory = memory
        self._signer = signer
        self._server = transports[Repository.DIRECTOR]
        self._fetch = Fetcher(transports, watch.progress)
        self._connect = connect
        self._watch = watch
        self._limits = limits

    def cycle(self, now: datetime) -> Cycle:
        """Steps 1 to 10, with `now` fixed for all of them. What was refused is reported and returned.

        Raises only what makes remembering impossible (storage.*).
        """
        with ExitStack() as links:
            return self._cycle(now, links)

    def _cycle(self, now: datetime, links: ExitStack) -> Cycle:
        self._refusals: list[CellwardError] = []
        self._updated: list[str] = []
        modules = self._open(links)
        looked = self._look(modules)
        told = None
        try:
            hints = self._report(looked, now)  # 1
            told = self._memory.results()
            self._follow(looked, hints, now)  # 2 to 9
            self._note(self._device.vehicle, None)
        except CellwardError as error:
            self._refuse(self._device.vehicle, error)
        if told is not None and told != self._memory.results():
            looked = self._tell(modules, now)  # 10
        refusal = self._refusals[0] if self._refusals else None
        return Cycle(_versions(looked), tuple(self._updated), refusal)

    # --- 1 and 10: the report ----------------------------------------------------------------

    def _open(self, links: ExitStack) -> dict[str, Module]:
        modules = {}
        for entry in self._device.modules:
            try:
                modules[entry.serial] = links.enter_context(self._connect(entry.address))
            except CellwardError as error:
                self._refuse_module(entry.serial, error)
        return modules

    def _look(self, modules: Mapping[str, Module]) -> dict[str, Looked]:
        """Every module that answers; what an open attempt has come to is decided here."""
        looked: dict[str, Looked] = {}
        for entry in self._device.modules:
            if entry.serial not in modules:
                continue
            module = modules[entry.serial]
            try:
                self._conclude(entry, module)
                status = _same_module(entry, module.status())
                runs = inventory.installed(module, status, self._memory)
                looked[entry.serial] = Looked(entry, module, status, runs)
                self._answers_again(entry)
            except CellwardError as error:
                self._refuse_module(entry.serial, error)
        return looked

    def _answers_again(self, entry: ModuleEntry) -> None:
        silent = (Code.MODULE_ABSENT, Code.MODULE_BUSY, Code.LINK_FRAME)
        results = self._memory.results()
        last = {f"{entry.serial}/{stage}": results.get(f"{entry.serial}/{stage}") for stage in Stage}
        self._memory.set_results(
            {ecu_id: None for ecu_id, r in last.items() if r is not None and r.result.code in silent}
        )

    def _conclude(self, entry: ModuleEntry, module: Module) -> None:
        attempt = self._memory.attempt(entry.serial)
        if attempt is not None:
            self._settle(attempt, confirm.conclude(module, attempt))

    def _report(self, looked: Mapping[str, Looked], now: datetime) -> Hints:
        counter = self._memory.next_counter()
        runs = {
            ecu.ecu_id: looked[module.serial].installed.get(Stage(str(ecu.stage)))
            if module.serial in looked
            else None
            for module in self._device.modules
            for ecu in module.ecus
        }
        body = report.manifest(self._device.vehicle, counter, now, runs, self._memory.results(), self._signer)
        hints = verify.decode_hints(self._server.post(REPORT_PATH, body, verify.HINTS_LIMIT))
        self._watch.say(f"reported as manifest {counter}")
        return hints

    def _tell(self, modules: Mapping[str, Module], now: datetime) -> dict[str, Looked]:
        """10: the result, also of a refusal. It is kept, so that a server that is gone hears it later."""
        looked = self._look(modules)
        try:
            self._report(looked, now)
        except CellwardError as error:
            self._refusals.append(error)
        return looked

    # --- 2 to 5: what both repositories order --------------------------------------------------

    def _follow(self, looked: Mapping[str, Looked], hints: Hints, now: datetime) -> None:
        director, image = (self._rooted(repository, hints) for repository in Repository)
        director = verify.refresh(director, hints, now, self._fetch)  # 2, 3
        assignments = trust.check_director_targets(
            director, vehicle_id=self._device.vehicle, ecus=self._device.ecus, now=now
        )
        if not self._anything_new(looked, assignments):
            self._memory.set_trusted(director)
            self._watch.say(f"director version {director.version(Role.TIMESTAMP)}: nothing to do")
            return
        image = verify.refresh(image, hints, now, self._fetch)  # 4
        orders = trust.match(assignments, image, _counters(looked), now)  # 5
        for state in (image, director):
            self._memory.set_trusted(state)
        self._watch.say("both repositories agree: " + ", ".join(sorted({o.target.name for o in orders})))
        for found in looked.values():
            ordered = [
                o for o in orders if o.ecu_id.startswith(f"{found.entry.serial}/") and found.differs(o)
            ]
            if ordered:
                self._update(found, ordered)

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
            if any(o.ecu_id.startswith(f"{serial}/") and found.differs(o) for o in ordered):
                anything = True
            else:
                self._memory.unreject(serial)
        return anything

    # --- 6 to 9: one module --------------------------------------------------------------------

    def _update(self, found: Looked, orders: Sequence[Order]) -> None:
        """A module that refuses does not keep the others from their updates."""
        try:
            self._check_not_rejected(found, orders)
            images = self._images(found, orders)  # 6, 7
            made = plan.make(inventory.view(found.module, found.status, self._factory.firmware_keys), images)
            if made is None:
                self._note_all(orders, report.done("runs already"))
                return
            attempt = self._begin(found, orders, made)  # 8
            self._install(found.module, made, attempt)  # 9
        except CellwardError as error:
            self._refusals.append(error)
            self._note_all(orders, report.refused(error, self._measured(found.module)))

    def _check_not_rejected(self, found: Looked, orders: Sequence[Order]) -> None:
        images = tuple(sorted({order.target.sha256 for order in orders}))
        if images == self._memory.rejected(found.entry.serial):
            raise PolicyRefused(
                Code.UPDATE_FELL_BACK,
                f"module {found.entry.serial}",
                expected="another order",
                found="the images that fell back before",
                advice="order a corrected release, or withdraw the order and repeat it",
            )

    def _images(self, found: Looked, orders: Sequence[Order]) -> dict[Stage, VerifiedImage]:
        hardware = inventory.hardware_of(found.status)
        images = {}
        self._memory.forget_downloads(frozenset(order.target.sha256 for order in orders))
        for order in orders:
            stage = Stage(order.target.stage)
            data = self._fetch.image(order.target, hardware.slot(stage).size, self._memory)  # 6
            images[stage] = verify.verify_image(  # 7
                data, order.target, stage, found.status, self._factory.firmware_keys
            )
            self._watch.say(
                f"verified {order.target.name}: {len(data)} bytes, counter {images[stage].image.counter}"
            )
        return images

    def _begin(self, found: Looked, orders: Sequence[Order], made: Plan) -> Attempt:
        """8: the gates, with what they measured kept for the report."""
        measured = safety.check(found.module.telemetry(), f"module {made.serial}", self._limits)
        self._watch.say(f"safe to update: {measured}")
        attempt = Attempt(
            serial=made.serial,
            bank=made.bank,
            counter=made.counter,
            images=tuple((order.ecu_id, order.target.sha256) for order in orders),
            detail=measured,
        )
        self._memory.begin(attempt)
        return attempt

    def _install(self, module: Module, made: Plan, attempt: Attempt) -> None:
        """9. Refused while writing: ended. Cut or silent after that: left open for the next cycle."""

        def guard() -> None:
            safety.check(module.telemetry(), f"module {made.serial}", self._limits)

        try:
            install(module, made, guard, self._watch.progress)
            guard()
        except CellwardError:
            self._memory.end(attempt.serial)
            raise
        self._watch.say(f"bank {made.bank} written and read back; reset")
        conclusion = confirm.confirm(module, attempt)
        self._settle(attempt, conclusion)

    def _settle(self, attempt: Attempt, conclusion: Conclusion) -> None:
        """Remember how an attempt ended; raise nothing but what storage raises."""
        verdict = conclusion.verdict
        if verdict is Verdict.COMMITTED:
            text = f"bank {attempt.bank} committed, counter {conclusion.status.counter}"
            self._note_images(attempt, report.done(f"{text}; {attempt.detail}"))
            self._updated.append(attempt.serial)
            self._watch.say(f"module {attempt.serial}: {text}")
            self._memory.forget_downloads()
        elif verdict is not Verdict.UNFINISHED:
            refusal = conclusion.refusal(attempt)
            self._refusals.append(refusal)
            self._note_images(attempt, report.refused(refusal, attempt.detail))
        if verdict is Verdict.FELL_BACK:
            self._memory.reject(attempt)
        if verdict is not Verdict.ON_TRIAL:
            self._memory.end(attempt.serial)

    def _measured(self, module: Module) -> str:
        try:
            return safety.measured(module.telemetry())
        except (ModuleRefused, Unavailable):
            return ""

    # --- results -------------------------------------------------------------------------------

    def _refuse(self, ecu_id: str, error: CellwardError) -> None:
        self._refusals.append(error)
        self._note(ecu_id, report.refused(error))

    def _refuse_module(self, serial: str, error: CellwardError) -> None:
        self._refusals.append(error)
        result = report.refused(error)
        self._memory.set_results({f"{serial}/{stage}": result for stage in Stage})

    def _note(self, ecu_id: str, result: Result | None) -> None:
        self._memory.set_results({ecu_id: result})

    def _note_all(self, orders: Sequence[Order], result: Result) -> None:
        self._memory.set_results({order.ecu_id: result for order in orders})

    def _note_images(self, attempt: Attempt, result: Result) -> None:
        self._memory.set_results({ecu_id: result for ecu_id, _ in attempt.images})


def _same_module(entry: ModuleEntry, status: ModuleStatus) -> ModuleStatus:
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


def _counters(looked: Mapping[str, Looked]) -> dict[str, int]:
    return {
        f"{serial}/{stage}": runs.release_counter
        for serial, found in looked.items()
        for stage, runs in found.installed.items()
    }


def _versions(looked: Mapping[str, Looked]) -> dict[str, str]:
    return {
        f"{serial}/{stage}": runs.version
        for serial, found in looked.items()
        for stage, runs in found.installed.items()
    }
