"""Signed notes, checkpoints and proofs as files: the specification's own example, and no bit that is free."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import CellwardError, Code, FormatRefused, TrustRefused
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.log import checkpoint, note, proof
from cellward.core.log.checkpoint import Checkpoint
from cellward.core.log.merkle import EMPTY_ROOT, inclusion_ranges, leaf_hash, tree_hash
from cellward.core.log.note import NoteKey
from cellward.core.log.proof import LogProof
from tests.support.maker import Hand
from tests.unit.core.log.test_entry import make

ORIGIN = "example.com/log"
HAND, OTHER = Hand.of(Algorithm.ED25519), Hand.of(Algorithm.ED25519)
KEY = NoteKey(ORIGIN, HAND.public_key)
ENTRIES = [make(subject=f"image {number}").encode() for number in range(7)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
HEAD = Checkpoint(ORIGIN, len(LEAVES), tree_hash(LEAVES))
SIGNED = HEAD.signed(HAND.public_key, HAND.sign(HEAD.text.encode()))

# Go's golang.org/x/mod/sumdb/note package documents this key and note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6Ry"
    "yBwJnAM=\n"
).encode()


def refused(code: Code, data: bytes, key: PublicKey | NoteKey = KEY) -> None:
    with pytest.raises(CellwardError) as error:
        checkpoint.verify(data, key, "test")
    assert error.value.code is code


# --- notes ---


def test_the_note_of_go_s_documentation() -> None:
    key = NoteKey.from_vkey(GO_KEY)
    assert key.vkey == GO_KEY
    read = note.decode(GO_NOTE, "test")
    assert read.encode() == GO_NOTE
    assert read.verified_by(key, "test").startswith("If you think")
    with pytest.raises(TrustRefused):
        note.decode(GO_NOTE.replace(b"is the answer", b"is no answer"), "test").verified_by(key, "test")


def test_vkeys_of_another_form_are_refused() -> None:
    name, hash_, encoded = GO_KEY.split("+", 2)
    ecdsa = base64.b64encode(b"\x02" + bytes(32)).decode()
    for text in ("", name, f"{name}+00000000+{encoded}", f"{name}+{hash_}+{ecdsa}", f"+{hash_}+{encoded}"):
        with pytest.raises(FormatRefused) as error:
            NoteKey.from_vkey(text)
        assert error.value.code is Code.LOG_FORMAT


def test_only_ed25519_signs_a_log() -> None:
    with pytest.raises(FormatRefused) as error:
        NoteKey(ORIGIN, Hand().public_key)
    assert error.value.code is Code.KEY_FORMAT


def test_the_signature_is_plain_ed25519_over_the_text() -> None:
    """Witness: cryptography alone, by the words of the specification."""
    text, _, below = SIGNED.partition(b"\n\n")
    raw = base64.b64decode(below.split(b" ")[2])
    spki = HAND.public_key.encoded
    Ed25519PublicKey.from_public_bytes(spki[-32:]).verify(raw[4:], text + b"\n")


@given(st.binary(max_size=120))
def test_any_bytes_are_a_note_or_refused(data: bytes) -> None:
    for each in (data, b"text\n\n" + data, SIGNED + data):
        try:
            assert note.decode(each, "test").encode() == each
        except FormatRefused as error:
            assert error.code is Code.LOG_FORMAT


def test_a_witness_s_line_is_kept_and_ignored() -> None:
    line = f"— witness.example {base64.b64encode(b'wwww' + bytes(72)).decode()}\n".encode()
    assert checkpoint.verify(SIGNED + line, KEY, "test") == HEAD
    assert note.decode(SIGNED + line, "test").signatures[1][0] == "witness.example"


def test_a_second_line_of_the_log_s_key_must_verify_too() -> None:
    line = f"— {ORIGIN} {base64.b64encode(KEY.id + bytes(64)).decode()}\n".encode()
    refused(Code.LOG_SIGNATURE, SIGNED + line)


# --- checkpoints ---


def test_a_checkpoint_is_the_three_lines() -> None:
    root = base64.b64encode(HEAD.root).decode()
    assert SIGNED.decode().split("\n")[:4] == [ORIGIN, "7", root, ""]
    assert checkpoint.verify(SIGNED, HAND.public_key, "test") == HEAD


def test_no_bit_of_a_checkpoint_is_free() -> None:
    for bit in range(len(SIGNED) * 8):
        data = bytearray(SIGNED)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CellwardError) as error:
            checkpoint.verify(bytes(data), HAND.public_key, "test")
        assert error.value.code in (Code.LOG_FORMAT, Code.LOG_SIGNATURE)


def test_another_key_and_another_log_are_refused() -> None:
    refused(Code.LOG_SIGNATURE, SIGNED, OTHER.public_key)
    refused(Code.LOG_ORIGIN, SIGNED, NoteKey("example.com/other", HAND.public_key))
    # The right key signed for another name: its id is another.
    text = HEAD.text.encode()
    forged = note.signed(HEAD.text, NoteKey("other", HAND.public_key), HAND.sign(text)).encode()
    refused(Code.LOG_SIGNATURE, forged)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n07\n{'A' * 43}=\n",
        f"{ORIGIN}\n-1\n{'A' * 43}=\n",
        f"{ORIGIN}\n1\n{'A' * 43}=\nextension\n",
        f"{ORIGIN}\n1\nAAAA\n",
        f"{ORIGIN}\n0\n{'A' * 43}=\n",
        f"{ORIGIN}\n1\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"\n1\n{'A' * 43}=\n",
        f"{ORIGIN}\n1\n{'A' * 42}B=\n",
    ],
)
def test_what_a_log_must_not_say_is_refused_even_signed(text: str) -> None:
    refused(Code.LOG_FORMAT, note.signed(text, KEY, HAND.sign(text.encode())).encode())


# --- proofs ---


def proof_of(index: int) -> LogProof:
    hashes = tuple(tree_hash(LEAVES[first:end]) for first, end in inclusion_ranges(index, len(LEAVES)))
    return LogProof(ENTRIES[index], index, hashes, SIGNED)


@pytest.mark.parametrize("index", range(7))
def test_a_proof_says_what_went_in_and_verifies(index: int) -> None:
    data = proof_of(index).encode()
    assert data.startswith(b"c2sp.org/tlog-proof@v1\nextra ")
    found = proof.decode(data, "test").verified_by(KEY, "test")
    assert (found.index, found.entry.subject, found.checkpoint) == (index, f"image {index}", HEAD)


@given(st.integers(0, 6), st.data())
def test_no_bit_of_a_proof_is_free(index: int, data: st.DataObject) -> None:
    whole = bytearray(proof_of(index).encode())
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CellwardError) as error:
        proof.decode(bytes(whole), "test").verified_by(KEY, "test")
    assert error.value.code in (Code.LOG_FORMAT, Code.LOG_SIGNATURE, Code.LOG_ORIGIN, Code.LOG_PROOF)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_a_proof_or_refused(tail: bytes, cut: int) -> None:
    for data in (tail, proof.HEADER + tail, proof_of(3).encode()[:cut] + tail):
        try:
            proof.decode(data, "test").verified_by(KEY, "test")
        except CellwardError as error:
            assert error.code in (Code.LOG_FORMAT, Code.LOG_SIGNATURE, Code.LOG_ORIGIN, Code.LOG_PROOF)


def test_an_entry_of_another_index_is_refused() -> None:
    other = LogProof(ENTRIES[2], 3, proof_of(3).hashes, SIGNED)
    with pytest.raises(TrustRefused) as error:
        other.verified_by(KEY, "test")
    assert error.value.code is Code.LOG_PROOF
