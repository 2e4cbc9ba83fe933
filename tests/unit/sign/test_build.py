"""The signing step: what goes in comes out, checked as a device checks it; a bad signer ships nothing."""

from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cellward.core import image
from cellward.core.errors import Code, Refused, TrustRefused, Unavailable
from cellward.core.image import KeyTlv, Tlv, Trust, Version, verify
from cellward.core.keys import PublicKey
from cellward.core.slots import BMS_M33, COUNTER_MAX, Stage
from cellward.sign.build import Label, sign_image
from cellward.sign.firmware import read_firmware
from tests.support.maker import Hand

PAYLOAD = bytes(range(256)) * 5
FIRMWARE = read_firmware("app.bin", PAYLOAD, BMS_M33, Stage.APP)


def label(counter: int = 7, stage: Stage = Stage.APP) -> Label:
    return Label(Version(1, 4, 0), counter, BMS_M33, stage)


@pytest.mark.parametrize("stage", list(Stage))
def test_the_image_says_what_it_was_told(stage: Stage) -> None:
    hand = Hand()
    signed = sign_image(FIRMWARE, label(stage=stage), hand)
    assert signed.key == hand.public_key
    assert signed.image.payload == PAYLOAD
    assert (signed.image.version, signed.image.counter) == (Version(1, 4, 0), 7)
    assert signed.image.hardware == (BMS_M33.vendor_id, BMS_M33.class_id(stage))
    assert (signed.image.header_size, signed.image.load_address) == (BMS_M33.header_size, 0)
    assert hand.signatures == 1


@pytest.mark.parametrize(
    ("key_tlv", "tlvs"),
    [
        (KeyTlv.BOTH, {Tlv.KEYHASH, Tlv.PUBKEY}),
        (KeyTlv.HASH, {Tlv.KEYHASH}),
        (KeyTlv.FULL, {Tlv.PUBKEY}),
    ],
)
def test_key_tlvs(key_tlv: KeyTlv, tlvs: set[Tlv]) -> None:
    hand = Hand()
    signed = sign_image(FIRMWARE, label(), hand, key_tlv).image
    assert {entry.type for entry in signed.entries} & {Tlv.KEYHASH, Tlv.PUBKEY} == tlvs
    verify(signed, Trust({hand.public_key.key_hash: hand.public_key}))


@pytest.mark.parametrize("key_tlv", list(KeyTlv))
def test_an_rsa_key_signs_in_its_own_kind(key_tlv: KeyTlv) -> None:
    hand = Hand(key=rsa.generate_private_key(65537, 3072))
    signed = sign_image(FIRMWARE, label(), hand, key_tlv).image
    kinds = {entry.type for entry in signed.entries}
    assert Tlv.RSA3072_PSS in kinds
    assert Tlv.ECDSA not in kinds
    verify(signed, Trust({hand.public_key.key_hash: hand.public_key}))


@pytest.mark.parametrize("counter", [-1, COUNTER_MAX + 1, 2**32])
def test_a_counter_that_no_module_can_hold(counter: int) -> None:
    with pytest.raises(Refused) as error:
        label(counter)
    assert error.value.code is Code.IMAGE_COUNTER


def test_the_ends_of_the_counter() -> None:
    for counter in (0, COUNTER_MAX):
        assert sign_image(FIRMWARE, label(counter), Hand()).image.counter == counter


@dataclass
class OtherKey(Hand):
    """A token that signs with one key and shows another."""

    @property
    def public_key(self) -> PublicKey:
        return PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())


@dataclass
class OtherDigest(Hand):
    def sign(self, digest: bytes) -> bytes:
        return super().sign(digest[::-1])


@dataclass
class Garbage(Hand):
    def sign(self, digest: bytes) -> bytes:
        return b"\x30\x00"


@pytest.mark.parametrize("signer", [OtherKey(), OtherDigest(), Garbage()])
def test_a_signer_that_answers_wrongly_ships_nothing(signer: Hand) -> None:
    with pytest.raises(TrustRefused) as error:
        sign_image(FIRMWARE, label(), signer)
    assert error.value.code is Code.IMAGE_SIGNATURE


def test_an_image_that_says_something_else_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own mistake: the encoder writes another counter, under a good signature."""

    def wrong(payload: bytes, **said: Any) -> image.Unsigned:
        return image.build(payload, **said | {"counter": 3})

    monkeypatch.setattr("cellward.sign.build.build", wrong)
    with pytest.raises(TrustRefused) as error:
        sign_image(FIRMWARE, label(), Hand())
    assert error.value.code is Code.IMAGE_COUNTER


def test_a_token_that_is_gone() -> None:
    with pytest.raises(Unavailable):
        sign_image(FIRMWARE, label(), Hand(lost=True))
