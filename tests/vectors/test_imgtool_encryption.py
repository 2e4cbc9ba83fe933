"""Encrypted images: imgtool's opened by ours, and ours equal to imgtool's where no chance is in them."""

from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.image import KeyTlv, Tlv, Trust, Version, build, decode, verify
from cellward.core.image.encryption import decrypt, encrypt, unwrap
from cellward.core.slots import BMS_M33, Stage
from vectors import imgtool
from vectors.forge import Key

KEY = Key.make()
TRUST = Trust({KEY.public.key_hash: KEY.public})
MODULE = ec.generate_private_key(ec.SECP256R1())
SCALAR = MODULE.private_numbers().private_value.to_bytes(32, "big")
HARDWARE = (BMS_M33.vendor_id, BMS_M33.class_id(Stage.APP))


def payload(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


def theirs(folder: Path, size: int, *options: str, header_size: int = 0x200) -> bytes:
    vendor, klass = (str(UUID(bytes=part)) for part in HARDWARE)
    public = imgtool.write_public_key(folder, MODULE.public_key())
    return imgtool.sign(
        KEY,
        payload(size),
        *("--version", "1.4.0", "--security-counter", "7", "--vid", vendor, "--cid", klass),
        *("--public-key-format", "full", "--encrypt", public, *options),
        header_size=header_size,
    )


def ours(size: int, header_size: int = 0x200) -> bytes:
    unsigned = build(
        payload(size),
        version=Version(1, 4, 0),
        counter=7,
        hardware=HARDWARE,
        header_size=header_size,
        encrypted=True,
    )
    return unsigned.signed(KEY.public, KEY.sign(unsigned.digest), KeyTlv.FULL)


@pytest.mark.parametrize("header_size", [0x20, 0x200, 0x400])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 4096, 70_001])
def test_what_imgtool_encrypts(tmp_path: Path, size: int, header_size: int) -> None:
    image = decode(theirs(tmp_path, size, header_size=header_size))
    content_key = unwrap(image.find(Tlv.ENC_EC256) or b"", SCALAR)
    plain = decode(decrypt(image.data, content_key))
    assert verify(plain, TRUST).image.payload == payload(size).ljust(-(-size // 16) * 16, b"\0")
    mine = decode(encrypt(ours(size, header_size), content_key))
    # Equal but for the signature, and the wrapped key that goes beside our file, not into it.
    assert mine.data[: mine.signed_size] == image.data[: image.signed_size]
    chance = (Tlv.ECDSA, Tlv.ENC_EC256)
    stated = [[(e.type, e.value) for e in i.entries if e.type not in chance] for i in (mine, image)]
    assert stated[0] == stated[1]
    assert [e.type for e in mine.entries] == [e.type for e in image.entries if e.type != Tlv.ENC_EC256]


def test_what_imgtool_leaves_clear_is_ours_before_encryption(tmp_path: Path) -> None:
    clear, mine = decode(theirs(tmp_path, 1000, "--clear")), decode(ours(1000))
    assert clear.data[: clear.signed_size] == mine.data[: mine.signed_size]
    assert verify(clear, TRUST).image.flags == mine.flags
