"""Policy digests, as a trial session of a TPM computes them (Part 1, 19.7; Part 3, 23).

::

    Policy().pcr(values).counter(index, Comparison.UNSIGNED_LE, svn)   what a release may unseal by
    Policy.authorize(vendor.name, reference)                           what is sealed to, once
"""

import hashlib
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import PublicKey
from cellward.core.tpm import pcr
from cellward.core.tpm.numbers import DIGEST_SIZE, Command, Comparison
from cellward.core.tpm.pcr import PcrValues
from cellward.core.tpm.public import NvPublic
from cellward.core.wire import be16, be32

COUNTER_SIZE = 8
_START = bytes(DIGEST_SIZE)
_WHAT = "approved policy"


@dataclass(frozen=True)
class Policy:
    """The digest so far. Every step gives a new one; the session has to take the same, in this order."""

    digest: bytes = _START

    def pcr(self, values: PcrValues) -> "Policy":
        """TPM2_PolicyPCR: these PCRs hold these values."""
        return _then(self.digest, Command.POLICY_PCR, pcr.encode_selection(values.selection), values.digest)

    def nv(self, index: NvPublic, comparison: Comparison, operand: bytes) -> "Policy":
        """TPM2_PolicyNV from offset 0: the contents of the index, compared with `operand`."""
        arguments = _hash(operand, be16(0), be16(comparison))
        return _then(self.digest, Command.POLICY_NV, arguments, index.name)

    def counter(self, index: NvPublic, comparison: Comparison, value: int) -> "Policy":
        """The same for a counter."""
        return self.nv(index, comparison, value.to_bytes(COUNTER_SIZE, "big"))

    def command(self, code: int) -> "Policy":
        """TPM2_PolicyCommandCode: for this command alone."""
        return _then(self.digest, Command.POLICY_COMMAND_CODE, be32(code))

    def secret(self, entity: bytes, reference: bytes = b"") -> "Policy":
        """TPM2_PolicySecret: the authorisation of the entity with this Name (of a hierarchy: its handle)."""
        return _update(self.digest, Command.POLICY_SECRET, entity, reference)

    @staticmethod
    def authorize(key_name: bytes, reference: bytes = b"") -> "Policy":
        """TPM2_PolicyAuthorize: any policy that this key approved. It forgets the steps before it."""
        return _update(_START, Command.POLICY_AUTHORIZE, key_name, reference)


@dataclass(frozen=True)
class ApprovedPolicy:
    """A policy's digest, and its approver's ECDSA over `approval_digest` in DER, for TPM2_PolicyAuthorize.

    Raises FormatRefused (attest.policy) for a digest of another size: where it ends and the reference begins
    must not be anybody's to choose.
    """

    digest: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_SIZE:
            raise FormatRefused(
                Code.ATTEST_POLICY,
                _WHAT,
                expected=f"a digest of {DIGEST_SIZE} bytes",
                found=f"{len(self.digest)}",
            )

    def verify(self, approver: PublicKey, reference: bytes) -> Policy:
        """The policy, if it was approved for this use. Raises TrustRefused (attest.policy)."""
        policy = Policy(self.digest)
        approver.verify(
            approval_digest(policy, reference), self.signature, code=Code.ATTEST_POLICY, subject=_WHAT
        )
        return policy


def approval_digest(policy: Policy, reference: bytes) -> bytes:
    """aHash (Part 3, 23.16): what the approver's key signs, and TPM2_VerifySignature is given."""
    return _hash(policy.digest, reference)


def _then(digest: bytes, command: int, *arguments: bytes) -> Policy:
    return Policy(_hash(digest, be32(command), *arguments))


def _update(digest: bytes, command: int, entity: bytes, reference: bytes) -> Policy:
    """PolicyUpdate() of Part 3, 23.2.3: hashed once more, for an empty reference too."""
    return Policy(_hash(_then(digest, command, entity).digest, reference))


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
