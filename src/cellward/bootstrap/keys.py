"""Keys behind tokens, files and plugins, and the register that judges them. Imported where used: `image show`
must not pay for PKCS#11."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore, read_file, write_file
from cellward.config import Home
from cellward.core.errors import CellwardError, Code, TrustRefused
from cellward.ports.signer import KeyStore, Role, Signer
from cellward.ports.token_uri import TokenUri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellward.adapters.pkcs11 import Token
    from cellward.core.ceremony import Ceremony
    from cellward.core.keys import Algorithm, PublicKey
    from cellward.core.register import Register
    from cellward.sign.keyring import Keyring


def signer(home: Home, uri: str) -> Signer:
    """The key that a PKCS#11 URI names, an ML-DSA key in a file (`softkey:`), or what an installed package
    offers for the scheme (docs/signers.md). Raises token.*, key.*, signer.*."""
    scheme = uri.partition(":")[0].lower()
    if scheme == "softkey":
        from cellward.adapters.softkeys import SoftSigner

        return SoftSigner(uri)
    if scheme != "pkcs11":
        from cellward.adapters.plugins import plugin_signer

        return plugin_signer(uri, home.root, ("pkcs11", "softkey"))
    from cellward.adapters.pkcs11 import TokenSigner

    parsed = TokenUri.parse(uri)
    return TokenSigner(_token(home, parsed, create=False), parsed, uri)


def make_softkey(path: Path, algorithm: "Algorithm") -> "PublicKey":
    """Raises key.exists, key.exportable, storage.*."""
    from cellward.adapters.softkeys import make

    return make(path, algorithm, write_file)


def role_signer(home: Home, role: Role) -> Signer:
    """The key of a role in the token that CELLWARD_TOKEN names, or in the embedded one; with a key register,
    the one that it lets sign. Raises register.*.

    Uptane's root is signed by the token's own root key in any case: the register's root is its holders'.
    """
    store = key_store(home, default_token())
    if role is Role.ROOT:
        return store.signer(role)
    return keyring(home).default(store, role)


def firmware_keys(home: Home) -> "tuple[PublicKey, ...]":
    """Every firmware key that a module can verify: those of the register that may sign for production, or
    without a register those of the token. Raises token.key_missing without one."""
    from cellward.core.keys import ROM_ALGORITHMS, KeyStage
    from cellward.sign.keys import firmware_labels, named_key

    ring = keyring(home)
    if ring.register is not None:
        entries = ring.register.signing(Role.FIRMWARE, KeyStage.PRODUCTION, ring.now())
        return tuple(entry.key for entry in entries if entry.key.algorithm in ROM_ALGORITHMS)
    store = key_store(home, default_token())
    labels = firmware_labels(store) or [Role.FIRMWARE.value]
    found = (named_key(store, label).public_key for label in labels)
    return tuple(key for key in found if key.algorithm in ROM_ALGORITHMS)


def release_keys(
    home: Home, given: "Sequence[PublicKey]" = (), *, out_of_use: bool = False
) -> "list[PublicKey]":
    """Whose signature makes a release: `given`, or those that the key register lets sign, or without one the
    token's. `out_of_use`: the register's others too, to show or take back what they made.

    Raises as Keyring.trusted, and token.*.
    """
    ring = keyring(home)
    found = ring.ever(Role.RELEASE) if out_of_use and not given else ring.trusted(Role.RELEASE, given)
    return found or [role_signer(home, Role.RELEASE).public_key]


def calibration_keys(home: Home, given: "Sequence[PublicKey]" = ()) -> "tuple[PublicKey, ...]":
    """Whose calibrations pack controllers apply: `given`, those that the key register lets sign, or the
    token's; none where it has none. Raises as Keyring.trusted, and token.*."""
    found = keyring(home).trusted(Role.CALIBRATION, given)
    try:
        return tuple(found or [role_signer(home, Role.CALIBRATION).public_key])
    except CellwardError as error:
        if error.code is Code.TOKEN_KEY_MISSING:
            return ()
        raise


def keyring(home: Home) -> "Keyring":
    """What judges keys here. Raises as `key_register`."""
    from datetime import UTC, datetime

    from cellward.sign.keyring import Keyring

    return Keyring(key_register(home), lambda: datetime.now(UTC))


def key_register(home: Home) -> "Register | None":
    """The newest version of the register of this data directory, verified from the first on.

    Raises storage.failed, metadata.*, register.*.
    """
    versions = register_versions(home)
    if not versions:
        return None
    from cellward.core.register import verify_chain

    return verify_chain(versions, what=str(home.key_register))


def register_versions(home: Home) -> list[bytes]:
    """As files, unverified; none without a register.

    Raises TrustRefused (register.version) for a register from before a ceremony that was finished here:
    somebody put an old copy back, or took it away, and revoked keys with it.
    """
    found = _register_lines(home)
    later = [name for name in DirectoryStore(home.ceremonies).names() if name == f"{len(found) + 1}.jsonl"]
    if later:
        raise TrustRefused(
            Code.REGISTER_VERSION,
            str(home.key_register),
            expected=f"version {len(found) + 1}, whose transcript is {home.ceremonies / later[0]}",
            found=f"version {len(found)}" if found else "no register",
            advice="repeat `cellward keys ceremony finish`, or put the newest register back",
        )
    return found


def _register_lines(home: Home) -> list[bytes]:
    if not home.key_register.exists():  # every `image sign` asks: the parser stays away
        return []
    from cellward.core.register import MAX_FILE, split

    return split(read_file(home.key_register, MAX_FILE), str(home.key_register))


def install_register(home: Home, finished: "Ceremony") -> None:
    """Put the version that a ceremony agreed on behind what is here, transcript first.

    Raises TrustRefused (register.version) where it follows another version than the newest here,
    PolicyRefused (register.clock) for one from the future.
    """
    from datetime import UTC, datetime

    from cellward.adapters.lock import file_lock
    from cellward.core.ceremony import check_clock, check_installed

    with file_lock(home.register_lock):
        check_installed(finished, _register_lines(home))
        check_clock(finished.draft, datetime.now(UTC))
        version = finished.draft.register.version
        DirectoryStore(home.ceremonies).write(f"{version}.jsonl", finished.transcript)
        write_file(home.key_register, finished.chain)


def key_store(home: Home, token: str, *, create: bool = False) -> KeyStore:
    """The keys of a token; `create` makes the embedded token, with its PIN, where it is missing."""
    from cellward.adapters.pkcs11 import TokenKeyStore

    return TokenKeyStore(_token(home, TokenUri.parse(token), create=create), token)


def default_token() -> str:
    return os.environ.get("CELLWARD_TOKEN", "pkcs11:token=cellward")


def _token(home: Home, uri: TokenUri, *, create: bool) -> "Token":
    from cellward.adapters.pkcs11 import Module, SoftHsm, Token, module_path, pin_source

    path = module_path(uri) or os.environ.get("CELLWARD_PKCS11_MODULE")
    if path:
        return Token(Module(str(Path(path).absolute())), uri, pin_source(os.environ, uri.pin_source, None))
    embedded = SoftHsm(home.tokens, home.softhsm_config, home.pin, write_file)
    if create:
        embedded.create(pin_source(os.environ, uri.pin_source, embedded.make_pin))
    return Token(embedded.module(), uri, pin_source(os.environ, uri.pin_source, embedded.read_pin))
