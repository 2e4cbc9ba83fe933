"""Quotes: signed by a real key, each of the six checks is the one that says no."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.keys import P256_ORDER
from cellward.core.tpm import pcr
from cellward.core.tpm.numbers import Alg
from cellward.core.tpm.pcr import PcrValues
from cellward.core.tpm.quote import Quote, decode_quote, decode_signature, verify_quote
from cellward.core.wire import be16, be32, be_sized
from tests.support.attested import KEY, NONCE, VALUES, attested, encoded, signed


def verified(data: bytes) -> Quote:
    return verify_quote(data, signed(data), KEY, NONCE, VALUES)


def refused(**change: Any) -> Refused:
    with pytest.raises(Refused) as refusal:
        verified(attested(**change))
    return refusal.value


def test_a_good_quote() -> None:
    assert verified(attested()) == Quote(
        KEY.qualified_name, NONCE, 1234, 3, 4, safe=True, firmware=5, selection=(8, 9), digest=VALUES.digest
    )
    assert not verified(attested(safe=b"\0")).safe


def test_step_1_the_signature_comes_before_a_look_at_the_bytes() -> None:
    for data in (b"", b"no quote", attested(magic=0)):
        with pytest.raises(TrustRefused) as refusal:
            verify_quote(data, signed(attested()), KEY, NONCE, VALUES)
        assert refusal.value.code is Code.ATTEST_SIGNATURE


def test_step_1_by_another_key() -> None:
    data, stranger = attested(), ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(TrustRefused) as refusal:
        verify_quote(data, signed(data, stranger), KEY, NONCE, VALUES)
    assert refusal.value.code is Code.ATTEST_SIGNATURE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"magic": 0xFF544348}, Code.ATTEST_MAGIC),
        ({"kind": 0x8017}, Code.ATTEST_TYPE),  # certify
        ({"kind": 0x801A}, Code.ATTEST_TYPE),  # creation
        ({"signer": KEY.name}, Code.ATTEST_SIGNER),
        ({"signer": KEY.qualified_name[:-1] + b"\0"}, Code.ATTEST_SIGNER),
        ({"nonce": bytes(32)}, Code.ATTEST_NONCE),
        ({"selection": pcr.encode_selection((8,))}, Code.ATTEST_SELECTION),
        ({"selection": pcr.encode_selection((8, 9, 10))}, Code.ATTEST_SELECTION),
        ({"selection": pcr.encode_selection(())}, Code.ATTEST_SELECTION),
        ({"digest": bytes(32)}, Code.ATTEST_PCR),
    ],
)
def test_steps_2_to_6(change: dict[str, Any], code: Code) -> None:
    refusal = refused(**change)
    assert isinstance(refusal, TrustRefused)
    assert refusal.code is code


@pytest.mark.parametrize(
    "change",
    [
        {"signer": b""},
        {"signer": b"\x40\x00\x00\x01"},  # a handle is a Name too, but of no key that signs
        {"nonce": b""},
        {"nonce": NONCE[:16]},
        {"nonce": NONCE + b"\0"},
        {"safe": b"\2"},
        {"safe": b"\xff"},
        {"selection": be32(0)},
        {"selection": be32(0) + pcr.encode_selection((8, 9))[4:]},
        {"selection": be32(2) + pcr.encode_selection((8, 9))[4:]},
        {"selection": pcr.encode_selection((8, 9)).replace(b"\x03\x00\x03", b"\x02\x00\x03")},
        {"selection": be32(2) + 2 * pcr.encode_selection((8, 9))[4:]},
        {"selection": pcr.encode_selection((8, 9)).replace(b"\x00\x0b", b"\x00\x04")},
        {"selection": be32(1) + be16(Alg.SHA256) + b"\x04\x00\x03\x00\x00"},
        {"digest": b""},
        {"digest": VALUES.digest + b"\0"},
    ],
)
def test_step_2_what_a_key_signed_and_is_no_quote_of_ours(change: dict[str, Any]) -> None:
    refusal = refused(**change)
    assert isinstance(refusal, FormatRefused)
    assert refusal.code in (Code.ATTEST_FORMAT, Code.TRUNCATED)


def test_step_2_shorter_and_longer() -> None:
    data = attested()
    for cut in (*range(len(data)), None):
        with pytest.raises(FormatRefused):
            decode_quote(data + b"\0" if cut is None else data[:cut])


def test_the_same_values_in_other_pcrs_are_another_selection() -> None:
    """The digest has no index in it: the selection is what says where the values are."""
    data, elsewhere = attested(), PcrValues({10: VALUES.values[8], 11: VALUES.values[9]})
    assert elsewhere.digest == VALUES.digest
    with pytest.raises(TrustRefused) as refusal:
        verify_quote(data, signed(data), KEY, NONCE, elsewhere)
    assert refusal.value.code is Code.ATTEST_SELECTION


def test_a_signature_as_a_tpm_gives_it() -> None:
    r, s = decode_dss_signature(decode_signature(signed(attested())))
    assert decode_signature(encoded(r, s)) == encode_dss_signature(r, s)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        encoded(1, 1)[:-1],
        encoded(1, 1) + b"\0",
        encoded(0, 1),
        encoded(1, 0),
        encoded(P256_ORDER, 1),
        encoded(1, P256_ORDER),
        encoded(1, 1, size=31),
        encoded(1, 1, size=33),
        be16(0x001A) + encoded(1, 1)[2:],  # ECDAA
        be16(Alg.ECDSA) + be16(0x000C) + encoded(1, 1)[4:],  # over SHA-384
        be16(0x0014) + be16(Alg.SHA256) + be_sized(bytes(256)),  # RSASSA
        encode_dss_signature(1, 1),
        bytes(64),
    ],
)
def test_every_other_signature_is_malformed(signature: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        verify_quote(attested(), signature, KEY, NONCE, VALUES)
    assert refusal.value.code in (Code.ATTEST_FORMAT, Code.TRUNCATED, Code.TRAILING)
