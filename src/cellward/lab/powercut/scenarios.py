"""The lives that are cut: what a module is before, what happens to it, and what must hold after a cut.

A life is lived once with the power on; every prefix of its operations is a cut.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cellward.core import bootrecord, ladder, vault
from cellward.core.banks import Event
from cellward.core.errors import CellwardError, ModuleRefused
from cellward.core.registration import Registration
from cellward.core.revocation import Quorum, Revocation, raw_signature, signed_digest
from cellward.core.slots import (
    BANKS,
    BOOTS_PER_EPOCH,
    DATA_PAGE_SIZE,
    OTP_BOOT_EPOCH,
    OTP_VAULT_CALIBRATION,
    WRITE_SIZE,
    DataPage,
    Lifecycle,
)
from cellward.lab.maker import public_key, sign_digest
from cellward.lab.powercut.bench import Bench, device_secret
from cellward.lab.powercut.judge import Before, Breach, Promise, Seen
from cellward.lab.powercut.operations import Log
from cellward.lab.powercut.releases import HARDWARE, Recipe, Release, make
from cellward.ports.module import Outcome, TamperSource
from cellward.ports.updatelink import MAX_DATA, Dialogue, Request
from cellward.ports.updatevalues import Answerer, decode_identity, encode_image_request
from cellward.vbms import plant
from cellward.vbms.bench import VirtualModule

COMMITTED, NEW = 7, 8
ONES = 0xFFFF_FFFF
A, B = BANKS
OLD = Recipe("old", "1.3.0", "1.3.0", COMMITTED)
FAILING = Recipe("failing", "1.5.0", "1.5.0", NEW)  # for 14 cells: here its self-test fails
SECOND = Recipe("second", "1.4.0", "1.4.0", COMMITTED, key="second")
WHOLE_RECOVERY_EVERY = 101  # of the cuts that end in recovery: the whole update, not its first steps


@dataclass
class Disk:
    """The plant's register, which no power cut of a module touches. `held`: every state it had."""

    log: Log
    held: list[Registration]

    def read(self) -> Registration | None:
        return self.held[-1] if self.held else None

    def write(self, registration: Registration) -> None:
        self.held.append(registration)
        self.log.registered = len(self.held)


class Scenario:
    """`recovery`: no bank needs to boot. `padding`: bytes behind the app's code."""

    name = ""
    recipes: tuple[Recipe, ...] = (OLD,)
    recovery = False
    lifecycle = Lifecycle.PROVISIONED

    def __init__(self, seed: int, padding: int = 0) -> None:
        self.seed = seed
        new = Recipe("new", "1.4.0", "1.4.0", NEW, padding=padding)
        self.releases = {recipe.name: make(recipe, seed) for recipe in (*self.recipes, new)}
        self.registrations: list[Registration] = []

    def prepare(self, bench: Bench) -> None:
        bench.plant(self.seed, ("maker",), COMMITTED, self.lifecycle)
        bench.put(A, self.releases["old"])
        bench.put(B, self.releases["old"])

    def live(self, module: VirtualModule, log: Log) -> None:
        raise NotImplementedError

    def boot(self, bench: Bench) -> Seen | None:
        """None: by the module's own ROM, as for everything but an example."""
        return None

    def after(self, module: VirtualModule, before: Before, seen: Seen, number: int) -> Iterator[Breach]:
        """What must hold beyond the judge's promises; the module still has power."""
        yield from ()


def restart(module: VirtualModule, log: Log, phase: str) -> None:
    log.phase = phase
    module.power_off()
    module.power_on()


class Provision(Scenario):
    """The plant's line, from a blank module to the closed one it ships."""

    name = "provision"
    recovery = True

    def prepare(self, bench: Bench) -> None:
        """Blank."""

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "provision"
        self._provision(module, Disk(log, self.registrations))
        restart(module, log, "first boot")

    def _provision(self, module: VirtualModule, disk: Disk) -> None:
        old = self.releases["old"]
        quorum = hashlib.sha256(f"{self.seed} quorum".encode()).digest()
        order = plant.Order(HARDWARE, (old.key_hash,), dict(old.images), root_quorum=quorum, close=True)
        plant.provision(module, order, self._secret, disk)

    def _secret(self, size: int) -> bytes:
        return hashlib.shake_128(f"{self.seed} {len(self.registrations)}".encode()).digest(size)

    def after(self, module: VirtualModule, before: Before, seen: Seen, number: int) -> Iterator[Breach]:
        """The same command again: it ends in the same module, which boots."""
        disk = Disk(Log(memoryview(b"")), list(self.registrations[: before.registered]))
        try:
            self._provision(module, disk)
        except CellwardError as error:
            yield Breach(Promise.PLANT, str(error))
            return
        module.power_off()
        module.power_on()
        status = module.status()
        wanted = (Lifecycle.PRODUCTION, True, Outcome.RUNNING)
        if (status.lifecycle, status.debug_locked, status.outcome) != wanted:
            found = f"lifecycle {status.lifecycle}, debug locked {status.debug_locked}, {status.outcome}"
            yield Breach(Promise.PLANT, found)


