"""The TPM's response codes as refusals of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from cellward.adapters.tpm2.vendor import TPM2_RC, TSS2_Exception
from cellward.core.errors import CellwardError, Code, Refused, TrustRefused, Unavailable

_LAYER = 0xFF0000
_TPM = (0x000000, 0x0B0000)  # the TPM itself, or the resource manager before it
_TRANSPORT = 0x0A0000

_CODES: dict[int, Code] = {
    TPM2_RC.LOCKOUT: Code.TPM_LOCKOUT,
    TPM2_RC.RETRY: Code.TPM_BUSY,
    TPM2_RC.YIELDED: Code.TPM_BUSY,
    TPM2_RC.TESTING: Code.TPM_BUSY,
    TPM2_RC.NV_RATE: Code.TPM_BUSY,
    TPM2_RC.HANDLE: Code.TPM_MISSING,
    TPM2_RC.NV_UNINITIALIZED: Code.TPM_MISSING,
    TPM2_RC.NV_DEFINED: Code.TPM_EXISTS,
    TPM2_RC.AUTH_FAIL: Code.TPM_AUTHORISATION,
    TPM2_RC.BAD_AUTH: Code.TPM_AUTHORISATION,
    TPM2_RC.DISABLED: Code.TPM_AUTHORISATION,
    TPM2_RC.NV_AUTHORIZATION: Code.TPM_AUTHORISATION,
    TPM2_RC.NV_LOCKED: Code.TPM_AUTHORISATION,
    TPM2_RC.HIERARCHY: Code.TPM_AUTHORISATION,
    TPM2_RC.POLICY: Code.TPM_POLICY,
    TPM2_RC.POLICY_FAIL: Code.TPM_POLICY,
    TPM2_RC.PCR_CHANGED: Code.TPM_POLICY,
    TPM2_RC.INTEGRITY: Code.TPM_BLOB,
}
_KINDS: dict[Code, type[CellwardError]] = {
    Code.TPM_EXISTS: Refused,
    Code.TPM_AUTHORISATION: Refused,
    Code.TPM_POLICY: TrustRefused,
    Code.TPM_BLOB: TrustRefused,
}
_SIDES: dict[Code, tuple[str, str]] = {
    Code.TPM_ABSENT: ("an answer", "see that the TPM is there, and CELLWARD_TPM names it"),
    Code.TPM_BUSY: ("an answer at once", "try again in a second"),
    Code.TPM_LOCKOUT: (
        "a TPM that takes authorisations",
        "wait for the TPM's recovery time, or reset the lockout",
    ),
    Code.TPM_MISSING: ("it to be there", ""),
    Code.TPM_EXISTS: ("nothing of this handle in the TPM", "remove it first, if it is nobody's"),
    Code.TPM_AUTHORISATION: ("the right authorisation", ""),
    Code.TPM_POLICY: ("the policy's conditions", ""),
    Code.TPM_BLOB: ("what this TPM made", ""),
    Code.TPM_FAILED: ("success", ""),
}


def refusal(error: TSS2_Exception, subject: str, other: Code = Code.TPM_FAILED) -> CellwardError:
    """In our words; the code's own text is what was found. `other`: for codes without a word."""
    layer = error.rc & _LAYER
    if layer in _TPM:
        code = _CODES.get(error.error & ~_LAYER, other)
    elif layer == _TRANSPORT:
        code = Code.TPM_ABSENT
    else:
        code = other
    expected, advice = _SIDES[code]
    kind = _KINDS.get(code, Unavailable)
    return kind(code, subject, expected=expected, found=str(error), advice=advice)


@contextmanager
def otherwise(code: Code, subject: str) -> Iterator[None]:
    """What the TPM refuses here without a word of its own means `code`."""
    try:
        yield
    except TSS2_Exception as error:
        raise refusal(error, subject, code) from error
