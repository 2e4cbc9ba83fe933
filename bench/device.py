"""The pack controller's vault and identity beside what each of their operations waits for.

Reference: the embedded TPM's own time for the commands that an operation needs, from a command's last byte
to its answer's, in the same run; commands that only look something up are left out of it. What an operation
waits for elsewhere is in neither side: the disk, on which a file is before it is acknowledged (the same
bytes written, synced and renamed by hand after each round), and the server's answers. Targets: the rest is at
most half of the TPM's time, ratio 1.5; a cached read at most 1 ms; enrolment as a command at most 3 s.

swtpm answers most commands in less than 0.1 ms, beside which whatever a program does is much. The last column
says from which time of the TPM on, in milliseconds, the target is met: twice what is ours.
"""

import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench._stopwatch import Stopwatch
    from cellward.cli.demo.stage import Stage
    from cellward.core.keys import PublicKey
    from cellward.device.vault import Place, Vault
    from cellward.ports.transport import Transport

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, SLOW_ROUNDS = 40, 5
TARGET, CACHED_SECONDS, ENROL_SECONDS = 1.5, 0.001, 3.0
VALUE = bytes(1024)


@dataclass
class Row:
    """Seconds of each round: in the TPM, elsewhere, and in all."""

    tpm: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    commands: int = 0

    def show(self, name: str) -> None:
        tpm, elsewhere = (median(each) * 1e3 for each in (self.tpm, self.elsewhere))
        others = zip(self.total, self.tpm, self.elsewhere, strict=True)
        ours = max(0.0, median(total - its - waited for total, its, waited in others) * 1e3)
        line = f"{name:32}{tpm:9.2f}{elsewhere:9.2f}{ours:10.2f}{self.commands:10}"
        if tpm:
            met = "" if ours <= (TARGET - 1) * tpm else f"  above {TARGET}"
            line += f"{(tpm + ours) / tpm:8.2f}{ours / (TARGET - 1):10.1f}{met}"
        print(line)


def heading(title: str, elsewhere: str) -> None:
    columns = (
        f"{title:32}{'TPM':>9}{elsewhere:>9}{'Cellward':>10}{'commands':>10}{'ratio':>8}{'met from':>10}"
    )
    print(f"\n{columns}")


@dataclass
class Table:
    watch: "Stopwatch"

    def measure(
        self,
        name: str,
        work: Callable[[], object],
        *,
        elsewhere: Callable[[], float] = lambda: 0.0,
        before: Callable[[], object] = lambda: None,
        rounds: int = ROUNDS,
    ) -> Row:
        """`elsewhere`: the seconds of it that are neither the TPM's nor ours, asked after each round."""
        row = Row()
        for _ in range(rounds):
            before()
            self.watch.reset()
            start = time.perf_counter()
            work()
            row.total.append(time.perf_counter() - start)
            row.tpm.append(self.watch.waited)
            row.commands = self.watch.commands
            row.elsewhere.append(elsewhere())
        row.show(name)
        return row


# --- vault ---


@dataclass(frozen=True)
class Maker:
    """Approves vaults of what runs here, up to a counter."""

    place: "Place"
    key: "PublicKey"
    sign: Callable[[bytes], bytes]

    def policy(self, counter: int) -> bytes:
        from cellward.core.tpm.approval import Approval, Terms
        from cellward.ports.tpm import RELEASE_COUNTER, counter_area

        terms = Terms(self.place.tpm.pcr_read([8]), counter)
        signature = self.sign(terms.to_sign(counter_area(RELEASE_COUNTER)))
        return Approval(terms, self.key.fingerprint, signature).encode()


def maker(place: "Place") -> Maker:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    from cellward.core.keys import PublicKey

    private = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(Prehashed(hashes.SHA256()))
    key = PublicKey.from_cryptography(private.public_key())
    return Maker(place, key, lambda digest: private.sign(digest, algorithm))