class Programmed(Scenario):
    """An update by the programming cable over an older, confirmed bank; trial, confirmation, commit."""

    name = "update by programmer"

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "boot"
        module.power_on()
        log.phase = "install"
        plant.write_bank(module, HARDWARE, B, self.releases["new"].images, Event.STAGE)
        restart(module, log, "trial, commit")
        restart(module, log, "next boot")


class Revert(Scenario):
    """An update that fails its self-test: the module goes back by itself, and stays there."""

    name = "revert"
    recipes = (OLD, FAILING)

    def prepare(self, bench: Bench) -> None:
        super().prepare(bench)
        bench.put(B, self.releases["failing"], confirmed=False)

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "trial, revert"
        module.power_on()
        restart(module, log, "next boot")


def send(dialogue: Dialogue, release: Release) -> None:
    """A whole update over the link. Raises ModuleRefused with what the module answered."""
    dialogue.ask(Request.BEGIN, bytes(4))
    for stage, image in release.images.items():
        dialogue.ask(Request.IMAGE, encode_image_request(stage, len(image)))
        for offset in range(0, len(image), MAX_DATA):
            dialogue.ask(Request.DATA, offset.to_bytes(4, "little") + image[offset : offset + MAX_DATA])
    dialogue.ask(Request.FINISH)


class Updated(Scenario):
    """The same update through the module's own engine, on a closed module."""

    name = "update over the link"
    lifecycle = Lifecycle.PRODUCTION

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "boot"
        module.power_on()
        dialogue = Dialogue(module.exchange, "module")
        dialogue.ask(Request.ENTER_UPDATE)
        log.phase = "install"
        send(dialogue, self.releases["new"])
        log.phase = "trial, commit"
        dialogue.ask(Request.RESTART)
        restart(module, log, "next boot")


class Recovered(Scenario):
    """Both banks lost: the ROM takes a signed image and runs it."""

    name = "recovery"
    recovery = True

    def prepare(self, bench: Bench) -> None:
        bench.plant(self.seed, ("maker",), COMMITTED, Lifecycle.PRODUCTION)

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "boot"
        module.power_on()
        log.phase = "install"
        dialogue = Dialogue(module.exchange, "module")
        send(dialogue, self.releases["new"])
        log.phase = "trial, commit"
        dialogue.ask(Request.RESTART)
        restart(module, log, "next boot")

    def after(self, module: VirtualModule, before: Before, seen: Seen, number: int) -> Iterator[Breach]:
        if seen.outcome is not Outcome.RECOVERY:
            return
        try:
            yield from self._offer(module, whole=number % WHOLE_RECOVERY_EVERY == 0)
        except CellwardError as error:
            yield Breach(Promise.BRICK, f"recovery: {error}")

    def _offer(self, module: VirtualModule, *, whole: bool) -> Iterator[Breach]:
        dialogue = Dialogue(module.exchange, "module")
        identity = decode_identity(dialogue.ask(Request.IDENTIFY))
        if identity.where is not Answerer.ROM:
            yield Breach(Promise.BRICK, f"recovery: {identity.where.name} answers")
        if not whole:
            dialogue.ask(Request.BEGIN, bytes(4))
            return
        send(dialogue, self.releases["new"])
        dialogue.ask(Request.RESTART)
        if module.status().outcome is not Outcome.RUNNING:
            yield Breach(Promise.BRICK, f"recovered, and then {module.status().outcome}")


class Revoked(Scenario):
    """The root quorum revokes the key of the older bank, while the newer key's image runs."""

    name = "revocation"
    recipes = (OLD, SECOND)
    roots = ("root 1", "root 2")

    def prepare(self, bench: Bench) -> None:
        quorum = self._quorum().digest
        bench.plant(self.seed, ("maker", "second"), COMMITTED, Lifecycle.PRODUCTION, quorum)
        bench.put(A, self.releases["old"])
        bench.put(B, self.releases["second"])

    def _quorum(self) -> Quorum:
        return Quorum.of(2, tuple(public_key(self.seed, name) for name in self.roots))

    def _revocation(self) -> bytes:
        quorum, key = self._quorum(), public_key(self.seed, "maker").key_hash
        digest = signed_digest(quorum, key)
        signed = {
            quorum.points.index(public_key(self.seed, name).spki[-65:]): raw_signature(
                sign_digest(self.seed, name, digest)
            )
            for name in self.roots
        }
        return Revocation(quorum, key, signed).encode()

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "boot"
        module.power_on()
        log.phase = "store"
        dialogue = Dialogue(module.exchange, "module")
        dialogue.ask(Request.REVOKE, self._revocation())
        log.phase = "burn"
        dialogue.ask(Request.RESTART)
        restart(module, log, "next boot")


