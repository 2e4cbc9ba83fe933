"""Vault blocks: sealed under name, module and counter. Judgements are in vectors/boot.json."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import ladder, vault
from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.vault import Block, Name

KEY, NONCE = b"k" * 32, b"n" * 16
PAGE = 2048


def page(block: Block, name: Name = Name.CALIBRATION, key: bytes = KEY, nonce: bytes = NONCE) -> bytes:
    return vault.encode(name, key, block, nonce).ljust(PAGE, b"\xff")


def code(data: bytes, committed: int = 1, name: Name = Name.CALIBRATION) -> Code:
    with pytest.raises(Refused) as refusal:
        vault.open_page(name, KEY, data, committed)
    return refusal.value.code


@given(
    value=st.binary(min_size=1, max_size=1024), version=st.integers(0, 2**32 - 1), name=st.sampled_from(Name)
)
def test_there_and_back(value: bytes, version: int, name: Name) -> None:
    block = Block(version, 7, value)
    sealed = page(block, name)
    for committed in (6, 7):
        assert vault.open_page(name, KEY, sealed, committed) == block
    for committed in (5, 8):
        assert code(sealed, committed, name) is Code.VAULT_COUNTER
    assert len(value) < 16 or sealed[36 : 36 + len(value)] != value


def test_the_cipher_is_the_library_s_where_the_counter_does_not_wrap() -> None:
    value = bytes(range(200))
    encrypt, _ = ladder.vault_keys(KEY, Name.KEYS)
    sealed = vault.encode(Name.KEYS, KEY, Block(1, 1, value), NONCE)[36:236]
    encryptor = Cipher(algorithms.AES(encrypt), modes.CTR(NONCE)).encryptor()
    assert sealed == encryptor.update(value) + encryptor.finalize()


def test_every_bit_is_sealed() -> None:
    sealed = vault.encode(Name.CALIBRATION, KEY, Block(1, 1, b"value"), NONCE)
    for bit in range(8 * len(sealed)):
        edited = bytearray(sealed)
        edited[bit // 8] ^= 1 << bit % 8
        assert code(bytes(edited)) is (Code.VAULT_MISSING if bit < 32 else Code.VAULT_SEAL)


def test_a_block_that_is_cut_short_is_no_block() -> None:
    sealed = vault.encode(Name.CALIBRATION, KEY, Block(1, 1, b"v"), NONCE)
    for size in range(len(sealed)):
        assert code(sealed[:size]) is (Code.VAULT_MISSING if size < 4 else Code.VAULT_SEAL)
    assert code(sealed[:4].ljust(PAGE, b"\xff")) is Code.VAULT_MISSING


@pytest.mark.parametrize(
    ("value", "nonce"), [(b"", NONCE), (bytes(1025), NONCE), (b"v", NONCE[1:]), (b"v", b"")]
)
def test_only_what_fits_is_encoded(value: bytes, nonce: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        vault.encode(Name.KEYS, KEY, Block(1, 1, value), nonce)
    assert refusal.value.code is Code.VAULT_SEAL


def test_the_higher_of_two_good_blocks_wins() -> None:
    old, new = Block(1, 3, b"old"), Block(1, 4, b"new")
    for pages in ((page(old), page(new)), (page(new), page(old))):
        assert vault.open_pages(Name.CALIBRATION, KEY, pages, 3) == new
        assert vault.open_pages(Name.CALIBRATION, KEY, pages, 4) == new
        assert vault.open_pages(Name.CALIBRATION, KEY, pages, 2) == old
        with pytest.raises(TrustRefused):
            vault.open_pages(Name.CALIBRATION, KEY, pages, 5)


def test_no_value_shows_in_a_log() -> None:
    assert "secret" not in repr(Block(1, 1, b"secret"))
