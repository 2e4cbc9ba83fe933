"""What a token says of a key, signed by that key: possession and custody in one file.

docs/formats/key-register.md, "Attestation". The word is the token's own, carried by whoever asked it: a
token that lies, or software that plays one, says what it likes. A vendor's certified attestation is another
thing; none is claimed.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import datetime

from cellward.core import envelope
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.keys import KeyAttributes, PublicKey, TokenFacts
from cellward.core.strictjson import Fields, format_time, refuse

KIND = "attestation"
FORMAT = 1
MAX_SIZE = 32 * 1024
MAX_LINE = 128
PLAIN = re.compile(r"[ -~]{0,128}", re.ASCII)  # one line, nothing that a terminal obeys
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,63}", re.ASCII)
_FLAGS = {
    "SENSITIVE": "sensitive",
    "ALWAYS_SENSITIVE": "always_sensitive",
    "EXTRACTABLE": "extractable",
    "NEVER_EXTRACTABLE": "never_extractable",
    "LOCAL": "local",
}


@dataclass(frozen=True)
class Custody:
    """Where a key lives, and what is said of it there."""

    attributes: KeyAttributes
    token: TokenFacts

    def tree(self) -> dict[str, object]:
        token = self.token
        return {
            "attributes": {name: getattr(self.attributes, flag) for name, flag in _FLAGS.items()},
            "token": {
                "label": plain(token.label),
                "manufacturer": plain(token.manufacturer),
                "model": plain(token.model),
                "serial": plain(token.serial),
            },
        }

    @classmethod
    def read(cls, fields: Fields) -> "Custody":
        """Raises FormatRefused (metadata.format)."""
        flags, token = fields.fields("attributes"), fields.fields("token")
        attributes = KeyAttributes(**{flag: flags.boolean(name) for name, flag in _FLAGS.items()})
        facts = TokenFacts(
            *(token.text(name, PLAIN) for name in ("label", "manufacturer", "model", "serial"))
        )
        for part in (flags, token, fields):
            part.finish()
        return cls(attributes, facts)

    def check(self, subject: str) -> None:
        """Raises PolicyRefused (ceremony.attributes) unless the value was made in the token, and could never
        leave it since."""
        if not self.attributes.confined_from_birth:
            said = ", ".join(f"{name} {getattr(self.attributes, flag)}" for name, flag in _FLAGS.items())
            raise PolicyRefused(
                Code.CEREMONY_ATTRIBUTES,
                subject,
                expected="SENSITIVE always, EXTRACTABLE never, LOCAL",
                found=said,
                advice="make a new key in the token; one that came from outside may have a copy",
            )


@dataclass(frozen=True)
class Attestation:
    """`challenge`: what the asker wants to read in it, so that it is no old one; may be empty."""

    name: str
    key: PublicKey
    custody: Custody
    at: datetime
    challenge: str = ""

    def envelope(self) -> Envelope:
        """To be signed by the key itself."""
        return envelope.make(
            KIND,
            {
                "format": FORMAT,
                "name": self.name,
                "algorithm": self.key.algorithm.value,
                "key": encode_key(self.key),
                "custody": self.custody.tree(),
                "at": format_time(self.at),
                "challenge": self.challenge,
            },
        )


def decode(data: bytes, what: str, challenge: str | None = None) -> Attestation:
    """An attestation that its own key signed, alone.

    Raises FormatRefused (metadata.*, document.kind, key.format), TrustRefused (document.signature;
    key.attestation for another challenge than the one that was set).
    """
    read = envelope.decode(data, KIND, what, MAX_SIZE)
    fields = read.fields(what)
    fields.integer("format", FORMAT, FORMAT)
    found = Attestation(
        fields.text("name", NAME),
        read_key(fields, what),
        Custody.read(fields.fields("custody")),
        fields.time("at"),
        fields.text("challenge", PLAIN),
    )
    fields.finish()
    one_encoding(read, found.envelope(), what)
    if found.key not in read.signers([found.key], what):
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE, what, expected="a signature by the key that it is about", found="none"
        )
    if challenge is not None and found.challenge != challenge:
        raise TrustRefused(
            Code.KEY_ATTESTATION,
            what,
            expected=f"the challenge {challenge!r}",
            found=repr(found.challenge),
            advice="ask for a new one",
        )
    return found


def one_encoding(read: Envelope, made: Envelope, what: str) -> None:
    """People compare hashes of payloads: there is one payload for one meaning. Raises metadata.format."""
    if read.payload != made.payload:
        refuse(what, "the one encoding of its payload", "another of the same")


def encode_key(key: PublicKey) -> str:
    return b64encode(key.spki).decode()


def read_key(fields: Fields, what: str) -> PublicKey:
    """Of the fields `key` (base64 of SubjectPublicKeyInfo) and `algorithm`.

    Raises FormatRefused (metadata.format, key.format).
    """
    try:
        spki = b64decode(fields.text("key", limit=4096), validate=True)
    except (Base64Error, ValueError) as error:
        raise FormatRefused(
            Code.METADATA_FORMAT, what, expected="base64 in 'key'", found="something else"
        ) from error
    key = PublicKey.from_spki(spki)
    if fields.text("algorithm") != key.algorithm.value:
        refuse(what, f"the key's own algorithm, {key.algorithm.value}", "another")
    return key


def plain(text: str) -> str:
    """A token's text as one bounded line of ASCII: what it holds besides becomes a question mark."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:MAX_LINE]
