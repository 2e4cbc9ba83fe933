"""The root of a repository: which keys sign for which role, and the signatures made with them."""

from collections.abc import Callable
from datetime import datetime

from tuf.api.metadata import Metadata, Root, T

from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.metadata import (
    RULES,
    Repository,
    Role,
    RoleKeys,
    attach,
    digest_to_sign,
    encode,
    expiry,
    file_name,
    make_root,
    parse_root,
    role_keys,
)
from cellward.ports.signer import Signer
from cellward.ports.store import Store

# From a key's name (ports.signer.Role) to its signer; asked only for keys that are used, so that a
# server never opens the offline ones.
Signers = Callable[[str], Signer]


class Roots:
    """`1.root.json`, `2.root.json`, … of one repository in its Store."""

    def __init__(self, repository: Repository, store: Store, signers: Signers) -> None:
        self.repository = repository
        self._store = store
        self._signers = signers
        self._newest: Metadata[Root] | None = None

    def init(self, now: datetime) -> None:
        """Write `1.root.json` unless there is one."""
        if self._store.read(file_name(Role.ROOT, 1)) is None:
            keys = {
                role: RoleKeys((self._signers(RULES[role].key_role(self.repository)).public_key,))
                for role in Role
            }
            root = make_root(version=1, expires=expiry(Role.ROOT, self.repository, now), roles=keys)
            self._write(root, root)

    def newest(self) -> Metadata[Root]:
        """Raises Unavailable (metadata.missing) before `init`."""
        version = self._newest.signed.version if self._newest else 0
        while (data := self._store.read(file_name(Role.ROOT, version + 1))) is not None:
            self._newest, version = parse_root(data), version + 1
        if self._newest is None:
            raise Unavailable(
                Code.METADATA_MISSING,
                f"{self.repository} repository",
                expected="a root",
                found="none",
                advice="make it with `cellward repo init`",
            )
        return self._newest

    def data(self) -> bytes:
        """The newest root, as it is served."""
        return self._store.read(file_name(Role.ROOT, self.newest().signed.version)) or b""

    def renew(self, now: datetime) -> None:
        """A successor with the same keys, when less than half of the lifetime is left (K4)."""
        root = self.newest()
        if is_due(root.signed.expires, Role.ROOT, self.repository, now):
            successor = make_root(
                version=root.signed.version + 1,
                expires=expiry(Role.ROOT, self.repository, now),
                roles={role: role_keys(root.signed, role) for role in Role},
            )
            self._write(successor, root)

    def _write(self, root: Metadata[Root], signed_for: Metadata[Root]) -> None:
        data = self._sign(Role.ROOT, root, signed_for.signed)
        self._store.write_once(file_name(Role.ROOT, root.signed.version), data)

    def sign(self, role: Role, metadata: Metadata[T]) -> bytes:
        """The signed file.

        Raises Refused (metadata.signature) when the token's key is not the one the root names: what
        it signed would be refused by every vehicle.
        """
        return self._sign(role, metadata, self.newest().signed)

    def _sign(self, role: Role, metadata: Metadata[T], root: Root) -> bytes:
        name = RULES[role].key_role(self.repository)
        signer = self._signers(name)
        if signer.public_key not in role_keys(root, role).keys:
            raise Refused(
                Code.METADATA_SIGNATURE,
                f"{self.repository} repository",
                expected=f"the {name} key that root {root.version} names",
                found=f"key {signer.public_key.fingerprint[:16]} in the token",
                advice="use the token that the repository was made with",
            )
        return encode(attach(metadata, signer.public_key, signer.sign(digest_to_sign(metadata))))


def is_due(expires: datetime, role: Role, repository: Repository, now: datetime) -> bool:
    """Whether less than half of the role's lifetime is left."""
    return expires - now < RULES[role].lifetime(repository) / 2
