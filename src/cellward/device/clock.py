"""Secure time: what the time server attested, never earlier than before (Uptane 5.4; checklist I1 to I4).

The controller's own clock decides nothing once there are time keys: it may have been set, or have stood still
while the pack was parked. It is shown, and used where only people read it.
"""

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Final

from cellward.core import attestedtime
from cellward.core.errors import Code, Refused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.device.memory import Memory
from cellward.ports.transport import Transport

TIME_PATH: Final = "/v1/time"


def ask(memory: Memory, server: Transport, keys: Collection[PublicKey]) -> datetime:
    """The time now, attested; remembered as the earliest that will ever be taken again.

    Raises TrustRefused: time.missing where the server has no answer, time.rollback, and as
    attestedtime.verify; Unavailable (server.*). Nothing is remembered then.
    """
    nonce = secrets.token_bytes(attestedtime.NONCE_SIZE)
    try:
        answer = server.post(TIME_PATH, attestedtime.encode_request(nonce), attestedtime.MAX_SIZE)
    except Refused as error:
        if error.code is not Code.NOT_FOUND:
            raise
        raise TrustRefused(
            Code.TIME_MISSING,
            "secure time",
            expected="a signed time attestation, as the factory data names time keys",
            found="none",
        ) from error
    now = attestedtime.verify(answer, keys, nonce)
    floor = latest(memory, keys)
    if floor is not None and now < floor:
        raise TrustRefused(
            Code.TIME_ROLLBACK,
            "time attestation",
            expected=f"a time from {floor:%Y-%m-%d %H:%M:%S} UTC on, which was attested before",
            found=f"{now:%Y-%m-%d %H:%M:%S} UTC",
        )
    memory.set_attested(now, _names(keys))
    return now


def latest(memory: Memory, keys: Collection[PublicKey]) -> datetime | None:
    """The newest time that these keys attested. New keys begin anew: who had the old ones could have
    attested any year (fast-forward recovery, Uptane 5.4.4.3)."""
    held = memory.attested()
    return None if held is None or held[1] != _names(keys) else held[0]


def _names(keys: Collection[PublicKey]) -> str:
    return hashlib.sha256("".join(sorted(key.fingerprint for key in keys)).encode()).hexdigest()
