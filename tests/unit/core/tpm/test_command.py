"""Sessions with a TPM; that a TPM takes what is put together here, tests/contract shows."""

import hashlib
import hmac
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, Refused, TrustRefused
from cellward.core.tpm.command import Call, Entity, Hides, Session, authorised, plain
from cellward.core.tpm.derivation import cfb, kdf_a, kdf_e, share_by_ecdh
from cellward.core.tpm.keys import endorsement_template
from cellward.core.tpm.numbers import Command
from cellward.core.wire import BigEndianReader, be16, be32, be_sized

SALT, SECRET = b"\x5a" * 32, b"a secret that is no block's length."
INDEX = Entity(0x01800303, b"\0\x0b" + b"\x11" * 32)
SEAL = Call(Command.CREATE, (INDEX,), Hides.ARGUMENT, b"others", bytearray(SECRET))
UNSEAL = Call(Command.UNSEAL, (INDEX,), Hides.ANSWER, beside_password=False)
ACTIVATE = Call(Command.ACTIVATE_CREDENTIAL, (INDEX, INDEX), Hides.NOTHING, b"credential")


def mac(key: bytes, hashed: bytes, rest: bytes) -> bytes:
    return hmac.new(key, hashlib.sha256(hashed).digest() + rest, "sha256").digest()


class Chip:
    """The other end, as Part 1 has it; written from there, not from core."""

    def __init__(self, salt: bytes = SALT) -> None:
        self.ours, theirs = secrets.token_bytes(32), secrets.token_bytes(32)
        self.session = Session(0x03000000, salt, theirs, self.ours)
        self.key = kdf_a(salt, b"ATH", self.ours + theirs, 32) if salt else b""

    def hear(self, call: Call, command: bytes) -> bytes:
        """The parameters, the hidden one in the clear."""
        reader = BigEndianReader(command, "command")
        assert reader.u16() == 0x8002
        assert reader.u32() == len(command)
        assert reader.u32() == call.code
        assert [reader.u32() for _ in call.entities] == [entity.handle for entity in call.entities]
        area = BigEndianReader(reader.take(reader.u32()), "sessions")
        if call.beside_password:
            assert area.take(9) == bytes.fromhex("40000009 0000 00 0000")
        assert area.u32() == 0x03000000
        self.theirs, attributes, found = area.sized(), area.u8(), area.sized()
        area.finish()
        assert attributes == 1 | call.hides
        parameters = reader.take(reader.remaining)
        names = b"".join(entity.name for entity in call.entities)
        nonces = self.theirs + self.ours
        assert found == mac(self.key, be32(call.code) + names + parameters, nonces + bytes([attributes]))
        if call.hides is Hides.ARGUMENT:
            size = int.from_bytes(parameters[:2], "big")
            clear = bytearray(parameters[2 : 2 + size])
            pair = kdf_a(self.key, b"CFB", nonces, 32)
            cfb(pair[:16], pair[16:], clear, decrypt=True)
            return bytes(clear) + parameters[2 + size :]
        return parameters

    def say(self, call: Call, parameters: bytes) -> bytes:
        self.ours, attributes = secrets.token_bytes(32), bytes([1 | call.hides])
        nonces = self.ours + self.theirs
        if call.hides is Hides.ANSWER:
            pair, hidden = kdf_a(self.key, b"CFB", nonces, 32), bytearray(parameters)
            cfb(pair[:16], pair[16:], hidden)
            parameters = be_sized(bytes(hidden))
        found = mac(self.key, be32(0) + be32(call.code) + parameters, nonces + attributes)
        password = be_sized(b"") + b"\1" + be_sized(b"") if call.beside_password else b""
        area = password + be_sized(self.ours) + attributes + be_sized(found)
        return be32(len(parameters)) + parameters + area


def asked(chip: Chip, call: Call) -> bytes:
    return chip.hear(call, chip.session.command(call, secrets.token_bytes(32)))


def seal() -> Call:
    return Call(Command.CREATE, (INDEX,), Hides.ARGUMENT, b"others", bytearray(SECRET))


def test_plain_commands() -> None:
    assert plain(Command.FLUSH_CONTEXT, be32(0x80000000)).hex() == "80010000000e0000016580000000"
    counting = authorised(Command.NV_INCREMENT, [1, 2], b"end")
    body = "00000001 00000002 00000009 40000009 0000 00 0000"
    assert counting == bytes.fromhex("8002 00000022 00000134" + body) + b"end"


