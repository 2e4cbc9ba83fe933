"""The pack controller's vault, killed with its swtpm at every step of every operation.

    python -m tests.support.vaultkills [--kills N] [OPERATION…]

A step is whatever outlives a process: a command to the TPM, killed before it is sent and while it is on its
way, and a change of the disk, killed before it is made: a file opened, written, synced, renamed or
removed. The last step of each operation is the one behind its end, where it was acknowledged. Every kill
begins from the same controller: what is found afterwards is what was there before, or what the operation
leaves.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import click
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.adapters.tpm2.swtpm import SocketTransport
from cellward.core import packvault
from cellward.core.errors import Code, TrustRefused
from cellward.core.keys import PublicKey
from cellward.device.vault import FILE, Successor, Vault, accept, create, opened
from cellward.ports.tpm import RELEASE_COUNTER, VAULT_COUNTER
from tests.support.maker import Hand
from tests.support.packtpm import SwtpmDevice, refused
from tests.support.vault import FIRST, MAKER, Pack, policy

NAMES = ("value", "other")
SUCCESSOR = Hand()
IN_FLIGHT_SECONDS = 0.003
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.remove", "os.mkdir")


@dataclass(frozen=True)
class Found:
    """What a controller has, once its vault was opened."""

    number: int
    values: tuple[tuple[str, bytes], ...]
    approver: str
    opens_up_to: int
    release: int


@dataclass(frozen=True)
class Operation:
    """`prepare`: of a controller without a vault, makes one on which `work` can be done."""

    prepare: Callable[[Pack], None]
    work: Callable[[Pack], Callable[[], object]]  # what is not killed yet is done at the first call


def made(pack: Pack) -> None:
    pack.make()
    pack.put("value", b"the first")
    pack.put("other", b"another", exportable=True)


def made_and_ahead(pack: Pack) -> None:
    """With a policy of the next release, which measures the same."""
    made(pack)
    accept(pack.place, policy(FIRST, pack.release + 1))


def made_and_cut(pack: Pack) -> None:
    """A write that the TPM has not been told of."""
    made(pack)
    with mock.patch.object(pack.device.tpm, "extend_chain", side_effect=_CutOff), suppress(_CutOff):
        pack.put("value", b"the second")


class _CutOff(BaseException):
    pass


def of_an_open(work: Callable[[Vault], object]) -> Callable[[Pack], Callable[[], object]]:
    def begin(pack: Pack) -> Callable[[], object]:
        held = opened(pack.place)
        vault = held.__enter__()  # and never left
        return lambda: (work(vault), held)

    return begin


def read(vault: Vault) -> None:
    with vault.get("value"):
        pass


def export(vault: Vault) -> None:
    vault.export("other", PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key()))


def to_a_successor(vault: Vault) -> None:
    vault.rotate(Successor(SUCCESSOR.public_key, policy(FIRST, vault._policy.terms.counter, SUCCESSOR)))


OPERATIONS = {
    "init": Operation(
        lambda _: None, lambda pack: lambda: create(pack.place, MAKER.public_key, policy(FIRST, 1 << 20))
    ),
    "accept": Operation(made, lambda pack: lambda: accept(pack.place, policy(FIRST, 1 << 20))),
    "open": Operation(made_and_cut, lambda pack: lambda: opened(pack.place).__enter__()),
    "get": Operation(made, of_an_open(read)),
    "export": Operation(made, of_an_open(export)),
    "put": Operation(made, of_an_open(lambda vault: vault.put("value", b"the second"))),
    "remove": Operation(made, of_an_open(lambda vault: vault.remove("value"))),
    "rotate": Operation(made, of_an_open(lambda vault: vault.rotate())),
    "rotate to a successor": Operation(made, of_an_open(to_a_successor)),
    "commit": Operation(made_and_ahead, of_an_open(lambda vault: vault.commit_release())),
}


@dataclass(frozen=True)
class Base:
    """A controller that is off, copied for each kill; what it has, and has after the operation."""

    operation: Operation
    folder: Path
    before: Found | None
    after: Found | None

    @staticmethod
    def of(name: str, tpm: Path, folder: Path) -> "Base":
        operation = OPERATIONS[name]
        shutil.copytree(tpm, folder / "base" / "tpm")
        with running(folder / "base") as pack:
            operation.prepare(pack)
        with copied(folder) as copy, running(copy) as pack:
            before = found_in(pack)
        with copied(folder) as copy:
            with running(copy) as pack:
                operation.work(pack)()
            with running(copy) as pack:
                after = found_in(pack)
        return Base(operation, folder, before, after)

    def kill(self, step: int) -> tuple[str, bool]:
        """At this step, and judge what is left: which it was, and whether the operation came to its end."""
        with copied(self.folder) as copy:
            label, acknowledged = killed(self.operation, copy, step)
            with running(copy) as pack:
                self._judge(pack, acknowledged)
        return label, acknowledged

    def _judge(self, pack: Pack, acknowledged: bool) -> None:
        found = found_in(pack)
        assert found == self.after if acknowledged else found in (self.before, self.after)
        older = self.folder / "base" / "state" / FILE
        if found is not None:
            file = pack.file
            assert pack.device.tpm.counter(VAULT_COUNTER) == packvault.decode(file).content.counter
            if older.exists() and older.read_bytes() != file:
                pack.restore(older.read_bytes())
                with refused(TrustRefused, Code.VAULT_ROLLBACK):
                    pack.names()
                pack.restore(file)
        if found != self.after:  # then it can be done once more
            self.operation.work(pack)()
            assert found_in(pack) == self.after


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    copy = folder / "copy"
    shutil.copytree(folder / "base", copy)
    yield copy
    shutil.rmtree(copy)


@contextmanager
def running(folder: Path) -> Iterator[Pack]:
    """The controller, started with its first release; then its power goes."""
    pack = Pack(SwtpmDevice(folder / "tpm"), folder / "state")
    try:
        pack.device.tpm.pcr_extend(8, FIRST)
        yield pack
    finally:
        pack.device.off()


def found_in(pack: Pack) -> Found | None:
    if not (pack.state / FILE).exists():
        return None
    with opened(pack.place) as vault:
        values = []
        for value in vault.content.values:
            with vault.get(value.name) as view:
                values.append((value.name, bytes(view)))
        approver, up_to = vault.content.approver.fingerprint, vault._policy.terms.counter
        release = pack.device.tpm.counter(RELEASE_COUNTER)
        return Found(vault.content.counter, tuple(values), approver, up_to, release)


def killed(operation: Operation, folder: Path, step: int) -> tuple[str, bool]:
    """In a child, which kills the TPM and itself there."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            pack = Pack(SwtpmDevice(folder / "tpm"), folder / "state")
            pack.device.tpm.pcr_extend(8, FIRST)
            work = operation.work(pack)
            assert isinstance(pack.device, SwtpmDevice)
            cut = Cut(pack.device.running.process.pid, write_end, step)
            cut.arm(str(folder))
            work()
            cut.now("acknowledged")
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        label = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it ended by itself"
    assert os.WTERMSIG(status) == signal.SIGKILL
    return label, label == "acknowledged"


