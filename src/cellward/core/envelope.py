"""Signed documents: the DSSE envelope (secure-systems-lab, v1.0.2) around strict JSON.

    {"payload": base64, "payloadType": "application/vnd.cellward.KIND+json",
     "signatures": [{"keyid": fingerprint, "sig": base64}, …]}

What is signed is PAE: type and payload with their lengths, so that no document can be taken for another
kind. Whose signatures are needed is for the payload's own rules; an envelope only says whose there are.
There is one encoding of an envelope: what anybody could add, order or space otherwise is refused.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass, field

from cellward.core import strictjson
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.strictjson import SHA256_HEX, Fields, refuse

MAX_SIGNATURES = 16
MAX_SIGNATURE = 8192  # an ML-DSA-87 signature has 4,627 bytes
TYPE_PREFIX = "application/vnd.cellward."
_TYPE = re.compile(r"application/vnd\.cellward\.[a-z-]{1,40}\+json", re.ASCII)


@dataclass(frozen=True)
class Signature:
    """`key_id`: fingerprint of the key, in hex."""

    key_id: str
    value: bytes = field(repr=False)


@dataclass(frozen=True)
class Envelope:
    """`signatures`: one of each key, in the order of their ids."""

    payload_type: str
    payload: bytes = field(repr=False)
    signatures: tuple[Signature, ...] = ()

    @property
    def pae(self) -> bytes:
        """What every key signs (DSSE protocol, "Signature Definition")."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)

    def signed_by(self, key: PublicKey, signature: bytes) -> "Envelope":
        """With this key's signature, in place of an earlier one. Raises TrustRefused (document.signature)."""
        key.verify_message(self.pae, signature, code=Code.DOCUMENT_SIGNATURE, subject="new signature")
        others = [known for known in self.signatures if known.key_id != key.fingerprint]
        made = sorted([*others, Signature(key.fingerprint, signature)], key=lambda each: each.key_id)
        return Envelope(self.payload_type, self.payload, tuple(made))

    def signers(self, keys: Iterable[PublicKey], what: str) -> frozenset[PublicKey]:
        """Which of `keys` signed.

        Raises TrustRefused (document.signature) for a signature that does not verify, and for one by a key
        that is not among them.
        """
        known = {key.fingerprint: key for key in keys}
        for signature in self.signatures:
            key = known.get(signature.key_id)
            if key is None:
                raise TrustRefused(
                    Code.DOCUMENT_SIGNATURE,
                    what,
                    expected="signatures by " + (", ".join(k[:16] for k in known) or "nobody"),
                    found=f"one by {signature.key_id[:16]}",
                )
            key.verify_message(self.pae, signature.value, code=Code.DOCUMENT_SIGNATURE, subject=what)
        return frozenset(known[signature.key_id] for signature in self.signatures)

    def encode(self) -> bytes:
        tree = {
            "payload": b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": each.key_id, "sig": b64encode(each.value).decode()} for each in self.signatures
            ],
        }
        return strictjson.encode(tree) + b"\n"

    def fields(self, what: str) -> Fields:
        """The payload, to be read field by field. Raises FormatRefused (metadata.format)."""
        return Fields(strictjson.decode(self.payload, what, len(self.payload)), what)


def decode(data: bytes, kind: str, what: str, limit: int) -> Envelope:
    """An envelope of this kind ("release" …), not verified.

    Raises FormatRefused: metadata.format, metadata.too_large, document.kind for another kind.
    """
    envelope = _read(Fields(strictjson.decode(data, what, limit), what), what, limit)
    if envelope.encode() != data:
        refuse(what, "the one encoding of an envelope", "another of the same")
    if envelope.payload_type != payload_type(kind):
        raise FormatRefused(
            Code.DOCUMENT_KIND, what, expected=payload_type(kind), found=envelope.payload_type
        )
    return envelope


def kind_of(data: bytes, what: str, limit: int) -> str:
    """What kind of document an envelope says it is. Raises as `decode`."""
    text = Fields(strictjson.decode(data, what, limit), what).text("payloadType", _TYPE)
    return text.removeprefix(TYPE_PREFIX).removesuffix("+json")


def payload_type(kind: str) -> str:
    return f"{TYPE_PREFIX}{kind}+json"


def make(kind: str, tree: object) -> Envelope:
    """An unsigned envelope around a JSON tree."""
    return Envelope(payload_type(kind), strictjson.encode(tree))


def _read(fields: Fields, what: str, limit: int) -> Envelope:
    payload = _base64(fields, "payload", what, limit)
    kind = fields.text("payloadType", _TYPE)
    signatures = []
    for number, item in enumerate(fields.items("signatures", MAX_SIGNATURES)):
        one = Fields(item, f"{what} signature {number}")
        signatures.append(Signature(one.text("keyid", SHA256_HEX), _base64(one, "sig", what, MAX_SIGNATURE)))
        one.finish()
    fields.finish()
    ids = [signature.key_id for signature in signatures]
    if ids != sorted(set(ids)):
        refuse(what, "one signature of each key, in the order of their ids", "another list")
    return Envelope(kind, payload, tuple(signatures))


def _base64(fields: Fields, name: str, what: str, limit: int) -> bytes:
    text = fields.text(name, limit=2 * limit)
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:  # ValueError: not ASCII
        raise FormatRefused(
            Code.METADATA_FORMAT, what, expected=f"base64 in {name!r}", found="something else"
        ) from error
