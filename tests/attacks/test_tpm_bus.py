"""Somebody sits between the pack controller and its TPM: listens, changes, leaves out, and plays back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellward.adapters.tpm2.swtpm import SocketTransport
from cellward.core.errors import CellwardError, Code, Refused, TrustRefused
from cellward.core.tpm.numbers import Command
from cellward.core.tpm.policy import Policy
from cellward.core.wire import be32
from cellward.ports.tpm import VAULT_CHAIN, PcrStep, SealedBlob, Tpm
from tests.support.packtpm import SwtpmDevice, copy, refused

SECRET = b"the vault's key, thirty-two byte"
STEPS = [PcrStep((8,))]
OTHER_CHAIN = VAULT_CHAIN + 1
HEADER = 10
Bend = Callable[[bytes], bytes]


class Between:
    """Whatever is said about one command goes through here."""

    def __init__(self) -> None:
        self.code: Command | None = None
        self.command: Bend = bytes
        self.answer: Bend = bytes
        self.heard: list[bytes] = []

    def bends(self, code: Command, *, command: Bend = bytes, answer: Bend = bytes) -> None:
        self.code, self.command, self.answer = code, command, answer

    def honest(self) -> None:
        self.code = None


@dataclass
class Tape:
    said: bytes = b""

    def record(self, said: bytes) -> bytes:
        self.said = said
        return said

    def play(self, _: bytes) -> bytes:
        return self.said


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    found, last = Between(), [b""]
    transmit, receive = SocketTransport.do_transmit, SocketTransport.do_receive

    def about(command: bytes) -> bool:
        return found.code is not None and command[6:HEADER] == be32(found.code)

    def sending(transport: SocketTransport, command: bytes) -> None:
        last[0] = command
        sent = found.command(command) if about(command) else command
        found.heard.append(sent)
        transmit(transport, sent)

    def receiving(transport: SocketTransport, timeout: int) -> bytes:
        answer = receive(transport, timeout)
        found.heard.append(answer)
        return found.answer(answer) if about(last[0]) else answer

    monkeypatch.setattr(SocketTransport, "do_transmit", sending)
    monkeypatch.setattr(SocketTransport, "do_receive", receiving)
    return found


@pytest.fixture
def tpm(made_tpm: Path, tmp_path: Path) -> Iterator[Tpm]:
    device: SwtpmDevice = copy(made_tpm, tmp_path / "tpm")
    for index in (VAULT_CHAIN, OTHER_CHAIN):
        device.tpm.define_chain(index)
    yield device.tpm
    device.off()


def seal(tpm: Tpm) -> SealedBlob:
    return tpm.seal(SECRET, Policy().pcr(tpm.pcr_read([8])).digest)


def flipped(at: int) -> Bend:
    def bend(data: bytes) -> bytes:
        place = at % len(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return bend


def body_flipped(at: int) -> Bend:
    return lambda answer: answer[:HEADER] + flipped(at)(answer[HEADER:])


# Of each answer, by its end: the password's own five bytes are not the session's.
@pytest.mark.parametrize("at", [*range(0, 30, 3), *range(-69, 0, 7), -1])
def test_an_answer_that_was_changed_is_not_taken(tpm: Tpm, between: Between, at: int) -> None:
    blob = seal(tpm)
    between.bends(Command.UNSEAL, answer=body_flipped(at))
    with pytest.raises(Refused):
        tpm.unseal(blob, STEPS)
    between.bends(Command.CREATE, answer=body_flipped(at))
    with pytest.raises(Refused):
        seal(tpm)
    between.honest()
    assert tpm.unseal(blob, STEPS) == SECRET
    assert tpm.unseal(seal(tpm), STEPS) == SECRET


@pytest.mark.parametrize("attributes", [b"\x01", b"\x81"])  # continues; is for an audit
@pytest.mark.parametrize("code", [Command.UNSEAL, Command.CREATE, Command.NV_EXTEND])
def test_nobody_takes_the_encryption_off(
    tpm: Tpm, between: Between, code: Command, attributes: bytes
) -> None:
    """The session's attributes, which say what is encrypted, are under its HMAC."""
    blob, before = seal(tpm), tpm.chain(VAULT_CHAIN)
    works: dict[Command, Callable[[], object]] = {
        Command.UNSEAL: lambda: tpm.unseal(blob, STEPS),
        Command.CREATE: lambda: seal(tpm),
        Command.NV_EXTEND: lambda: tpm.extend_chain(VAULT_CHAIN, SECRET),
    }

    def without(command: bytes) -> bytes:
        handles = {Command.UNSEAL: 1, Command.CREATE: 1, Command.NV_EXTEND: 2}[code]
        at = HEADER + 4 * handles + 4 + (0 if code is Command.UNSEAL else 9) + 4 + 2 + 32
        assert command[at] & 0x60
        return command[:at] + attributes + command[at + 1 :]

    between.bends(code, command=without)
    with pytest.raises(CellwardError) as refusal:
        works[code]()
    assert refusal.value.code in (Code.TPM_AUTHORISATION, Code.TPM_FAILED)
    assert not [said for said in between.heard if SECRET in said]
    between.honest()
    assert tpm.chain(VAULT_CHAIN) == before
    assert tpm.unseal(blob, STEPS) == SECRET


def test_nothing_is_put_elsewhere(tpm: Tpm, between: Between) -> None:
    """The index's Name is under the HMAC, and so is the data."""
    before = [tpm.chain(index) for index in (VAULT_CHAIN, OTHER_CHAIN)]
    elsewhere = be32(OTHER_CHAIN) * 2
    for bend in (lambda said: said[:HEADER] + elsewhere + said[HEADER + 8 :], flipped(-1)):
        between.bends(Command.NV_EXTEND, command=bend)
        with refused(Refused, Code.TPM_AUTHORISATION):
            tpm.extend_chain(VAULT_CHAIN, SECRET)
    between.honest()
    assert [tpm.chain(index) for index in (VAULT_CHAIN, OTHER_CHAIN)] == before


def test_nothing_is_played_back(tpm: Tpm, between: Between) -> None:
    said, commands, blob = Tape(), Tape(), seal(tpm)
    between.bends(Command.UNSEAL, answer=said.record)
    assert tpm.unseal(blob, STEPS) == SECRET
    between.bends(Command.UNSEAL, answer=said.play)
    with refused(TrustRefused, Code.TPM_FAILED):
        tpm.unseal(blob, STEPS)
    between.bends(Command.NV_EXTEND, command=commands.record)
    tpm.extend_chain(VAULT_CHAIN, SECRET)
    after = tpm.chain(VAULT_CHAIN)
    between.bends(Command.NV_EXTEND, command=commands.play)
    with pytest.raises(CellwardError):
        tpm.extend_chain(VAULT_CHAIN, bytes(32))
    between.honest()
    assert tpm.chain(VAULT_CHAIN) == after


def test_an_extension_that_was_not_made_is_not_believed(tpm: Tpm, between: Between) -> None:
    """Swallowed, and answered as the TPM answered before."""
    said = Tape()
    between.bends(Command.NV_EXTEND, answer=said.record)
    tpm.extend_chain(VAULT_CHAIN, SECRET)
    harmless = bytes.fromhex("8001 0000000c 0000017b 0001")  # TPM2_GetRandom
    between.bends(Command.NV_EXTEND, command=lambda _: harmless, answer=said.play)
    with refused(TrustRefused, Code.TPM_FAILED):
        tpm.extend_chain(VAULT_CHAIN, SECRET)
