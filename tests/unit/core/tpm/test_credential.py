"""Credentials; that they open in a TPM, and only there, test_tpm_tools shows."""

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cellward.core.errors import Code, FormatRefused
from cellward.core.tpm.credential import make_credential
from cellward.core.tpm.keys import endorsement_template
from cellward.core.tpm.public import Public
from tests.support.attested import KEY

ECC = endorsement_template(ec.generate_private_key(ec.SECP256R1()).public_key())
RSA = endorsement_template(rsa.generate_private_key(65537, 2048).public_key())
SECRET = b"the secret of an enrolment"


@pytest.mark.parametrize("endorsement", [ECC, RSA])
def test_no_two_are_alike_and_none_shows_its_secret(endorsement: Public) -> None:
    made = [make_credential(endorsement, KEY.name, SECRET, secrets.token_bytes) for _ in range(2)]
    assert made[0].blob != made[1].blob
    assert made[0].encrypted_seed != made[1].encrypted_seed
    assert SECRET not in made[0].blob
    assert made[0].blob.hex() not in repr(made[0])


@pytest.mark.parametrize("secret", [b"", bytes(33)])
def test_a_secret_has_1_to_32_bytes(secret: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        make_credential(ECC, KEY.name, secret, secrets.token_bytes)
    assert refusal.value.code is Code.ATTEST_FORMAT


def test_a_credential_is_for_a_name() -> None:
    with pytest.raises(FormatRefused) as refusal:
        make_credential(ECC, b"\x40\x00\x00\x01", SECRET, secrets.token_bytes)
    assert refusal.value.code is Code.ATTEST_FORMAT
