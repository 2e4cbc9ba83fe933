"""Every kind of image that both tools make, byte for byte.

What chance decides is taken from imgtool's file: its signature is attached to ours, as one made elsewhere
would be, and its content key encrypts ours. Then the whole files are equal.
"""

import tempfile
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.errors import Code, TrustRefused
from cellward.core.image import (
    SIGNATURES,
    TLV_MAGIC,
    Custom,
    Dependency,
    Extras,
    KeyTlv,
    Tlv,
    Trust,
    Unsigned,
    Version,
    build,
    decode,
    encode_area,
    verify,
    verify_stated,
)
from cellward.core.image.encryption import encrypt, unwrap, with_wrapped_key
from cellward.core.keys import Algorithm
from cellward.core.slots import BMS_M33, Stage
from cellward.sign.formats import Format
from cellward.sign.output import decode_output, encode_output
from vectors import imgtool
from vectors.forge import AnyKey, EdKey, Key, RsaKey

MODULE = ec.generate_private_key(ec.SECP256R1())
SCALAR = MODULE.private_numbers().private_value.to_bytes(32, "big")
HARDWARE = (BMS_M33.vendor_id, BMS_M33.class_id(Stage.APP))
FOLDER = tempfile.TemporaryDirectory()  # for the module's PEM, as long as the process
PAYLOAD = bytes(i * 7 % 251 for i in range(1001))
SLOT = BMS_M33.active_base + BMS_M33.app.offset
ALL = frozenset(SIGNATURES)


@cache
def key_of(algorithm: Algorithm) -> AnyKey:
    kinds: dict[Algorithm, type[AnyKey]] = {
        Algorithm.P256: Key,
        Algorithm.RSA_3072: RsaKey,
        Algorithm.ED25519: EdKey,
    }
    return kinds[algorithm].make()


@cache
def module_pem() -> str:
    return imgtool.write_public_key(Path(FOLDER.name), MODULE.public_key())


@dataclass(frozen=True)
class Kind:
    """One cell of the matrix."""

    algorithm: Algorithm
    boot_record: bool = False
    dependencies: bool = False
    uuids: bool = False
    counter: bool = False
    custom: bool = False
    encrypted: bool = False

    def __str__(self) -> str:
        return "-".join([self.algorithm, *(n for n, v in self.__dict__.items() if v is True)])

    @property
    def extras(self) -> Extras:
        return Extras(
            "BMS-app" if self.boot_record else None,
            Dependency.parse("(1, 1.2.3+4), (0,255.255.65535)") if self.dependencies else (),
            (Custom(0xA0, b"text"), Custom(0x12FE, b"\x01\x02")) if self.custom else (),
        )

    def unsigned(self) -> Unsigned:
        return build(
            PAYLOAD,
            version=Version(1, 4, 0, 9),
            counter=7 if self.counter else None,
            hardware=HARDWARE if self.uuids else None,
            encrypted=self.encrypted,
            extras=self.extras,
            key_hash=key_of(self.algorithm).public.key_hash,
        )

    @cache  # noqa: B019  a run of imgtool costs more than all else here
    def theirs(self, key_tlv: KeyTlv, suffix: str = "bin") -> bytes:
        options = ["--version", "1.4.0+9", "--public-key-format", key_tlv.value]
        if self.boot_record:
            options += ["--boot-record", "BMS-app"]
        if self.dependencies:
            options += ["--dependencies", "(1, 1.2.3+4), (0,255.255.65535)"]
        if self.uuids:
            options += ["--vid", str(UUID(bytes=HARDWARE[0])), "--cid", str(UUID(bytes=HARDWARE[1]))]
        if self.counter:
            options += ["--security-counter", "7"]
        if self.custom:
            options += ["--custom-tlv", "0xa0", "text", "--custom-tlv", "0x12fe", "0x0102"]
        if self.encrypted:
            options += ["--encrypt", module_pem()]
        if suffix != "bin":
            options += ["--hex-addr", hex(SLOT)]
        return imgtool.sign(key_of(self.algorithm), PAYLOAD, *options, suffix=suffix)

    def ours(self, key_tlv: KeyTlv, signature: bytes) -> bytes:
        return self.unsigned().signed(key_of(self.algorithm).public, signature, key_tlv)


