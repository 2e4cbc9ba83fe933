"""The gate: what a device would refuse is not published, and why is said."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from cellward.core.errors import (
    CellwardError,
    Code,
    ModuleRefused,
    PolicyRefused,
    TrustRefused,
    Unavailable,
)
from cellward.core.image import Entry, Image, KeyTlv, Tlv, Version, decode
from cellward.core.image.encryption import encrypt
from cellward.core.image.protected import Dependency, Extras
from cellward.core.slots import COUNTER_MAX, HARDWARE, Hardware, Region, Stage
from cellward.ports.verifier import Accepted
from cellward.publish.gate import (
    Gate,
    Requirement,
    check_counter_rises,
    check_requirements,
    requirements_of,
)
from cellward.publish.verifiers import CoreVerifier, Pair
from tests.support.maker import Keys, gate, signed_image

APP_SLOT = HARDWARE["bms-m33"].slot(Stage.APP).size


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


def refusal(keys: Keys, data: bytes, *published: bytes) -> Code:
    targets = [gate(keys).admit(each, (), "earlier") for each in published]
    with pytest.raises(CellwardError) as refused:
        gate(keys).admit(data, targets, "image")
    return refused.value.code


def test_a_good_image_becomes_its_target(keys: Keys) -> None:
    data = signed_image(keys, "1.4.0+3", 7, stage=Stage.LOADER, hardware="bms-m33-18s")
    target = gate(keys).admit(data, (), "image")
    assert target.name == "bms-m33-18s/loader-1.4.0+3.img"
    assert (target.stage, target.version, target.release_counter) == ("loader", "1.4.0+3", 7)
    assert (target.length, target.hardware_ids) == (len(data), ("bms-m33-18s",))


def test_the_same_bytes_are_the_same_target_whatever_came_since(keys: Keys) -> None:
    old, new = signed_image(keys, "1.3.0", 6), signed_image(keys, "1.4.0", 7)
    published = [gate(keys).admit(old, (), "old")]
    published.append(gate(keys).admit(new, published, "new"))
    assert gate(keys).admit(old, published, "old again") == published[0]


def test_counters_of_other_hardware_and_stages_do_not_count(keys: Keys) -> None:
    high = gate(keys).admit(signed_image(keys, counter=9), (), "app")
    for other in (
        signed_image(keys, counter=7, stage=Stage.LOADER),
        signed_image(keys, counter=7, hardware="bms-m33-18s"),
        signed_image(keys, "1.5.0", counter=9),
    ):
        gate(keys).admit(other, [high], "other")


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
    gate(keys).admit(signed_image(keys, counter=COUNTER_MAX), (), "last")
    assert refusal(keys, signed_image(keys, counter=COUNTER_MAX + 1)) is Code.IMAGE_COUNTER


def test_linked_for_another_place(keys: Keys) -> None:
    assert refusal(keys, signed_image(keys, header_size=0x100)) is Code.IMAGE_HEADER


def test_too_large_for_its_slot_says_by_how_much(keys: Keys) -> None:
    data = signed_image(keys, payload=b"x" * APP_SLOT)
    with pytest.raises(CellwardError) as refused:
        gate(keys).admit(data, (), "image")
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
    target = gate(keys).admit(data, (), "image", CONTENT_KEY)
    assert target.sha256 == hashlib.sha256(data).hexdigest()
    assert target.installed_sha256 == target.plain_sha256 == hashlib.sha256(plain).hexdigest()
    assert target.encrypted
    ordinary = gate(keys).admit(signed_image(keys), (), "image", CONTENT_KEY)
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
        gate(keys).admit(bytes(data), (), "image", key)
    assert refused.value.code is code


# The two verifiers ------------------------------------------------------------------------------------


@dataclass
class Oracle:
    """A DeviceVerifier that says what it is told to."""

    says: Accepted | CellwardError

    def verify(
        self,
        image: bytes,
        hardware: Hardware,
        stage: Stage,
        keys: Sequence[bytes],
        counter: int,
        *,
        revoked: Collection[bytes] = (),
        what: str = "image",
    ) -> Accepted:
        if isinstance(self.says, CellwardError):
            raise self.says
        return self.says


def said_by_core(keys: Keys, data: bytes) -> Accepted:
    found = CoreVerifier().verify(data, HARDWARE["bms-m33"], Stage.APP, list(gate(keys).keys), 0)
    assert isinstance(found, Accepted)
    return found


def paired(keys: Keys, says: Accepted | CellwardError) -> Gate:
    return replace(gate(keys), verifier=Pair(Oracle(says)))


def test_both_verifiers_agree_and_the_image_is_published(keys: Keys) -> None:
    data = signed_image(keys)
    target = paired(keys, said_by_core(keys, data)).admit(data, (), "image")
    assert target == gate(keys).admit(data, (), "image")


@pytest.mark.parametrize("field", ["version", "counter", "payload_size", "digest", "key_hash"])
def test_a_module_that_reads_something_else_in_it(keys: Keys, field: str) -> None:
    data = signed_image(keys)
    found = said_by_core(keys, data)
    other: Any = {"version": Version(9, 9, 9), "counter": 8, "payload_size": 1}.get(field, bytes(32))
    with pytest.raises(PolicyRefused) as refused:
        paired(keys, replace(found, **{field: other})).admit(data, (), "image")
    assert refused.value.code is Code.PUBLISH_DISAGREE


def test_a_module_that_refuses_what_core_takes(keys: Keys) -> None:
    no = ModuleRefused(Code.IMAGE_SIGNATURE, "image", expected="a", found="b")
    with pytest.raises(PolicyRefused) as refused:
        paired(keys, no).admit(signed_image(keys), (), "image")
    assert refused.value.code is Code.PUBLISH_DISAGREE
    assert "image.signature" in refused.value.found


def test_a_module_that_takes_what_core_refuses(keys: Keys) -> None:
    found = said_by_core(keys, signed_image(keys))
    with pytest.raises(PolicyRefused) as refused:
        paired(keys, found).admit(signed_image(Keys()), (), "image")
    assert refused.value.code is Code.PUBLISH_DISAGREE
    assert "image.key_unknown" in refused.value.expected


def test_another_refusal_is_no_agreement(keys: Keys) -> None:
    no = ModuleRefused(Code.IMAGE_SIGNATURE, "image")
    with pytest.raises(PolicyRefused) as refused:
        paired(keys, no).admit(signed_image(Keys()), (), "image")
    assert refused.value.code is Code.PUBLISH_DISAGREE


def test_a_refusal_by_both_is_told_in_core_s_words(keys: Keys) -> None:
    no = ModuleRefused(Code.IMAGE_KEY_UNKNOWN, "image", expected="0x00000000", found="0x00000001")
    with pytest.raises(TrustRefused) as refused:
        paired(keys, no).admit(signed_image(Keys()), (), "image")
    assert refused.value.code is Code.IMAGE_KEY_UNKNOWN


def test_a_module_that_cannot_be_asked_publishes_nothing(keys: Keys) -> None:
    with pytest.raises(Unavailable):
        paired(keys, Unavailable(Code.MODULE_ABSENT, "module")).admit(signed_image(keys), (), "image")


def test_the_module_is_asked_about_the_plaintext(keys: Keys) -> None:
    plain = signed_image(keys, encrypted=True)
    asked: list[bytes] = []

    class Listening(CoreVerifier):
        def verify(self, image: bytes, *rest: Any, **more: Any) -> Accepted:
            asked.append(image)
            return super().verify(image, *rest, **more)

    judge = replace(gate(keys), verifier=Pair(Listening()))
    judge.admit(encrypt(plain, CONTENT_KEY), (), "image", CONTENT_KEY)
    assert asked == [plain]


def test_a_hash_alone_names_a_key_that_the_module_does_not_have(keys: Keys) -> None:
    """The maker holds the whole key, the fuses only its hash."""
    assert refusal(keys, signed_image(keys, key_tlv=KeyTlv.HASH)) is Code.IMAGE_NO_SIGNATURE


# Keys of another stage, configuration, and what a release asks ----------------------------------------


@pytest.mark.parametrize("key_tlv", list(KeyTlv))
def test_a_development_key_is_called_one(keys: Keys, key_tlv: KeyTlv) -> None:
    bench = Keys()
    hand, data = bench("firmware"), signed_image(bench, key_tlv=key_tlv)
    for held in (gate(keys).keys, {*gate(keys).keys, hand.public_key.key_hash}):
        judge = replace(gate(keys), keys=held, development=[hand.public_key.key_hash])
        with pytest.raises(TrustRefused) as refused:
            judge.admit(data, (), "image")
        assert refused.value.code is Code.PUBLISH_DEVELOPMENT_KEY
        assert hand.public_key.key_hash.hex()[:16] in refused.value.found
        judge.admit(signed_image(keys), (), "by the production key")


def with_pages(keys: Keys, *pages: Region) -> Gate:
    return replace(gate(keys), configuration={"bms-m33": pages})


def test_a_filled_gap_over_configuration_pages(keys: Keys) -> None:
    app = HARDWARE["bms-m33"].app.offset
    page = Region(app + 0x4000, 0x2000)
    data = signed_image(keys, payload=b"\1" * 0x3000 + b"\xff" * 0x4000 + b"\2" * 0x1000)
    with pytest.raises(PolicyRefused) as refused:
        with_pages(keys, page).admit(data, (), "image")
    assert refused.value.code is Code.PUBLISH_CONFIGURATION
    assert "a filled gap" in refused.value.found
    loader = signed_image(keys, stage=Stage.LOADER)
    with_pages(keys, page).admit(loader, (), "an image elsewhere")
    gate(keys).admit(data, (), "on hardware without such pages")


def test_bytes_of_the_image_over_configuration_pages(keys: Keys) -> None:
    app = HARDWARE["bms-m33"].app.offset
    data = signed_image(keys, payload=b"\1" * 0x8000)
    with pytest.raises(PolicyRefused) as refused:
        with_pages(keys, Region(app + 0x4000, 0x2000)).admit(data, (), "image")
    assert "bytes of the image" in refused.value.found


def test_the_page_that_the_image_ends_in_is_erased_whole(keys: Keys) -> None:
    app = HARDWARE["bms-m33"].app.offset
    data = signed_image(keys, payload=b"\1" * 0x100)
    with pytest.raises(PolicyRefused):
        with_pages(keys, Region(app + 0x1000, 0x1000)).admit(data, (), "image")
    with_pages(keys, Region(app + 0x2000, 0x2000)).admit(data, (), "the next page is not touched")


@pytest.mark.parametrize(
    ("previous", "new", "security_fix", "taken"),
    [(7, 7, False, True), (7, 6, False, False), (7, 7, True, False), (7, 8, True, True), (0, 0, True, False)],
)
def test_a_security_fix_raises_the_counter(previous: int, new: int, security_fix: bool, taken: bool) -> None:
    if taken:
        check_counter_rises(previous, new, security_fix=security_fix, what="release")
        return
    with pytest.raises(PolicyRefused) as refused:
        check_counter_rises(previous, new, security_fix=security_fix, what="release")
    assert refused.value.code is Code.PUBLISH_COUNTER


def dependency(value: bytes) -> Image:
    found = decode(signed_image(Keys()))
    return replace(found, entries=(*found.entries, Entry(Tlv.DEPENDENCY, value, True, 0)))


def test_the_dependencies_of_an_image() -> None:
    extras = Extras(dependencies=(Dependency(0, Version(1, 4, 2, 5)),))
    (found,) = requirements_of(decode(signed_image(Keys(), extras=extras)), Stage.APP)
    assert found == Requirement("app", "loader", Version(1, 4, 2, 5))
    assert requirements_of(decode(signed_image(Keys())), Stage.APP) == ()


@pytest.mark.parametrize(
    "value",
    [b"", bytes(11), bytes(13), bytes([2]) + bytes(11), bytes([0, 1]) + bytes(10)],
    ids=["empty", "short", "long", "no such image", "padding"],
)
def test_dependencies_that_are_none(value: bytes) -> None:
    with pytest.raises(CellwardError) as refused:
        requirements_of(dependency(value), Stage.APP)
    assert refused.value.code is Code.IMAGE_TLV


@pytest.mark.parametrize(
    ("held", "taken"),
    [({"loader": Version(1, 4, 0)}, True), ({"loader": Version(1, 3, 9)}, False), ({}, False)],
)
def test_parts_that_do_not_work_together(held: dict[str, Version], taken: bool) -> None:
    wanted = [Requirement("app", "loader", Version(1, 4, 0))]
    if taken:
        check_requirements(held, wanted, "release")
        return
    with pytest.raises(PolicyRefused) as refused:
        check_requirements(held, wanted, "release")
    assert refused.value.code is Code.PUBLISH_DEPENDENCY
