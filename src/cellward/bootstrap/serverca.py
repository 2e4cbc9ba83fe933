"""The server's CAs: which there are, which the listeners show, which packs accept."""

from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore
from cellward.bootstrap.keys import default_token, key_store, keyring, role_signer
from cellward.config import Home
from cellward.core.errors import Code, PolicyRefused, Unavailable
from cellward.ports.signer import Role, Signer

if TYPE_CHECKING:
    from datetime import datetime

    from cellward.server.ca import Authority

FIRST = Role.SERVER_CA.value
_SHOWN = "shown"


def shown_server_ca(home: Home) -> str:
    """The name of the CA that issues the listeners' certificate."""
    return (DirectoryStore(home.authorities).read(_SHOWN) or FIRST.encode()).decode("ascii", "replace")


def show_server_ca(home: Home, name: str) -> None:
    """From the next start of the server on."""
    server_ca_certificate(home, name)
    DirectoryStore(home.authorities).write(_SHOWN, name.encode())


def server_cas(home: Home) -> dict[str, bytes]:
    """PEM by name, of all that were made."""
    store = DirectoryStore(home.authorities)
    names = (name.removesuffix(".pem") for name in store.names() if "/" not in name)
    return {name: store.read(f"{name}.pem") or b"" for name in names if name.startswith(FIRST)}


def server_ca_certificate(home: Home, name: str) -> bytes:
    """Raises Unavailable (storage.missing)."""
    found = server_cas(home)
    if name not in found:
        raise Unavailable(
            Code.STORAGE_MISSING,
            f"server CA {name!r}"[:80],
            expected=", ".join(found) or "one that was made",
            found="none of that name",
            advice="`cellward server ca new` makes one",
        )
    return found[name]


def new_server_ca(home: Home, name: str, now: "datetime") -> bytes:
    """A key in the token, unless it is there, and its certificate. Raises key.*, token.*."""
    from cellward.server.ca import open_authority
    from cellward.sign.keys import key_name, new_key

    store, ring = key_store(home, default_token()), keyring(home)
    if store.find(key_name(Role.SERVER_CA, name)) is None:
        if ring.register is not None:
            raise PolicyRefused(
                Code.KEY_UNKNOWN,
                f"key {name}",
                expected="a key that the register lets sign",
                found="none in the token",
                advice=f"make it with `cellward keys new {Role.SERVER_CA} --name {name} --draft FILE`",
            )
        new_key(store, Role.SERVER_CA, name, Role.SERVER_CA.algorithm)
    signer = ring.named(store, Role.SERVER_CA, name)
    return open_authority(DirectoryStore(home.authorities), name, signer, now).pem


def server_authority(home: Home, now: "datetime") -> "Authority":
    """The CA that is shown. Raises token.*, key.*."""
    from cellward.server.ca import open_authority

    name = shown_server_ca(home)
    return open_authority(DirectoryStore(home.authorities), name, _signer(home, name), now)


def _signer(home: Home, name: str) -> Signer:
    if name == FIRST:
        return role_signer(home, Role.SERVER_CA)
    return keyring(home).named(key_store(home, default_token()), Role.SERVER_CA, name)
