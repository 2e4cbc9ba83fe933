"""The key ladder against the cryptography package; the vectors have RFC 5869's own examples."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import ladder
from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import P256_ORDER

SECRET = bytes(range(32))


@given(salt=st.binary(max_size=80), secret=st.binary(max_size=80), info=st.binary(), size=st.integers(1, 200))
def test_hkdf_is_the_library_s(salt: bytes, secret: bytes, info: bytes, size: int) -> None:
    expected = HKDF(hashes.SHA256(), size, salt, info).derive(secret)
    assert ladder.expand(ladder.extract(salt, secret), info, size) == expected


def test_every_key_is_another() -> None:
    keys = ladder.derive(SECRET)
    values = [
        *(keys.update_scalar, keys.rom_record, keys.stage),
        *(keys.loader_record, keys.report, keys.vault, *ladder.vault_keys(keys.vault, 0)),
        *ladder.vault_keys(keys.vault, 1),
    ]
    assert len(set(values)) == len(values) == 10
    assert all(len(value) in (16, 32) for value in values)


def test_what_is_registered_opens_nothing() -> None:
    keys, kept = ladder.derive(SECRET), ladder.registered(SECRET)
    assert (kept.rom_record, kept.loader_record, kept.report) == (
        keys.rom_record,
        keys.loader_record,
        keys.report,
    )
    private = ec.derive_private_key(int.from_bytes(keys.update_scalar, "big"), ec.SECP256R1())
    assert kept.update.cryptography.public_numbers() == private.public_key().public_numbers()


@pytest.mark.parametrize("value", [ladder.derive(SECRET), ladder.registered(SECRET)])
def test_no_key_shows_in_a_log(value: object) -> None:
    keys = ladder.derive(SECRET)
    for secret in (keys.rom_record, keys.report, keys.vault, keys.update_scalar, keys.stage):
        assert secret.hex() not in repr(value)
        assert repr(secret)[2:-1] not in repr(value)


def test_the_first_candidate_in_range_is_the_scalar() -> None:
    """Derived so once in 2^32 secrets; none can be found to try it with."""
    order = P256_ORDER
    candidates = [
        bytes(32),
        order.to_bytes(32, "big"),
        b"\xff" * 32,
        (order - 1).to_bytes(32, "big"),
        b"\1" * 32,
    ]
    assert ladder.update_scalar(candidates.__getitem__) == candidates[3]
    assert ladder.update_scalar(lambda attempt: bytes(31) + b"\1") == bytes(31) + b"\1"
    asked: list[int] = []

    def never(attempt: int) -> bytes:
        asked.append(attempt)
        return bytes(32)

    assert ladder.update_scalar(never) == bytes(32)
    assert asked == list(range(256))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_has_32_bytes(size: int) -> None:
    with pytest.raises(FormatRefused) as refusal:
        ladder.derive(bytes(size))
    assert refusal.value.code is Code.KEY_FORMAT
