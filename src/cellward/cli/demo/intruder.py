"""The attacker with his hands on the module: at its update link, its programming port, inside its case.

On the link he is a controller that verifies nothing; what he sends is what a good one would not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cellward import bootstrap
from cellward.cli.demo.attacker import Attacker, flipped, quoted
from cellward.cli.demo.journal import Actor
from cellward.cli.demo.stage import Said, Unexpected
from cellward.core.errors import Code, ModuleRefused
from cellward.core.slots import OTP_REVOKED, Hardware, Lifecycle
from cellward.core.slots import Stage as Slot
from cellward.device.link import UpdateLink
from cellward.ports.module import BenchModule, BootEvent, BootReport, TamperSource

SUBJECT = "of the demo"
SCAR = "the other bank holds what was sent, not bootable"
LOOK_MS = 2_000  # the app has looked at all of its bank
WAKE_MS = 500  # it has answered a request for the contactors


class Intruder:
    def __init__(self, attacker: Attacker, hardware: Hardware) -> None:
        self._attacker = attacker
        self._hardware = hardware

    # --- the update link ---

    def sends(self, attack: str, images: dict[Slot, str], code: Code) -> None:
        """To the module's update engine, past every check of the controller."""
        self._sends(attack, self._attacker.files(images), code)

    def sends_with_a_bit_flipped(self, attack: str, images: dict[Slot, str]) -> None:
        data = self._attacker.files(images)
        data[Slot.APP] = flipped(data[Slot.APP], at=len(data[Slot.APP]) // 2)
        self._sends(attack, data, Code.IMAGE_HASH)

    def _sends(self, attack: str, images: dict[Slot, bytes], code: Code) -> None:
        before = self._attacker.state()
        with self._acting(attack, code) as module:
            link = UpdateLink(module, SUBJECT)
            engine = link.enter()
            link.begin()
            for slot, data in images.items():
                for _ in link.send(slot, data, b"", engine.max_data):
                    pass
            _refused(attack, code, link.finish)
            told = _told(attack, code, module.reports())[-1]
            link.restart()
        self._attacker.note(attack, "update engine", _said(told), before, SCAR)

    def updates_while_driving(self) -> None:
        """With the contactors closed, an engine that starts would leave the pack unwatched."""
        before, attack = self._attacker.state(), "an update while the contactors are closed"
        with self._acting(attack, Code.UPDATE_CONTACTORS) as module:
            _asks_for_contactors(module, attack, closed=True)
            said = _refused(attack, Code.UPDATE_CONTACTORS, UpdateLink(module, SUBJECT).enter)
            module.set_close_request(False)
            module.advance(WAKE_MS)
        self._attacker.note(attack, "module app", said, before)

    # --- the programming port, which the plant closed ---

    def writes_flash_by_cable(self, attack: str) -> None:
        self._by_cable(
            attack, Code.FLASH_LOCKED, lambda module: module.program("a", self._hardware.app.offset, bytes(8))
        )

    def reads_flash_by_cable(self, attack: str) -> None:
        self._by_cable(attack, Code.FLASH_LOCKED, lambda module: module.read("a", 0, 64))

    def burns_fuses_by_cable(self, attack: str) -> None:
        """The maker's slot key as revoked."""
        self._by_cable(attack, Code.OTP_LOCKED, lambda module: module.burn(OTP_REVOKED.offset, b"\x01\0\0\0"))

    def _by_cable(self, attack: str, code: Code, does: Callable[[BenchModule], object]) -> None:
        before = self._attacker.state()
        with self._acting(attack, code) as module:
            said = _refused(attack, code, lambda: does(module))
        self._attacker.note(attack, "programming port", said, before)

    # --- inside the case ---

    def flips_a_bit_in_flash(self, attack: str, runs: str) -> None:
        """One cell under the running app. The app sees it while it runs, the loader at the next boot;
        `runs` is what the boot chain is left with."""
        before, code = self._attacker.state(), Code.IMAGE_HASH
        with self._acting(attack, code) as module:
            bank = module.status().active_bank
            app = UpdateLink(module, SUBJECT).digest(Slot.APP)
            if app is None:
                raise Unexpected(attack, "an app to damage", "none")
            module.flip_bit(bank, self._hardware.app.offset + app.length // 2, 5)
            module.advance(LOOK_MS)
            _told(attack, Code.BOOT_INTEGRITY, module.reports())
            events = _told(attack, code, module.reset())
            told = next((event for event in events if event.bank == bank), None)
            if told is None:
                raise Unexpected(attack, f"{code} of bank {bank}", "of the other alone")
        self._attacker.note(attack, f"module {told.where}", _said(told), before, "one bank is damaged", runs)

    def opens_the_case(self, attack: str) -> None:
        """The module destroys its secret before anything else; afterwards it only watches."""
        before = self._attacker.state()
        with self._acting(attack, Code.TAMPER) as module:
            module.tamper(TamperSource.CASE)
            told = _told(attack, Code.TAMPER, module.reports())[0]
            lifecycle = module.status().lifecycle
            if lifecycle is not Lifecycle.TAMPERED:
                raise Unexpected(attack, "lifecycle tampered", lifecycle)
            _asks_for_contactors(module, attack, closed=False)
        said = Said(
            Code.TAMPER, "", "a closed case", "an open one: secret destroyed, contactors stay open", ""
        )
        self._attacker.note(attack, f"module {told.where}", said, before)

    @contextmanager
    def _acting(self, attack: str, code: Code) -> Iterator[BenchModule]:
        attacker = self._attacker
        with (
            attacker.stage.act(Actor.ATTACKER, attack, f"refused {code}"),
            bootstrap.running_module(attacker.module) as module,
        ):
            yield module


def _refused(attack: str, code: Code, does: Callable[[], object]) -> Said:
    try:
        does()
    except ModuleRefused as error:
        if error.code is not code:
            raise Unexpected(attack, f"the refusal {code}", error.code) from error
        return quoted(error)
    raise Unexpected(attack, f"the refusal {code}", "no refusal")


def _told(attack: str, code: Code, reports: tuple[BootReport, ...]) -> list[BootEvent]:
    """What the firmware itself reported, at least once."""
    events = [event for report in reports for event in report.events]
    found = [event for event in events if event.code is code]
    if not found:
        said = ", ".join(str(event.code) for event in events)
        raise Unexpected(attack, f"the event {code}", said or "no event")
    return found


def _asks_for_contactors(module: BenchModule, attack: str, *, closed: bool) -> None:
    for wanted in (False, True):
        module.set_close_request(wanted)
        module.advance(WAKE_MS)
    if module.telemetry().contactors_closed is not closed:
        raise Unexpected(attack, f"contactors {'closed' if closed else 'open'}", "the other")


def _said(event: BootEvent) -> Said:
    """A boot event's two words, decimal where they are a counter."""
    form = "{}" if event.code is Code.IMAGE_COUNTER else "0x{:08x}"
    return Said(f"{event.code}", "", form.format(event.expected), form.format(event.found), "")
