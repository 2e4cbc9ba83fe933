"""Arbitrary and mutated images: only refusals come out, and what is accepted is what was signed.

CELLWARD_FUZZ_CASES raises the number of cases for the comparison with the C verifier.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cellward.core.errors import Code, Refused
from cellward.core.image import (
    Image,
    KeyTlv,
    Tlv,
    Trust,
    Version,
    build,
    decode,
    decode_slot,
    verify,
    verify_stated,
)
from tests.property.images import ANY_IMAGE, DEVICE, GOOD, MAKER, SMALL, edited, signed, trusts
from tests.vectors.c_verifier import CVerifier
from vectors.forge import COUNTER
from vectors.recipe import TrustSpec

TRUST = DEVICE.trust()
NAMED = Trust({MAKER.public.key_hash: MAKER.public})
DECODERS = pytest.mark.parametrize("decoder", [decode, decode_slot])
CASES = int(os.environ.get("CELLWARD_FUZZ_CASES", "2000"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))


@DECODERS
@given(data=st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused(decoder: Callable[[bytes], Image], data: bytes) -> None:
    with pytest.raises(Refused):
        decoder(data)


@DECODERS
@given(tail=st.binary(max_size=600))
def test_arbitrary_bytes_behind_a_header_are_refused_or_decoded(
    decoder: Callable[[bytes], Image], tail: bytes
) -> None:
    try:
        image = decoder(SMALL.header + tail)
    except Refused:
        return
    with pytest.raises(Refused):
        verify(image, TRUST)


@DECODERS
@settings(max_examples=500)
@given(data=ANY_IMAGE)
def test_a_decoded_image_is_consistent_with_its_bytes(decoder: Callable[[bytes], Image], data: bytes) -> None:
    try:
        image = decoder(data)
    except Refused:
        return
    assert data.startswith(image.data)
    assert image.signed_size + 4 <= len(image.data)
    assert image.payload == data[image.header_size :][: image.payload_size]
    assert len(image.payload) == image.payload_size > 0
    assert image.digest == hashlib.sha256(data[: image.signed_size]).digest()
    for entry in image.entries:
        assert image.data[entry.offset : entry.offset + len(entry.value)] == entry.value
        assert entry.protected == (entry.offset - 4 < image.signed_size)  # where its header stands
    assert image.data == data if decoder is decode else decode(image.data) == image


@settings(max_examples=500)
@given(data=edited())
def test_what_is_accepted_after_an_edit_is_what_was_signed(data: bytes) -> None:
    """Whatever was changed outside the signed bytes, nothing that is executed or interpreted is."""
    for trust in (TRUST, NAMED):
        try:
            verified = verify(decode_slot(data), trust)
        except Refused:
            continue
        image, original = verified.image, decode(GOOD)
        assert verified.key == MAKER.public
        assert data[: image.signed_size] == GOOD[: original.signed_size]
        assert (image.payload, image.version, image.flags) == (
            original.payload,
            original.version,
            original.flags,
        )
        assert (image.counter, image.hardware) == (original.counter, original.hardware)


@settings(max_examples=500)
@given(data=signed(), spec=trusts())
def test_what_is_accepted_keeps_every_promise(data: bytes, spec: TrustSpec) -> None:
    trust = spec.trust()
    try:
        image, key = (verified := verify(decode_slot(data), trust)).image, verified.key
    except Refused:
        return
    assert key.key_hash in trust.keys
    assert image.stated_digest == hashlib.sha256(data[: image.signed_size]).digest()
    signature = image.find(Tlv.ECDSA)
    assert signature is not None
    assert key.verify(image.digest, signature, code=Code.IMAGE_SIGNATURE, subject="") == image.digest
    assert image.counter is not None
    assert trust.counter is not None
    assert image.counter >= trust.counter
    assert image.hardware == trust.hardware
    assert image.flags in (0, 4, 8, 12)


@settings(max_examples=300)
@given(data=signed(), spec=trusts())
def test_a_whole_verification_is_the_stated_one_and_the_digest(data: bytes, spec: TrustSpec) -> None:
    def said(check: Callable[[Image, Trust], object]) -> str:
        try:
            check(decode_slot(data), spec.trust())
        except Refused as refusal:
            return str(refusal.code)
        return "ok"

    whole, stated = said(verify), said(verify_stated)
    assert whole in (stated, "image.hash")


@given(
    payload=st.binary(min_size=1, max_size=500),
    version=st.builds(
        Version, st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1)
    ),
    counter=st.integers(0, 2**32 - 1),
    hardware=st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)),
    header_size=st.integers(32, 0x1000),
    load_address=st.integers(0, 2**32 - 1),
    fmt=st.sampled_from(KeyTlv),
)
def test_build_and_decode_are_each_other_s_inverse(
    payload: bytes,
    version: Version,
    counter: int,
    hardware: tuple[bytes, bytes],
    header_size: int,
    load_address: int,
    fmt: KeyTlv,
) -> None:
    unsigned = build(
        payload,
        version=version,
        counter=counter,
        hardware=hardware,
        header_size=header_size,
        load_address=load_address,
    )
    data = unsigned.signed(MAKER.public, MAKER.sign(unsigned.digest), fmt)
    trust = replace(NAMED, counter=counter, hardware=hardware)
    image = verify(decode(data), trust).image
    assert (image.payload, image.version, image.counter) == (payload, version, counter)
    assert (image.hardware, image.header_size, image.load_address) == (hardware, header_size, load_address)
    assert (image.digest, image.flags, image.data) == (unsigned.digest, 0, data)
    assert decode_slot(data + bytes(100)) == image
    if counter < 2**32 - 1:
        with pytest.raises(Refused):
            verify(image, replace(trust, counter=counter + 1))


@given(text=st.text(max_size=30) | st.from_regex(r"\d{1,4}\.\d{1,4}\.\d{1,6}(\+\d{1,11})?", fullmatch=True))
def test_a_version_parses_to_itself_or_is_refused(text: str) -> None:
    try:
        version = Version.parse(text)
    except Refused:
        return
    assert Version.parse(str(version)) == version
    assert len(version.encode()) == 8


# Against the C verifier ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def c_verifier() -> Iterator[CVerifier]:
    with CVerifier() as verifier:
        yield verifier


def python_verdict(data: bytes, trust: TrustSpec, slot_size: int) -> str:
    try:
        verify(decode_slot(data.ljust(slot_size, b"\xff")), trust.trust())
    except Refused as refusal:
        return str(refusal.code)
    return "ok"


@FUZZ
@given(data=ANY_IMAGE, spec=trusts(), room=st.integers(0, 200))
def test_python_and_c_give_the_same_verdict(
    c_verifier: CVerifier, data: bytes, spec: TrustSpec, room: int
) -> None:
    slot_size = len(data) + room
    verdict = python_verdict(data, spec, slot_size)
    event(verdict)
    assert c_verifier.verdict(data, spec, slot_size) == verdict


def test_the_counter_of_the_forge_is_the_device_s() -> None:
    """Else the comparisons above would never come past the counter."""
    assert python_verdict(GOOD, DEVICE, len(GOOD)) == "ok"
    assert DEVICE.counter == COUNTER
