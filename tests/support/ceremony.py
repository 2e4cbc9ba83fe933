"""A register of hands: root keys of the test's own, and ceremonies without tokens."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cellward.core import ceremony, register
from cellward.core.attestation import Custody
from cellward.core.ceremony import Ceremony
from cellward.core.keys import KeyAttributes, KeyStage, Role, TokenFacts
from cellward.core.register import Document, Entry, Register
from cellward.sign.ceremony import Holder, sign_draft
from cellward.sign.documents import sign_document
from tests.fakes.signer import MemoryKeyStore
from tests.support.maker import Hand

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
BORN_INSIDE = KeyAttributes(True, False, True, True, True)
CUSTODY = Custody(BORN_INSIDE, TokenFacts("cellward", "the test", "hand", "1"))


def entry(
    hand: Hand, purpose: Role = Role.FIRMWARE, stage: KeyStage = KeyStage.PRODUCTION, name: str = ""
) -> Entry:
    named = name or purpose.value
    return Entry(named, hand.public_key, purpose, stage, NOW - DAY, NOW + 365 * DAY, CUSTODY)


def sign(draft: Register | Document, *hands: Hand) -> Document:
    made = register.unsigned(draft) if isinstance(draft, Register) else draft
    envelope = made.envelope
    for hand in hands:
        envelope = sign_document(envelope, hand)
    return Document(made.register, envelope, envelope.encode())


@dataclass
class House:
    """Three holders, two of whom must agree; a firmware key of either stage, and a log key."""

    holders: tuple[Hand, ...]
    firmware: Hand
    development: Hand
    log: Hand
    first: Document

    @classmethod
    def make(cls, threshold: int = 2) -> "House":
        holders = tuple(Hand(f"holder{number}") for number in range(3))
        firmware, development, log = Hand("firmware"), Hand("firmware-dev"), Hand("log")
        entries = [entry(hand, Role.ROOT, name=hand.name) for hand in holders]
        entries += [
            entry(firmware),
            entry(development, stage=KeyStage.DEVELOPMENT, name="firmware-dev"),
            entry(log, Role.LOG),
        ]
        draft = register.first(entries, threshold, NOW)
        return cls(holders, firmware, development, log, sign(draft, *holders[:threshold]))

    def next(self, **changes: object) -> Register:
        """A version 2 with nothing changed but what is given."""
        old = self.first.register
        values = {"version": 2, "previous": self.first.sha256, "issued": NOW + DAY} | changes
        return replace(old, **values)  # type: ignore[arg-type]

    def ceremony(self, draft: Register | None = None) -> Ceremony:
        return ceremony.begin([self.first.data], draft or self.next())


def holder(name: str, attributes: KeyAttributes = BORN_INSIDE) -> Holder:
    store = MemoryKeyStore()
    stored = replace(store.hold("root"), attributes=attributes)
    return Holder(name, store, stored, store.signer("root"))


def contribute(at: Ceremony, *holders: Holder) -> Ceremony:
    for each in holders:
        at = sign_draft(at, each, at.draft.fingerprint, at.draft.register.issued)
    return at
