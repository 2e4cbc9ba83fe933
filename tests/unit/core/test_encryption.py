"""Encryption of images: the payload and nothing else, the key for one module and no other."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.image import Flag, Trust, Version, build, decode, verify, verify_stated
from cellward.core.image.encryption import KEY_SIZE, WRAPPED_SIZE, decrypt, encrypt, unwrap, wrap
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
    "public", [b"", bytes(65), b"\x04" + bytes(64), point(MODULE)[:-1], b"\x02" + bytes(32)]
)
def test_a_public_key_is_a_point(public: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        wrap(CONTENT_KEY, public, EPHEMERAL)
    assert refusal.value.code is Code.KEY_FORMAT
