"""The four metadata files: strict parse, builders, and signatures made elsewhere.

Formats come from python-tuf's `tuf.api.metadata`. The core holds no key: `digest_to_sign()` is
given to a `ports.signer.Signer`, and `attach()` takes what it returned.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from securesystemslib.signer import Key, Signature, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp
from tuf.api.metadata import Role as TufRole

from cellward.core import strictjson
from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.metadata.roles import RULES, Role
from cellward.core.metadata.target import (
    MAX_LENGTH,
    Assignment,
    Target,
    assignment_file,
    check_target_name,
    check_vehicle_id,
    target_file,
)
from cellward.core.strictjson import Fields, refuse

KEY_TYPE = "ecdsa"
KEY_SCHEME = "ecdsa-sha2-nistp256"
MAX_SIGNATURES = 64
MAX_KEYS = 64
MAX_FILES = 4096
_SPEC_VERSION = re.compile(r"1\.[0-9]{1,4}(?:\.[0-9]{1,4})?", re.ASCII)
_KEY_ID = re.compile(r"[!-~]{1,128}", re.ASCII)
_SIGNATURE = re.compile(r"(?:[0-9a-f]{2}){8,72}", re.ASCII)
_META_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.json", re.ASCII)


# --- keys and signatures -------------------------------------------------------------------------


@dataclass(frozen=True)
class RoleKeys:
    """Who signs for a role: different keys, of which `threshold` must.

    Raises FormatRefused (metadata.format).
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        for key in self.keys:
            if key.algorithm is not Algorithm.P256:
                refuse("role", "keys of ECDSA P-256", key.algorithm)
        different = len({key.spki for key in self.keys})
        if different != len(self.keys) or not 1 <= self.threshold <= different:
            refuse("role", f"{self.threshold} of as many different keys", f"{different}")


def tuf_key(key: PublicKey) -> Key:
    """TUF's form of the key; its key id is the SHA-256 of the SPKI in hex."""
    return SSlibKey(key.fingerprint, KEY_TYPE, KEY_SCHEME, {"public": key.pem().decode("ascii")})


def public_key(key: Key) -> PublicKey:
    """The key in a parsed root. Raises FormatRefused (key.format)."""
    return PublicKey.from_pem(cast("str", key.keyval["public"]).encode())


def role_keys(root: Root, role: Role) -> RoleKeys:
    """Who signs for `role` according to `root`."""
    entry = root.roles[role]
    return RoleKeys(tuple(public_key(root.keys[key_id]) for key_id in entry.keyids), entry.threshold)


def signed_bytes(metadata: Metadata[T]) -> bytes:
    """The canonical JSON that signatures are over."""
    return metadata.signed_bytes


def digest_to_sign(metadata: Metadata[T]) -> bytes:
    """SHA-256 of `signed_bytes`: what a Signer signs."""
    return hashlib.sha256(metadata.signed_bytes).digest()


def attach(metadata: Metadata[T], key: PublicKey, signature: bytes) -> Metadata[T]:
    """A copy that carries `signature` (DER), after checking that it is `key`'s.

    A token that returns a wrong signature is found here, not in the field.
    Raises TrustRefused (metadata.signature).
    """
    key.verify(
        digest_to_sign(metadata),
        signature,
        code=Code.METADATA_SIGNATURE,
        subject=f"{metadata.signed.type} version {metadata.signed.version}",
    )
    signatures = {**metadata.signatures, key.fingerprint: Signature(key.fingerprint, signature.hex())}
    return Metadata(metadata.signed, signatures)


def encode(metadata: Metadata[T]) -> bytes:
    """The file. Raises FormatRefused (metadata.too_large) beyond the role's limit."""
    data = metadata.to_bytes()
    limit = RULES[Role(metadata.signed.type)].limit
    if len(data) > limit:
        raise FormatRefused(
            Code.METADATA_TOO_LARGE,
            f"{metadata.signed.type} version {metadata.signed.version}",
            expected=f"at most {limit} bytes",
            found=f"{len(data)} bytes",
        )
    return data


# --- builders ------------------------------------------------------------------------------------


def make_root(*, version: int, expires: datetime, roles: Mapping[Role, RoleKeys]) -> Metadata[Root]:
    """An unsigned root that names the keys of all four roles. Raises TrustRefused (key.published)."""
    named = [key.unpublished("root metadata") for entry in roles.values() for key in entry.keys]
    keys = {key.fingerprint: tuf_key(key) for key in named}
    tuf_roles = {
        str(role): TufRole([key.fingerprint for key in roles[role].keys], roles[role].threshold)
        for role in Role
    }
    return Metadata(Root(version, expires=_utc(expires), keys=keys, roles=tuf_roles))


def make_targets(*, version: int, expires: datetime, targets: Iterable[Target]) -> Metadata[Targets]:
    """Unsigned Targets of the Image repository."""
    files = {target.name: target_file(target) for target in targets}
    return Metadata(Targets(version, expires=_utc(expires), targets=files))


def make_director_targets(
    *, version: int, expires: datetime, vehicle_id: str, assignments: Iterable[Assignment]
) -> Metadata[Targets]:
    """Unsigned Targets of the Director for one vehicle, perhaps without an order (A8)."""
    files = {a.target.name: assignment_file(a) for a in assignments}
    custom = {"custom": {"vehicle_id": check_vehicle_id(vehicle_id)}}
    return Metadata(Targets(version, expires=_utc(expires), targets=files, unrecognized_fields=custom))


def make_snapshot(
    *, version: int, expires: datetime, targets_version: int, targets_data: bytes
) -> Metadata[Snapshot]:
    """An unsigned snapshot of this `targets.json` (the signed file's bytes)."""
    meta = {"targets.json": MetaFile.from_data(targets_version, targets_data, ["sha256"])}
    return Metadata(Snapshot(version, expires=_utc(expires), meta=meta))


