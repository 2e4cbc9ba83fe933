"""The controller's vault: no bytes upset a decoder, and no history of writes, cuts and old files a vault."""

import secrets
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from cellward.core import exported, packvault
from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, TrustRefused
from cellward.core.packvault import Content, Value
from cellward.core.tpm import approval, pcr
from cellward.core.tpm.approval import Approval, Terms
from cellward.core.tpm.pcr import PcrValues
from cellward.device.vault import accept, opened
from tests.support.maker import Hand
from tests.support.packtpm import MemoryDevice
from tests.support.vault import FIRST, MAKER, Pack, policy

KEY, DEVICE = bytes(range(32)), b"\xd0" * 32
NONCES = st.binary(min_size=12, max_size=12)
NAMES = st.from_regex(packvault.NAME, fullmatch=True)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    counter = draw(st.integers(1, packvault.MAX_COUNTER))
    values = [
        packvault.seal_value(
            *(KEY, DEVICE, name, draw(st.integers(0, counter)), draw(st.binary(min_size=1, max_size=40))),
            draw(NONCES),
            exportable=draw(st.booleans()),
        )
        for name in sorted(draw(st.sets(NAMES, max_size=4)))
    ]
    sealed, before = draw(st.binary(min_size=1, max_size=99)), draw(st.binary(min_size=32, max_size=32))
    return Content(DEVICE, MAKER.public_key, sealed, counter, before, tuple(values))


@given(contents(), NONCES)
def test_what_is_written_is_read(content: Content, nonce: bytes) -> None:
    data = content.encode(KEY, nonce)
    assert packvault.decode(data).check(KEY) == content
    with pytest.raises(TrustRefused):
        packvault.decode(data).check(bytes(32))


@given(contents(), st.data())
def test_nothing_but_what_was_written(content: Content, data: st.DataObject) -> None:
    """Every changed file is refused, as a file or as what the key made; but for values, at their reading."""
    good = content.encode(KEY, bytes(12))
    at = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    bad = {"flip": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], "cut": good[:at], "grow": good + b"\0"}
    with pytest.raises(Refused):
        read_all(bad[cut])
    read_all(good)


def read_all(data: bytes) -> None:
    content = packvault.decode(data).check(KEY)
    for value in content.values:
        value.open(KEY, content.device, memoryview(bytearray(len(value.ciphertext))))


@given(st.binary(max_size=400) | contents().map(lambda content: content.index))
def test_any_bytes_are_a_vault_or_refused(data: bytes) -> None:
    for decode in (packvault.decode, exported.decode, approval.decode):
        with pytest.raises(FormatRefused):
            decode(data)


@given(contents(), st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_what_decodes_has_one_encoding(content: Content, at: int, some: bytes) -> None:
    data = content.encode(KEY, bytes(12))
    changed = data[:at] + some + data[at + len(some) :]
    try:
        found = packvault.decode(changed)
    except FormatRefused:
        return
    tail = b"".join((found.nonce, found.tag, *(value.ciphertext for value in found.content.values)))
    assert found.content.index + tail == changed


@given(contents(), st.binary(min_size=32, max_size=32), st.integers(0, packvault.MAX_COUNTER))
def test_only_three_states_of_the_tpm_fit_a_file(content: Content, chain: bytes, counter: int) -> None:
    after = packvault.extended(content.before, content.mark(KEY))
    for known in (chain, after, content.before):
        for number in (counter, content.counter - 1, content.counter, content.counter + 1):
            fits = (known, number) in (
                (after, content.counter),
                (after, content.counter - 1),
                (content.before, content.counter - 1),
            )
            try:
                packvault.standing(content, KEY, known, number)
            except TrustRefused as refusal:
                assert refusal.code is Code.VAULT_ROLLBACK
                assert not fits
            else:
                assert fits


@given(
    st.dictionaries(st.integers(8, 15), st.binary(min_size=32, max_size=32), min_size=1),
    st.integers(1, 2**53 - 1),
    st.data(),
)
def test_policies(values: dict[int, bytes], counter: int, data: st.DataObject) -> None:
    made = Approval(Terms(PcrValues(values), counter), MAKER.public_key.fingerprint, bytes(70))
    good = made.encode()
    assert approval.decode(good) == made
    at = data.draw(st.integers(0, len(good)))
    for bad in (good[:at] + b" " + good[at:], good[:at], good.replace(b'"format":1', b'"format":2')):
        if bad != good:
            with pytest.raises(FormatRefused):
                approval.decode(bad)


@given(NAMES, st.integers(0, packvault.MAX_COUNTER), st.binary(min_size=1, max_size=64), st.data())
def test_exported(name: str, version: int, value: bytes, data: st.DataObject) -> None:
    recipient, ephemeral = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made = exported.export(DEVICE, name, version, value, recipient.public_key(), ephemeral, bytes(16))
    good = made.encode()
    assert exported.decode(good) == made
    at = data.draw(st.integers(0, len(good) - 1))
    for bad in (good[:at], good + b"\0"):
        with pytest.raises(FormatRefused):
            exported.decode(bad)


# --- histories ---


class Cut(BaseException):
    pass


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove", "rotate"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from([None, None, "extend_chain", "increment"]),  # before what the power goes
        st.booleans(),  # whether somebody then puts every file back that there was
    ),
    max_size=8,
)


