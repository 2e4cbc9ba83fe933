"""The roles' keys: made in the token once, kept from then on.

A role's first key is named as the role: ECDSA P-256, but Ed25519 for the log. It may have more, of any
algorithm, named ROLE-NAME: a module has four slots for firmware keys, and rotation needs the next key before
the last.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count

from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused, Unavailable
from cellward.core.keys import Algorithm
from cellward.ports.signer import KeyStore, Role, StoredKey

_NAMES = {role: re.compile(rf"{role}(?:-[A-Za-z0-9.-]{{1,32}})?", re.ASCII) for role in Role}


@dataclass(frozen=True)
class RoleKey:
    """A role and a key of it; `created` is False for a key that was there before."""

    role: Role
    key: StoredKey
    created: bool


def init_roles(store: KeyStore, roles: Collection[Role] = ()) -> Iterator[RoleKey]:
    """A key for each of `roles`, or for every role but people's, one after the other: a run that was cut
    short is taken up again.

    Raises PolicyRefused (key.exportable) for a key that the token would give away, whoever made it.
    """
    for role in roles or [role for role in Role if not role.personal]:
        held = store.find(role)
        found = _create(store, role) if held is None else RoleKey(role, held, created=False)
        _require_confined(found.key)
        yield found


def _create(store: KeyStore, role: Role) -> RoleKey:
    try:
        return RoleKey(role, store.create(role, role.algorithm), created=True)
    except Refused as error:
        held = store.find(role) if error.code is Code.KEY_EXISTS else None
        if held is None:
            raise
        return RoleKey(role, held, created=False)  # another process was faster


def new_key(store: KeyStore, role: Role, name: str, algorithm: Algorithm) -> RoleKey:
    """Raises Refused (key.exists, key.format), PolicyRefused (key.exportable)."""
    key = store.create(key_name(role, name), algorithm)
    _require_confined(key)
    return RoleKey(role, key, created=True)


def new_firmware_key(store: KeyStore, name: str, algorithm: Algorithm) -> RoleKey:
    return new_key(store, Role.FIRMWARE, name, algorithm)


def key_name(role: Role, name: str) -> str:
    """The label of a role's key. Raises FormatRefused (key.format) for any other name."""
    if not _NAMES[role].fullmatch(name):
        raise FormatRefused(
            Code.KEY_FORMAT,
            f"name of a {role} key",
            expected=f"{role}, {role}- and up to 32 letters, digits, dots or hyphens, or a PKCS#11 URI",
            found=repr(name[:40]),
        )
    return name


def firmware_name(name: str) -> str:
    return key_name(Role.FIRMWARE, name)


def list_roles(store: KeyStore) -> list[RoleKey]:
    """Every role's keys, in the order of the roles."""
    return [
        RoleKey(role, key, created=False)
        for role in Role
        for label in role_labels(store, role)
        if (key := store.find(label)) is not None
    ]


def role_labels(store: KeyStore, role: Role) -> list[str]:
    """The names of a role's keys in a token, its first key's before the others."""
    return sorted(label for label in store.labels() if _NAMES[role].fullmatch(label))


def firmware_labels(store: KeyStore) -> list[str]:
    return role_labels(store, Role.FIRMWARE)


def next_name(store: KeyStore, role: Role) -> str:
    """ROLE-2, ROLE-3 … the first that is free."""
    taken = role_labels(store, role)
    return next(name for number in count(2) if (name := f"{role}-{number}") not in taken)


def named_key(store: KeyStore, name: str) -> StoredKey:
    """One of the roles' keys. Raises FormatRefused (key.format), Unavailable (token.key_missing)."""
    if not any(pattern.fullmatch(name) for pattern in _NAMES.values()):
        raise FormatRefused(
            Code.KEY_FORMAT,
            "name of a key",
            expected="ROLE or ROLE-NAME with a role of " + ", ".join(Role),
            found=repr(name[:40]),
        )
    key = store.find(name)
    if key is None:
        raise Unavailable(
            Code.TOKEN_KEY_MISSING,
            f"key {name}",
            expected="a key with that label",
            found=", ".join(store.labels()[:20]) or "no key",
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
