"""Strict parse of the metadata files: every type that python-tuf relies on is checked before it.

What goes beyond types is the dialect's (`core.metadata.dialect`).
"""

import re
from collections.abc import Callable
from typing import Any, cast

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from cellward.core import strictjson
from cellward.core.metadata.dialect import UPTANE, Tuf
from cellward.core.metadata.roles import Role
from cellward.core.strictjson import MAX_TEXT, Fields, Json, refuse

MAX_SIGNATURES = 64
MAX_KEYS = 64
_SPEC_VERSION = re.compile(r"1\.[0-9]{1,4}(?:\.[0-9]{1,4})?", re.ASCII)
_TEXT = re.compile(rf"(?s:.){{0,{MAX_TEXT}}}")


class OtherKey(Key):
    """A key of a kind that is not known here: part of what was signed, it verifies nothing."""

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> "OtherKey":
        keytype, scheme, keyval = cls._from_dict(key_dict)
        return cls(keyid, keytype, scheme, keyval, key_dict)

    def to_dict(self) -> dict[str, Any]:
        return self._to_dict()

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        raise UnverifiedSignatureError(f"no key of {self.keytype} is known here")


def parse_root(data: bytes, dialect: Tuf = UPTANE) -> Metadata[Root]:
    """Raises FormatRefused (metadata.format, metadata.too_large), as the other three do."""
    tree = _checked(data, Role.ROOT, dialect, _check_root)
    unknown = _take_unknown(tree["signed"]["keys"], dialect)
    metadata = Metadata[Root].from_dict(tree)
    metadata.signed.keys.update(unknown)
    return metadata


def parse_timestamp(data: bytes, dialect: Tuf = UPTANE) -> Metadata[Timestamp]:
    return Metadata[Timestamp].from_dict(_checked(data, Role.TIMESTAMP, dialect, _check_timestamp))


def parse_snapshot(data: bytes, dialect: Tuf = UPTANE) -> Metadata[Snapshot]:
    return Metadata[Snapshot].from_dict(_checked(data, Role.SNAPSHOT, dialect, _check_snapshot))


def parse_targets(data: bytes, dialect: Tuf = UPTANE) -> Metadata[Targets]:
    """Also of a delegated role. `custom` fields of targets are checked where they are used: `target_of`,
    `assignment_of`."""
    tree = _checked(data, Role.TARGETS, dialect, _check_targets)
    delegations = tree["signed"].get("delegations")
    unknown = _take_unknown(delegations["keys"], dialect) if delegations else {}
    metadata = Metadata[Targets].from_dict(tree)
    if metadata.signed.delegations is not None:
        metadata.signed.delegations.keys.update(unknown)
    return metadata


PARSE: dict[Role, Callable[[bytes, Tuf], Metadata[Any]]] = {
    Role.ROOT: parse_root,
    Role.TIMESTAMP: parse_timestamp,
    Role.SNAPSHOT: parse_snapshot,
    Role.TARGETS: parse_targets,
}


def _take_unknown(keys: dict[str, Any], dialect: Tuf) -> dict[str, Key]:
    """Out of the tree, which python-tuf would refuse for them."""
    unknown = [key_id for key_id, key in keys.items() if _kind(key) not in dialect.kinds]
    return {key_id: OtherKey.from_dict(key_id, keys.pop(key_id)) for key_id in unknown}


def _kind(key: Json) -> tuple[object, object]:
    return key["keytype"], key["scheme"]


def _checked(data: bytes, role: Role, dialect: Tuf, check: Callable[[Fields, Tuf], None]) -> dict[str, Any]:
    what = f"{role} metadata"
    tree = strictjson.decode(data, what, dialect.limits[role], normal=dialect.normal)
    envelope = Fields(tree, what)
    _check_signatures(envelope, dialect)
    signed = envelope.fields("signed")
    if signed.text("_type") != role:
        refuse(what, f"the type {role}", repr(signed.text("_type")[:40]))
    signed.integer("version", 1)
    signed.text("spec_version", _SPEC_VERSION)
    signed.time("expires")
    check(signed, dialect)
    dialect.envelope(envelope)
    return cast("dict[str, Any]", tree)


