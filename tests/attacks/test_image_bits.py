"""Attack 6 (Simos18 CBOOT, a header outside the signature): every bit of a small signed image, flipped.

Each flip is refused, by the Python decoder and by the C verifier with the same code.
"""

from collections.abc import Iterator

import pytest

from cellward.core.errors import Code, Refused
from cellward.core.image import Tlv, Trust, decode, decode_slot, verify
from tests.vectors.c_verifier import CVerifier
from vectors.forge import CLASS, COUNTER, VENDOR, Draft, Key, RsaKey
from vectors.recipe import TrustSpec

KEY = Key.make()
DRAFT = Draft(payload=bytes(range(32)), header_size=0x30)
SEALED = DRAFT.seal(KEY)
GOOD = SEALED.write()
BITS = range(8 * len(GOOD))
DEVICE = TrustSpec((KEY.public.key_hash,), (), COUNTER, VENDOR, CLASS)
NAMED = Trust({KEY.public.key_hash: KEY.public}, counter=COUNTER, hardware=(VENDOR, CLASS))
SLOT = 4096


def type_bit(kind: Tlv, bit: int) -> int:
    """The number of a bit in the type of the TLV of `kind`."""
    entry = next(entry for entry in decode(GOOD).entries if entry.type == kind)
    return 8 * (entry.offset - 4) + bit


# 0x01 becomes 0x11, and 0x02 0x12: digests of another kind, which are not read. Their size gives them away.
KEYHASH_TO_SHA384 = type_bit(Tlv.KEYHASH, 4)
PUBKEY_TO_SHA512 = type_bit(Tlv.PUBKEY, 4)


def flipped(bit: int) -> bytes:
    at, mask = bit // 8, 1 << bit % 8
    return GOOD[:at] + bytes([GOOD[at] ^ mask]) + GOOD[at + 1 :]


def python_verdict(data: bytes, trust: Trust, *, file: bool) -> str:
    try:
        verified = verify((decode if file else decode_slot)(data), trust)
    except Refused as refusal:
        return str(refusal.code)
    original = verify(decode(GOOD), trust)
    image, good = verified.image, original.image
    assert verified.key == original.key
    assert image.data[: image.signed_size] == good.data[: good.signed_size]
    assert (image.payload, image.version, image.counter) == (good.payload, good.version, good.counter)
    assert (image.hardware, image.flags, image.load_address) == (good.hardware, good.flags, good.load_address)
    return "ok"


@pytest.fixture(scope="module")
def c_verifier() -> Iterator[CVerifier]:
    with CVerifier() as verifier:
        yield verifier


def test_the_image_itself_is_good(c_verifier: CVerifier) -> None:
    assert python_verdict(GOOD, DEVICE.trust(), file=True) == "ok"
    assert c_verifier.verdict(GOOD, DEVICE) == "ok"


@pytest.mark.parametrize("file", [True, False], ids=["file", "slot"])
def test_for_a_device_every_bit_means_something(file: bool) -> None:
    assert [bit for bit in BITS if python_verdict(flipped(bit), DEVICE.trust(), file=file) == "ok"] == []


def test_for_a_reader_with_the_whole_key_every_bit_means_something() -> None:
    assert [bit for bit in BITS if python_verdict(flipped(bit), NAMED, file=True) == "ok"] == []


@pytest.mark.parametrize("bit", [KEYHASH_TO_SHA384, PUBKEY_TO_SHA512])
def test_a_key_tlv_is_no_digest_of_another_kind(bit: int) -> None:
    for trust in (DEVICE.trust(), NAMED):
        assert python_verdict(flipped(bit), trust, file=True) == Code.IMAGE_TLV


@pytest.mark.parametrize("kind", [Tlv.KEYHASH, Tlv.PUBKEY])
def test_with_a_single_key_tlv_every_bit_means_something(kind: Tlv) -> None:
    other = Tlv.PUBKEY if kind is Tlv.KEYHASH else Tlv.KEYHASH
    data = SEALED.without(other).write()
    assert verify(decode(data), NAMED).key == KEY.public
    for bit in range(8 * len(DRAFT.body), 8 * len(data)):
        at, mask = bit // 8, 1 << bit % 8
        with pytest.raises(Refused):
            verify(decode(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]), NAMED)


def test_with_an_rsa_key_every_bit_means_something() -> None:
    key = RsaKey.make()
    sealed = DRAFT.seal(key)
    trust = Trust({key.public.key_hash: key.public}, counter=COUNTER, hardware=(VENDOR, CLASS))
    for image in (sealed, sealed.without(Tlv.KEYHASH), sealed.without(Tlv.PUBKEY)):
        data = image.write()
        assert verify(decode(data), trust).key == key.public
        for bit in range(8 * len(DRAFT.body), 8 * len(data)):
            at, mask = bit // 8, 1 << bit % 8
            with pytest.raises(Refused):
                verify(decode(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]), trust)


def test_the_c_verifier_agrees_on_every_bit(c_verifier: CVerifier) -> None:
    """In a slot of exactly the image; for the TLVs outside the digest also in one of erased flash."""
    trust = DEVICE.trust()
    for bit in BITS:
        data = flipped(bit)
        assert c_verifier.verdict(data, DEVICE) == python_verdict(data, trust, file=False), bit
    for bit in BITS[8 * len(DRAFT.body) :]:
        data = flipped(bit)
        padded = python_verdict(data.ljust(SLOT, b"\xff"), trust, file=False)
        assert c_verifier.verdict(data, DEVICE, SLOT) == padded, bit


def test_what_is_signed_is_refused_by_its_digest_alone() -> None:
    """Whoever can recompute the digest still lacks the signature."""
    for bit in range(0, 8 * len(DRAFT.body), 7):
        body = flipped(bit)[: len(DRAFT.body)]
        with pytest.raises(Refused):
            verify(decode(body + GOOD[len(DRAFT.body) :]), NAMED)
