"""Our images against imgtool's, byte for byte, and each verified by the other."""

from dataclasses import dataclass
from uuid import UUID

import pytest

from cellward.core import wire
from cellward.core.errors import Code, TrustRefused
from cellward.core.image import TLV_MAGIC, KeyTlv, Tlv, Trust, Version, build, decode, encode_area, verify
from cellward.core.slots import BMS_M33, HARDWARE, Stage
from vectors import imgtool
from vectors.forge import Key, RsaKey

KEY = Key.make()
TRUST = Trust({KEY.public.key_hash: KEY.public})


@dataclass(frozen=True)
class Input:
    """What both tools are given."""

    size: int = 1000
    version: str = "1.4.0"
    counter: int = 7
    header_size: int = 0x200
    hardware: tuple[bytes, bytes] = (BMS_M33.vendor_id, BMS_M33.class_id(Stage.APP))

    def __str__(self) -> str:
        return f"{self.size}-{self.version}-{self.counter}-{self.header_size}-{self.hardware[1].hex()[:4]}"

    @property
    def payload(self) -> bytes:
        return bytes(i * 7 % 251 for i in range(self.size))

    def ours(self, fmt: KeyTlv = KeyTlv.BOTH) -> bytes:
        unsigned = build(
            self.payload,
            version=Version.parse(self.version),
            counter=self.counter,
            hardware=self.hardware,
            header_size=self.header_size,
        )
        return unsigned.signed(KEY.public, KEY.sign(unsigned.digest), fmt)

    def theirs(self, fmt: KeyTlv) -> bytes:
        vendor, klass = (str(UUID(bytes=part)) for part in self.hardware)
        return imgtool.sign(
            KEY,
            self.payload,
            *("--version", self.version, "--security-counter", str(self.counter)),
            *("--vid", vendor, "--cid", klass, "--public-key-format", fmt.value),
            header_size=self.header_size,
        )


INPUTS = [
    *(Input(size=size) for size in (1, 2, 15, 16, 17, 511, 4096, 70_001)),
    *(Input(version=text) for text in ("0.0.0", "0.0.1+1", "1.2.3+4", "255.255.65535+4294967295")),
    *(Input(counter=counter) for counter in (0, 1, 255, 65536, 2**32 - 1)),
    *(Input(header_size=size) for size in (32, 33, 0x40, 0x400, 0x1000)),
    *(
        Input(hardware=(hardware.vendor_id, hardware.class_id(stage)))
        for hardware in HARDWARE.values()
        for stage in Stage
    ),
]
SINGLE = [KeyTlv.HASH, KeyTlv.FULL]


def body_and_tlvs(image: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    decoded = decode(image)
    plain = [(entry.type, entry.value) for entry in decoded.entries if not entry.protected]
    return image[: decoded.signed_size], plain


@pytest.mark.parametrize("fmt", SINGLE)
@pytest.mark.parametrize("given", INPUTS, ids=str)
def test_equal_but_for_the_signature_and_the_second_key(given: Input, fmt: KeyTlv) -> None:
    theirs = given.theirs(fmt)
    signature = dict(body_and_tlvs(theirs)[1])[Tlv.ECDSA]
    second = Tlv.PUBKEY if fmt is KeyTlv.HASH else Tlv.KEYHASH
    body, tlvs = body_and_tlvs(given.ours())
    shared = [(kind, signature if kind == Tlv.ECDSA else value) for kind, value in tlvs if kind != second]
    assert len(shared) == len(tlvs) - 1
    assert body + encode_area(TLV_MAGIC, shared) == theirs


@pytest.mark.parametrize("fmt", SINGLE)
@pytest.mark.parametrize("given", INPUTS, ids=str)
def test_with_one_key_tlv_only_the_signature_differs(given: Input, fmt: KeyTlv) -> None:
    ours, theirs = given.ours(fmt), given.theirs(fmt)
    our_body, our_tlvs = body_and_tlvs(ours)
    their_body, their_tlvs = body_and_tlvs(theirs)
    assert our_body == their_body
    assert our_tlvs[:-1] == their_tlvs[:-1]
    assert [kind for kind, _ in our_tlvs] == [kind for kind, _ in their_tlvs]
    at = len(our_body)
    assert ours[at : at + 2] == theirs[at : at + 2]
    lengths = [wire.u16(len(image) - at) for image in (ours, theirs)]
    assert [ours[at + 2 : at + 4], theirs[at + 2 : at + 4]] == lengths


@pytest.mark.parametrize("given", INPUTS, ids=str)
def test_each_verifies_in_the_other(given: Input) -> None:
    for fmt in KeyTlv:
        said = imgtool.verify(KEY, given.ours(fmt))
        assert "Image was correctly validated" in said
        version = given.version if "+" in given.version else f"{given.version}+0"
        assert f"Image version: {version}" in said
    for fmt in SINGLE:
        verified = verify(decode(given.theirs(fmt)), TRUST).image
        assert verified.payload == given.payload
        assert str(verified.version) == given.version.removesuffix("+0")
        assert (verified.counter, verified.hardware) == (given.counter, given.hardware)


def test_rsa_verifies_in_the_other() -> None:
    key = RsaKey.make()
    unsigned = build(
        b"payload",
        version=Version(1, 4, 0),
        counter=7,
        hardware=(BMS_M33.vendor_id, BMS_M33.class_id(Stage.APP)),
    )
    for fmt in KeyTlv:
        ours = unsigned.signed(key.public, key.sign(unsigned.digest), fmt)
        assert "Image was correctly validated" in imgtool.verify(key, ours)
        with pytest.raises(imgtool.ImgtoolError):
            imgtool.verify(RsaKey.make(), ours)
    for fmt in SINGLE:
        theirs = imgtool.sign(key, b"payload", "--version", "1.4.0", "--public-key-format", fmt.value)
        assert verify(decode(theirs), Trust({key.public.key_hash: key.public})).key == key.public


def test_imgtool_refuses_what_we_refuse() -> None:
    ours = bytearray(Input().ours())
    ours[0x300] ^= 1
    with pytest.raises(imgtool.ImgtoolError):
        imgtool.verify(KEY, bytes(ours))
    with pytest.raises(imgtool.ImgtoolError):
        imgtool.verify(Key.make(), Input().ours())


def test_the_uuids_are_those_that_imgtool_makes_of_the_names() -> None:
    """--vid DOMAIN --cid NAME: the build script of a user of imgtool names the same hardware."""
    theirs = imgtool.sign(
        KEY,
        b"\x00" * 16,
        *("--version", "1.0.0", "--security-counter", "1"),
        *("--vid", BMS_M33.vendor, "--cid", f"{BMS_M33.name}/{Stage.LOADER}"),
    )
    assert decode(theirs).hardware == (BMS_M33.vendor_id, BMS_M33.class_id(Stage.LOADER))


def test_an_image_that_imgtool_left_unsigned_is_refused() -> None:
    """imgtool verify says yes to it when no key is given; we never do."""
    unsigned = imgtool.sign(None, b"\x00" * 16, "--version", "1.0.0")
    for trust in (TRUST, Trust({})):
        with pytest.raises(TrustRefused) as refusal:
            verify(decode(unsigned), trust)
        assert refusal.value.code is Code.IMAGE_NO_SIGNATURE
