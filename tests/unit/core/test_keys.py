"""Public keys: one encoding, one fingerprint, one DER form of a signature."""

import dataclasses
import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import (
    P256_ORDER,
    P256_SIGNATURE_SIZES,
    PublicKey,
    canonical_signature,
    encode_signature,
    signatures,
)
from vectors.forge import Key, der_integer, der_sequence

KEY = Key.make()
OTHER = Key.make()
SPKI = KEY.public.spki
DIGEST = hashlib.sha256(b"an image").digest()
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def der(key: ec.EllipticCurvePublicKey, encoding: serialization.Encoding) -> bytes:
    return key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_key_is_its_91_bytes() -> None:
    again = PublicKey(SPKI)
    assert again == KEY.public
    assert len(again.spki) == 91
    assert again.cryptography.public_numbers() == KEY.private.public_key().public_numbers()
    assert der(KEY.private.public_key(), serialization.Encoding.DER) == SPKI


def test_the_key_hash_is_sha256_of_the_encoding() -> None:
    assert KEY.public.key_hash == hashlib.sha256(SPKI).digest()
    assert KEY.public.fingerprint == hashlib.sha256(SPKI).hexdigest()


def test_pem_there_and_back() -> None:
    assert PublicKey.from_pem(KEY.public.pem()) == KEY.public
    assert KEY.public.pem() == KEY.private.public_key().public_bytes(*PEM)


def off_curve() -> bytes:
    return SPKI[:-1] + bytes([SPKI[-1] ^ 1])


def swap(spki: bytes, at: int, new: bytes) -> bytes:
    return spki[:at] + new + spki[at + len(new) :]


OTHER_ENCODINGS = {
    "empty": b"",
    "cut": SPKI[:-1],
    "longer": SPKI + b"\x00",
    "bare point": SPKI[26:],
    "zeros": bytes(91),
    "another length of the bit string": swap(SPKI, 22, b"\x43"),
    "another curve's name": swap(SPKI, 10, b"\x2b"),
    "hybrid form": swap(SPKI, 26, b"\x06"),
    "compressed form": swap(SPKI, 26, b"\x02"),
    "off the curve": off_curve(),
    "(0, 0)": swap(SPKI, 27, bytes(64)),
    "a coordinate that is not reduced": swap(SPKI, 27, P.to_bytes(32, "big")),
    "P-521": der(ec.generate_private_key(ec.SECP521R1()).public_key(), serialization.Encoding.DER),
    "secp256k1": der(ec.generate_private_key(ec.SECP256K1()).public_key(), serialization.Encoding.DER),
}


