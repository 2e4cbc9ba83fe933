"""The gate: what a device would refuse is not published, and why is said."""

import hashlib

import pytest

from cellward.core.errors import CellwardError, Code
from cellward.core.image.encryption import encrypt
from cellward.core.slots import COUNTER_MAX, HARDWARE, Stage
from cellward.publish.gate import admit
from tests.support.maker import Keys, firmware, signed_image

APP_SLOT = HARDWARE["bms-m33"].slot(Stage.APP).size


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


def refusal(keys: Keys, data: bytes, *published: bytes) -> Code:
    targets = [admit(each, firmware(keys), (), "earlier") for each in published]
    with pytest.raises(CellwardError) as refused:
        admit(data, firmware(keys), targets, "image")
    return refused.value.code


def test_a_good_image_becomes_its_target(keys: Keys) -> None:
    data = signed_image(keys, "1.4.0+3", 7, stage=Stage.LOADER, hardware="bms-m33-18s")
    target = admit(data, firmware(keys), (), "image")
    assert target.name == "bms-m33-18s/loader-1.4.0+3.img"
    assert (target.stage, target.version, target.release_counter) == ("loader", "1.4.0+3", 7)
    assert (target.length, target.hardware_ids) == (len(data), ("bms-m33-18s",))


def test_the_same_bytes_are_the_same_target_whatever_came_since(keys: Keys) -> None:
    old, new = signed_image(keys, "1.3.0", 6), signed_image(keys, "1.4.0", 7)
    published = [admit(old, firmware(keys), (), "old")]
    published.append(admit(new, firmware(keys), published, "new"))
    assert admit(old, firmware(keys), published, "old again") == published[0]


def test_counters_of_other_hardware_and_stages_do_not_count(keys: Keys) -> None:
    high = admit(signed_image(keys, counter=9), firmware(keys), (), "app")
    for other in (
        signed_image(keys, counter=7, stage=Stage.LOADER),
        signed_image(keys, counter=7, hardware="bms-m33-18s"),
        signed_image(keys, "1.5.0", counter=9),
    ):
        admit(other, firmware(keys), [high], "other")


def test_empty(keys: Keys) -> None:
    assert refusal(keys, b"") is Code.IMAGE_SIZE


def test_flipped_bit_in_the_payload(keys: Keys) -> None:
    data = bytearray(signed_image(keys))
    data[0x210] ^= 1
    assert refusal(keys, bytes(data)) is Code.IMAGE_HASH


def test_signature_of_another_image(keys: Keys) -> None:
    data = bytearray(signed_image(keys))
    data[-5] ^= 1
    assert refusal(keys, bytes(data)) is Code.IMAGE_SIGNATURE


def test_another_makers_key(keys: Keys) -> None:
    assert refusal(keys, signed_image(Keys())) is Code.IMAGE_KEY_UNKNOWN


def test_unknown_hardware(keys: Keys) -> None:
    assert refusal(keys, signed_image(keys, class_id=b"\7" * 16)) is Code.IMAGE_HARDWARE


def test_lower_counter_than_published(keys: Keys) -> None:
    assert refusal(keys, signed_image(keys, "1.5.0", 6), signed_image(keys, "1.4.0", 7)) is Code.IMAGE_COUNTER


def test_counter_beyond_the_fuses(keys: Keys) -> None:
    admit(signed_image(keys, counter=COUNTER_MAX), firmware(keys), (), "last")
    assert refusal(keys, signed_image(keys, counter=COUNTER_MAX + 1)) is Code.IMAGE_COUNTER


def test_linked_for_another_place(keys: Keys) -> None:
    assert refusal(keys, signed_image(keys, header_size=0x100)) is Code.IMAGE_HEADER


def test_too_large_for_its_slot_says_by_how_much(keys: Keys) -> None:
    data = signed_image(keys, payload=b"x" * APP_SLOT)
    with pytest.raises(CellwardError) as refused:
        admit(data, firmware(keys), (), "image")
    assert refused.value.code is Code.FIRMWARE_TOO_LARGE
    assert refused.value.found == f"{len(data)}, {len(data) - APP_SLOT} too many"


def test_other_bytes_under_a_published_version(keys: Keys) -> None:
    first, second = signed_image(keys), signed_image(keys, payload=b"other")
    assert refusal(keys, second, first) is Code.STORAGE_EXISTS


# Encrypted images ------------------------------------------------------------------------------------

CONTENT_KEY = bytes(range(16))


def test_an_encrypted_image_is_opened_and_its_plaintext_named(keys: Keys) -> None:
    plain = signed_image(keys, encrypted=True)
    data = encrypt(plain, CONTENT_KEY)
    target = admit(data, firmware(keys), (), "image", CONTENT_KEY)
    assert target.sha256 == hashlib.sha256(data).hexdigest()
    assert target.installed_sha256 == target.plain_sha256 == hashlib.sha256(plain).hexdigest()
    assert target.encrypted
    ordinary = admit(signed_image(keys), firmware(keys), (), "image", CONTENT_KEY)
    assert (ordinary.encrypted, ordinary.installed_sha256) == (False, ordinary.sha256)


@pytest.mark.parametrize(
    ("key", "flip", "code"),
    [
        (None, 0, Code.IMAGE_ENCRYPTION),
        (bytes(16), 0, Code.IMAGE_HASH),
        (CONTENT_KEY, 1, Code.IMAGE_HASH),
    ],
    ids=["no key", "another key", "a flipped bit"],
)
def test_an_encrypted_image_that_does_not_open(keys: Keys, key: bytes | None, flip: int, code: Code) -> None:
    data = bytearray(encrypt(signed_image(keys, encrypted=True), CONTENT_KEY))
    data[0x210] ^= flip
    with pytest.raises(CellwardError) as refused:
        admit(bytes(data), firmware(keys), (), "image", key)
    assert refused.value.code is code