def make_timestamp(
    *, version: int, expires: datetime, snapshot_version: int, snapshot_data: bytes
) -> Metadata[Timestamp]:
    """An unsigned timestamp of this `snapshot.json` (the signed file's bytes)."""
    meta = MetaFile.from_data(snapshot_version, snapshot_data, ["sha256"])
    return Metadata(Timestamp(version, expires=_utc(expires), snapshot_meta=meta))


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a time without a zone")  # a bug of the caller, not of any input
    return time.astimezone(UTC)


# --- strict parse --------------------------------------------------------------------------------


def parse_root(data: bytes) -> Metadata[Root]:
    """Raises FormatRefused (metadata.format, metadata.too_large), as the other three do."""
    return Metadata[Root].from_dict(_checked(data, Role.ROOT, _check_root))


def parse_timestamp(data: bytes) -> Metadata[Timestamp]:
    return Metadata[Timestamp].from_dict(_checked(data, Role.TIMESTAMP, _check_timestamp))


def parse_snapshot(data: bytes) -> Metadata[Snapshot]:
    return Metadata[Snapshot].from_dict(_checked(data, Role.SNAPSHOT, _check_snapshot))


def parse_targets(data: bytes) -> Metadata[Targets]:
    """`custom` fields are checked where they are used: `target_of`, `assignment_of`."""
    tree = _checked(data, Role.TARGETS, _check_targets)
    try:
        return Metadata[Targets].from_dict(tree)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Only `delegations` are left to python-tuf's own checks; core/trust refuses them all.
        raise FormatRefused(
            Code.METADATA_FORMAT,
            "targets metadata",
            expected="delegations in form",
            found=repr(str(error)[:80]),
        ) from error


def _checked(data: bytes, role: Role, check: Callable[[Fields], None]) -> dict[str, Any]:
    """The JSON tree, of which every type that python-tuf relies on has been checked."""
    what = f"{role} metadata"
    tree = strictjson.decode(data, what, RULES[role].limit)
    envelope = Fields(tree, what)
    _check_signatures(envelope)
    signed = envelope.fields("signed")
    if signed.text("_type") != role:
        refuse(what, f"the type {role}", repr(signed.text("_type")[:40]))
    signed.integer("version", 1)
    signed.text("spec_version", _SPEC_VERSION)
    signed.time("expires")
    check(signed)
    envelope.finish()
    return cast("dict[str, Any]", tree)


def _check_signatures(envelope: Fields) -> None:
    key_ids = set()
    entries = envelope.items("signatures", MAX_SIGNATURES)
    for entry in entries:
        signature = Fields(entry, f"{envelope.what} signature")
        key_ids.add(signature.text("keyid", _KEY_ID))
        signature.text("sig", _SIGNATURE)
        signature.finish()
    if len(key_ids) != len(entries):
        refuse(envelope.what, "one signature of each key", "two of one key")


def _check_root(signed: Fields) -> None:
    if signed.value("consistent_snapshot") is not True:
        refuse(signed.what, "consistent snapshots", repr(signed.value("consistent_snapshot"))[:40])
    keys = signed.fields("keys")
    if len(keys.names()) > MAX_KEYS:
        refuse(signed.what, f"at most {MAX_KEYS} keys", f"{len(keys.names())}")
    for key_id in keys.names():
        _check_key(keys.fields(key_id))
    roles = signed.fields("roles")
    for role in Role:
        entry = roles.fields(role)
        key_ids = entry.texts("keyids", _KEY_ID, MAX_KEYS)
        entry.integer("threshold", 1, len(key_ids))
        if any(key_id not in keys for key_id in key_ids):
            refuse(entry.what, "the key of each key id", "a key id without a key")
    roles.finish()


def _check_key(key: Fields) -> None:
    # One algorithm, so that no metadata can choose a weaker one (POUF).
    for name, value in (("keytype", KEY_TYPE), ("scheme", KEY_SCHEME)):
        if key.text(name) != value:
            refuse(key.what, f"{name} {value}", repr(key.text(name)[:40]))
    pem = key.fields("keyval").text("public")
    try:
        PublicKey.from_pem(pem.encode()).require([Algorithm.P256], key.what)
    except FormatRefused as error:
        raise FormatRefused(
            Code.METADATA_FORMAT, key.what, expected="an ECDSA P-256 key in PEM", found=error.found
        ) from error


def _check_timestamp(signed: Fields) -> None:
    meta = signed.fields("meta")
    _check_meta_file(meta.fields("snapshot.json"), hashed=True)
    meta.finish()  # python-tuf drops further entries, and with them the signature


def _check_snapshot(signed: Fields) -> None:
    meta = signed.fields("meta")
    if len(meta.names()) > MAX_FILES:
        refuse(signed.what, f"at most {MAX_FILES} files", f"{len(meta.names())}")
    for name in meta.names():
        if not _META_NAME.fullmatch(name):
            refuse(signed.what, "names of metadata files", repr(name[:80]))
        _check_meta_file(meta.fields(name), hashed=False)


def _check_meta_file(entry: Fields, *, hashed: bool) -> None:
    """A12: the timestamp names a hash; in a snapshot it is optional."""
    entry.integer("version", 1)
    if "length" in entry:
        entry.integer("length", 1)
    if hashed or "hashes" in entry:
        entry.sha256("hashes")


def _check_targets(signed: Fields) -> None:
    targets = signed.fields("targets")
    for name in targets.names():
        check_target_name(name)
        entry = targets.fields(name)
        entry.integer("length", 1, MAX_LENGTH)
        entry.sha256("hashes")
