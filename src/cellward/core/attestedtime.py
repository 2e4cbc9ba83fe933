"""The time, as the maker's time server vouches for it (Uptane 5.4.1; docs/formats/uptane.md, "Time").

An attestation answers one nonce, which whoever wants to know the time has just made: no answer can be kept
for later, and none can be asked for in advance.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from cellward.core import envelope, strictjson
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.strictjson import SHA256_HEX, Fields

KIND: Final = "time"
NONCE_SIZE: Final = 32
MAX_SIZE: Final = 4096


def encode_request(nonce: bytes) -> bytes:
    return strictjson.encode({"nonce": nonce.hex()})


def decode_request(data: bytes) -> bytes:
    """The nonce. Raises FormatRefused (metadata.format, metadata.too_large)."""
    fields = Fields(strictjson.decode(data, "request for the time", MAX_SIZE), "request for the time")
    nonce = fields.text("nonce", SHA256_HEX)
    fields.finish()
    return bytes.fromhex(nonce)


def attestation(nonce: bytes, at: datetime) -> Envelope:
    """Unsigned; of `at` the whole seconds."""
    return envelope.make(KIND, {"nonce": nonce.hex(), "time": strictjson.format_time(at)})


def verify(
    data: bytes, keys: Collection[PublicKey], nonce: bytes, what: str = "time attestation"
) -> datetime:
    """The time that one of `keys` states in answer to `nonce`.

    Raises FormatRefused (metadata.*, document.kind), TrustRefused: document.signature, time.nonce.
    """
    found = envelope.decode(data, KIND, what, MAX_SIZE)
    signers = found.signers(keys, what)
    if len(signers) != 1:
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE, what, expected="the signature of one time key", found=f"{len(signers)}"
        )
    fields = found.fields(what)
    answered, at = fields.text("nonce", SHA256_HEX), fields.time("time")
    fields.finish()
    if answered != nonce.hex():
        raise TrustRefused(
            Code.TIME_NONCE,
            what,
            expected=f"an answer to {nonce.hex()[:16]}",
            found=f"one to {answered[:16]}",
        )
    return at
