"""Secrets under a policy, in blobs that only this TPM opens."""

from collections.abc import Sequence

from cellward.adapters.tpm2.connection import Connection, policy_session, transient
from cellward.adapters.tpm2.keys import public_area, tpm_signature
from cellward.adapters.tpm2.measurements import selected
from cellward.adapters.tpm2.refusals import otherwise
from cellward.adapters.tpm2.vendor import (
    ESAPI,
    ESYS_TR,
    TPM2_EO,
    TPM2B_OPERAND,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_SESSION,
    TPMS_SENSITIVE_CREATE,
    TPMT_PUBLIC,
)
from cellward.core.errors import Code, Refused
from cellward.core.tpm.keys import CONFINED, external_key
from cellward.core.tpm.numbers import Alg, ObjectAttributes
from cellward.core.tpm.policy import COUNTER_SIZE, Policy, approval_digest
from cellward.core.tpm.public import COORDINATE_SIZE, Public, Symmetric
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
)

STORAGE_ROOT = 0x81000001
_WHAT = "sealed data"
_Is = ObjectAttributes
# Exempt from dictionary-attack protection, unlike the usual template: a few power cuts lock that one out.
_STORES = CONFINED | _Is.USER_WITH_AUTH | _Is.NO_DA | _Is.RESTRICTED | _Is.DECRYPT
_STORAGE = Public(Alg.ECC, _STORES, bytes(64), symmetric=Symmetric.AES_128_CFB)
_STORAGE_POINT = be_sized(bytes(COORDINATE_SIZE)) * 2
_STORAGE_FORM = _STORAGE.encode()[: -len(_STORAGE_POINT)]
_SEALED = _Is.FIXED_TPM | _Is.FIXED_PARENT | _Is.NO_DA
_KEYEDHASH = 0x0008


class Sealing(Connection):
    """ports.tpm.TpmSealing. What is sealed and unsealed crosses the bus encrypted."""

    def seal(self, data: Buffer, policy: bytes) -> SealedBlob:
        of_size(_WHAT, data, 1, MAX_SEALED)
        of_digest("policy", policy)
        sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(data=bytes(data)))
        with self.command(_WHAT) as esys:
            root = self.storage_root(esys)
            bus = self.encrypting(esys, root, TPMA_SESSION.DECRYPT)
            private, public, *_ = esys.create(root, sensitive, _sealed_area(policy), session2=bus)
        _taken(sensitive.sensitive.data.buffer)
        return SealedBlob(be_sized(bytes(private)) + be_sized(bytes(public.publicArea.marshal())))

    def unseal(self, blob: SealedBlob, steps: Sequence[PolicyStep]) -> bytearray:
        reader = BigEndianReader(blob.data, _WHAT)
        private, public = reader.sized(), reader.sized()
        reader.finish()
        with self.command(_WHAT) as esys:
            root = self.storage_root(esys)
            with otherwise(Code.TPM_BLOB, _WHAT):
                area = TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(public)[0])
                loaded = esys.load(root, TPM2B_PRIVATE.unmarshal(be_sized(private))[0], area)
            with transient(esys, loaded), policy_session(esys) as policy:
                for step in steps:
                    self._take(esys, policy, step)
                bus = self.encrypting(esys, root, TPMA_SESSION.ENCRYPT)
                return _taken(esys.unseal(loaded, session1=policy, session2=bus).buffer)

    def _take(self, esys: ESAPI, policy: int, step: PolicyStep) -> None:
        with otherwise(Code.TPM_POLICY, f"{_WHAT}, {type(step).__name__}"):
            match step:
                case PcrStep(selection):
                    esys.policy_pcr(policy, None, selected(selection))
                case CounterStep(index, comparison, value):
                    operand = TPM2B_OPERAND(buffer=value.to_bytes(COUNTER_SIZE, "big"))
                    place = self.persistent(esys, index)
                    esys.policy_nv(place, place, policy, operand, TPM2_EO(comparison))
                case ApprovalStep():
                    _take_approval(esys, policy, step)

    def storage_root(self, esys: ESAPI) -> int:
        """The owner's storage root key, made when it is first wanted. Looked at once for each connection."""
        if STORAGE_ROOT in self._kept:
            return self._kept[STORAGE_ROOT]
        if self.exists(esys, STORAGE_ROOT):
            area, *_ = esys.read_public(self._kept[STORAGE_ROOT])
            if area.publicArea.marshal()[: -len(_STORAGE_POINT)] != _STORAGE_FORM:
                self.forget()
                raise Refused(
                    Code.TPM_EXISTS,
                    f"storage root key {STORAGE_ROOT:#010x}",
                    expected="none, or P-256 and exempt from dictionary-attack protection",
                    found="another kind of key",
                    advice="evict it, if nothing of value is sealed to it",
                )
            return self._kept[STORAGE_ROOT]
        made, *_ = esys.create_primary(TPM2B_SENSITIVE_CREATE(), public_area(_STORAGE), ESYS_TR.OWNER)
        with transient(esys, made):
            self._kept[STORAGE_ROOT] = esys.evict_control(ESYS_TR.OWNER, made, STORAGE_ROOT)
        return self._kept[STORAGE_ROOT]


def _taken(secret: memoryview) -> bytearray:
    """A copy; the library's own memory, which it only frees, is wiped."""
    copied = bytearray(secret)
    secret[:] = bytes(len(secret))
    return copied


def _take_approval(esys: ESAPI, policy: int, step: ApprovalStep) -> None:
    """The TPM checks the approver's signature itself, and gives a ticket for it that it believes later."""
    key = public_area(external_key(step.approver))
    digest = approval_digest(Policy(step.approved.digest), step.reference)
    with transient(esys, esys.load_external(key, hierarchy=ESYS_TR.OWNER)) as approver:
        ticket = esys.verify_signature(approver, digest, tpm_signature(step.approved.signature))
        name = esys.tr_get_name(approver)
    esys.policy_authorize(policy, step.approved.digest, name, ticket, step.reference)


def _sealed_area(policy: bytes) -> TPM2B_PUBLIC:
    head = be16(_KEYEDHASH) + be16(Alg.SHA256) + be32(_SEALED) + be_sized(policy)
    return TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(head + be16(Alg.NULL) + be_sized(b""))[0])