@dataclass(frozen=True)
class Disk:
    """Writes as many bytes as the vault's file has, by hand, as durably."""

    vault: Path
    folder: Path

    def seconds(self, files: int = 1) -> float:
        data = (self.vault / "values").read_bytes()
        start = time.perf_counter()
        for _ in range(files):
            handle = os.open(self.folder / "new", os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(handle, data)
            os.fsync(handle)
            os.close(handle)
            (self.folder / "new").rename(self.folder / "old")
            handle = os.open(self.folder, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        return time.perf_counter() - start


def vault(state: Path, table: Table) -> None:
    from cellward import bootstrap
    from cellward.device import vault as vaults
    from cellward.ports.tpm import RELEASE_COUNTER, VAULT_CHAIN, VAULT_COUNTER

    state.mkdir()
    with bootstrap.vault_place(state) as place, tempfile.TemporaryDirectory(dir=state) as beside:
        disk, approver, tpm = Disk(state / "vault", Path(beside)), maker(place), place.tpm
        every = (RELEASE_COUNTER, VAULT_COUNTER, VAULT_CHAIN)

        def nothing_there() -> None:
            for index in every:
                tpm.remove_counter(index)
            for name in place.policies():
                place.store.delete(name)
            place.store.delete(vaults.FILE)

        def init() -> None:
            vaults.create(place, approver.key, policy)

        policy = approver.policy(1 << 40)
        heading("vault", "disk")
        table.measure("init", init, before=nothing_there, elsewhere=lambda: disk.seconds(2))
        released = tpm.counter(RELEASE_COUNTER)
        another = approver.policy(released)
        table.measure("accept", lambda: vaults.accept(place, another), elsewhere=disk.seconds)
        table.measure("open", lambda: opened_and_closed(place))
        commit(place, approver, table)
        with vaults.opened(place) as found:
            held_open(found, table, disk)


def opened_and_closed(place: "Place") -> None:
    from cellward.device.vault import opened

    with opened(place):
        pass


def commit(place: "Place", approver: Maker, table: Table) -> None:
    """By one step each time."""
    from cellward.device.vault import accept, opened
    from cellward.ports.tpm import RELEASE_COUNTER

    found: list[Vault] = []
    with ExitStack() as held:

        def one_ahead() -> None:
            held.close()
            for name in place.policies():
                place.store.delete(name)
            accept(place, approver.policy(place.tpm.counter(RELEASE_COUNTER) + 1))
            found[:] = [held.enter_context(opened(place))]

        def work() -> None:
            found[0].commit_release()

        table.measure("commit", work, before=one_ahead)


def held_open(found: "Vault", table: Table, disk: Disk) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    from cellward.core.keys import PublicKey

    recipient = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())

    def read() -> None:
        with found.get("value"):
            pass

    def put(name: str) -> None:
        found.put(name, VALUE, exportable=True)

    table.measure("put", lambda: put("value"), elsewhere=disk.seconds)
    table.measure("rotate", found.rotate, elsewhere=disk.seconds)
    table.measure(
        "remove", lambda: found.remove("other"), before=lambda: put("other"), elsewhere=disk.seconds
    )
    table.measure("export", lambda: found.export("value", recipient))
    cached = median(table.measure("get, from a vault that is open", read).total)
    print(f"cached read {cached * 1e3:.3f} ms; target: at most {CACHED_SECONDS * 1e3:.0f} ms")


# --- identity ---


@dataclass
class Timed:
    """A transport whose answers are waited for by the clock. Satisfies ports.transport.Transport."""

    inner: "Transport"
    waited: float = 0.0

    def post(self, path: str, body: bytes, limit: int) -> bytes:
        start = time.perf_counter()
        answer = self.inner.post(path, body, limit)
        self.waited += time.perf_counter() - start
        return answer

    def get(self, path: str, limit: int, offset: int = 0) -> Generator[bytes, None, None]:
        raise AssertionError(path)

    def taken(self) -> float:
        waited, self.waited = self.waited, 0.0
        return waited


def identity(stage: "Stage", table: Table) -> None:
    """In the state directory of the demo's pack, with its server."""
    from cellward import bootstrap
    from cellward.cli.demo.scenes import PACK
    from cellward.cli.devicesession import measurements
    from cellward.device.attested import Controller
    from cellward.device.measured import measure
    from cellward.device.memory import Memory

    state = stage.folder / "pack"
    memory = Memory(bootstrap.device_store(state))
    device, factory = memory.device(), memory.factory()
    tokens = iter([token(stage, PACK) for _ in range(SLOW_ROUNDS)])
    assert device.attested is not None
    with bootstrap.tpm(state) as tpm, bootstrap.transport(device.attested.server, factory.server_ca) as wire:
        events = measurements(device, memory.factory_data(), bootstrap.agent_digest())
        log = measure(tpm, memory.store, events)
        timed = Timed(wire)
        controller = Controller(tpm, log, timed, factory.device_ca, PACK)
        signer = controller.signer
        heading("identity", "server")
        table.measure("sign", lambda: signer.sign(bytes(32)))
        table.measure("quote", lambda: tpm.quote(bytes(32), [8, 9, 10]))
        table.measure(
            "enrol once more",
            lambda: controller.enrol(next(tokens), device.ecus),
            elsewhere=timed.taken,
            rounds=SLOW_ROUNDS,
        )
        table.measure("renew", controller.renew, elsewhere=timed.taken)


def token(stage: "Stage", vehicle: str) -> str:
    from cellward.cli.demo.journal import Actor

    return stage.run(Actor.SERVER, "token", "server", "enrol-token", vehicle).split()[0]


def end_to_end(stage: "Stage") -> None:
    """What the pack's first enrolment took, as commands."""
    made, enrolled = (
        next(step.seconds for step in stage.journal.steps if re.match(begins, step.name))
        for begins in ("make its TPM", "enrol: keys in the TPM")
    )
    print(f"\nmake the embedded TPM {made:.2f} s, enrol end to end {enrolled:.2f} s, once;", end=" ")
    print(f"target: at most {ENROL_SECONDS:.0f} s")


def main() -> None:
    from rich.console import Console

    from bench._stopwatch import Stopwatch
    from cellward.cli.demo.scenes import Scenes
    from cellward.cli.demo.stage import Stage

    print(f"milliseconds, median of {ROUNDS}")
    table = Table(Stopwatch())
    with tempfile.TemporaryDirectory() as name, Stage(Path(name), Console(file=io.StringIO())) as stage:
        Scenes(stage).until_enrolled()
        end_to_end(stage)
        identity(stage, table)
        vault(Path(name) / "vaulted", table)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    main()
