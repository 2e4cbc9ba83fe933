"""The roles' keys: made in the token once, kept from then on."""

from collections.abc import Iterator
from dataclasses import dataclass

from cellward.core.errors import Code, PolicyRefused, Refused, Unavailable
from cellward.ports.signer import KeyStore, Role, StoredKey


@dataclass(frozen=True)
class RoleKey:
    """A role and its key; `created` is False for a key that was there before."""

    role: Role
    key: StoredKey
    created: bool


def init_roles(store: KeyStore) -> Iterator[RoleKey]:
    """A key for every role, one after the other: a run that was cut short is taken up again.

    Raises PolicyRefused (key.exportable) for a key that the token would give away, whoever made it.
    """
    for role in Role:
        held = store.find(role)
        key = held or _create(store, role)
        _require_confined(key)
        yield RoleKey(role, key, created=held is None)


def _create(store: KeyStore, role: Role) -> StoredKey:
    try:
        return store.create(role)
    except Refused as error:
        held = store.find(role) if error.code is Code.KEY_EXISTS else None
        if held is None:
            raise
        return held  # another process was faster


def list_roles(store: KeyStore) -> list[RoleKey]:
    """The roles that have a key."""
    found = ((role, store.find(role)) for role in Role)
    return [RoleKey(role, key, created=False) for role, key in found if key is not None]


def role_key(store: KeyStore, role: Role) -> StoredKey:
    """Raises Unavailable (token.key_missing)."""
    key = store.find(role)
    if key is None:
        raise Unavailable(
            Code.TOKEN_KEY_MISSING,
            f"key {role}",
            expected="a key with that label",
            found="none",
            advice="make the roles' keys with `cellward keys init`",
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
