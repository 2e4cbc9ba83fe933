"""The four metadata files: builders, and signatures made elsewhere.

Formats come from python-tuf's `tuf.api.metadata`. The core holds no key: `digest_to_sign()` is
given to a `ports.signer.Signer`, and `attach()` takes what it returned.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Key, Signature, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp
from tuf.api.metadata import Role as TufRole

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.metadata.dialect import KEY_SCHEME, KEY_TYPE
from cellward.core.metadata.roles import RULES, Role
from cellward.core.metadata.target import (
    Assignment,
    Target,
    assignment_file,
    check_vehicle_id,
    target_file,
)
from cellward.core.strictjson import refuse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

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


def fingerprint(key: Key) -> str:
    """Which key it is, whatever its id says. Only for a key that has verified something."""
    public = cast("str", key.keyval["public"])
    if key.keytype == "ed25519":
        loaded: PublicKeyTypes = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    else:
        loaded = serialization.load_pem_public_key(public.encode())
    try:
        return PublicKey.from_cryptography(loaded).fingerprint
    except FormatRefused:  # RSA of another size: none of Cellward's algorithms, but a key of TUF's
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(loaded.public_bytes(serialization.Encoding.DER, form)).hexdigest()


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
