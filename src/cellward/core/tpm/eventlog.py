"""The measured start's event log: what was extended into which PCR, in order, since the TPM's reset.

    {"events": [{"pcr": 8, "sha256": hex, "what": "agent code"}, …], "format": 1}

Strict JSON in one encoding. Nobody signs it: a quote over the PCRs that follow from it does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cellward.core import strictjson
from cellward.core.errors import Code, FormatRefused
from cellward.core.strictjson import SHA256_HEX, Fields
from cellward.core.tpm import pcr
from cellward.core.tpm.numbers import DIGEST_SIZE
from cellward.core.tpm.pcr import PcrValues

FORMAT = 1
MAX_EVENTS = 256
MAX_SIZE = 64 * 1024
PCRS = range(8, 16)
"""Of the operating system (PC Client Profile): not the platform's own, and none that software can reset."""
WHAT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/-]{0,62}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Event:
    """`digest` is what the PCR was extended with: SHA-256 of what was measured."""

    pcr: int
    what: str
    digest: bytes

    def __post_init__(self) -> None:
        """Raises FormatRefused (attest.log) for an event that no log can hold."""
        if self.pcr not in PCRS or not WHAT.fullmatch(self.what) or len(self.digest) != DIGEST_SIZE:
            raise _refused(
                f"PCR {PCRS[0]} to {PCRS[-1]}, a plain name and {DIGEST_SIZE} bytes",
                f"PCR {self.pcr}, {self.what[:64]!r}, {len(self.digest)} bytes",
            )


def encode(events: Sequence[Event]) -> bytes:
    """Raises FormatRefused (attest.log) for more events than a log holds."""
    if len(events) > MAX_EVENTS:
        raise _refused(f"at most {MAX_EVENTS} events", f"{len(events)}")
    return strictjson.encode(
        {
            "format": FORMAT,
            "events": [
                {"pcr": event.pcr, "sha256": event.digest.hex(), "what": event.what} for event in events
            ],
        }
    )


def decode(data: bytes) -> tuple[Event, ...]:
    """Claims, until a quote over `replay` of them is verified.

    Raises FormatRefused (metadata.format, metadata.too_large, attest.log).
    """
    fields = Fields(strictjson.decode(data, "event log", MAX_SIZE), "event log")
    fields.integer("format", FORMAT, FORMAT)
    events = tuple(_event(item) for item in fields.items("events", MAX_EVENTS))
    fields.finish()
    if encode(events) != data:
        raise _refused("the one encoding of an event log", "another of the same")
    return events


def _event(item: object) -> Event:
    fields = Fields(item, "event")
    event = Event(
        fields.integer("pcr", PCRS[0], PCRS[-1]),
        fields.text("what", WHAT),
        bytes.fromhex(fields.text("sha256", SHA256_HEX)),
    )
    fields.finish()
    return event


def replay(events: Sequence[Event], selection: Sequence[int]) -> PcrValues:
    """What these PCRs hold after the events; one that none of them extends is as the reset left it.

    Raises FormatRefused (attest.log) for an event in a PCR that nobody quotes: it would prove nothing.
    """
    values = dict.fromkeys(selection, pcr.RESET_VALUE)
    for event in events:
        if event.pcr not in values:
            raise _refused(f"events in PCRs {', '.join(map(str, sorted(values)))}", f"one in {event.pcr}")
        values[event.pcr] = pcr.extend(values[event.pcr], event.digest)
    return PcrValues(values)


def _refused(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.ATTEST_LOG, "event log", expected=expected, found=found)
