"""The DSSE envelope: one encoding, the protocol's own example, nobody's signature but the named keys'."""

import hashlib
import json
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import envelope
from cellward.core.envelope import Envelope
from cellward.core.errors import CellwardError, Code, FormatRefused, TrustRefused
from cellward.core.keys import Algorithm
from cellward.sign.documents import sign_document
from tests.support.maker import Hand

LIMIT = 10_000
HANDS = [Hand.of(algorithm) for algorithm in (Algorithm.P256, Algorithm.ED25519, Algorithm.ML_DSA_65)]
TREE = {"a": 1, "b": ["x"]}


def signed(*hands: Hand) -> Envelope:
    made = envelope.make("release", TREE)
    for hand in hands:
        made = sign_document(made, hand)
    return made


def read(data: bytes) -> Envelope:
    return envelope.decode(data, "release", "test", LIMIT)


def test_pae_is_the_protocol_s_own_example() -> None:
    """dsse/protocol.md, "Test Vectors"."""
    example = Envelope("http://example.com/HelloWorld", b"hello world")
    assert example.pae == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_there_and_back() -> None:
    made = signed(*HANDS)
    assert read(made.encode()) == made
    assert made.signers([hand.public_key for hand in HANDS], "test") == {h.public_key for h in HANDS}
    assert made.fields("test").integer("a") == 1
    assert envelope.kind_of(made.encode(), "test", LIMIT) == "release"


def test_a_signature_is_what_the_algorithm_signs_elsewhere() -> None:
    made = signed(HANDS[0])
    key = HANDS[0].key.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(made.signatures[0].value, made.pae, ec.ECDSA(hashes.SHA256()))


def test_signing_again_replaces() -> None:
    once = signed(HANDS[0])
    assert len(sign_document(once, HANDS[0]).signatures) == 1


def test_a_stranger_s_signature_is_refused_even_beside_good_ones() -> None:
    made = signed(*HANDS)
    with pytest.raises(TrustRefused) as refusal:
        made.signers([HANDS[0].public_key], "test")
    assert refusal.value.code is Code.DOCUMENT_SIGNATURE


@pytest.mark.parametrize("hand", HANDS, ids=lambda hand: hand.public_key.algorithm)
def test_another_payload_or_type_is_not_signed(hand: Hand) -> None:
    made = signed(hand)
    for other in (
        Envelope(made.payload_type, made.payload + b" ", made.signatures),
        Envelope(envelope.payload_type("approval"), made.payload, made.signatures),
    ):
        with pytest.raises(TrustRefused):
            other.signers([hand.public_key], "test")
        with pytest.raises(TrustRefused):
            other.signed_by(hand.public_key, made.signatures[0].value)


def test_another_kind_is_refused() -> None:
    with pytest.raises(FormatRefused) as refusal:
        envelope.decode(signed(HANDS[0]).encode(), "calibration", "test", LIMIT)
    assert refusal.value.code is Code.DOCUMENT_KIND


def other_encodings() -> dict[str, bytes]:
    made = signed(HANDS[0], HANDS[1])
    tree = json.loads(made.encode())
    twice = {**tree, "signatures": [tree["signatures"][0]] * 2}
    backwards = {**tree, "signatures": tree["signatures"][::-1]}
    padded = {**tree, "payload": b64encode(made.payload).decode().rstrip("=") + "===="}
    return {
        "no newline": made.encode()[:-1],
        "spaces": json.dumps(tree).encode() + b"\n",
        "a field more": json.dumps({**tree, "x": 1}, separators=(",", ":"), sort_keys=True).encode() + b"\n",
        "a signature twice": json.dumps(twice, separators=(",", ":"), sort_keys=True).encode() + b"\n",
        "another order": json.dumps(backwards, separators=(",", ":"), sort_keys=True).encode() + b"\n",
        "other padding": json.dumps(padded, separators=(",", ":"), sort_keys=True).encode() + b"\n",
        "a foreign type": made.encode().replace(b"vnd.cellward.release", b"vnd.in-toto"),
        "too large": made.encode() + b" " * LIMIT,
    }


@pytest.mark.parametrize("name", other_encodings())
def test_there_is_one_encoding(name: str) -> None:
    with pytest.raises(FormatRefused):
        read(other_encodings()[name])


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_changed_byte_goes_unnoticed(at: int, value: int) -> None:
    data = bytearray(signed(HANDS[0]).encode())
    before, data[at % len(data)] = data[at % len(data)], value
    if before == value:
        return
    with pytest.raises(CellwardError):
        read(bytes(data)).signers([HANDS[0].public_key], "test")


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatRefused):
        read(data)
    with pytest.raises(FormatRefused):
        envelope.kind_of(data, "test", LIMIT)


def test_a_fingerprint_is_the_key_id() -> None:
    made = signed(HANDS[2])
    assert made.signatures[0].key_id == hashlib.sha256(HANDS[2].public_key.spki).hexdigest()
