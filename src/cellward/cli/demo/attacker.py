"""The attacker of the demo: owns the server's disk, the wire and the maker's orders, not the keys.

Each attack notes what the module held before and after, and which check said no. What needs a hand on
the module itself is in intruder.py.
"""

import hashlib
import shutil
from pathlib import Path

from cellward import bootstrap
from cellward.cli.demo.journal import Actor, Refusal, State
from cellward.cli.demo.stage import Said, Stage, Unexpected
from cellward.core.errors import CellwardError, Code
from cellward.core.metadata import decode_factory
from cellward.core.slots import BANKS
from cellward.core.slots import Stage as Slot
from cellward.device.link import UpdateLink
from cellward.ports.module import ModuleStatus, Outcome

IMAGE_LIMIT = 4 * 1024 * 1024
ANSWER_LIMIT = 64 * 1024
NOTHING = "nothing, contactors open"


class Attacker:
    """Everything goes through real programs and the real module; nothing is simulated here."""

    def __init__(self, stage: Stage, module: Path) -> None:
        self.stage = stage
        self.module = module
        self.devices = ""  # URL of the devices' listener, once the server runs

    def state(self) -> State:
        """What the module holds and runs, by its own word: its flash is closed to all others. One that
        lost its power gets it back first."""
        with bootstrap.running_module(self.module) as module:
            module.power_on()
            status = module.status()
            link = UpdateLink(module, status.serial)
            a, b = (_bank_digest(status, link, bank) for bank in BANKS)
            app = link.digest(Slot.APP)
        running = app is not None and status.outcome is Outcome.RUNNING
        said = f"{app.version} in bank {status.active_bank}" if app is not None and running else NOTHING
        return State((a, b), status.counter, said)

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
        said = self.stage.refused(actor, attack, *command)
        if said.code != code:
            raise Unexpected(attack, f"the refusal {code}", said.code)
        self.note(attack, refused_by, said, before, allowed)

    def flips_a_bit_on_the_server(self, name: str) -> None:
        """One bit of the published artefact, put back afterwards."""
        good = bootstrap.read_file(self.stage.folder / name, IMAGE_LIMIT)
        digest = hashlib.sha256(good).hexdigest()
        artefacts = self.stage.folder / "maker" / "artefacts"
        artefact = next(path for path in artefacts.rglob(f"{digest}.*"))
        with self.stage.act(Actor.ATTACKER, "flip one bit of the published artefact", artefact.name[:24]):
            artefact.write_bytes(flipped(good, at=len(good) // 2))
        self.by_update("one bit of the artefact flipped on the server", Code.TARGET_HASH)
        artefact.write_bytes(good)

    def signs_with_own_key(self, firmware: str, hardware: str, output: str) -> None:
        """A perfectly formed image, signed in the attacker's own token; the gate does not let it in."""
        own = ("--data", "attacker")
        claims = ("--version", "1.4.2", "--counter", "7", "--hardware", hardware)
        self.stage.run(Actor.ATTACKER, "make own keys", *own, "keys", "init", said="a token of his own")
        self.stage.run(
            Actor.ATTACKER, "sign with own key", *own, "image", "sign", firmware, *claims, "-o", output
        )
        attack = "an image signed by a wrong key, published"
        self.by_command(attack, Code.IMAGE_KEY_UNKNOWN, "publish gate", "repo", "publish", output)

    def asks_without_certificate(self) -> None:
        before, attack = self.state(), "a request without a client certificate"
        with self.stage.act(Actor.ATTACKER, attack, f"refused {Code.TLS_CLIENT_CERTIFICATE}"):
            factory = bootstrap.read_file(self.stage.folder / "factory.json", IMAGE_LIMIT)
            try:
                with bootstrap.transport(self.devices, decode_factory(factory).server_ca) as transport:
                    transport.post("/v1/report", b"{}", ANSWER_LIMIT)
            except CellwardError as error:
                said = quoted(error)
            else:
                raise Unexpected(attack, "a refused handshake", "an answer")
        self.note(attack, "server", said, before)

    def copies_the_tpm(self, state: str, copy: str) -> None:
        """Of an embedded one that is a folder; a real one has no such way out."""
        with self.stage.act(Actor.ATTACKER, "copy the embedded TPM's folder", "the same keys, twice"):
            folder = self.stage.folder
            shutil.copytree(folder / state / "tpm", folder / copy / "tpm")

    # --- the journal ---

    def note(
        self, attack: str, refused_by: str, said: Said, before: State, allowed: str = "", runs: str = ""
    ) -> None:
        """`allowed` is what may differ in the banks, `runs` what runs afterwards if it is something else."""
        after = self.state()
        refusal = Refusal(
            attack, refused_by, said.code, said.expected, said.found, before, after, allowed, runs
        )
        self.stage.journal.refusals.append(refusal)

    def files(self, images: dict[Slot, str]) -> dict[Slot, bytes]:
        folder = self.stage.folder
        return {slot: bootstrap.read_file(folder / name, IMAGE_LIMIT) for slot, name in images.items()}


def _bank_digest(status: ModuleStatus, link: UpdateLink, bank: str) -> str:
    """Over both images and the trailer."""
    digest = hashlib.sha256(status.bank(bank).trailer)
    for slot in Slot:
        found = link.digest(slot, other=bank != status.active_bank)
        digest.update(found.sha256 if found else b"no image")
    return digest.hexdigest()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def quoted(error: CellwardError) -> Said:
    return Said(error.code, error.subject, error.expected, error.found, error.advice)
