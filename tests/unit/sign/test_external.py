"""A signature from elsewhere, in the forms that tools write it in, and nothing else in the image."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import Code, Refused
from cellward.core.image import Extras, KeyTlv, Version
from cellward.core.keys import Algorithm
from cellward.core.slots import BMS_M33, Stage
from cellward.sign.build import Label, attach, plan, sign_image, sign_images, with_header_size
from cellward.sign.external import read_signature
from cellward.sign.firmware import capacity, read_firmware
from tests.support.maker import Hand

FIRMWARE = read_firmware("app.bin", bytes(range(200)), BMS_M33, Stage.APP)
LABEL = Label(Version(1, 4, 0), 7, BMS_M33, Stage.APP, Extras("BMS"))
ALGORITHMS = [Algorithm.P256, Algorithm.RSA_3072, Algorithm.ED25519]
HANDS = {algorithm: Hand.of(algorithm) for algorithm in ALGORITHMS}
KEY = HANDS[Algorithm.P256]


def refused(error: pytest.ExceptionInfo[Refused], code: Code) -> None:
    assert error.value.code is code


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_form_of_a_good_signature(algorithm: Algorithm) -> None:
    hand = HANDS[algorithm]
    key, unsigned = hand.public_key, plan(FIRMWARE, LABEL, hand.public_key)
    signature = hand.sign(unsigned.digest)
    forms = [signature, base64.b64encode(signature), base64.encodebytes(signature)]
    if algorithm is Algorithm.P256:
        forms.append(b"".join(n.to_bytes(32, "big") for n in decode_dss_signature(signature)))
    for form in forms:
        made = attach(unsigned, LABEL, key, read_signature(form, key))
        assert made.image.digest == unsigned.digest
        assert made.image.stated_digest == unsigned.digest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signature_of_another_key_or_of_other_inputs(algorithm: Algorithm) -> None:
    hand, other = HANDS[algorithm], Hand.of(algorithm)
    key, unsigned = hand.public_key, plan(FIRMWARE, LABEL, hand.public_key)
    later = Label(Version(1, 4, 1), 7, BMS_M33, Stage.APP, Extras("BMS"))
    for signature in (
        other.sign(unsigned.digest),
        hand.sign(plan(FIRMWARE, later, key).digest),
        hand.sign(plan(FIRMWARE, LABEL, other.public_key).digest),  # the boot record names the key
        hand.sign(plan(FIRMWARE, LABEL, key, encrypted=True).digest),
    ):
        with pytest.raises(Refused) as error:
            attach(unsigned, LABEL, key, read_signature(signature, key))
        refused(error, Code.IMAGE_SIGNATURE)


@given(st.binary(max_size=100))
def test_any_bytes_are_passed_on_or_refused(data: bytes) -> None:
    key = KEY.public_key
    try:
        read_signature(data, key)
    except Refused as refusal:
        assert refusal.code is Code.IMAGE_SIGNATURE


@pytest.mark.parametrize("data", [b"", b"abc", bytes(4097)])
def test_what_is_no_signature(data: bytes) -> None:
    with pytest.raises(Refused) as error:
        read_signature(data, KEY.public_key)
    refused(error, Code.IMAGE_SIGNATURE)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [1, 64, 70, 384, 4096])
def test_bytes_of_any_size_are_no_signature(algorithm: Algorithm, size: int) -> None:
    key = HANDS[algorithm].public_key
    with pytest.raises(Refused) as error:
        attach(plan(FIRMWARE, LABEL, key), LABEL, key, read_signature(bytes(size), key))
    assert error.value.code in (Code.IMAGE_SIGNATURE, Code.IMAGE_TLV)


@pytest.mark.parametrize("algorithm", [Algorithm.P384, Algorithm.ML_DSA_65])
def test_a_key_whose_signature_no_image_has(algorithm: Algorithm) -> None:
    with pytest.raises(Refused) as error:
        sign_image(FIRMWARE, LABEL, Hand.of(algorithm))
    refused(error, Code.KEY_FORMAT)


def test_extras_must_fit_the_slot_too() -> None:
    """`capacity` leaves room for the TLVs that every image has."""
    largest = read_firmware("app.bin", bytes(capacity(BMS_M33, Stage.APP)), BMS_M33, Stage.APP)
    plain = Label(Version(1, 4, 0), 7, BMS_M33, Stage.APP)
    hand = Hand(key=HANDS[Algorithm.RSA_3072].key)
    made = sign_image(largest, plain, hand)
    assert len(made.image.data) == BMS_M33.app.size
    with pytest.raises(Refused) as error:
        sign_image(largest, LABEL, hand)
    refused(error, Code.FIRMWARE_TOO_LARGE)
    assert hand.signatures == 1


@pytest.mark.parametrize("size", [0, 64, 0x201, 0x1080, -128])
def test_a_header_that_leaves_the_vector_table_unaligned(size: int) -> None:
    with pytest.raises(Refused) as error:
        with_header_size(BMS_M33, size)
    refused(error, Code.IMAGE_HEADER)


def test_another_header_size_moves_the_link_address() -> None:
    board = with_header_size(BMS_M33, 0x400)
    assert board.link_address(Stage.APP) == BMS_M33.link_address(Stage.APP) + 0x200
    assert board.class_id(Stage.APP) == BMS_M33.class_id(Stage.APP)
    label = Label(Version(1, 4, 0), 7, board, Stage.APP)
    assert sign_image(FIRMWARE, label, KEY).image.header_size == 0x400


def test_a_batch_is_its_images_and_a_token_that_goes_leaves_whole_ones() -> None:
    hand = Hand()
    labels = [Label(Version(1, 4, n), 7, BMS_M33, Stage.APP) for n in range(70)]
    made = sign_images(((FIRMWARE, label) for label in labels), hand, KeyTlv.HASH)
    done = [next(made) for _ in range(66)]
    assert [one.image.version for one in done] == [label.version for label in labels[:66]]
    hand.lost = True
    with pytest.raises(Exception, match="token"):
        next(made)
    hand.lost = False
    rest = list(sign_images(((FIRMWARE, label) for label in labels[66:]), hand))
    assert [one.image.version for one in rest] == [label.version for label in labels[66:]]
