"""P-384, Ed25519 and ML-DSA, which sign documents; openssl is the witness where Debian's knows them."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import Algorithm, PublicKey, algorithm_of, encode_signature
from tests.support.maker import Hand

ALGORITHMS = [Algorithm.P384, Algorithm.ED25519, Algorithm.ML_DSA_65, Algorithm.ML_DSA_87]
HANDS = {algorithm: Hand.of(algorithm) for algorithm in Algorithm}
MESSAGE = b"a release of more than one block" * 9
SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signature(hand: Hand) -> bytes:
    return hand.sign(hand.public_key.to_sign(MESSAGE))


def check(key: PublicKey, message: bytes, made: bytes) -> None:
    key.verify_message(message, made, code=Code.METADATA_SIGNATURE, subject="test")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_is_its_spki(algorithm: Algorithm) -> None:
    hand = HANDS[algorithm]
    key, native = hand.public_key, hand.key.public_key()
    assert key.algorithm is algorithm is algorithm_of(key.encoded)
    assert key.encoded == key.spki == native.public_bytes(*SPKI)
    assert key.pem() == native.public_bytes(*PEM)
    assert PublicKey.from_pem(key.pem()) == PublicKey.from_spki(key.spki) == key
    assert key.key_hash == hashlib.sha256(key.encoded).digest()


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_signature_is_of_this_key_and_message(algorithm: Algorithm) -> None:
    hand, other = HANDS[algorithm], Hand.of(algorithm)
    made = signature(hand)
    check(hand.public_key, MESSAGE, made)
    changed = made[:9] + bytes([made[9] ^ 1]) + made[10:]
    for key, message, claimed in (
        (other.public_key, MESSAGE, made),
        (hand.public_key, MESSAGE + b"!", made),
        (hand.public_key, MESSAGE, changed),
        (hand.public_key, MESSAGE, made[:-1]),
        (hand.public_key, MESSAGE, b""),
    ):
        with pytest.raises(TrustRefused) as refusal:
            check(key, message, claimed)
        assert refusal.value.code is Code.METADATA_SIGNATURE


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_another_algorithm_s_signature_is_none(algorithm: Algorithm) -> None:
    for other in Algorithm:
        if other is not algorithm:
            with pytest.raises(TrustRefused):
                check(HANDS[algorithm].public_key, MESSAGE, signature(HANDS[other]))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_bit_of_the_frame_counts(algorithm: Algorithm) -> None:
    encoded = HANDS[algorithm].public_key.encoded
    frame = len(encoded) - {120: 96, 44: 32, 1974: 1952, 2614: 2592}[len(encoded)]
    for bit in range(8 * frame):
        changed = bytearray(encoded)
        changed[bit // 8] ^= 0x80 >> bit % 8
        assert algorithm_of(bytes(changed)) is None
    assert algorithm_of(encoded[:-1]) is algorithm_of(encoded + b"\0") is None


def test_a_point_off_the_curve_is_no_key() -> None:
    encoded = HANDS[Algorithm.P384].public_key.encoded
    with pytest.raises(FormatRefused) as refusal:
        PublicKey(encoded[:-1] + bytes([encoded[-1] ^ 1]))
    assert refusal.value.code is Code.KEY_FORMAT


@pytest.mark.parametrize("algorithm", [Algorithm.P384, Algorithm.ED25519])
def test_openssl_agrees(tmp_path: Path, algorithm: Algorithm) -> None:
    hand = HANDS[algorithm]
    files = {"key": hand.public_key.pem(), "message": MESSAGE, "signature": signature(hand)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-sigfile", "signature"]
    options = ["-digest", "sha384"] if algorithm is Algorithm.P384 else []
    done = subprocess.run(
        [*command, "-rawin", "-in", "message", *options], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_a_signer_is_given() -> None:
    assert Algorithm.P256.to_sign(MESSAGE) == hashlib.sha256(MESSAGE).digest()
    assert Algorithm.RSA_3072.to_sign(MESSAGE) == hashlib.sha256(MESSAGE).digest()
    assert Algorithm.P384.to_sign(MESSAGE) == hashlib.sha384(MESSAGE).digest()
    assert Algorithm.ED25519.to_sign(MESSAGE) == Algorithm.ML_DSA_87.to_sign(MESSAGE) == MESSAGE


def test_r_and_s_have_their_curve_s_size() -> None:
    assert encode_signature(bytes(95) + b"\1", Algorithm.P384) == bytes.fromhex("3006020100020101")
    assert encode_signature(b"as it is", Algorithm.ED25519) == b"as it is"
    for size, algorithm in ((64, Algorithm.P384), (96, Algorithm.P256), (0, Algorithm.P384)):
        with pytest.raises(FormatRefused):
            encode_signature(bytes(size), algorithm)
