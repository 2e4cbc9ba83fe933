"""Composition root: the one place that knows which adapter stands behind which port."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore, read_file, write_file
from cellward.config import Home
from cellward.core.errors import CellwardError, Code, Unavailable
from cellward.ports.signer import KeyStore, Role, Signer
from cellward.ports.token_uri import TokenUri

if TYPE_CHECKING:
    from cellward.adapters.modulelink import LinkModule
    from cellward.adapters.pkcs11 import Token

__all__ = [
    "DirectoryStore",
    "connect_module",
    "default_token",
    "key_store",
    "read_file",
    "role_signer",
    "running_module",
    "signer",
    "write_file",
]

# --- keys behind a token: imported where used, `image show` must not pay for PKCS#11 ---


def signer(home: Home, uri: str) -> Signer:
    """The key that a PKCS#11 URI names. Raises token.*, key.*."""
    from cellward.adapters.pkcs11 import TokenSigner

    parsed = TokenUri.parse(uri)
    return TokenSigner(_token(home, parsed, create=False), parsed, uri)


def role_signer(home: Home, role: Role) -> Signer:
    """The key of a role in the token that CELLWARD_TOKEN names, or in the embedded one."""
    return key_store(home, default_token()).signer(role)


def key_store(home: Home, token: str, *, create: bool = False) -> KeyStore:
    """The keys of a token; `create` makes the embedded token, with its PIN, where it is missing."""
    from cellward.adapters.pkcs11 import TokenKeyStore

    return TokenKeyStore(_token(home, TokenUri.parse(token), create=create), token)


def default_token() -> str:
    return os.environ.get("CELLWARD_TOKEN", "pkcs11:token=cellward")


def _token(home: Home, uri: TokenUri, *, create: bool) -> "Token":
    from cellward.adapters.pkcs11 import Module, SoftHsm, Token, pin_source

    path = uri.module_path or os.environ.get("CELLWARD_PKCS11_MODULE")
    if path:
        return Token(Module(path), uri, pin_source(os.environ, uri.pin_source, None))
    embedded = SoftHsm(home.tokens, home.softhsm_config, home.pin, write_file)
    if create:
        embedded.create(pin_source(os.environ, uri.pin_source, embedded.make_pin))
    return Token(embedded.module(), uri, pin_source(os.environ, uri.pin_source, embedded.read_pin))


# --- the battery module ---


def connect_module(state: Path, *, power: bool = True) -> "LinkModule":
    """The module of a state file, as a context manager: the running process's, or else that of a
    process started for this purpose, which boots first where `power` is wanted.

    Raises module.absent, module.busy, module.state, storage.*.
    """
    from cellward.adapters.modulelink import connect, spawn

    module = connect(state)
    if module is None:
        module = spawn(state)
        if power:
            try:
                module.power_on()
            except CellwardError:
                module.close()
                raise
    return module


def running_module(state: Path) -> "LinkModule":
    """The module of a state file that a process runs already. Raises module.absent without one."""
    from cellward.adapters.modulelink import connect

    module = connect(state)
    if module is None:
        raise Unavailable(
            Code.MODULE_ABSENT,
            str(state),
            expected="a running module",
            found="no process that runs it",
            advice=f"start one with `cellward module run --state {state}`",
        )
    return module
