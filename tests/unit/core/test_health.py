"""The record of a pack's state of health: what it may say, and who said it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import envelope, strictjson
from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, TrustRefused
from cellward.core.health import KIND, MAX_SIZE, Measured, ModuleHealth, Observed, Parameter, Record, verify
from cellward.sign.documents import sign_document
from tests.support.maker import NOW, Hand

PACK = Hand("identity")
KEYS = frozenset([PACK.public_key.fingerprint])
MEASURED = Measured(500, 12, 3690, 3710, -12, 260, 44_400, -1500)
MODULE = ModuleHealth(
    "M-1",
    "bms-m33",
    {"app": "1.4.0"},
    "1.2.0",
    "",
    False,
    MEASURED,
    Observed(NOW - timedelta(days=3), 9, 1, 0, 2, 0),
)
ABSENT: dict[Parameter, str] = {
    parameter: "not measured" for parameter in Parameter if parameter is not Parameter.HARMFUL
}
RECORD = Record("PACK-1", NOW, "ab" * 32, PACK.public_key, (MODULE,), ABSENT)
SIGNED = sign_document(RECORD.to_sign(), PACK).encode()


def changed(**values: object) -> bytes:
    """Signed by the pack all the same. `modules__silent` is the field of the first module."""
    tree: dict[str, Any] = strictjson.decode(RECORD.to_sign().payload, "tree", MAX_SIZE)  # type: ignore[assignment]
    for name, value in values.items():
        first, _, inner = name.partition("__")
        (tree[first][0] if inner else tree)[inner or first] = value
    return sign_document(envelope.make(KIND, tree), PACK).encode()


def test_there_and_back() -> None:
    assert verify(SIGNED, KEYS) == RECORD


def test_of_another_pack() -> None:
    for data in (SIGNED, sign_document(RECORD.to_sign(), Hand("seller")).encode(), RECORD.to_sign().encode()):
        with pytest.raises(TrustRefused) as refused:
            verify(data, frozenset([Hand().public_key.fingerprint]))
        assert refused.value.code is Code.DOCUMENT_SIGNATURE
    for data in (sign_document(RECORD.to_sign(), Hand("seller")).encode(), RECORD.to_sign().encode()):
        with pytest.raises(TrustRefused) as refused:
            verify(data, KEYS)
        assert refused.value.code is Code.DOCUMENT_SIGNATURE


def test_a_seller_s_own_record_names_his_key() -> None:
    seller = Hand("seller")
    forged = sign_document(replace(RECORD, key=seller.public_key).to_sign(), seller).encode()
    with pytest.raises(TrustRefused) as refused:
        verify(forged, KEYS)
    assert refused.value.code is Code.DOCUMENT_SIGNATURE


@pytest.mark.parametrize(
    "values",
    [
        {"absent": {**{str(p): why for p, why in ABSENT.items()}, "harmful events": "both"}},
        {"absent": {str(p): why for p, why in list(ABSENT.items())[1:]}},
        {"absent": {**{str(p): why for p, why in ABSENT.items()}, "state of mind": "x"}},
        {"modules__silent": "it did answer"},
        {"modules__measured": None},
        {"modules__observed": None},
        {"modules__firmware": {"kernel": "1"}},
        {"modules__serial": "M-1\x1b[2J"},
        {"vehicle": "PACK\n1"},
        {"nonce": "ab"},
        {"format": 2},
        {"extra": 1},
    ],
)
def test_records_that_say_too_much_or_too_little(values: dict[str, object]) -> None:
    with pytest.raises(FormatRefused) as refused:
        verify(changed(**values), KEYS)
    assert refused.value.code is Code.METADATA_FORMAT


def test_there_is_one_encoding() -> None:
    """Buyers compare hashes; and a payload must not hide a second meaning in its order."""
    payload = RECORD.to_sign().payload.replace(b'{"absent"', b'{ "absent"', 1)
    spaced = envelope.Envelope(envelope.payload_type(KIND), payload)
    with pytest.raises(FormatRefused) as refused:
        verify(sign_document(spaced, PACK).encode(), KEYS)
    assert refused.value.code is Code.METADATA_FORMAT


@given(st.integers(0, len(SIGNED) * 8 - 1))
def test_a_flipped_bit(bit: int) -> None:
    data = bytearray(SIGNED)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused):
        verify(bytes(data), KEYS)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(CellwardError):
        verify(data, KEYS)
