"""A version of the register as a file: a DSSE envelope of kind "key-register"."""

import hashlib
import re
from dataclasses import dataclass, field

from cellward.core import envelope
from cellward.core.attestation import NAME, PLAIN, Custody, encode_key, one_encoding, read_key
from cellward.core.envelope import Envelope
from cellward.core.keys import KeyStage, Role
from cellward.core.register.values import MAX_KEYS, MAX_ROOT_KEYS, Entry, Register, Root, State, Status
from cellward.core.strictjson import SHA256_HEX, Fields, format_time, parse_time

KIND = "key-register"
FORMAT = 1
MAX_SIZE = 2 * 1024 * 1024
_HEX_OR_NONE = re.compile(r"(?:[0-9a-f]{64})?", re.ASCII)


def _one_of(values: "type[Role] | type[KeyStage] | type[State]") -> re.Pattern[str]:
    return re.compile("|".join(value.value for value in values), re.ASCII)


_ROLE, _STAGE, _STATE = _one_of(Role), _one_of(KeyStage), _one_of(State)


@dataclass(frozen=True)
class Document:
    """A version in its envelope; says nothing about who signed. `data`: the file."""

    register: Register
    envelope: Envelope
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the file: what the next version names."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the payload, which holders compare: it is the same before and after they sign."""
        return hashlib.sha256(self.envelope.payload).hexdigest()


def unsigned(register: Register) -> Document:
    made = envelope.make(KIND, _tree(register))
    return Document(register, made, made.encode())


def decode(data: bytes, what: str = "key register") -> Document:
    """Raises FormatRefused: metadata.*, document.kind, key.format, register.content."""
    read = envelope.decode(data, KIND, what, MAX_SIZE)
    register = _read(read.fields(what), what)
    one_encoding(read, envelope.make(KIND, _tree(register)), what)
    return Document(register, read, data)


def _tree(register: Register) -> dict[str, object]:
    return {
        "format": FORMAT,
        "version": register.version,
        "previous": register.previous,
        "issued": format_time(register.issued),
        "root": {"threshold": register.root.threshold, "keys": list(register.root.keys)},
        "keys": [_entry_tree(entry) for entry in register.entries],
    }


def _entry_tree(entry: Entry) -> dict[str, object]:
    status = entry.status
    return {
        "name": entry.name,
        "fingerprint": entry.fingerprint,
        "algorithm": entry.key.algorithm.value,
        "key": encode_key(entry.key),
        "purpose": entry.purpose.value,
        "stage": entry.stage.value,
        "not_before": format_time(entry.not_before),
        "not_after": format_time(entry.not_after),
        "state": status.state.value,
        "at": "" if status.at is None else format_time(status.at),
        "reason": status.reason,
        "successor": entry.successor,
        "custody": None if entry.custody is None else entry.custody.tree(),
    }


def _read(fields: Fields, what: str) -> Register:
    fields.integer("format", FORMAT, FORMAT)
    root = fields.fields("root")
    found = Register(
        version=fields.integer("version", 1),
        previous=fields.text("previous", _HEX_OR_NONE),
        issued=fields.time("issued"),
        root=Root(root.integer("threshold", 1, MAX_ROOT_KEYS), root.texts("keys", SHA256_HEX, MAX_ROOT_KEYS)),
        entries=tuple(
            _entry(Fields(item, f"{what} key {number}")) for number, item in enumerate(_keys(fields))
        ),
    )
    root.finish()
    fields.finish()
    return found


def _keys(fields: Fields) -> list[object]:
    return fields.items("keys", MAX_KEYS)


def _entry(fields: Fields) -> Entry:
    custody = fields.optional_fields("custody")
    at = fields.text("at")
    found = Entry(
        name=fields.text("name", NAME),
        key=read_key(fields, fields.what),
        purpose=Role(fields.text("purpose", _ROLE)),
        stage=KeyStage(fields.text("stage", _STAGE)),
        not_before=fields.time("not_before"),
        not_after=fields.time("not_after"),
        custody=None if custody is None else Custody.read(custody),
        status=Status(
            State(fields.text("state", _STATE)),
            parse_time(at, f"{fields.what} at") if at else None,
            fields.text("reason", PLAIN),
        ),
        successor=fields.text("successor", _HEX_OR_NONE),
    )
    fields.text("fingerprint", SHA256_HEX)  # `one_encoding` compares it with the key
    fields.finish()
    return found
