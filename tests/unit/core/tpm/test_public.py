"""Public areas: one encoding, and nothing in it that Cellward does not know."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from cellward.core.errors import Code, FormatRefused
from cellward.core.tpm.keys import endorsement_template
from cellward.core.tpm.numbers import Alg, NvAttributes, NvType
from cellward.core.tpm.public import (
    NvPublic,
    Public,
    decode_name,
    decode_public,
    qualified_name,
)
from cellward.core.wire import be16, be32
from tests.support.attested import signing_area

SIGNING = signing_area()
RSA = endorsement_template(rsa.generate_private_key(65537, 2048).public_key())
# Where the fields of TPMT_PUBLIC with an empty policy are.
TYPE, NAME_ALG, ATTRIBUTES, POLICY, SYMMETRIC, SCHEME, CURVE, KDF, X, Y = 0, 2, 4, 8, 10, 12, 16, 18, 20, 54


def edited(public: Public, at: int, value: bytes) -> bytes:
    data = bytearray(public.encode())
    data[at : at + len(value)] = value
    return bytes(data)


def refused(data: bytes) -> FormatRefused:
    with pytest.raises(FormatRefused) as refusal:
        decode_public(data)
    return refusal.value


@pytest.mark.parametrize("public", [SIGNING, RSA])
def test_there_and_back(public: Public) -> None:
    data = public.encode()
    assert decode_public(data) == public
    assert public.name == b"\x00\x0b" + hashlib.sha256(data).digest()


@pytest.mark.parametrize("public", [SIGNING, RSA])
def test_shorter_and_longer_areas_are_refused(public: Public) -> None:
    data = public.encode()
    for size in range(len(data)):
        assert refused(data[:size]).code in (Code.TRUNCATED, Code.ATTEST_FORMAT)
    assert refused(data + b"\0").code is Code.TRAILING


@pytest.mark.parametrize(
    ("at", "value", "expected"),
    [
        (TYPE, be16(0x0008), "ECC or RSA"),
        (NAME_ALG, be16(0x0004), "SHA256"),
        (NAME_ALG, be16(0x000C), "SHA256"),
        (ATTRIBUTES, be32(1), "no reserved attribute"),
        (ATTRIBUTES, be32(1 << 31), "no reserved attribute"),
        (SYMMETRIC, be16(Alg.AES) + be16(256) + be16(Alg.CFB), "none or AES_128_CFB"),
        (SCHEME, be16(0x001A), "none or ECDSA_SHA256"),
        (SCHEME + 2, be16(0x0004), "none or ECDSA_SHA256"),
        (CURVE, be16(0x0004), "the curve P-256"),
        (KDF, be16(0x0020), "no key derivation"),
    ],
)
def test_what_is_not_known_is_refused(at: int, value: bytes, expected: str) -> None:
    refusal = refused(edited(SIGNING, at, value))
    assert (refusal.code, refusal.expected) == (Code.ATTEST_FORMAT, expected)


@pytest.mark.parametrize("size", [1, 31, 33, 48])
def test_a_policy_is_a_digest_or_nothing(size: int) -> None:
    assert refused(replace(SIGNING, policy=bytes(size)).encode()).expected == "a policy of 0 or 32 bytes"


def test_a_coordinate_has_all_its_bytes() -> None:
    """Without its leading zero it would be the same point under another Name."""
    data = SIGNING.encode()
    assert "31 and 32" in refused(data[:X] + be16(31) + data[X + 3 :]).found


def test_a_point_off_the_curve_is_no_key() -> None:
    assert refused(edited(SIGNING, Y + 2, bytes(32))).code is Code.KEY_FORMAT


@pytest.mark.parametrize(
    ("public", "expected"),
    [
        (replace(RSA, unique=RSA.unique[:-1] + b"\x02"), "an odd modulus of 2048 bits"),
        (replace(RSA, unique=b"\x7f" + RSA.unique[1:]), "an odd modulus of 2048 bits"),
        (replace(RSA, unique=RSA.unique[1:]), "an odd modulus of 2048 bits"),
        (replace(RSA, unique=b""), "an odd modulus of 2048 bits"),
        (replace(RSA, scheme=SIGNING.scheme), "no scheme for RSA"),
    ],
)
def test_rsa_is_rsa_2048(public: Public, expected: str) -> None:
    assert refused(public.encode()).expected == expected


@pytest.mark.parametrize(("at", "value"), [(264, be16(1024)), (262, be32(3))])
def test_rsa_has_its_size_and_exponent(at: int, value: bytes) -> None:
    """`at` counts from the end."""
    assert refused(edited(RSA, len(RSA.encode()) - at, value)).code is Code.ATTEST_FORMAT


def test_an_rsa_key_is_no_point() -> None:
    with pytest.raises(FormatRefused) as refusal:
        _ = RSA.point
    assert refusal.value.code is Code.ATTEST_FORMAT


@pytest.mark.parametrize(
    "data", [b"", SIGNING.name[:-1], SIGNING.name + b"\0", b"\x00\x0c" + SIGNING.name[2:]]
)
def test_a_name_is_by_sha_256(data: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        decode_name(data)
    assert refusal.value.code is Code.ATTEST_FORMAT
    assert decode_name(SIGNING.name) == SIGNING.name


def test_a_qualified_name_is_of_the_way_to_the_object() -> None:
    parent = be32(0x40000001)
    assert qualified_name(parent, SIGNING.name)[2:] == hashlib.sha256(parent + SIGNING.name).digest()


def test_an_index_s_name_changes_with_its_first_write() -> None:
    counter = NvPublic(0x01800001, NvType.COUNTER, NvAttributes.NO_DA, 8)
    written = replace(counter, attributes=NvAttributes.NO_DA | NvAttributes.WRITTEN)
    assert counter.encode() == bytes.fromhex("01800001 000b 02000010 0000 0008")
    assert written.encode() == bytes.fromhex("01800001 000b 22000010 0000 0008")
    assert counter.name != written.name
