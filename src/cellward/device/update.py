"""One module's update: download, verify, plan, gates, flash, confirm (steps 6 to 9 of the cycle)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cellward.core import plan
from cellward.core.errors import CellwardError, Code, PolicyRefused
from cellward.core.image import VerifiedImage
from cellward.core.keys import PublicKey
from cellward.core.metadata import Installed
from cellward.core.plan import Plan
from cellward.core.slots import Stage
from cellward.core.trust import Order
from cellward.device import confirm, inventory, report, safety, verify
from cellward.device.confirm import Conclusion, Verdict
from cellward.device.fetch import Fetcher, Progress
from cellward.device.install import install
from cellward.device.memory import Attempt, Memory, ModuleEntry, Result
from cellward.ports.module import Module, ModuleStatus


@dataclass(frozen=True)
class Watch:
    """Whoever looks on: a line for each step taken, and how far the long ones are."""

    say: Callable[[str], None] = lambda _: None
    progress: Progress = lambda what, now, total: None


@dataclass
class Tally:
    """What came of a cycle: refusals in their order, and the modules that were updated."""

    refusals: list[CellwardError] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)

    @property
    def first(self) -> CellwardError | None:
        return self.refusals[0] if self.refusals else None


@dataclass(frozen=True)
class Looked:
    """A module as it was found at the start of a cycle."""

    entry: ModuleEntry
    module: Module
    status: ModuleStatus
    installed: Mapping[Stage, Installed]
    boot_records: bytes = b""  # as the app forwards them; empty without an app

    def owns(self, ecu_id: str) -> bool:
        return any(ecu.ecu_id == ecu_id for ecu in self.entry.ecus)

    def differs(self, order: Order) -> bool:
        runs = self.installed.get(Stage(order.target.stage))
        return runs is None or runs.sha256 != order.target.installed_sha256


SILENT_WATCH = Watch()


class Updater:
    """`keys` and `release_keys` are the factory's; with release keys, an image must belong to a release.
    `limits`: of a module's gates, by its serial."""

    def __init__(
        self,
        memory: Memory,
        fetch: Fetcher,
        keys: tuple[PublicKey, ...],
        release_keys: tuple[PublicKey, ...],
        watch: Watch,
        limits: Callable[[str], safety.Limits],
    ) -> None:
        self._memory = memory
        self._fetch = fetch
        self._keys = keys
        self._release_keys = release_keys
        self._watch = watch
        self._limits = limits

    def update(self, found: Looked, orders: Sequence[Order], tally: Tally) -> None:
        """Bring `orders` into the module. What it refuses does not keep the others from theirs."""
        if self._fell_back_before(found, orders, tally):
            return
        try:
            images = self._images(found, orders)  # 6, 7
            made = plan.make(inventory.view(found.module, found.status), images)
            if made is None:
                self._note(orders, report.done("runs already"))
                return
            attempt = self._begin(found, orders, made)  # 8
            wrapped = {Stage(order.target.stage): order.wrapped_key for order in orders}
            self._install(found.module, made, attempt, wrapped, tally)  # 9
        except CellwardError as error:
            tally.refusals.append(error)
            self._note(orders, report.refused(error, _measured(found.module)))

    def conclude(self, module: Module, serial: str, tally: Tally) -> None:
        """Decide an attempt that a power cut or a restart of the agent left open."""
        attempt = self._memory.attempt(serial)
        if attempt is not None:
            self._settle(attempt, confirm.conclude(module, attempt), tally)

    def _fell_back_before(self, found: Looked, orders: Sequence[Order], tally: Tally) -> bool:
        """The same images again: flash wears, and the reset costs the pack its readiness. What was
        reported of the attempt stays as it is."""
        images = tuple(sorted({order.target.sha256 for order in orders}))
        if images != self._memory.rejected(found.entry.serial):
            return False
        last = self._memory.results().get(orders[0].ecu_id)
        tally.refusals.append(
            PolicyRefused(
                Code.UPDATE_FELL_BACK,
                f"module {found.entry.serial}",
                expected="another order",
                found="the images that fell back" + (f" with {last.result.found}" if last else ""),
                advice="order a corrected release, or withdraw the order and repeat it",
            )
        )
        return True

    def _images(self, found: Looked, orders: Sequence[Order]) -> dict[Stage, VerifiedImage]:
        """6 and 7. What is returned is what will be written: nothing is read from disk again."""
        hardware = inventory.hardware_of(found.status)
        images = {}
        for order in orders:
            target, stage = order.target, Stage(order.target.stage)
            if self._release_keys:  # before anything large is fetched
                verify.verify_release(self._fetch.release(target), target, self._release_keys)
            data = self._fetch.image(target, hardware.slot(stage).size, self._memory)  # 6
            images[stage] = verify.verify_image(data, target, stage, found.status, self._keys)  # 7
            _check_openable(images[stage], order)
            self._watch.say(f"verified {target.name}: {len(data)} bytes, counter {target.release_counter}")
        return images

    def _begin(self, found: Looked, orders: Sequence[Order], made: Plan) -> Attempt:
        """8: the gates, with what they measured kept for the report."""
        measured = safety.check(found.module.telemetry(), f"module {made.serial}", self._limits(made.serial))
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

    def _install(
        self, module: Module, made: Plan, attempt: Attempt, wrapped: Mapping[Stage, bytes], tally: Tally
    ) -> None:
        """9. An attempt that raises is left open: `conclude` decides when the module answers next."""

        def guard() -> None:
            safety.check(module.telemetry(), f"module {made.serial}", self._limits(made.serial))

        install(module, made, guard, self._watch.progress, wrapped)
        self._watch.say(f"bank {made.bank} written and verified by the module; reset")
        self._settle(attempt, confirm.confirm(module, attempt), tally)

    def _settle(self, attempt: Attempt, conclusion: Conclusion, tally: Tally) -> None:
        """Remember how an attempt ended."""
        verdict = conclusion.verdict
        if verdict is Verdict.COMMITTED:
            text = f"bank {attempt.bank} committed, counter {conclusion.status.counter}"
            self._note_attempt(attempt, report.done(f"{text}; {attempt.detail}"))
            tally.updated.append(attempt.serial)
            self._watch.say(f"module {attempt.serial}: {text}")
        elif verdict is not Verdict.UNFINISHED:
            refusal = conclusion.refusal(attempt)
            tally.refusals.append(refusal)
            self._note_attempt(attempt, report.refused(refusal, attempt.detail))
        if verdict is Verdict.FELL_BACK:
            self._memory.reject(attempt)
        if verdict is not Verdict.ON_TRIAL:
            self._memory.end(attempt.serial)

    def _note(self, orders: Sequence[Order], result: Result) -> None:
        self._memory.set_results({order.ecu_id: result for order in orders})

    def _note_attempt(self, attempt: Attempt, result: Result) -> None:
        self._memory.set_results({ecu_id: result for ecu_id, _ in attempt.images})


def _check_openable(image: VerifiedImage, order: Order) -> None:
    """Before a gate is asked or a page erased. Whether the key opens it only the module can tell."""
    if bool(image.image.flags) != bool(order.wrapped_key):
        raise PolicyRefused(
            Code.IMAGE_ENCRYPTION,
            f"target {order.target.name} for ECU {order.ecu_id}",
            expected="an encrypted image with its key wrapped for the module, or neither",
            found="an encrypted image alone" if image.image.flags else "a wrapped key alone",
        )


def _measured(module: Module) -> str:
    """For the report of a refusal; a module that is silent measures nothing."""
    try:
        return safety.measured(module.telemetry())
    except CellwardError:
        return ""
