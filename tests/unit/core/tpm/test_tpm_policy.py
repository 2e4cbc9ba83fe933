"""Policies and their approval; that the digests are a TPM's, test_tpm_tools shows."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.tpm.policy import ApprovedPolicy, Policy
from tests.support.attested import KEY, VALUES

VENDOR = ec.generate_private_key(ec.SECP256R1())
PUBLIC = PublicKey.from_cryptography(VENDOR.public_key())
POLICY = Policy().pcr(VALUES)


def approved(policy: Policy, reference: bytes) -> ApprovedPolicy:
    return ApprovedPolicy(policy.digest, VENDOR.sign(policy.digest + reference, ec.ECDSA(hashes.SHA256())))


def test_an_approved_policy() -> None:
    assert approved(POLICY, b"vault").verify(PUBLIC, b"vault") == POLICY


@pytest.mark.parametrize("reference", [b"", b"vault2", b"other"])
def test_approved_for_another_use(reference: bytes) -> None:
    with pytest.raises(TrustRefused) as refusal:
        approved(POLICY, b"vault").verify(PUBLIC, reference)
    assert refusal.value.code is Code.ATTEST_POLICY


def test_another_policy_or_another_approver() -> None:
    signature = approved(POLICY, b"vault").signature
    stranger = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
    for policy, key in ((Policy(), PUBLIC), (POLICY, stranger)):
        with pytest.raises(TrustRefused) as refusal:
            ApprovedPolicy(policy.digest, signature).verify(key, b"vault")
        assert refusal.value.code is Code.ATTEST_POLICY


@pytest.mark.parametrize("size", [0, 16, 31, 33, 37])
def test_a_digest_does_not_end_where_one_likes(size: int) -> None:
    """The signature is over digest ‖ reference: half a digest and a longer reference are the same bytes."""
    both = POLICY.digest + b"vault"
    with pytest.raises(FormatRefused) as refusal:
        ApprovedPolicy(both[:size], approved(POLICY, b"vault").signature).verify(PUBLIC, both[size:])
    assert refusal.value.code is Code.ATTEST_POLICY


def test_order_and_every_step_count() -> None:
    steps = {
        Policy().digest,
        Policy().command(1).digest,
        Policy().command(1).command(2).digest,
        Policy().command(2).command(1).digest,
        Policy().secret(KEY.name).digest,
        Policy().secret(KEY.name, b"x").digest,
        Policy.authorize(KEY.name).digest,
        Policy.authorize(KEY.name, b"x").digest,
    }
    assert len(steps) == 8
