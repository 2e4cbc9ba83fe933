"""Which public areas are keys that may be believed: every attribute that decides is looked at."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.tpm.keys import (
    ATTESTS,
    ENDORSEMENT_POLICY,
    IDENTIFIES,
    EndorsementPublicKey,
    attestation_key,
    endorsement_key,
    endorsement_template,
    external_key,
    identity_key,
)
from cellward.core.tpm.numbers import Alg, ObjectAttributes
from cellward.core.tpm.public import Public, Scheme, Symmetric, qualified_name
from tests.support.attested import OWNER, PRIVATE, signing_area

Is = ObjectAttributes
RSA_KEY = rsa.generate_private_key(65537, 2048).public_key()
ECC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
DECIDE = [
    Is.FIXED_TPM,
    Is.FIXED_PARENT,
    Is.SENSITIVE_DATA_ORIGIN,
    Is.RESTRICTED,
    Is.SIGN,
    Is.DECRYPT,
    Is.ENCRYPTED_DUPLICATION,
    Is.X509_SIGN,
]
FREE = Is.USER_WITH_AUTH | Is.ADMIN_WITH_POLICY | Is.NO_DA


def test_an_attestation_key() -> None:
    area = signing_area(ATTESTS | FREE)
    key = attestation_key(area.encode(), OWNER)
    assert key.key == PublicKey.from_cryptography(PRIVATE.public_key())
    assert (key.name, key.qualified_name) == (area.name, qualified_name(OWNER, area.name))


def test_an_identity_key() -> None:
    area = signing_area(IDENTIFIES | FREE)
    key = identity_key(area.encode())
    assert (key.name, key.key) == (area.name, PublicKey.from_cryptography(PRIVATE.public_key()))


@pytest.mark.parametrize("other", DECIDE)
def test_every_attribute_that_decides(other: ObjectAttributes) -> None:
    with pytest.raises(TrustRefused) as refusal:
        attestation_key(signing_area(ATTESTS ^ other).encode(), OWNER)
    assert refusal.value.code is Code.ATTEST_KEY
    with pytest.raises(TrustRefused) as refusal:
        identity_key(signing_area(IDENTIFIES ^ other).encode())
    assert refusal.value.code is Code.ATTEST_KEY


def test_a_key_signs_by_one_scheme() -> None:
    with pytest.raises(TrustRefused, match="scheme NONE"):
        identity_key(signing_area(IDENTIFIES, Scheme.NONE).encode())


def test_an_rsa_key_signs_nothing() -> None:
    with pytest.raises(TrustRefused, match="found RSA"):
        identity_key(replace(endorsement_template(RSA_KEY), attributes=IDENTIFIES).encode())


@pytest.mark.parametrize("key", [RSA_KEY, ECC_KEY])
def test_the_default_template_with_the_certified_key(key: EndorsementPublicKey) -> None:
    area = endorsement_template(key)
    assert endorsement_key(area.encode(), key) == area
    # EK Credential Profile 2.5, B.6.2: PolicyA of SHA-256.
    assert ENDORSEMENT_POLICY.hex() == "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"


@pytest.mark.parametrize("key", [RSA_KEY, ECC_KEY])
@pytest.mark.parametrize(
    "change",
    [
        {"attributes": Is.RESTRICTED | Is.DECRYPT},
        {"attributes": endorsement_template(ECC_KEY).attributes & ~Is.RESTRICTED},
        {"policy": b""},
        {"symmetric": Symmetric.NONE},
    ],
)
def test_another_area_with_the_certified_key(key: EndorsementPublicKey, change: dict[str, object]) -> None:
    area: Public = replace(endorsement_template(key), **change)  # type: ignore[arg-type]
    with pytest.raises(TrustRefused) as refusal:
        endorsement_key(area.encode(), key)
    assert refusal.value.code is Code.ATTEST_ENDORSEMENT


def test_the_area_of_another_key() -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(TrustRefused) as refusal:
        endorsement_key(endorsement_template(other).encode(), ECC_KEY)
    assert refusal.value.code is Code.ATTEST_ENDORSEMENT


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        rsa.generate_private_key(65537, 3072).public_key(),
        rsa.generate_private_key(3, 2048).public_key(),
    ],
)
def test_endorsement_keys_of_other_kinds(key: EllipticCurvePublicKey | rsa.RSAPublicKey) -> None:
    with pytest.raises(TrustRefused) as refusal:
        endorsement_template(key)
    assert refusal.value.code is Code.ATTEST_ENDORSEMENT


def test_a_key_from_outside_is_named_by_what_it_does() -> None:
    public = PublicKey.from_cryptography(ECC_KEY)
    area = external_key(public)
    assert (area.kind, area.attributes, area.point) == (Alg.ECC, Is.SIGN | Is.USER_WITH_AUTH, public)
    with pytest.raises(FormatRefused) as refusal:
        external_key(PublicKey.from_cryptography(ec.generate_private_key(ec.SECP384R1()).public_key()))
    assert refusal.value.code is Code.KEY_FORMAT
