"""Boot record, dependencies and custom TLVs: what is taken, and what is refused."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, Refused
from cellward.core.image import Custom, Dependency, Extras, Version, build, decode
from cellward.core.image.protected import MAX_EXTRAS, boot_record
from vectors.forge import Key

VERSIONS = st.builds(
    Version, st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1)
)
DEPENDENCIES = st.builds(Dependency, st.integers(0, 255), VERSIONS)
TYPES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=12)
KEY = Key.make()


def refused(code: Code, make: object, *arguments: object, **named: object) -> None:
    assert callable(make)
    with pytest.raises(Refused) as refusal:
        make(*arguments, **named)
    assert refusal.value.code is code


@given(TYPES, VERSIONS, st.binary(min_size=32, max_size=32))
def test_a_boot_record_is_what_cbor2_writes(software: str, version: Version, key_hash: bytes) -> None:
    numbers = f"{version.major}.{version.minor}.{version.revision}"
    items = {1: software, 4: numbers, 5: key_hash, 6: "SHA256", 2: bytes(32)}
    assert boot_record(software, version, key_hash) == cbor2.dumps(items)


@given(st.lists(DEPENDENCIES, min_size=1, max_size=4))
def test_dependencies_parse_to_themselves(wanted: list[Dependency]) -> None:
    text = ", ".join(f"({one.image}, {one.version})" for one in wanted)
    assert Dependency.parse(text) == tuple(wanted)


@given(st.text("(), 0123456789.+x", max_size=30))
def test_any_text_is_dependencies_or_refused(text: str) -> None:
    try:
        found = Dependency.parse(text)
    except Refused:
        return
    said = [f"({one.image},{one.version})" for one in found]
    assert text.count("(") == len(said)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,1.0.0",
        "(1,1.0.0),",
        "(1,1.0.0)(2,1.0.0)",
        "(1,1.0.0) x",
        "(1,1.0.0), x",
        "(256,1.0.0)",
        "(-1,1.0.0)",
    ],
)
def test_texts_that_are_no_dependencies(text: str) -> None:
    refused(Code.IMAGE_TLV, Dependency.parse, text)


def test_a_dependency_on_no_version() -> None:
    refused(Code.IMAGE_VERSION, Dependency.parse, "(1,1.0)")


@pytest.mark.parametrize("kind", [0, 0x50, 0x9F, 0xFF, 0x0150, 0x01FF, 0x10000, -1])
def test_a_type_that_is_not_the_vendor_s(kind: int) -> None:
    refused(Code.IMAGE_TLV, Custom, kind, b"")


def test_custom_values() -> None:
    assert Custom.parse("0xa0", "text") == Custom.parse("160", "0x74657874") == Custom(0xA0, b"text")
    for tag, value in (("x", ""), ("0xa0", "0x1"), ("0xa0", "0xzz"), ("", ""), ("0x1ffff", "")):
        refused(Code.IMAGE_TLV, Custom.parse, tag, value)


@given(st.text(max_size=8), st.text(max_size=8))
def test_any_custom_text_is_one_or_refused(tag: str, value: str) -> None:
    try:
        made = Custom.parse(tag, value)
    except Refused:
        return
    assert 0xA0 <= made.type & 0xFF <= 0xFE


@pytest.mark.parametrize("software", ["", "x" * 13, "Zähler", "a\n"])
def test_software_types_that_are_none(software: str) -> None:
    refused(Code.IMAGE_TLV, Extras, boot_record=software)


def test_no_custom_type_twice_and_not_too_much() -> None:
    refused(Code.IMAGE_TLV_DUPLICATE, Extras, custom=(Custom(0xA0, b"1"), Custom(0xA0, b"2")))
    Extras(custom=(Custom(0xA0, bytes(MAX_EXTRAS - 4)),))
    refused(Code.IMAGE_TLV, Extras, custom=(Custom(0xA0, bytes(MAX_EXTRAS - 3)),))


@given(st.none() | TYPES, st.lists(DEPENDENCIES, max_size=3), st.binary(max_size=20))
def test_an_image_with_extras_decodes(software: str | None, needs: list[Dependency], value: bytes) -> None:
    extras = Extras(software, needs, (Custom(0xA5, value),))
    unsigned = build(
        b"payload",
        version=Version(1, 2, 3),
        counter=None,
        hardware=None,
        extras=extras,
        key_hash=KEY.public.key_hash,
    )
    image = decode(unsigned.signed(KEY.public, KEY.sign(unsigned.digest)))
    stored = sum(4 + len(entry.value) for entry in image.entries if entry.protected)
    assert stored <= extras.size
    assert [entry.value for entry in image.entries if entry.type == 0x40] == [n.encode() for n in needs]
