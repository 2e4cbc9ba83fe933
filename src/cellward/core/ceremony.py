"""The file that root key holders pass on: the register so far, its next version, what each holder adds.

docs/formats/key-register.md, "Ceremony". One envelope a line: every version of the register, the last of them
being agreed on; then a record of each holder who signed it, signed with the same key.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cellward.core import envelope, register
from cellward.core.attestation import NAME, Custody, one_encoding
from cellward.core.envelope import MAX_SIGNATURES, Envelope
from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.register import CLOCK_SLACK, MAX_CHAIN, MAX_SIZE, Document, Step
from cellward.core.register.chain import signed
from cellward.core.strictjson import SHA256_HEX, format_time

KIND = "ceremony"
FORMAT = 1
MAX_RECORD = 16 * 1024
_FINGERPRINT = re.compile(r"[0-9a-f]{16,64}", re.ASCII)


@dataclass(frozen=True)
class Record:
    """What one holder did: `fingerprint` is the draft's, which says what was signed."""

    version: int
    fingerprint: str
    holder: str
    key: str
    custody: Custody
    at: datetime

    def envelope(self) -> Envelope:
        """To be signed by the holder's key."""
        return envelope.make(
            KIND,
            {
                "format": FORMAT,
                "version": self.version,
                "register": self.fingerprint,
                "holder": self.holder,
                "key": self.key,
                "custody": self.custody.tree(),
                "at": format_time(self.at),
            },
        )


@dataclass(frozen=True)
class Signed:
    """A record in its envelope, its signature verified."""

    record: Record
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Ceremony:
    """`before`: the versions so far, as files; `draft`: the next one; `step`: whose signatures it has."""

    before: tuple[bytes, ...] = field(repr=False)
    step: Step
    records: tuple[Signed, ...] = ()

    @property
    def draft(self) -> Document:
        return self.step.document

    @property
    def previous(self) -> Document | None:
        return register.decode(self.before[-1]) if self.before else None

    def encode(self) -> bytes:
        return b"".join((*self.before, self.draft.data, *(each.data for each in self.records)))

    @property
    def chain(self) -> bytes:
        """The register file that this ceremony ends in."""
        return b"".join((*self.before, self.draft.data))

    @property
    def transcript(self) -> bytes:
        return b"".join(each.data for each in self.records)

    def check_holder(self, key: PublicKey) -> None:
        """Raises TrustRefused (ceremony.holder) for a key that is in neither root."""
        roots = [*self.draft.register.roots()]
        if self.previous is not None:
            roots += self.previous.register.roots()
        if key not in [entry.key for entry in roots]:
            raise TrustRefused(
                Code.CEREMONY_HOLDER,
                f"key {key.fingerprint[:16]}",
                expected="a root key: " + ", ".join(sorted({str(entry) for entry in roots})),
                found="none of them",
            )

    def signed_by(self, document: Document, record: Signed) -> "Ceremony":
        """With one holder's signature and record, in place of earlier ones of the same key."""
        others = [each for each in self.records if each.record.key != record.record.key]
        made = sorted([*others, record], key=lambda each: each.record.key)
        return replace(self, step=signed(document, self.previous), records=tuple(made))

    def finished(self) -> "Ceremony":
        """Raises TrustRefused: register.quorum below a threshold, ceremony.file where one has no record;
        PolicyRefused (ceremony.attributes) where a record says that a key was, or could be, outside."""
        register.verify_chain((*self.before, self.draft.data))
        silent = {key.fingerprint for key in self.step.signers} - {each.record.key for each in self.records}
        if silent:
            raise TrustRefused(
                Code.CEREMONY_FILE,
                "ceremony",
                expected="a record of everybody who signed",
                found=f"none of {', '.join(sorted(key[:16] for key in silent))}",
                advice="let them sign again with `cellward keys ceremony sign`",
            )
        for each in self.records:
            each.record.custody.check(f"key {each.record.key[:16]} of {each.record.holder}")
        return self


def begin(before: Sequence[bytes], draft: register.Register) -> Ceremony:
    """Nobody has signed yet. Raises as `decode`."""
    return decode(b"".join((*before, register.unsigned(draft).data)))


def decode(data: bytes, what: str = "ceremony") -> Ceremony:
    """The versions before are verified, so are all signatures of the draft and of the records.

    Raises FormatRefused (metadata.*, document.kind, key.format, register.content, ceremony.file),
    TrustRefused (register.version, register.quorum, document.signature, ceremony.file).
    """
    lines = data.splitlines(keepends=True)
    if len(lines) > MAX_CHAIN + MAX_SIGNATURES:
        raise _no_ceremony(what, f"at most {MAX_CHAIN + MAX_SIGNATURES} lines", f"{len(lines)}")
    kinds = [envelope.kind_of(line, what, MAX_SIZE) for line in lines]
    versions = [line for line, kind in zip(lines, kinds, strict=True) if kind == register.KIND]
    count = len(versions)
    if not versions or kinds != [register.KIND] * count + [KIND] * (len(lines) - count):
        raise _no_ceremony(what, "versions of a register, then records of a ceremony", "other lines")
    before = tuple(versions[:-1])
    if before:
        register.verify_chain(before, what=what)
    previous = register.decode(before[-1], what) if before else None
    step = signed(register.decode(versions[-1], what), previous, what)
    return Ceremony(before, step, _records(step, lines[count:], what))


