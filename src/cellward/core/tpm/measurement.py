"""What a pack controller measures at its start: names in the event log, and the PCRs.

agent                        8   the digest of the package's code
configuration                9   the factory data
module SERIAL loader|app    10   the whole image in the running bank, by the module's word
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import PublicKey
from cellward.core.slots import Stage
from cellward.core.tpm.eventlog import Event

AGENT, CONFIGURATION = "agent", "configuration"
AGENT_PCR, CONFIGURATION_PCR, MODULES_PCR = SELECTION = (8, 9, 10)
"""SELECTION: what a pack controller's quotes are over."""
_MODULE = re.compile(r"module (?P<serial>[^ ]+) (?P<stage>loader|app)", re.ASCII)
_TLS_KEY = b"Cellward: attested TLS key\0"


@dataclass(frozen=True)
class ModuleImage:
    """By its module's word: what runs there."""

    serial: str
    stage: Stage
    digest: bytes


@dataclass(frozen=True)
class Start:
    """What a log says, sorted out; what was measured again after a change stands there again."""

    agents: tuple[bytes, ...]
    configurations: tuple[bytes, ...]
    images: tuple[ModuleImage, ...]


def code_digest(files: Mapping[str, bytes]) -> bytes:
    """Of a package: every file's path in it, with the SHA-256 of what it holds."""
    lines = (f"{digest.hex()}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).digest()


def agent(digest: bytes) -> Event:
    return Event(AGENT_PCR, AGENT, digest)


def configuration(factory: bytes) -> Event:
    """Of the factory data's bytes."""
    return Event(CONFIGURATION_PCR, CONFIGURATION, hashlib.sha256(factory).digest())


def module(image: ModuleImage) -> Event:
    """Raises FormatRefused (attest.log) for a serial that no log can hold."""
    return Event(MODULES_PCR, f"module {image.serial} {image.stage}", image.digest)


def read(events: Sequence[Event]) -> Start:
    """Raises FormatRefused (attest.log) for an event of another name, or in another PCR than its own."""
    images = []
    for event in events:
        found = _MODULE.fullmatch(event.what)
        if found:
            images.append(ModuleImage(found["serial"], Stage(found["stage"]), event.digest))
        own = MODULES_PCR if found else {AGENT: AGENT_PCR, CONFIGURATION: CONFIGURATION_PCR}.get(event.what)
        if event.pcr != own:
            raise FormatRefused(
                Code.ATTEST_LOG,
                "event log",
                expected=f"{AGENT} in PCR {AGENT_PCR}, {CONFIGURATION} in {CONFIGURATION_PCR}, "
                f"module SERIAL STAGE in {MODULES_PCR}",
                found=f"{event.what} in {event.pcr}",
            )
    agents, configurations = (
        tuple(event.digest for event in events if event.what == what) for what in (AGENT, CONFIGURATION)
    )
    return Start(agents, configurations, tuple(images))


def qualifying_data(nonce: bytes, tls_key: PublicKey) -> bytes:
    """A quote's extraData: whoever relays it with a TLS key of his own has another quote."""
    return hashlib.sha256(_TLS_KEY + nonce + hashlib.sha256(tls_key.spki).digest()).digest()
