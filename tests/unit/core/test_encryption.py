"""Encryption of images: the payload and nothing else, the key for one module and no other."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.image import Flag, Tlv, Trust, Version, build, decode, verify, verify_stated
from cellward.core.image.encryption import (
    CHUNK,
    KEY_SIZE,
    WRAPPED_SIZE,
    decrypt,
    encrypt,
    encrypt_body,
    unwrap,
    with_wrapped_key,
    wrap,
)
from cellward.core.slots import BMS_M33, Stage
from vectors.forge import Key

KEY = Key.make()
TRUST = Trust({KEY.public.key_hash: KEY.public})
CONTENT_KEY = bytes(range(16))
MODULE = ec.generate_private_key(ec.SECP256R1())
SCALAR = MODULE.private_numbers().private_value.to_bytes(32, "big")
EPHEMERAL = ec.generate_private_key(ec.SECP256R1())


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def signed(payload: bytes, *, encrypted: bool = True) -> bytes:
    unsigned = build(
        payload,
        version=Version(1, 4, 0),
        counter=7,
        hardware=(BMS_M33.vendor_id, BMS_M33.class_id(Stage.APP)),
        encrypted=encrypted,
    )
    return unsigned.signed(KEY.public, KEY.sign(unsigned.digest))


@given(st.binary(min_size=1, max_size=200), st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE))
def test_only_the_payload_changes_and_comes_back(payload: bytes, key: bytes) -> None:
    image = signed(payload)
    published = encrypt(image, key)
    before, after = decode(image), decode(published)
    assert before.payload == payload.ljust(-(-len(payload) // 16) * 16, b"\0")
    assert published[: before.header_size] == image[: before.header_size]
    assert after.entries == before.entries
    assert after.payload != before.payload
    assert decrypt(published, key) == image
    assert verify(decode(decrypt(published, key)), TRUST).image.flags == Flag.ENC_AES128
    verify_stated(after, TRUST)
    with pytest.raises(TrustRefused) as refusal:
        verify(after, TRUST)
    assert refusal.value.code is Code.IMAGE_HASH


def test_an_image_that_was_not_built_for_it_is_not_encrypted() -> None:
    with pytest.raises(FormatRefused) as refusal:
        encrypt(signed(b"plain", encrypted=False), CONTENT_KEY)
    assert refusal.value.code is Code.IMAGE_ENCRYPTION


@pytest.mark.parametrize("size", [0, 15, 17, 24, 32])
def test_a_content_key_is_sixteen_bytes(size: int) -> None:
    with pytest.raises(FormatRefused) as of_image:
        encrypt(signed(b"x"), bytes(size))
    with pytest.raises(FormatRefused) as of_key:
        wrap(bytes(size), point(MODULE), EPHEMERAL)
    assert of_image.value.code is of_key.value.code is Code.IMAGE_ENCRYPTION


def test_a_wrapped_key_opens_for_its_module_alone() -> None:
    wrapped = wrap(CONTENT_KEY, point(MODULE), EPHEMERAL)
    assert len(wrapped) == WRAPPED_SIZE
    assert wrapped[:65] == point(EPHEMERAL)
    assert CONTENT_KEY not in wrapped
    assert unwrap(wrapped, SCALAR) == CONTENT_KEY
    other = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")
    for scalar in (other, bytes(32), b"\xff" * 32):
        with pytest.raises(TrustRefused) as refusal:
            unwrap(wrapped, scalar)
        assert refusal.value.code is Code.IMAGE_ENCRYPTION


@given(st.integers(0, WRAPPED_SIZE * 8 - 1))
def test_no_bit_of_a_wrapped_key_can_be_changed(bit: int) -> None:
    wrapped = bytearray(wrap(CONTENT_KEY, point(MODULE), EPHEMERAL))
    wrapped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TrustRefused):
        unwrap(bytes(wrapped), SCALAR)


@given(st.binary(max_size=130))
def test_other_bytes_are_no_wrapped_key(data: bytes) -> None:
    with pytest.raises(TrustRefused):
        unwrap(data, SCALAR)


@pytest.mark.parametrize(
    "public",
    [b"", bytes(65), b"\x04" + bytes(64), point(MODULE)[:-1], b"\x02" + bytes(32)],
    ids=["empty", "zeros", "off the curve", "cut", "compressed"],
)
def test_a_public_key_is_a_point(public: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        wrap(CONTENT_KEY, public, EPHEMERAL)
    assert refusal.value.code is Code.KEY_FORMAT


@pytest.mark.parametrize("size", [0, 1, 16, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_body_in_chunks_is_the_body_at_once(size: int) -> None:
    """Beside the library's own CTR over all of it: no block is counted twice or left out."""
    data = bytes(i * 7 % 251 for i in range(size))
    cipher = Cipher(algorithms.AES(CONTENT_KEY), modes.CTR(bytes(16))).encryptor()
    pieces = [bytes(c) for c in encrypt_body(lambda at, count: data[at : at + count], CONTENT_KEY)]
    assert b"".join(pieces) == cipher.update(data)
    assert all(len(piece) <= CHUNK for piece in pieces)


def test_a_key_in_the_file_is_the_last_tlv_and_changes_nothing_signed() -> None:
    published = encrypt(signed(b"payload"), CONTENT_KEY)
    wrapped = wrap(CONTENT_KEY, point(MODULE), EPHEMERAL)
    before, after = decode(published), decode(with_wrapped_key(published, wrapped))
    assert [(e.type, e.value) for e in after.entries[:-1]] == [(e.type, e.value) for e in before.entries]
    assert (after.entries[-1].type, after.entries[-1].value) == (Tlv.ENC_EC256, wrapped)
    assert after.data[: after.signed_size] == published[: before.signed_size]
    verify_stated(after, TRUST)


def test_no_key_goes_where_one_is_or_nothing_is_encrypted() -> None:
    published, wrapped = encrypt(signed(b"payload"), CONTENT_KEY), bytes(WRAPPED_SIZE)
    once = with_wrapped_key(published, wrapped)
    for image, value in ((once, wrapped), (signed(b"x", encrypted=False), wrapped), (published, b"short")):
        with pytest.raises(Refused) as refusal:
            with_wrapped_key(image, value)
        assert refusal.value.code is Code.IMAGE_ENCRYPTION