@pytest.mark.parametrize("spki", OTHER_ENCODINGS.values(), ids=OTHER_ENCODINGS)
def test_another_encoding_is_no_key(spki: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        PublicKey(spki)
    assert refusal.value.code is Code.KEY_FORMAT
    assert refusal.value.expected


def test_the_refusals_say_which_it_was() -> None:
    for spki, word in ((SPKI[:-1], "90 bytes"), (off_curve(), "another point")):
        with pytest.raises(FormatRefused) as refusal:
            PublicKey(spki)
        assert word in refusal.value.found


@pytest.mark.parametrize(
    ("pem", "found"),
    [
        (b"", "something else"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "something else"),
        (KEY.public.spki, "something else"),
        (ed448.Ed448PrivateKey.generate().public_key().public_bytes(*PEM), "69 bytes of another form"),
        (rsa.generate_private_key(65537, 2048).public_key().public_bytes(*PEM), "270 bytes of another form"),
        (
            ec.generate_private_key(ec.SECP521R1()).public_key().public_bytes(*PEM),
            "158 bytes of another form",
        ),
    ],
    ids=["empty", "broken", "der", "ed448", "rsa", "p521"],
)
def test_a_pem_of_anything_else_is_no_key(pem: bytes, found: str) -> None:
    with pytest.raises(FormatRefused) as refusal:
        PublicKey.from_pem(pem)
    assert refusal.value.code is Code.KEY_FORMAT
    assert refusal.value.found == found


def test_a_private_key_is_not_taken_for_a_public_one() -> None:
    pem = KEY.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(FormatRefused) as refusal:
        PublicKey.from_pem(pem)
    assert refusal.value.code is Code.KEY_FORMAT


def test_verify_returns_the_digest_it_verified() -> None:
    assert KEY.public.verify(DIGEST, KEY.sign(DIGEST), code=Code.IMAGE_SIGNATURE, subject="x") == DIGEST


@pytest.mark.parametrize(
    ("digest", "signature"),
    [
        (DIGEST, OTHER.sign(DIGEST)),
        (hashlib.sha256(b"another").digest(), KEY.sign(DIGEST)),
        (DIGEST, b""),
        (DIGEST, b"\x30\x00"),
        (DIGEST[:-1], KEY.sign(DIGEST)),
        (b"", KEY.sign(DIGEST)),
    ],
    ids=["key", "digest", "empty", "no-der", "short-digest", "no-digest"],
)
def test_a_signature_that_does_not_verify_is_refused_with_the_caller_s_words(
    digest: bytes, signature: bytes
) -> None:
    with pytest.raises(TrustRefused) as refusal:
        KEY.public.verify(digest, signature, code=Code.REPORT_SIGNATURE, subject="the report")
    assert refusal.value.code is Code.REPORT_SIGNATURE
    assert refusal.value.subject == "the report"
    assert refusal.value.expected == f"a signature by key {KEY.public.fingerprint[:16]}"


def test_a_key_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        KEY.public.encoded = OTHER.public.encoded  # type: ignore[misc]


# DER -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [1, 0x7F, 0x80, 2**255, P256_ORDER - 1])
@pytest.mark.parametrize("s", [1, 0x80, P256_ORDER - 1])
def test_raw_to_der(r: int, s: int) -> None:
    encoded = encode_signature(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    assert encoded == der_sequence(der_integer(r) + der_integer(s))
    assert canonical_signature(encoded)
    assert len(encoded) in P256_SIGNATURE_SIZES


def test_the_sizes_of_a_signature_are_those_of_its_extremes() -> None:
    shortest = der_sequence(der_integer(1) + der_integer(1))
    longest = der_sequence(der_integer(P256_ORDER - 1) + der_integer(P256_ORDER - 1))
    assert (P256_SIGNATURE_SIZES[0], P256_SIGNATURE_SIZES[-1]) == (len(shortest), len(longest))


@pytest.mark.parametrize("size", [0, 63, 65, 96])
def test_raw_signatures_have_one_size(size: int) -> None:
    with pytest.raises(FormatRefused) as refusal:
        encode_signature(bytes(size))
    assert refusal.value.code is Code.KEY_FORMAT
    assert refusal.value.found == f"{size}"


ONE = der_integer(1)
N = P256_ORDER


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        der_sequence(ONE),
        der_sequence(ONE + ONE) + b"\x00",
        der_sequence(ONE + ONE + ONE),
        der_sequence(ONE + ONE, b"\x81\x06"),
        der_sequence(ONE + ONE, b"\x80") + b"\x00\x00",
        der_sequence(ONE + ONE, b"\x05"),
        der_sequence(ONE + ONE, b"\x07"),
        der_sequence(der_integer(1, padding=1) + ONE),
        der_sequence(ONE + der_integer(1, padding=1)),
        der_sequence(b"\x02\x01\xff" + ONE),
        der_sequence(ONE + b"\x02\x01\x80"),
        der_sequence(b"\x02\x00" + ONE),
        der_sequence(b"\x03\x01\x01" + ONE),
        der_sequence(der_integer(0) + ONE),
        der_sequence(ONE + der_integer(0)),
        der_sequence(der_integer(N) + ONE),
        der_sequence(ONE + der_integer(N)),
        der_sequence(der_integer(2**256 - 1) + ONE),
        der_sequence(der_integer(2**256) + ONE),
        der_sequence(ONE + der_integer(2**800), b"\x6a"),
        b"\x31" + der_sequence(ONE + ONE)[1:],
        bytes(64),
    ],
    ids=lambda s: s[:12].hex() or "empty",
)
def test_there_is_one_encoding_of_a_signature(signature: bytes) -> None:
    assert not canonical_signature(signature)


def test_no_lenient_parser_opens_a_second_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's parser is strict today; that there is one encoding does not rest on it."""
    monkeypatch.setattr(signatures, "decode_dss_signature", lambda _: (1, 1))
    assert canonical_signature(der_sequence(ONE + ONE))
    assert not canonical_signature(der_sequence(der_integer(1, padding=1) + ONE))


@given(st.integers(1, N - 1), st.integers(1, N - 1))
def test_every_r_and_s_in_range_has_one(r: int, s: int) -> None:
    assert canonical_signature(der_sequence(der_integer(r) + der_integer(s)))


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_canonical_only_if_they_are_what_we_would_write(data: bytes) -> None:
    if canonical_signature(data):
        parsed = decode_dss_signature(data)
        assert encode_dss_signature(*parsed) == data


@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_no_key(data: bytes) -> None:
    with pytest.raises(FormatRefused):
        PublicKey(data)
    with pytest.raises(FormatRefused):
        PublicKey.from_pem(data)
