"""A release: the images and calibrations that belong together, and the documents about it.

docs/formats/release.md is the normative text. Three kinds of envelope (core.envelope):

release      what belongs together, by hash; signed by every key that it names
approval     one other person has looked at this release, by hash
withdrawal   this release is not to be given out any more, and why
"""

from cellward.core.release.documents import (
    Approval,
    SameHand,
    Withdrawal,
    approval,
    approval_file,
    check_approved,
    verify_approval,
    verify_withdrawal,
    withdrawal,
)
from cellward.core.release.signatures import (
    check_classical,
    decode,
    to_sign,
    verify,
)
from cellward.core.release.values import (
    APPROVAL,
    APPROVALS,
    CALIBRATION,
    MAX_FILE_SIZE,
    MAX_RELEASE_SIZE,
    RELEASE,
    RELEASE_FILE,
    WITHDRAWAL,
    WITHDRAWAL_FILE,
    File,
    Part,
    Release,
    Requirement,
)

__all__ = [
    "APPROVAL",
    "APPROVALS",
    "CALIBRATION",
    "MAX_FILE_SIZE",
    "MAX_RELEASE_SIZE",
    "RELEASE",
    "RELEASE_FILE",
    "WITHDRAWAL",
    "WITHDRAWAL_FILE",
    "Approval",
    "File",
    "Part",
    "Release",
    "Requirement",
    "SameHand",
    "Withdrawal",
    "approval",
    "approval_file",
    "check_approved",
    "check_classical",
    "decode",
    "to_sign",
    "verify",
    "verify_approval",
    "verify_withdrawal",
    "withdrawal",
]
