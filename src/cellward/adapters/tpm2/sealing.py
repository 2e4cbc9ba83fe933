"""Secrets under a policy, in blobs that only this TPM opens."""

from collections.abc import Sequence

from cellward.adapters.tpm2.keys import tpm_signature
from cellward.adapters.tpm2.refusals import otherwise
from cellward.adapters.tpm2.sessions import STORAGE_ROOT, Sessions
from cellward.core.errors import Code
from cellward.core.tpm.command import Call, Entity, Hides, authorised, plain
from cellward.core.tpm.keys import external_key
from cellward.core.tpm.numbers import Alg, Command, Hierarchy, ObjectAttributes
from cellward.core.tpm.pcr import encode_selection
from cellward.core.tpm.policy import COUNTER_SIZE, Policy, approval_digest
from cellward.core.tpm.public import name_of
from cellward.core.wire import BigEndianReader, be16, be32, be_sized
from cellward.ports.tpm import (
    MAX_SEALED,
    ApprovalStep,
    Buffer,
    CounterStep,
    PcrStep,
    PolicyStep,
    SealedBlob,
    of_digest,
    of_size,
    pcrs,
)

_WHAT = "sealed data"
_Is = ObjectAttributes
_SEALED = _Is.FIXED_TPM | _Is.FIXED_PARENT | _Is.NO_DA


class Sealing(Sessions):
    """ports.tpm.TpmSealing. What is sealed and unsealed crosses the bus encrypted."""

    def seal(self, data: Buffer, policy: bytes) -> SealedBlob:
        of_size(_WHAT, data, 1, MAX_SEALED)
        of_digest("policy", policy)
        others = be_sized(_sealed_area(policy)) + be_sized(b"") + be32(0)
        with self.command(_WHAT) as esys:
            session, root = self.salted(esys), Entity(STORAGE_ROOT, self.storage_root(esys).name)
            sensitive = bytearray(be_sized(b"") + be16(len(data)))  # no authorisation
            sensitive += data
            made = self.within(session, Call(Command.CREATE, (root,), Hides.ARGUMENT, others, sensitive))
        reader = BigEndianReader(bytes(made), _WHAT)
        return SealedBlob(be_sized(reader.sized()) + be_sized(reader.sized()))

    def unseal(self, blob: SealedBlob, steps: Sequence[PolicyStep]) -> bytearray:
        reader = BigEndianReader(blob.data, _WHAT)
        private, public = reader.sized(), reader.sized()
        reader.finish()
        with self.command(_WHAT) as esys:
            session = self.salted(esys)
            with otherwise(Code.TPM_BLOB, _WHAT):
                load = authorised(Command.LOAD, [STORAGE_ROOT], be_sized(private) + be_sized(public))
                loaded = Entity(_handle(self.exchange(load)), name_of(public))
            with self.flushed(loaded.handle):
                for step in steps:
                    self._take(session.handle, step)
                opening = Call(Command.UNSEAL, (loaded,), Hides.ANSWER, beside_password=False)
                return self.within(session, opening)

    def _take(self, session: int, step: PolicyStep) -> None:
        with otherwise(Code.TPM_POLICY, f"{_WHAT}, {type(step).__name__}"):
            match step:
                case PcrStep(selection):
                    selected = be_sized(b"") + encode_selection(pcrs(selection))
                    self.exchange(plain(Command.POLICY_PCR, be32(session), selected))
                case CounterStep(index, comparison, value):
                    operand = be_sized(value.to_bytes(COUNTER_SIZE, "big")) + be16(0) + be16(comparison)
                    self.exchange(authorised(Command.POLICY_NV, [index, index, session], operand))
                case ApprovalStep():
                    self._take_approval(session, step)

    def _take_approval(self, session: int, step: ApprovalStep) -> None:
        """The TPM checks the approver's signature itself; its ticket says later that it did."""
        key = external_key(step.approver)
        digest = approval_digest(Policy(step.approved.digest), step.reference)
        area = be_sized(b"") + be_sized(key.encode())
        loaded = _handle(self.exchange(plain(Command.LOAD_EXTERNAL, area, be32(Hierarchy.OWNER))))
        with self.flushed(loaded):
            signed = be_sized(digest) + tpm_signature(step.approved.signature)
            ticket = self.exchange(plain(Command.VERIFY_SIGNATURE, be32(loaded), signed))
        approved = be_sized(step.approved.digest) + be_sized(step.reference) + be_sized(key.name)
        self.exchange(plain(Command.POLICY_AUTHORIZE, be32(session), approved, ticket))


def _handle(answer: bytes) -> int:
    """The first thing of an answer whose rest is of no use."""
    return BigEndianReader(answer, _WHAT).u32()


def _sealed_area(policy: bytes) -> bytes:
    head = be16(Alg.KEYED_HASH) + be16(Alg.SHA256) + be32(_SEALED) + be_sized(policy)
    return head + be16(Alg.NULL) + be_sized(b"")
