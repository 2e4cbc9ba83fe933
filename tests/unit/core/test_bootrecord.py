"""Boot records: what a verifier with the registered keys believes."""

import hmac
from dataclasses import replace

import pytest

from cellward.core.bootrecord import (
    SIZE,
    BootRecord,
    MeasuredBoot,
    Measurer,
    RecordKeys,
    decode,
    verify,
)
from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.image import Version
from cellward.core.slots import Lifecycle

KEYS = RecordKeys(rom=b"r" * 32, loader=b"l" * 32)
ROM = BootRecord(Measurer.ROM, Lifecycle.PRODUCTION, 1, 4097, 7, Version(1, 4, 0, 9), bytes(range(32)))
LOADER = replace(ROM, by=Measurer.LOADER, version=Version(1, 5, 0), digest=bytes(range(32, 64)))


def pair(rom: BootRecord = ROM, loader: BootRecord = LOADER, keys: RecordKeys = KEYS) -> bytes:
    return rom.encode(keys.rom) + loader.encode(keys.loader)


def counted(count: int) -> bytes:
    return pair(replace(ROM, boot_count=count), replace(LOADER, boot_count=count))


def refused(kind: type[Refused], data: bytes, last: MeasuredBoot | None = None) -> str:
    with pytest.raises(kind) as refusal:
        verify(data, KEYS, last)
    assert refusal.value.code is Code.BOOT_RECORD
    return str(refusal.value)


def resealed(data: bytes, key: bytes) -> bytes:
    return data[:56] + hmac.digest(key, data[:56], "sha256")


def test_a_pair_is_what_was_measured() -> None:
    boot = verify(pair(), KEYS, None)
    assert (boot.rom, boot.loader, boot.boot_count, boot.data) == (ROM, LOADER, 4097, pair())


def test_every_bit_is_authentic() -> None:
    data = pair()
    for bit in range(8 * len(data)):
        edited = bytearray(data)
        edited[bit // 8] ^= 1 << bit % 8
        refused(TrustRefused, bytes(edited))


def test_the_other_stage_s_record_is_refused() -> None:
    """Under the right key: a ROM that lies about who it is."""
    assert "expected loader, found rom" in refused(TrustRefused, pair(loader=ROM))
    assert "expected rom, found loader" in refused(TrustRefused, pair(rom=LOADER))
    swapped = pair()[SIZE:] + pair()[:SIZE]
    refused(TrustRefused, swapped)


def test_another_module_s_keys_are_refused() -> None:
    refused(TrustRefused, pair(keys=RecordKeys(KEYS.loader, KEYS.loader)))
    refused(TrustRefused, pair(keys=RecordKeys(KEYS.rom, KEYS.rom)))


def test_two_boots_are_no_pair() -> None:
    assert "counts 4097 and 4098" in refused(TrustRefused, pair(loader=replace(LOADER, boot_count=4098)))


def test_a_count_rises_or_all_is_the_same() -> None:
    last = verify(counted(5000), KEYS, None)
    assert verify(counted(5000), KEYS, last) == last
    assert verify(counted(5001), KEYS, last).boot_count == 5001
    assert verify(counted(2**32 - 1), KEYS, last).boot_count == 2**32 - 1
    assert "above 5000, found 4999" in refused(TrustRefused, counted(4999), last)
    same = pair(replace(ROM, boot_count=5000), replace(LOADER, boot_count=5000, bank=0))
    refused(TrustRefused, same, last)


@pytest.mark.parametrize("size", [0, SIZE, 2 * SIZE - 1, 2 * SIZE + 1])
def test_a_pair_has_its_size(size: int) -> None:
    refused(FormatRefused, bytes(size))


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0x44), (3, 0), (4, 0), (4, 3), (5, 5), (5, 0xFF), (6, 2), (7, 1)],
)
def test_authentic_bytes_may_still_be_no_record(at: int, value: int) -> None:
    data = bytearray(ROM.encode(KEYS.rom))
    data[at] = value
    refused(FormatRefused, resealed(bytes(data), KEYS.rom) + LOADER.encode(KEYS.loader))
    with pytest.raises(FormatRefused) as refusal:
        decode(bytes(data))
    assert refusal.value.code is Code.BOOT_RECORD


def test_decoding_alone_asks_for_no_key() -> None:
    assert decode(ROM.encode(b"")) == ROM
    with pytest.raises(FormatRefused):
        decode(ROM.encode(b"")[:-1])


def test_no_key_shows_in_a_log() -> None:
    assert "rrr" not in repr(KEYS)
    assert "lll" not in repr(KEYS)