class Cut:
    """The power, which goes at a step."""

    def __init__(self, swtpm: int, pipe: int, step: int) -> None:
        self._swtpm, self._pipe, self._left = swtpm, pipe, step

    def now(self, label: str) -> None:
        os.write(self._pipe, label.encode())
        os.kill(self._swtpm, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def step(self, label: str, *, in_flight: bool = False) -> None:
        if self._left == 0:
            if in_flight:
                time.sleep(random.uniform(0, IN_FLIGHT_SECONDS))
            self.now(label)
        self._left -= 1

    def arm(self, folder: str) -> None:
        transmit, sync = SocketTransport.do_transmit, os.fsync

        def transmitting(transport: SocketTransport, command: bytes) -> None:
            code = command[6:10].hex()
            self.step(f"before TPM command {code}")
            transmit(transport, command)
            self.step(f"in TPM command {code}", in_flight=True)

        def syncing(handle: int) -> None:
            self.step("before a sync")
            sync(handle)

        def audit(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open" and isinstance(arguments[0], int) and "w" in str(arguments[1]):
                self.step("before it has its bytes")
            elif str(arguments[:1]).count(folder) and (event in _CHANGES or _to_write(event, arguments)):
                self.step(f"before {event}")

        SocketTransport.do_transmit = transmitting  # type: ignore[method-assign,assignment]
        os.fsync = syncing  # type: ignore[assignment]
        sys.addaudithook(audit)


def _to_write(event: str, arguments: tuple[object, ...]) -> bool:
    return event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & _WRITES)


def campaign(name: str, tpm: Path, folder: Path, kills: int) -> Counter[str]:
    """Kills at each step. Raises AssertionError for a value that is lost or brought back."""
    base, done, step, acknowledged = Base.of(name, tpm, folder), Counter[str](), 0, False
    while not acknowledged:
        for _ in range(kills):
            label, acknowledged = base.kill(step)
            done[f"{step} {label}"] += 1
        step += 1
    return done


@click.command()
@click.option("--kills", default=20, show_default=True, help="At each step.")
@click.argument("names", nargs=-1, type=click.Choice(list(OPERATIONS)))
def main(kills: int, names: tuple[str, ...]) -> None:
    """Kill the controller's vault and its TPM at every step."""
    import tempfile

    from tests.support.packtpm import make

    total = 0
    with tempfile.TemporaryDirectory() as folder:
        tpm = make(Path(folder) / "tpm")
        for name in names or OPERATIONS:
            done = campaign(name, tpm, Path(folder) / name.replace(" ", "-"), kills)
            total += sum(done.values())
            click.echo(f"{name:24}{len(done):5} steps {sum(done.values()):6} kills: 0 lost, 0 stale")
    click.echo(f"{'in all':24}{total:18} kills")


if __name__ == "__main__":
    main()
