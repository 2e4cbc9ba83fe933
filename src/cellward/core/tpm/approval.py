"""What opens a sealed value, as the maker approved it for one state of the controller, in a file.

The maker says which PCR values a release measures, and up to which value of the release counter it may open;
what the TPM takes is the policy that follows from both, approved by the policy key (core.tpm.policy).
Normative: docs/formats/controller-vault.md.
"""

import re
from dataclasses import dataclass

from cellward.core import strictjson
from cellward.core.keys import PublicKey
from cellward.core.strictjson import MAX_INTEGER, SHA256_HEX, Fields, refuse
from cellward.core.tpm.eventlog import PCRS
from cellward.core.tpm.numbers import Comparison
from cellward.core.tpm.pcr import PcrValues
from cellward.core.tpm.policy import ApprovedPolicy, Policy, approval_digest
from cellward.core.tpm.public import NvPublic

FORMAT = 1
MAX_SIZE = 4096
REFERENCE = b"cellward pack vault"
_SIGNATURE = re.compile(r"([0-9a-f]{2}){8,72}", re.ASCII)
_WHAT = "vault policy"


@dataclass(frozen=True)
class Terms:
    """A vault opens while these PCRs hold these values, and the release counter is at most `counter`."""

    values: PcrValues
    counter: int

    def policy(self, counter: NvPublic) -> Policy:
        """`counter`: the index of the release counter."""
        return Policy().pcr(self.values).counter(counter, Comparison.UNSIGNED_LE, self.counter)

    def to_sign(self, counter: NvPublic) -> bytes:
        """The digest that the policy key signs."""
        return approval_digest(self.policy(counter), REFERENCE)


@dataclass(frozen=True)
class Approval:
    """Terms, and whose signature stands behind them: not verified yet."""

    terms: Terms
    key_id: str
    signature: bytes

    def encode(self) -> bytes:
        pcrs = [
            {"pcr": index, "sha256": self.terms.values.values[index].hex()}
            for index in self.terms.values.selection
        ]
        tree = {
            "counter": self.terms.counter,
            "format": FORMAT,
            "key": self.key_id,
            "pcrs": pcrs,
            "signature": self.signature.hex(),
        }
        return strictjson.encode(tree) + b"\n"

    def verify(self, approver: PublicKey, counter: NvPublic) -> ApprovedPolicy:
        """What the TPM is given. Raises TrustRefused (attest.policy, key.published)."""
        found = ApprovedPolicy(self.terms.policy(counter).digest, self.signature)
        found.verify(approver, REFERENCE)
        return found


def decode(data: bytes, what: str = _WHAT) -> Approval:
    """Raises FormatRefused (metadata.*, attest.format)."""
    fields = Fields(strictjson.decode(data, what, MAX_SIZE), what)
    fields.integer("format", FORMAT, FORMAT)
    values = dict(_pcr(item, what) for item in fields.items("pcrs", len(PCRS)))
    found = Approval(
        Terms(PcrValues(values), fields.integer("counter", 1, MAX_INTEGER)),
        fields.text("key", SHA256_HEX),
        bytes.fromhex(fields.text("signature", _SIGNATURE)),
    )
    if found.encode() != data:
        refuse(what, "the one encoding of a vault policy", "another of the same")
    return found


def _pcr(item: object, what: str) -> tuple[int, bytes]:
    fields = Fields(item, f"{what} PCR")
    return fields.integer("pcr", PCRS[0], PCRS[-1]), bytes.fromhex(fields.text("sha256", SHA256_HEX))
