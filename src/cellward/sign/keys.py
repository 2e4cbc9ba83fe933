"""The roles' keys: made in the token once, kept from then on.

Every role has one key, named as the role: ECDSA P-256, but Ed25519 for the log. `firmware` may have more,
of any algorithm, named firmware-NAME: a module has four slots for them, and rotation needs the next key
before the last.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused, Unavailable
from cellward.core.keys import Algorithm
from cellward.ports.signer import KeyStore, Role, StoredKey

_FIRMWARE = re.compile(r"firmware(?:-[A-Za-z0-9.-]{1,32})?", re.ASCII)


@dataclass(frozen=True)
class RoleKey:
    """A role and a key of it; `created` is False for a key that was there before."""

    role: Role
    key: StoredKey
    created: bool


def init_roles(store: KeyStore) -> Iterator[RoleKey]:
    """A key for every role but people's, one after the other: a run that was cut short is taken up again.

    Raises PolicyRefused (key.exportable) for a key that the token would give away, whoever made it.
    """
    for role in Role:
        if role.personal:
            continue
        held = store.find(role)
        key = held or _create(store, role)
        _require_confined(key)
        yield RoleKey(role, key, created=held is None)


def _create(store: KeyStore, role: Role) -> StoredKey:
    try:
        return store.create(role, role.algorithm)
    except Refused as error:
        held = store.find(role) if error.code is Code.KEY_EXISTS else None
        if held is None:
            raise
        return held  # another process was faster


def new_firmware_key(store: KeyStore, name: str, algorithm: Algorithm) -> RoleKey:
    """Raises Refused (key.exists, key.format), PolicyRefused (key.exportable)."""
    key = store.create(firmware_name(name), algorithm)
    _require_confined(key)
    return RoleKey(Role.FIRMWARE, key, created=True)


def firmware_name(name: str) -> str:
    """The label of a firmware key. Raises FormatRefused (key.format) for any other name."""
    if not _FIRMWARE.fullmatch(name):
        raise FormatRefused(
            Code.KEY_FORMAT,
            "name of a firmware key",
            expected="firmware, firmware- and up to 32 letters, digits, dots or hyphens, or a PKCS#11 URI",
            found=repr(name[:40]),
        )
    return name


def list_roles(store: KeyStore) -> list[RoleKey]:
    """The roles that have a key, and every firmware key."""
    return [
        RoleKey(role, key, created=False)
        for role in Role
        for label in ([role.value] if role is not Role.FIRMWARE else firmware_labels(store))
        if (key := store.find(label)) is not None
    ]


def firmware_labels(store: KeyStore) -> list[str]:
    """The names of the firmware keys in a token, `firmware` first."""
    return sorted(label for label in store.labels() if _FIRMWARE.fullmatch(label))


def named_key(store: KeyStore, name: str) -> StoredKey:
    """The key of a role, or one of the firmware keys. Raises Unavailable (token.key_missing)."""
    label = name if name in [role.value for role in Role] else firmware_name(name)
    key = store.find(label)
    if key is None:
        raise Unavailable(
            Code.TOKEN_KEY_MISSING,
            f"key {label}",
            expected="a key with that label",
            found="none",
            advice="make the roles' keys with `cellward keys init`, others with `cellward keys new`",
        )
    return key


def _require_confined(key: StoredKey) -> None:
    if not key.attributes.confined:
        raise PolicyRefused(
            Code.KEY_EXPORTABLE,
            f"key {key.label}",
            expected="SENSITIVE and not EXTRACTABLE",
            found=f"SENSITIVE {key.attributes.sensitive}, EXTRACTABLE {key.attributes.extractable}",
            advice="a key that could have been copied signs nothing here: remove it and repeat",
        )
