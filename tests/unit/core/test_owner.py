"""Grants and challenges of the owner: what they may say, and what is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import envelope, strictjson
from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, TrustRefused
from cellward.core.keys import Algorithm
from cellward.core.owner import (
    LIFETIME,
    MAX_CHALLENGE,
    Challenge,
    Grant,
    decode_challenge,
    verify_grant,
)
from cellward.sign.documents import sign_document
from tests.support.maker import NOW, Hand

CA, OWNER = Hand("device-ca"), Hand("owner")
GRANT = Grant("PACK-1", OWNER.public_key, NOW)
SIGNED = sign_document(GRANT.to_sign(), CA).encode()
ASKED = Challenge("PACK-1", bytes(range(32)), 7, NOW + LIFETIME)


def test_there_and_back() -> None:
    assert verify_grant(SIGNED, CA.public_key, "PACK-1") == GRANT
    assert decode_challenge(ASKED.encode()) == ASKED


@pytest.mark.parametrize("by", [OWNER, Hand("somebody")], ids=["himself", "somebody"])
def test_nobody_else_names_an_owner(by: Hand) -> None:
    for data in (sign_document(GRANT.to_sign(), by), sign_document(sign_document(GRANT.to_sign(), CA), by)):
        with pytest.raises(TrustRefused) as refused:
            verify_grant(data.encode(), CA.public_key, "PACK-1")
        assert refused.value.code is Code.DOCUMENT_SIGNATURE


def test_an_unsigned_grant() -> None:
    with pytest.raises(TrustRefused) as refused:
        verify_grant(GRANT.to_sign().encode(), CA.public_key, "PACK-1")
    assert refused.value.code is Code.DOCUMENT_SIGNATURE


def test_for_another_vehicle() -> None:
    with pytest.raises(TrustRefused) as refused:
        verify_grant(SIGNED, CA.public_key, "PACK-2")
    assert refused.value.code is Code.OWNER_VEHICLE


def test_another_kind_of_document_is_no_grant() -> None:
    tree = strictjson.decode(GRANT.to_sign().payload, "grant", 4096)
    other = sign_document(envelope.make("calibration", tree), CA).encode()
    with pytest.raises(FormatRefused) as refused:
        verify_grant(other, CA.public_key, "PACK-1")
    assert refused.value.code is Code.DOCUMENT_KIND


@pytest.mark.parametrize("algorithm", [Algorithm.P384, Algorithm.RSA_3072, Algorithm.ED25519])
def test_keys_that_are_no_owner_s(algorithm: Algorithm) -> None:
    with pytest.raises(FormatRefused) as refused:
        replace(GRANT, key=Hand.of(algorithm).public_key).to_sign()
    assert refused.value.code is Code.KEY_FORMAT


@pytest.mark.parametrize("later", [timedelta(), -timedelta(seconds=1)])
def test_an_older_grant_does_not_come_back(later: timedelta) -> None:
    with pytest.raises(TrustRefused) as refused:
        replace(GRANT, at=NOW + later).check_newer(GRANT, "grant")
    assert refused.value.code is Code.OWNER_OLDER
    replace(GRANT, at=NOW + timedelta(seconds=1)).check_newer(GRANT, "grant")


@pytest.mark.parametrize(
    ("vehicle", "number", "later"),
    [
        pytest.param("PACK-2", 7, timedelta(), id="another-vehicle"),
        pytest.param("PACK-1", 8, timedelta(), id="used"),
        pytest.param("PACK-1", 6, timedelta(), id="counter-back"),
        pytest.param("PACK-1", 7, LIFETIME, id="too-late"),
        pytest.param("PACK-1", 7, -timedelta(seconds=1), id="clock-set-back"),
    ],
)
def test_a_challenge_is_for_once_and_now(vehicle: str, number: int, later: timedelta) -> None:
    with pytest.raises(TrustRefused) as refused:
        ASKED.check(vehicle, number, NOW + later)
    assert refused.value.code is Code.OWNER_CHALLENGE


def test_a_challenge_within_its_time() -> None:
    for later in (timedelta(), LIFETIME - timedelta(seconds=1)):
        ASKED.check("PACK-1", 7, NOW + later)


@given(st.binary(max_size=MAX_CHALLENGE + 1))
def test_any_bytes_are_a_challenge_or_refused(data: bytes) -> None:
    with pytest.raises(FormatRefused):
        decode_challenge(data)


@given(st.integers(0, len(ASKED.encode()) * 8 - 1))
def test_a_flipped_bit_of_a_challenge(bit: int) -> None:
    data = bytearray(ASKED.encode())
    data[bit // 8] ^= 1 << bit % 8
    try:
        assert decode_challenge(bytes(data)) != ASKED
    except FormatRefused as refused:
        assert refused.code in (Code.OWNER_CHALLENGE, Code.METADATA_FORMAT)


@given(st.integers(0, len(SIGNED) * 8 - 1))
def test_a_flipped_bit_of_a_grant(bit: int) -> None:
    data = bytearray(SIGNED)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused):
        verify_grant(bytes(data), CA.public_key, "PACK-1")


@given(st.binary(max_size=300))
def test_any_bytes_are_no_grant(data: bytes) -> None:
    with pytest.raises(CellwardError):
        verify_grant(data, CA.public_key, "PACK-1")