@settings(max_examples=40)
@given(ACTIONS)
def test_a_vault_is_what_its_last_write_made_it(actions: list[tuple[str, str, str | None, bool]]) -> None:
    """Against a dictionary. Of all files that ever were, only the newest opens; after a cut that the TPM has
    not seen, that one or the one before it, for good."""
    with tempfile.TemporaryDirectory() as folder:
        pack = Pack(MemoryDevice(), Path(folder))
        pack.make()
        model: dict[str, bytes] = {}
        ever = [pack.file]
        for action, name, cut, replay in actions:
            model = act(pack, model, action, name, cut)
            if pack.file not in ever:
                ever.append(pack.file)
            assert contents_of(pack) == model
            if replay:
                only_the_newest_opens(pack, ever)
                assert contents_of(pack) == model


def act(pack: Pack, model: dict[str, bytes], action: str, name: str, cut: str | None) -> dict[str, bytes]:
    after, value = dict(model), secrets.token_bytes(8)
    with opened(pack.place) as vault:
        if cut is not None:
            setattr(pack.device.tpm, cut, gone)
        try:
            if action == "put":
                vault.put(name, value)
                after[name] = value
            elif action == "rotate":
                vault.rotate()
            elif name in model:
                vault.remove(name)
                del after[name]
        except Cut:  # the file was there already: what was begun will be made good
            after = {**model, name: value} if action == "put" else after
            if action == "remove":
                del after[name]
        finally:
            if cut is not None:
                delattr(pack.device.tpm, cut)
    return after


def gone(*_: object) -> None:
    raise Cut


def only_the_newest_opens(pack: Pack, ever: list[bytes]) -> None:
    newest = pack.file
    for old in ever:
        if old == newest:
            continue
        pack.restore(old)
        with pytest.raises(CellwardError) as caught, opened(pack.place):
            pass
        assert caught.value.code is Code.VAULT_ROLLBACK
    pack.restore(newest)


def contents_of(pack: Pack) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with opened(pack.place) as vault:
        for value in vault.content.values:
            with vault.get(value.name) as view:
                found[value.name] = bytes(view)
    return found


@given(st.binary(max_size=200))
@settings(max_examples=30)
def test_no_policy_upsets_a_vault(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pack = Pack(MemoryDevice(), Path(folder))
        pack.make()
        for bad in (data, policy(FIRST, 3, Hand()), policy(FIRST, 3)[:-3]):
            with pytest.raises(Refused):
                accept(pack.place, bad)
        assert pack.names() == []


def test_a_digest_of_a_pcr_is_not_its_extension() -> None:
    """The policy has what the PCR holds, not what it was extended with."""
    held = approval.decode(policy(FIRST, 1)).terms.values
    assert held == PcrValues({8: pcr.extend(pcr.RESET_VALUE, FIRST)})


def test_values_do_not_print() -> None:
    value = packvault.seal_value(KEY, DEVICE, "a", 1, b"secret", bytes(12), exportable=False)
    assert isinstance(value, Value)
    assert "ciphertext" not in repr(value)