def _check_signatures(envelope: Fields, dialect: Tuf) -> None:
    key_ids = set()
    entries = envelope.items("signatures", MAX_SIGNATURES)
    for entry in entries:
        signature = Fields(entry, f"{envelope.what} signature")
        key_ids.add(signature.text("keyid"))
        dialect.signature(signature)
    if len(key_ids) != len(entries):
        refuse(envelope.what, "one signature of each key", "two of one key")


def _check_root(signed: Fields, dialect: Tuf) -> None:
    dialect.root(signed)
    keys = _check_keys(signed, dialect)
    roles = signed.fields("roles")
    for role in Role:
        _check_role(roles.fields(role), keys, dialect)
    roles.finish()


def _check_keys(signed: Fields, dialect: Tuf) -> Fields:
    keys = signed.fields("keys")
    if len(keys.names()) > MAX_KEYS:
        refuse(signed.what, f"at most {MAX_KEYS} keys", f"{len(keys.names())}")
    for key_id in keys.names():
        key = keys.fields(key_id)
        known = (key.text("keytype"), key.text("scheme")) in dialect.kinds
        key.fields("keyval")
        (dialect.key if known else dialect.unknown_key)(key)
    return keys


def _check_role(entry: Fields, keys: Fields, dialect: Tuf) -> None:
    _different(entry, "keyids", MAX_KEYS)
    entry.integer("threshold", 1)
    dialect.role(entry, keys)


def _different(entry: Fields, name: str, limit: int) -> None:
    """A list, perhaps empty, of different texts."""
    if entry.items(name, limit):
        entry.texts(name, _TEXT, limit)


def _check_timestamp(signed: Fields, dialect: Tuf) -> None:
    meta = signed.fields("meta")
    _check_meta_file(meta.fields("snapshot.json"), Role.TIMESTAMP, dialect)
    meta.finish()  # python-tuf drops further entries, and with them the signature


def _check_snapshot(signed: Fields, dialect: Tuf) -> None:
    meta = signed.fields("meta")
    if len(meta.names()) > dialect.max_files:
        refuse(signed.what, f"at most {dialect.max_files} files", f"{len(meta.names())}")
    for name in meta.names():
        dialect.meta_name(name, signed.what)
        _check_meta_file(meta.fields(name), Role.SNAPSHOT, dialect)


def _check_meta_file(entry: Fields, role: Role, dialect: Tuf) -> None:
    entry.integer("version", 1)
    if "length" in entry:
        entry.integer("length")
    dialect.meta_file(entry, role)


def _check_targets(signed: Fields, dialect: Tuf) -> None:
    targets = signed.fields("targets")
    for name in targets.names():
        dialect.target(name, targets.fields(name))
    if "delegations" in signed:
        _check_delegations(signed.fields("delegations"), dialect)


def _check_delegations(delegations: Fields, dialect: Tuf) -> None:
    keys = _check_keys(delegations, dialect)
    if ("roles" in delegations) == ("succinct_roles" in delegations):
        refuse(delegations.what, "either roles or succinct_roles", "both or none")
    if "succinct_roles" in delegations:
        entry = delegations.fields("succinct_roles")
        _check_role(entry, keys, dialect)
        entry.integer("bit_length", 1, 32)
        dialect.delegated(_named(entry))
        return
    names = set()
    entries = [
        Fields(entry, f"{delegations.what} role") for entry in delegations.items("roles", dialect.max_roles)
    ]
    for entry in entries:
        names.add(_check_delegated(entry, keys, dialect))
    if len(names) != len(entries):
        refuse(delegations.what, "every role once", "one twice")


def _named(succinct: Fields) -> Fields:
    """A name such as its bins have."""
    return Fields({"name": f"{succinct.text('name_prefix')}-00000000"}, succinct.what)


def _check_delegated(entry: Fields, keys: Fields, dialect: Tuf) -> str:
    dialect.delegated(entry)
    name = entry.text("name")
    if name in set(Role):
        refuse(entry.what, "a name that no top-level role has", repr(name))
    _check_role(entry, keys, dialect)
    entry.boolean("terminating")
    if ("paths" in entry) == ("path_hash_prefixes" in entry):
        refuse(entry.what, "either paths or path_hash_prefixes", "both or none")
    listed = "paths" if "paths" in entry else "path_hash_prefixes"
    if not all(isinstance(item, str) for item in entry.items(listed, dialect.max_paths)):
        refuse(entry.what, f"texts in {listed}", "something else")
    dialect.paths(entry)
    return name