FLAGS = list(product([False, True], repeat=4))
KINDS = [
    *(Kind(algorithm, *flags) for algorithm in SIGNATURES for flags in FLAGS),
    *(Kind(algorithm, True, True, True, True, custom=True) for algorithm in SIGNATURES),
]
# imgtool wants RSA-signed images encrypted with RSA, which no device of ours unwraps.
SEALED = [
    replace(Kind(algorithm, *flags), encrypted=True)
    for algorithm in (Algorithm.P256, Algorithm.ED25519)
    for flags in FLAGS
]


def signature_in(image: bytes, algorithm: Algorithm) -> bytes:
    found = decode(image).find(SIGNATURES[algorithm])
    assert found is not None
    return found


@pytest.mark.parametrize("key_tlv", [KeyTlv.HASH, KeyTlv.FULL])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_plain(kind: Kind, key_tlv: KeyTlv) -> None:
    theirs = kind.theirs(key_tlv)
    assert kind.ours(key_tlv, signature_in(theirs, kind.algorithm)) == theirs


@pytest.mark.parametrize("key_tlv", [KeyTlv.HASH, KeyTlv.FULL])
@pytest.mark.parametrize("kind", SEALED, ids=str)
def test_encrypted(kind: Kind, key_tlv: KeyTlv) -> None:
    theirs = kind.theirs(key_tlv)
    wrapped = decode(theirs).find(Tlv.ENC_EC256)
    assert wrapped is not None
    signed = kind.ours(key_tlv, signature_in(theirs, kind.algorithm))
    assert with_wrapped_key(encrypt(signed, unwrap(wrapped, SCALAR)), wrapped) == theirs


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_both_key_tlvs_and_nothing_else_are_more(kind: Kind) -> None:
    """imgtool writes one key TLV; ours with both is its file and the other TLV. imgtool verifies it."""
    theirs = kind.theirs(KeyTlv.HASH)
    ours = kind.ours(KeyTlv.BOTH, signature_in(theirs, kind.algorithm))
    image = decode(ours)
    plain = [(e.type, e.value) for e in image.entries if not e.protected and e.type != Tlv.PUBKEY]
    assert ours[: image.signed_size] + encode_area(TLV_MAGIC, plain) == theirs
    assert "Image was correctly validated" in imgtool.verify(key_of(kind.algorithm), ours)


@pytest.mark.parametrize("key_tlv", [KeyTlv.HASH, KeyTlv.FULL])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.algorithm is Algorithm.ED25519], ids=str)
def test_the_whole_file_by_our_own_ed25519_signature(kind: Kind, key_tlv: KeyTlv) -> None:
    ours = kind.ours(key_tlv, key_of(kind.algorithm).sign(kind.unsigned().digest))
    assert ours == kind.theirs(key_tlv)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_imgtool_signs_verifies(kind: Kind) -> None:
    key = key_of(kind.algorithm).public
    image = decode(kind.theirs(KeyTlv.FULL))
    assert verify(image, Trust({key.key_hash: None}, algorithms=ALL)).image.payload == PAYLOAD
    module = Trust({key.key_hash: None})
    if kind.algorithm is Algorithm.ED25519:
        with pytest.raises(TrustRefused) as refusal:
            verify_stated(image, module)
        assert refusal.value.code is Code.IMAGE_NO_SIGNATURE
    else:
        verify(image, module)


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_the_hex_file_is_imgtool_s(algorithm: Algorithm) -> None:
    kind = Kind(algorithm, True, True, True, True)
    theirs = kind.theirs(KeyTlv.HASH, "hex")
    image = decode_output("theirs.hex", theirs)
    assert encode_output(Format.HEX, image, SLOT) == theirs
    assert kind.ours(KeyTlv.HASH, signature_in(image, algorithm)) == image


def test_a_boot_record_that_imgtool_gets_wrong_with_a_signature_from_elsewhere() -> None:
    """imgtool exports the digest without knowing the key, then names the key in the boot record, which is
    under the signature: its file does not verify. Ours is asked for the key first."""
    key = Key.make()
    options = ("--version", "1.4.0+9", "--boot-record", "BMS-app", "--pad-header")
    digest = imgtool.sign(None, PAYLOAD, *options, "--vector-to-sign", "digest")
    kind = Kind(Algorithm.P256, boot_record=True)
    assert digest != kind.unsigned().digest
    assert (
        digest
        == build(
            PAYLOAD,
            version=Version(1, 4, 0, 9),
            counter=None,
            hardware=None,
            extras=kind.extras,
            key_hash=bytes(32),
        ).digest
    )
    with pytest.raises(TrustRefused):
        kind.unsigned().signed(key.public, key.sign(digest))
