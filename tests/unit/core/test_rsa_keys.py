"""RSA-3072 as a public key: one encoding, PSS with one set of parameters; openssl as a witness."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import RSA3072_SIGNATURE_SIZE, Algorithm, PublicKey, algorithm_of
from vectors.forge import Key, Pss, RsaKey

KEY, OTHER = RsaKey.make(), RsaKey.make()
ENCODED = KEY.encoded
DIGEST = hashlib.sha256(b"an image").digest()
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def test_the_encoding_decides_the_algorithm() -> None:
    assert PublicKey(ENCODED).algorithm is Algorithm.RSA_3072
    assert Key.make().public.algorithm is Algorithm.P256
    assert len(ENCODED) == 398
    assert KEY.public.key_hash == hashlib.sha256(ENCODED).digest()
    assert KEY.public.spki == KEY.private.public_key().public_bytes(DER, SPKI)
    assert KEY.public.pem() == KEY.private.public_key().public_bytes(PEM, SPKI)
    assert PublicKey.from_pem(KEY.public.pem()) == KEY.public


def test_it_is_no_key_of_another_algorithm() -> None:
    assert KEY.public.require([Algorithm.RSA_3072], "x") is KEY.public
    for ask in (lambda: KEY.public.cryptography, lambda: KEY.public.require([Algorithm.P256], "x")):
        with pytest.raises(FormatRefused) as refusal:
            ask()
        assert refusal.value.code is Code.KEY_FORMAT


@pytest.mark.parametrize("bits", [0, 8, 31, 71, 79, 3183, 3160, 3150])
def test_a_bit_of_the_frame_makes_it_no_key(bits: int) -> None:
    """Prefix, the modulus' first and last bit, suffix."""
    changed = bytearray(ENCODED)
    changed[bits // 8] ^= 0x80 >> bits % 8
    frame = bits // 8 < 9 or bits // 8 >= 393
    assert (algorithm_of(bytes(changed)) is None) == frame


def test_an_even_or_a_short_modulus_is_none() -> None:
    even = ENCODED[:392] + bytes([ENCODED[392] & 0xFE]) + ENCODED[393:]
    short = ENCODED[:9] + bytes([ENCODED[9] & 0x7F]) + ENCODED[10:]
    for encoded in (even, short, KEY.public.spki, ENCODED[:-1], ENCODED + b"\0", bytes(398)):
        with pytest.raises(FormatRefused) as refusal:
            PublicKey(encoded)
        assert refusal.value.code is Code.KEY_FORMAT


@pytest.mark.parametrize(("exponent", "bits"), [(3, 3072), (65537, 2048), (65537, 4096)])
def test_a_pem_of_another_exponent_or_size_is_none(exponent: int, bits: int) -> None:
    pem = RsaKey.make(exponent, bits).private.public_key().public_bytes(PEM, SPKI)
    with pytest.raises(FormatRefused) as refusal:
        PublicKey.from_pem(pem)
    assert refusal.value.code is Code.KEY_FORMAT


def refused(signature: bytes, digest: bytes = DIGEST, key: PublicKey = KEY.public) -> bool:
    try:
        key.verify(digest, signature, code=Code.IMAGE_SIGNATURE, subject="x")
    except TrustRefused as refusal:
        assert refusal.code is Code.IMAGE_SIGNATURE
        return True
    return False


def test_pss_with_one_set_of_parameters() -> None:
    """The vectors have the whole list; here what a library could be lenient about."""
    assert not refused(KEY.sign(DIGEST))
    assert not refused(KEY.sign_raw(Pss().encode(DIGEST)))
    for pss in (Pss(bytes(31)), Pss(bytes(33)), Pss(b""), Pss(mask="sha1"), Pss(trailer=b"\xcc")):
        assert refused(KEY.sign_raw(pss.encode(DIGEST)))
    good = KEY.sign(DIGEST)
    assert refused(OTHER.sign(DIGEST))
    assert refused(good, bytes(32))
    for signature in (b"", good[1:], good + b"\0", b"\0" + good, bytes(384), b"\xff" * 384):
        assert refused(signature)
    assert refused(Key.make().sign(DIGEST))
    assert refused(good, key=Key.make().public)


def test_not_below_the_modulus() -> None:
    while (number := int.from_bytes(KEY.sign(DIGEST), "big")) + KEY.modulus >= 1 << 3072:
        pass
    assert not refused(number.to_bytes(384, "big"))
    assert refused((number + KEY.modulus).to_bytes(384, "big"))


@given(st.binary(min_size=RSA3072_SIGNATURE_SIZE, max_size=RSA3072_SIGNATURE_SIZE))
def test_arbitrary_bytes_are_no_signature(signature: bytes) -> None:
    assert refused(signature)


@given(st.binary(max_size=420))
def test_arbitrary_bytes_have_no_algorithm(data: bytes) -> None:
    assert algorithm_of(data) is None
    assert algorithm_of(ENCODED[:9] + data) is None


def openssl(folder: Path, signature: bytes, *, salt: int = 32) -> bool:
    (folder / "key.pem").write_bytes(KEY.public.pem())
    (folder / "signature").write_bytes(signature)
    options = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", f"rsa_pss_saltlen:{salt}")
    command = ["openssl", "dgst", "-sha256", *options, "-verify", "key.pem", "-signature", "signature"]
    done = subprocess.run(command, cwd=folder, input=b"an image", capture_output=True, check=False)
    return done.returncode == 0


def test_openssl_says_the_same(tmp_path: Path) -> None:
    assert openssl(tmp_path, KEY.sign(DIGEST))
    assert openssl(tmp_path, KEY.sign_raw(Pss().encode(DIGEST)))
    for pss in (Pss(bytes(31)), Pss(one=b"\x02"), Pss(trailer=b"\xcc"), Pss(mask="sha1"), Pss(prime=b"")):
        signature = KEY.sign_raw(pss.encode(DIGEST))
        assert not openssl(tmp_path, signature)
        assert refused(signature)
    shorter = KEY.sign_raw(Pss(bytes(20)).encode(DIGEST))
    assert openssl(tmp_path, shorter, salt=20), "the forger is right, and the salt alone is wrong"
    assert refused(shorter)
