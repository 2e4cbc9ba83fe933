"""What the policy key approves: these measurements, up to this release, for vaults."""

from dataclasses import dataclass, replace

import pytest

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import Algorithm
from cellward.core.tpm.approval import Terms
from cellward.core.tpm.pcr import PcrValues
from cellward.ports.tpm import RELEASE_COUNTER, VAULT_COUNTER, counter_area
from cellward.sign.vaultpolicy import approve
from tests.support.maker import Hand
from tests.support.packtpm import refused

TERMS = Terms(PcrValues({8: bytes(range(32))}), 7)
COUNTER = counter_area(RELEASE_COUNTER)


@dataclass
class Confused(Hand):
    """A token that signs something else."""

    def sign(self, data: bytes) -> bytes:
        return super().sign(data[::-1])


def test_an_approval_is_for_its_terms_alone() -> None:
    hand = Hand()
    made = approve(TERMS, hand)
    assert made.verify(hand.public_key, COUNTER).digest == TERMS.policy(COUNTER).digest
    others = (
        Terms(TERMS.values, 8),
        Terms(PcrValues({8: bytes(32)}), 7),
        Terms(PcrValues({9: bytes(range(32))}), 7),
    )
    for terms in others:
        with refused(TrustRefused, Code.ATTEST_POLICY):
            replace(made, terms=terms).verify(hand.public_key, COUNTER)
    with refused(TrustRefused, Code.ATTEST_POLICY):
        made.verify(hand.public_key, counter_area(VAULT_COUNTER))
    with refused(TrustRefused, Code.ATTEST_POLICY):
        made.verify(Hand().public_key, COUNTER)


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.RSA_3072])
def test_a_key_that_no_tpm_takes_signs_nothing(algorithm: Algorithm) -> None:
    hand = Hand.of(algorithm)
    with refused(FormatRefused, Code.KEY_FORMAT):
        approve(TERMS, hand)
    assert hand.signatures == 0


def test_what_a_token_signed_is_looked_at() -> None:
    with refused(TrustRefused, Code.ATTEST_POLICY):
        approve(TERMS, Confused())
