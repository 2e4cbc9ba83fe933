"""What root key holders and the maker do with their tokens at a ceremony."""

from dataclasses import dataclass
from datetime import datetime

from cellward.core.attestation import Attestation, Custody
from cellward.core.ceremony import Ceremony, Record, Signed, check_clock, check_fingerprint
from cellward.core.keys import KeyStage, PublicKey, Role
from cellward.core.register import Document, Entry
from cellward.ports.signer import KeyStore, Signer, StoredKey
from cellward.sign.documents import sign_document


def custody(store: KeyStore, stored: StoredKey) -> Custody:
    """What the token says, to be kept."""
    return Custody(stored.attributes, store.facts())


def entry_of(
    key: PublicKey,
    name: str,
    purpose: Role,
    stage: KeyStage,
    validity: tuple[datetime, datetime],
    kept: Custody | None = None,
) -> Entry:
    """A key to be entered. Raises PolicyRefused (ceremony.attributes) where its token says that it was, or
    could be, outside."""
    if kept is not None:
        kept.check(f"key {name} ({key.fingerprint[:16]})")
    return Entry(name, key, purpose, stage, validity[0], validity[1], kept)


@dataclass(frozen=True)
class Holder:
    """Somebody with a root key in a token of their own; `name` is what the record says, and no proof."""

    name: str
    store: KeyStore
    stored: StoredKey
    signer: Signer


def sign_draft(ceremony: Ceremony, holder: Holder, fingerprint: str, at: datetime) -> Ceremony:
    """With this holder's signature on the draft, and the record of it.

    Nothing is signed before all of this holds: the draft is the one that the holder means (`fingerprint`),
    and not from the future; the key is in one of the two roots, and its token says that it never was outside.

    Raises TrustRefused (ceremony.fingerprint, ceremony.holder), PolicyRefused (register.clock,
    ceremony.attributes), token.*.
    """
    draft, key = ceremony.draft, holder.stored.public_key
    check_fingerprint(draft, fingerprint)
    check_clock(draft, at)
    ceremony.check_holder(key)
    kept = custody(holder.store, holder.stored)
    kept.check(f"key {holder.stored.label} ({key.fingerprint[:16]})")
    record = Record(draft.register.version, draft.fingerprint, holder.name, key.fingerprint, kept, at)
    signed = sign_document(draft.envelope, holder.signer)
    statement = sign_document(record.envelope(), holder.signer).encode()
    return ceremony.signed_by(Document(draft.register, signed, signed.encode()), Signed(record, statement))


def attest(store: KeyStore, stored: StoredKey, signer: Signer, at: datetime, challenge: str = "") -> bytes:
    """What the token says of this key, signed by the key. Raises token.*."""
    said = Attestation(stored.label, stored.public_key, custody(store, stored), at, challenge)
    return sign_document(said.envelope(), signer).encode()
