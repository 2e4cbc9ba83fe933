"""Policies that packs' vaults open by, approved with a key in a token."""

from cellward.core.keys import Algorithm
from cellward.core.tpm.approval import Approval, Terms
from cellward.ports.signer import Signer
from cellward.ports.tpm import RELEASE_COUNTER, counter_area


def approve(terms: Terms, signer: Signer) -> Approval:
    """Raises FormatRefused (key.format) for a key that no TPM would take, TrustRefused (attest.policy) for a
    signature that does not verify, Unavailable (token.*)."""
    key = signer.public_key.require([Algorithm.P256], "policy key")
    counter = counter_area(RELEASE_COUNTER)
    made = Approval(terms, key.fingerprint, signer.sign(terms.to_sign(counter)))
    made.verify(key, counter)
    return made
