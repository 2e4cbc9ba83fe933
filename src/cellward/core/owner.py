"""The owner of a pack: may read its state of health, and nothing else. Normative: docs/formats/owner.md.

A grant, signed by the device CA, says which key is the owner's. A challenge is one short text that he signs
with it: `openssl dgst -sha256 -sign` makes the signature.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from cellward.core import envelope
from cellward.core.attestation import encode_key, one_encoding, read_key
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.strictjson import format_time, parse_time

KIND = "owner"
FORMAT = 1
MAX_SIZE = 4096
NONCE_SIZE = 32
LIFETIME = timedelta(minutes=10)
MAX_CHALLENGE = 1024
PURPOSE = "Cellward: read the state of health"
_CHALLENGE = re.compile(
    rf"{PURPOSE}\nvehicle (?P<vehicle>[!-~]{{1,128}})\nnonce (?P<nonce>[0-9a-f]{{64}})\n"
    r"number (?P<number>0|[1-9][0-9]{0,18})\nuntil (?P<until>[0-9TZ:-]{20})\n",
    re.ASCII,
)


@dataclass(frozen=True)
class Grant:
    """`at`: of two, the later one counts."""

    vehicle: str
    key: PublicKey
    at: datetime

    def to_sign(self) -> Envelope:
        """Raises FormatRefused (key.format), TrustRefused (key.published) for a key that is no owner's."""
        self.key.require([Algorithm.P256], "owner's key").unpublished("owner's key")
        tree = {
            "format": FORMAT,
            "vehicle": self.vehicle,
            "algorithm": self.key.algorithm.value,
            "key": encode_key(self.key),
            "at": format_time(self.at),
        }
        return envelope.make(KIND, tree)

    def check_newer(self, held: "Grant", what: str) -> None:
        """Raises TrustRefused (owner.older): who sold a pack does not come back with what he kept."""
        if self.at <= held.at:
            raise TrustRefused(
                Code.OWNER_OLDER,
                what,
                expected=f"a grant from after {format_time(held.at)}, which is in force",
                found=f"one of {format_time(self.at)}",
                advice="ask the maker for a new one",
            )


def verify_grant(data: bytes, authority: PublicKey, vehicle: str, what: str = "owner's grant") -> Grant:
    """The grant, if the authority alone has signed it, and it is this vehicle's.

    Raises FormatRefused (metadata.*, document.kind, key.format), TrustRefused (document.signature,
    owner.vehicle, key.published).
    """
    read = envelope.decode(data, KIND, what, MAX_SIZE)
    if authority not in read.signers([authority], what):
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE, what, expected="a signature by the device CA", found="none"
        )
    found = read_grant(data, what)
    if found.vehicle != vehicle:
        raise TrustRefused(Code.OWNER_VEHICLE, what, expected=f"a grant for {vehicle}", found=found.vehicle)
    return found


def read_grant(data: bytes, what: str) -> Grant:
    """What a grant says; nothing of it is verified. Raises FormatRefused, key.published."""
    read = envelope.decode(data, KIND, what, MAX_SIZE)
    fields = read.fields(what)
    fields.integer("format", FORMAT, FORMAT)
    found = Grant(fields.text("vehicle"), read_key(fields, what), fields.time("at"))
    fields.finish()
    one_encoding(read, found.to_sign(), what)
    return found


@dataclass(frozen=True)
class Challenge:
    """`number`: of the controller's last try at an authentication, so that each is good for one."""

    vehicle: str
    nonce: bytes
    number: int
    until: datetime

    def encode(self) -> bytes:
        """What the owner signs, as it is."""
        lines = (
            PURPOSE,
            f"vehicle {self.vehicle}",
            f"nonce {self.nonce.hex()}",
            f"number {self.number}",
            f"until {format_time(self.until)}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    def check(self, vehicle: str, number: int, now: datetime) -> None:
        """Raises TrustRefused (owner.challenge). A clock that was set back ends it too."""
        if (self.vehicle, self.number) != (vehicle, number):
            _refuse_challenge(f"the last one of {vehicle}, not used", "an older one")
        if not self.until - LIFETIME <= now < self.until:
            _refuse_challenge(
                f"an answer from {format_time(self.until - LIFETIME)} on, before {format_time(self.until)}",
                format_time(now),
            )


def decode_challenge(data: bytes) -> Challenge:
    """Raises FormatRefused (owner.challenge, metadata.format)."""
    found = _CHALLENGE.fullmatch(data.decode("ascii", "replace")) if len(data) <= MAX_CHALLENGE else None
    if found is None:
        raise FormatRefused(
            Code.OWNER_CHALLENGE, "challenge", expected="a challenge as it was given", found="something else"
        )
    until = parse_time(found["until"], "challenge")
    return Challenge(found["vehicle"], bytes.fromhex(found["nonce"]), int(found["number"]), until)


def _refuse_challenge(expected: str, found: str) -> NoReturn:
    raise TrustRefused(
        Code.OWNER_CHALLENGE,
        "challenge",
        expected=expected,
        found=found,
        advice="get a new one: `cellward device health challenge`",
    )
