"""Signers that say in the signing log what they are about to sign, and sign only then."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cellward.core.keys import PublicKey
from cellward.core.log.entry import Entry, given
from cellward.ports.signer import Signer

if TYPE_CHECKING:
    from cellward.ports.signinglog import IntentLog  # with the tree's code, which signing does not need


@dataclass(frozen=True)
class Purpose:
    """What for: the signed thing's kind (`image`, `release`, `register` …), and which one, in one line."""

    kind: str
    subject: str


class LoggedSigner:
    """A Signer. Where the log cannot be written, nothing is signed: raises what the log raises.

    A cut between the two leaves an intent without a signature, which says so much and no more.
    """

    def __init__(
        self, signer: Signer, log: "IntentLog", role: str, purpose: Purpose, now: Callable[[], datetime]
    ) -> None:
        self._signer = signer
        self._log = log
        self._role = role
        self._purpose = purpose
        self._now = now

    @property
    def uri(self) -> str:
        return self._signer.uri

    @property
    def public_key(self) -> PublicKey:
        return self._signer.public_key

    def sign(self, data: bytes) -> bytes:
        self._log.append([self._intent(data, self._purpose.subject)])
        return self._signer.sign(data)

    def sign_all(self, items: Iterable[tuple[bytes, str]]) -> Iterator[bytes]:
        """Signatures over many, each with its subject: all intents are on the disk before the first."""
        wanted = list(items)
        self._log.append([self._intent(data, subject) for data, subject in wanted])
        return (self._signer.sign(data) for data, _ in wanted)

    def _intent(self, data: bytes, subject: str) -> bytes:
        key = self.public_key
        return Entry(
            self._now(),
            self._purpose.kind,
            self._role,
            key.algorithm.value,
            key.fingerprint,
            given(data),
            subject,
        ).encode()
