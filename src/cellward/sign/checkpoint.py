"""The log's head, signed by the key of the role `log`: only ever one that contains the one before."""

from functools import partial

from cellward.core.errors import Code, PolicyRefused
from cellward.core.log import checkpoint
from cellward.core.log.checkpoint import Checkpoint
from cellward.core.log.merkle import verify_consistency
from cellward.ports.signer import Signer
from cellward.ports.signinglog import Head, SigningLog

_SUBJECT = "checkpoint of the signing log"


def seal(log: SigningLog, signer: Signer, origin: str | None = None) -> bytes:
    """A checkpoint of everything in the log, stored in it. `origin` names the log at its first.

    Raises PolicyRefused (log.origin), TrustRefused (log.*) where the log is not what was signed before.
    """
    return log.seal(partial(_next, signer, origin))


def _next(signer: Signer, origin: str | None, head: Head) -> bytes:
    name, key = origin or default_origin(signer), signer.public_key
    if head.held is not None:
        before = checkpoint.verify(head.held, key, _SUBJECT)
        name = before.origin
        proof = head.tree(head.size).consistency(before.size) if before.size <= head.size else ()
        verify_consistency(before.size, before.root, head.size, head.root, proof, _SUBJECT)
        if origin not in (None, name):
            raise PolicyRefused(Code.LOG_ORIGIN, _SUBJECT, expected=name, found=f"{origin}")
        if before.size == head.size:
            return head.held
    made = Checkpoint(name, head.size, head.root)
    data = made.signed(key, signer.sign(key.to_sign(made.text.encode())))
    checkpoint.verify(data, key, _SUBJECT)
    return data


def default_origin(signer: Signer) -> str:
    return f"cellward-signing-log/{signer.public_key.fingerprint[:16]}"
