"""The attacker of the demo: owns the server's disk, the wire and the programming cable, not the keys.

Each attack notes what the module held before and after, and which check said no.
"""

import hashlib
from pathlib import Path

from cellward import bootstrap
from cellward.cli.demo.journal import Actor, Refusal, State
from cellward.cli.demo.stage import Said, Stage, Unexpected
from cellward.core import image
from cellward.core.banks import Event, other
from cellward.core.errors import CellwardError, Code
from cellward.core.metadata import decode_factory
from cellward.core.slots import BANKS, Hardware
from cellward.core.slots import Stage as Slot
from cellward.ports.module import BootEvent, Module
from cellward.vbms.plant import write_bank

READ_STEP = 64 * 1024
IMAGE_LIMIT = 4 * 1024 * 1024
ANSWER_LIMIT = 64 * 1024
CABLE_SCAR = "the other bank holds what the cable wrote"


class Attacker:
    """Everything goes through real programs and the real module; nothing is simulated here."""

    def __init__(self, stage: Stage, module: Path, hardware: Hardware) -> None:
        self._stage = stage
        self._module = module
        self._hardware = hardware
        self.devices = ""  # URL of the devices' listener, once the server runs

    def state(self) -> State:
        """What the module holds and runs, read from the module itself."""
        with bootstrap.running_module(self._module) as module:
            status = module.status()
            digests = [self._bank_digest(module, bank) for bank in BANKS]
            app = self._hardware.app
            version = image.decode_slot(self._read(module, status.active_bank, app.offset, app.size)).version
            return State((digests[0], digests[1]), status.counter, f"{version} in bank {status.active_bank}")

    def by_update(self, attack: str, code: Code, allowed: str = "") -> None:
        """Whatever was ordered, let the controller meet it."""
        command = ("device", "run", "--state", "pack", "--once")
        self.by_command(attack, code, "pack controller", *command, actor=Actor.CONTROLLER, allowed=allowed)

    def by_command(
        self,
        attack: str,
        code: Code,
        refused_by: str,
        *command: str,
        actor: Actor = Actor.ATTACKER,
        allowed: str = "",
    ) -> None:
        before = self.state()
        said = self._stage.refused(actor, attack, *command)
        if said.code != code:
            raise Unexpected(attack, f"the refusal {code}", said.code)
        self._note(attack, refused_by, said, before, allowed)

    def by_cable(self, attack: str, images: dict[Slot, str], code: Code) -> None:
        """Write the other bank past every check, mark it to be tried next, and reset."""
        self._by_cable(attack, self._files(images), code)

    def flips_a_bit_in_flash(self, attack: str, images: dict[Slot, str]) -> None:
        data = self._files(images)
        data[Slot.APP] = _flipped(data[Slot.APP], at=len(data[Slot.APP]) // 2)
        self._by_cable(attack, data, Code.IMAGE_HASH)

    def flips_a_bit_on_the_server(self, name: str) -> None:
        """One bit of the published artefact, put back afterwards."""
        good = bootstrap.read_file(self._stage.folder / name, IMAGE_LIMIT)
        digest = hashlib.sha256(good).hexdigest()
        artefacts = self._stage.folder / "maker" / "artefacts"
        artefact = next(path for path in artefacts.rglob(f"{digest}.*"))
        with self._stage.act(Actor.ATTACKER, "flip one bit of the published artefact", artefact.name[:24]):
            artefact.write_bytes(_flipped(good, at=len(good) // 2))
        self.by_update("one bit of the artefact flipped on the server", Code.TARGET_HASH)
        artefact.write_bytes(good)

    def signs_with_own_key(self, firmware: str, good: dict[Slot, str], hardware: str) -> None:
        """A perfectly formed image, signed in the attacker's own token."""
        own = ("--data", "attacker")
        claims = ("--version", "1.4.2", "--counter", "7", "--hardware", hardware)
        self._stage.run(Actor.ATTACKER, "make own keys", *own, "keys", "init", said="a token of his own")
        self._stage.run(
            Actor.ATTACKER, "sign with own key", *own, "image", "sign", firmware, *claims, "-o", "forged.img"
        )
        attack = "an image signed by a wrong key"
        gate = (Code.IMAGE_KEY_UNKNOWN, "publish gate")
        self.by_command(f"{attack}, published", *gate, "repo", "publish", "forged.img")
        forged = {**good, Slot.APP: "forged.img"}
        self.by_cable(f"{attack}, by cable", forged, Code.IMAGE_KEY_UNKNOWN)

    def asks_without_certificate(self) -> None:
        before, attack = self.state(), "a request without a client certificate"
        with self._stage.act(Actor.ATTACKER, attack, f"refused {Code.TLS_CLIENT_CERTIFICATE}"):
            factory = bootstrap.read_file(self._stage.folder / "factory.json", IMAGE_LIMIT)
            try:
                with bootstrap.transport(self.devices, decode_factory(factory).server_ca) as transport:
                    transport.post("/v1/report", b"{}", ANSWER_LIMIT)
            except CellwardError as error:
                said = Said(error.code, error.subject, error.expected, error.found, error.advice)
            else:
                raise Unexpected(attack, "a refused handshake", "an answer")
        self._note(attack, "server", said, before)

    def _by_cable(self, attack: str, images: dict[Slot, bytes], code: Code) -> None:
        before = self.state()
        with (
            self._stage.act(Actor.ATTACKER, attack, f"refused {code}"),
            bootstrap.running_module(self._module) as module,
        ):
            bank = other(module.status().active_bank)
            write_bank(module, self._hardware, bank, images, Event.STAGE)
            events = [event for report in module.reset() for event in report.events]
        verdicts = [event for event in events if event.code == code and event.bank == bank]
        if not verdicts:
            raise Unexpected(attack, code, ", ".join(str(event.code) for event in events) or "no refusal")
        self._note(attack, f"module {verdicts[0].where}", _said(verdicts[0]), before, CABLE_SCAR)

    def _note(self, attack: str, refused_by: str, said: Said, before: State, allowed: str = "") -> None:
        refusal = Refusal(
            attack, refused_by, said.code, said.expected, said.found, before, self.state(), allowed
        )
        self._stage.journal.refusals.append(refusal)

    def _files(self, images: dict[Slot, str]) -> dict[Slot, bytes]:
        folder = self._stage.folder
        return {slot: bootstrap.read_file(folder / name, IMAGE_LIMIT) for slot, name in images.items()}

    def _bank_digest(self, module: Module, bank: str) -> str:
        return hashlib.sha256(self._read(module, bank, 0, self._hardware.bank_size)).hexdigest()

    def _read(self, module: Module, bank: str, offset: int, size: int) -> bytes:
        parts = range(offset, offset + size, READ_STEP)
        return b"".join(module.read(bank, part, min(READ_STEP, offset + size - part)) for part in parts)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _said(event: BootEvent) -> Said:
    """A boot event's two words, decimal where they are a counter."""
    form = "{}" if event.code == Code.IMAGE_COUNTER else "0x{:08x}"
    return Said(f"{event.code}", "", form.format(event.expected), form.format(event.found), "")