def _records(step: Step, lines: Sequence[bytes], what: str) -> tuple[Signed, ...]:
    keys = {key.fingerprint: key for key in step.signers}
    found = tuple(Signed(read_record(line, keys, what), line) for line in lines)
    ids = [each.record.key for each in found]
    if ids != sorted(set(ids)):
        raise _no_ceremony(what, "one record of each holder, in the order of their keys", "another list")
    document = step.document
    for each in found:
        about = (each.record.version, each.record.fingerprint)
        if about != (document.register.version, document.fingerprint):
            raise TrustRefused(
                Code.CEREMONY_FILE,
                what,
                expected=f"records of version {document.register.version}, {document.fingerprint[:16]}",
                found=f"one of version {about[0]}, {about[1][:16]}",
            )
    return found


def read_record(data: bytes, keys: "dict[str, PublicKey]", what: str) -> Record:
    """A holder's record, signed with one of `keys` (by fingerprint), the one that it names.

    Raises FormatRefused (metadata.*, document.kind), TrustRefused (document.signature, ceremony.file).
    """
    read = envelope.decode(data, KIND, what, MAX_RECORD)
    fields = read.fields(what)
    fields.integer("format", FORMAT, FORMAT)
    found = Record(
        fields.integer("version", 1),
        fields.text("register", SHA256_HEX),
        fields.text("holder", NAME),
        fields.text("key", SHA256_HEX),
        Custody.read(fields.fields("custody")),
        fields.time("at"),
    )
    fields.finish()
    one_encoding(read, found.envelope(), what)
    key = keys.get(found.key)
    if key is None or not read.signers([key], what):
        raise TrustRefused(
            Code.CEREMONY_FILE,
            what,
            expected="records of those who signed the register, each signed with the same key",
            found=f"one of {found.key[:16]} that is not",
        )
    return found


def version_of(transcript: bytes, what: str) -> int:
    """Which version's ceremony a transcript says that it is of; not verified: `decode` behind the versions up
    to that one does. Raises FormatRefused (metadata.*, document.kind)."""
    line = transcript.partition(b"\n")[0] + b"\n"
    return envelope.decode(line, KIND, what, MAX_RECORD).fields(what).integer("version", 1)


def check_installed(ceremony: Ceremony, installed: Sequence[bytes]) -> None:
    """Refuse a ceremony that grew from another register than `installed`, whoever signed it: two drafts for
    one version, or a register of somebody else. Raises TrustRefused (register.version), as `finished`."""
    ceremony.finished()
    if tuple(installed) not in (ceremony.before, (*ceremony.before, ceremony.draft.data)):
        raise TrustRefused(
            Code.REGISTER_VERSION,
            f"ceremony of version {ceremony.draft.register.version}",
            expected=f"one that follows the register here, version {len(installed)}",
            found=f"one that was begun after version {len(ceremony.before)}"
            + (" of another" if len(ceremony.before) >= len(installed) else ""),
            advice="begin again: a draft follows one register, the newest when it was begun",
        )


def check_grown_from(ceremony: Ceremony, held: Sequence[bytes]) -> None:
    """Refuse a ceremony that does not continue the register that the holder has. Raises register.version."""
    if ceremony.before[: len(held)] != tuple(held):
        raise TrustRefused(
            Code.REGISTER_VERSION,
            f"draft of version {ceremony.draft.register.version}",
            expected=f"one that continues the register in this data directory, version {len(held)}",
            found=f"one that continues another, of {len(ceremony.before)} versions",
            advice="do not sign it; ask where it comes from",
        )


def check_fingerprint(document: Document, wanted: str) -> None:
    """Refuse to sign another draft than the holder means: `wanted` is what everybody read aloud, 16 or more
    digits of it. Raises TrustRefused (ceremony.fingerprint)."""
    text, subject = "".join(wanted.split()).lower(), f"draft of version {document.register.version}"
    if not _FINGERPRINT.fullmatch(text):
        raise TrustRefused(
            Code.CEREMONY_FINGERPRINT,
            subject,
            expected="16 digits or more of its fingerprint: 0 to 9, a to f",
            found=repr(text[:64]),
            advice="read them from the sheet",
        )
    if not document.fingerprint.startswith(text):
        raise TrustRefused(
            Code.CEREMONY_FINGERPRINT,
            subject,
            expected=text,
            found=document.fingerprint,
            advice="this is not the draft that was agreed on: do not sign it",
        )


def check_clock(document: Document, now: datetime) -> None:
    """Refuse a draft from the future: no key signs before that time, and no later version is from before
    it. Raises PolicyRefused (register.clock)."""
    issued = document.register.issued
    if now < issued - CLOCK_SLACK:
        raise PolicyRefused(
            Code.REGISTER_CLOCK,
            f"draft of version {document.register.version}",
            expected=f"one that was issued by now, {now:%Y-%m-%d %H:%M} UTC",
            found=f"{issued:%Y-%m-%d %H:%M} UTC",
            advice="set this machine's clock; if it is right, the draft was begun by one that is wrong",
        )


def _no_ceremony(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.CEREMONY_FILE, what, expected=expected, found=found)
