"""The signed key register: which keys there are, what each is for, and until when.

docs/formats/key-register.md is the normative text. Every version is signed by the threshold of the root
before it and of its own, so that who trusts the first one can follow to the newest.
"""

from cellward.core.register.chain import MAX_CHAIN, MAX_FILE, Step, check_succession, split, verify_chain
from cellward.core.register.changes import (
    added,
    first,
    revoked,
    rotated,
    with_root,
)
from cellward.core.register.document import KIND, MAX_SIZE, Document, decode, unsigned
from cellward.core.register.values import (
    CLOCK_SLACK,
    MAX_ACTIVE,
    MAX_KEYS,
    MAX_ROOT_KEYS,
    Entry,
    Register,
    Root,
    State,
    Status,
)

__all__ = [
    "CLOCK_SLACK",
    "KIND",
    "MAX_ACTIVE",
    "MAX_CHAIN",
    "MAX_FILE",
    "MAX_KEYS",
    "MAX_ROOT_KEYS",
    "MAX_SIZE",
    "Document",
    "Entry",
    "Register",
    "Root",
    "State",
    "Status",
    "Step",
    "added",
    "check_succession",
    "decode",
    "first",
    "revoked",
    "rotated",
    "split",
    "unsigned",
    "verify_chain",
    "with_root",
]