def test_an_argument_is_heard_and_not_seen() -> None:
    chip = Chip()
    for _ in range(3):  # the nonces roll
        call = seal()
        command = chip.session.command(call, secrets.token_bytes(32))
        assert SECRET not in command
        assert SECRET[16:] not in command
        assert call.argument != SECRET, "nor does the argument stay"
        assert chip.hear(call, command) == SECRET + b"others"
        assert chip.session.answer(call, chip.say(call, b"made")) == b"made"


def test_an_answer_is_heard_and_not_seen() -> None:
    chip = Chip()
    for _ in range(3):
        asked(chip, UNSEAL)
        said = chip.say(UNSEAL, SECRET)
        assert SECRET not in said
        assert chip.session.answer(UNSEAL, said) == SECRET


def test_without_a_salt() -> None:
    chip = Chip(b"")
    assert asked(chip, ACTIVATE) == b"credential"
    assert chip.session.answer(ACTIVATE, chip.say(ACTIVATE, b"given")) == b"given"


@pytest.mark.parametrize("call", [UNSEAL, ACTIVATE, SEAL])
def test_every_bit_of_an_answer_counts(call: Call) -> None:
    """But for those of the password's own, which say nothing."""
    chip = Chip()
    asked(chip, call)
    said = chip.say(call, SECRET)
    free = range(len(said) - 74, len(said) - 69) if call.beside_password else range(0)
    for at in set(range(len(said))) - set(free):
        for bit in range(8):
            changed = said[:at] + bytes([said[at] ^ 1 << bit]) + said[at + 1 :]
            with pytest.raises(Refused):
                chip.session.answer(call, changed)
    with pytest.raises(Refused):
        chip.session.answer(call, said + b"\0")
    assert chip.session.answer(call, said)


def test_an_answer_is_to_one_command() -> None:
    chip = Chip()
    asked(chip, UNSEAL)
    first = chip.say(UNSEAL, SECRET)
    chip.session.answer(UNSEAL, first)
    asked(chip, UNSEAL)
    with pytest.raises(TrustRefused) as refusal:
        chip.session.answer(UNSEAL, first)
    assert refusal.value.code is Code.TPM_FAILED
    asked(chip, UNSEAL)
    other = Call(Command.NV_EXTEND, UNSEAL.entities, UNSEAL.hides, beside_password=False)
    with pytest.raises(TrustRefused):
        chip.session.answer(other, chip.say(UNSEAL, SECRET))


def test_another_salt_is_another_session() -> None:
    chip = Chip()
    asked(chip, UNSEAL)
    chip.key = kdf_a(SALT[:-1] + b"!", b"ATH", bytes(64), 32)
    with pytest.raises(TrustRefused):
        chip.session.answer(UNSEAL, chip.say(UNSEAL, SECRET))


@given(st.binary(max_size=200), st.sampled_from([SEAL, UNSEAL, ACTIVATE]))
def test_any_bytes_are_refused(data: bytes, call: Call) -> None:
    chip = Chip()
    for answer in (data, be32(len(data)) + data, be32(0) + data):
        with pytest.raises(Refused):
            chip.session.answer(call, answer)


@given(st.binary(max_size=80), st.binary(min_size=16, max_size=16))
def test_what_is_encrypted_is_decrypted(data: bytes, iv: bytes) -> None:
    held = bytearray(data)
    cfb(SALT[:16], iv, held)
    assert len(data) < 16 or held != data
    cfb(SALT[:16], iv, held, decrypt=True)
    assert held == data


def test_cfb_by_nist() -> None:
    """SP 800-38A, F.3.13."""
    held = bytearray.fromhex("6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51")
    cfb(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), bytes(range(16)), held)
    assert held.hex() == "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b"


def test_a_salt_is_for_one_key() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    owner = endorsement_template(private.public_key())
    salt, sent = share_by_ecdh(owner, b"SECRET\0", secrets.token_bytes)
    reader = BigEndianReader(sent, "point")
    x, y = reader.sized(), reader.sized()
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + x + y)
    assert salt == kdf_e(private.exchange(ec.ECDH(), point), b"SECRET\0", x, owner.unique[:32])
    assert salt not in sent
    assert be16(32) == sent[:2]