class Vault(Scenario):
    """Calibration is replaced; the ROM commits it at the next boot."""

    name = "vault"
    values = (vault.Calibration(0, 0, 4200, 3000).encode(), vault.Calibration(10, 5, 4150, 3050).encode())

    def prepare(self, bench: Bench) -> None:
        super().prepare(bench)
        bench.burn(OTP_VAULT_CALIBRATION, b"\x01")
        key = ladder.derive(device_secret(self.seed)).vault
        block = vault.encode(
            vault.Name.CALIBRATION, key, vault.Block(1, 1, self.values[0]), hashlib.sha256(b"").digest()[:16]
        )
        bench.write_data(DataPage.VAULT_CALIBRATION, block)

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "boot"
        module.power_on()
        log.phase = "write"
        dialogue = Dialogue(module.exchange, "module")
        name = bytes([vault.Name.CALIBRATION, 0, 0, 0])
        dialogue.ask(Request.VAULT_WRITE, name + (2).to_bytes(4, "little") + self.values[1])
        log.phase = "commit"
        dialogue.ask(Request.RESTART)
        restart(module, log, "next boot")

    def after(self, module: VirtualModule, before: Before, seen: Seen, number: int) -> Iterator[Breach]:
        if seen.outcome is not Outcome.RUNNING:
            return
        name = bytes([vault.Name.CALIBRATION, 0, 0, 0])
        try:
            answer = Dialogue(module.exchange, "module").ask(Request.VAULT_READ, name)
        except ModuleRefused as error:
            yield Breach(Promise.VAULT, str(error))
            return
        version, value = int.from_bytes(answer[:4], "little"), answer[8:]
        allowed = (2,) if before.vault > 1 else (1, 2)
        if version not in allowed or value != self.values[version - 1]:
            yield Breach(Promise.VAULT, f"version {version} with {before.vault} committed")


class Counted(Scenario):
    """Boots, at the turn of a page of counts and of an epoch: flash and fuse change together there."""

    name = "boot count"
    last = 2 * BOOTS_PER_EPOCH - 2  # the count before, in the last entry of a page but one

    def __init__(self, seed: int, padding: int = 0) -> None:
        super().__init__(seed, padding)
        keys = ladder.derive(device_secret(seed))
        self._keys = bootrecord.RecordKeys(keys.rom_record, keys.loader_record)
        self._told: list[tuple[int, int]] = []  # after so many operations, this count

    def prepare(self, bench: Bench) -> None:
        super().prepare(bench)
        bench.burn(OTP_BOOT_EPOCH, b"\x01")
        entries = DATA_PAGE_SIZE // WRITE_SIZE - 1
        counts = range(self.last - entries + 1, self.last + 1)
        page = b"".join(
            count.to_bytes(4, "little") + (~count & ONES).to_bytes(4, "little") for count in counts
        )
        bench.write_data(DataPage.BOOT_COUNT, page)

    def live(self, module: VirtualModule, log: Log) -> None:
        for number in range(1, 5):
            restart(module, log, f"boot {number}")
            self._told.append((len(log.operations), self._count(module)))

    def _count(self, module: VirtualModule) -> int:
        records = Dialogue(module.exchange, "module").ask(Request.BOOT_RECORD)
        return bootrecord.verify(records, self._keys, None).boot_count

    def after(self, module: VirtualModule, before: Before, seen: Seen, number: int) -> Iterator[Breach]:
        if seen.outcome is not Outcome.RUNNING:
            return
        told = max((count for at, count in self._told if at <= number), default=self.last)
        try:
            count = self._count(module)
        except CellwardError as error:
            yield Breach(Promise.COUNT, str(error))
            return
        if count <= told:
            yield Breach(Promise.COUNT, f"{count} after {told}")


class Tampered(Scenario):
    """The case is opened while the app runs."""

    name = "tamper"
    lifecycle = Lifecycle.PRODUCTION

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "boot"
        module.power_on()
        log.phase = "zeroise"
        module.tamper(TamperSource.CASE)
        restart(module, log, "next boot")

    def after(self, module: VirtualModule, before: Before, seen: Seen, number: int) -> Iterator[Breach]:
        if not before.latched and before.lifecycle is not Lifecycle.TAMPERED:
            return
        if module.status().lifecycle is not Lifecycle.TAMPERED:
            yield Breach(Promise.SECRET, f"lifecycle {module.status().lifecycle}")
        memory = module.memory_image()
        keys = ladder.derive(device_secret(self.seed))
        for name, key in {"device secret": device_secret(self.seed), **vars(keys)}.items():
            if key in memory or key[: len(key) // 2] in memory or key[len(key) // 2 :] in memory:
                yield Breach(Promise.SECRET, f"{name} is in the memories")


SCENARIOS: tuple[type[Scenario], ...] = (
    Provision,
    Programmed,
    Updated,
    Revert,
    Recovered,
    Revoked,
    Vault,
    Counted,
    Tampered,
)
