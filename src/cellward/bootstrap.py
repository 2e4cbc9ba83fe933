"""Composition root: the one place that knows which adapter stands behind which port."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore, read_file, write_file
from cellward.config import Home
from cellward.core.errors import CellwardError, Code, PolicyRefused, TrustRefused, Unavailable
from cellward.ports.signer import KeyStore, Role, Signer
from cellward.ports.token_uri import TokenUri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from cellward.adapters.http import HttpTransport
    from cellward.adapters.modulelink import LinkModule
    from cellward.adapters.pkcs11 import Token
    from cellward.adapters.registration import RegistrationFile
    from cellward.adapters.sql import SqliteRegistry
    from cellward.adapters.tpm2 import EmbeddedTpm
    from cellward.core.ceremony import Ceremony
    from cellward.core.image import Version
    from cellward.core.keys import Algorithm, KeyStage, PublicKey
    from cellward.core.metadata import Installed
    from cellward.core.register import Register
    from cellward.core.registration import Registration
    from cellward.core.slots import Region
    from cellward.ports.checkout import Checkout
    from cellward.ports.signinglog import SigningLog
    from cellward.ports.tpm import Tpm
    from cellward.ports.verifier import DeviceVerifier
    from cellward.publish.director import Director
    from cellward.publish.gate import Gate
    from cellward.publish.images import ImageRepository
    from cellward.publish.releases import Released, ReleaseGate
    from cellward.rollout.measured import Measured
    from cellward.server.device_api import Repositories
    from cellward.server.serve import Authorities
    from cellward.sign.keyring import Keyring

__all__ = [
    "DirectoryStore",
    "authorities",
    "calibration_signer",
    "checkout",
    "configuration_pages",
    "connect_module",
    "content_keys",
    "default_token",
    "device_lock",
    "device_store",
    "director",
    "firmware_keys",
    "firmware_signer",
    "gate",
    "image_repository",
    "install_register",
    "key_register",
    "key_store",
    "keyring",
    "log_of",
    "logged",
    "make_softkey",
    "measured",
    "module_verifier",
    "read_file",
    "register",
    "register_versions",
    "registration",
    "registration_file",
    "registry",
    "release_gate",
    "release_keys",
    "release_signer",
    "released",
    "repositories",
    "role_signer",
    "running_module",
    "signer",
    "signing_log",
    "tools",
    "tpm",
    "tpm_authorities",
    "transport",
    "wrap_for",
    "write_file",
]

# --- keys behind a token: imported where used, `image show` must not pay for PKCS#11 ---


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


def firmware_signer(
    home: Home, key: str | None, subject: str = "firmware", stage: "KeyStage | None" = None
) -> Signer:
    """A firmware key by its name or URI; without either, the role's own. Every use is logged.

    `stage`: what the image is for; production where there is a key register. Raises register.*.
    """
    ring = keyring(home)
    if key is not None and ":" in key:
        found = ring.checked(signer(home, key), Role.FIRMWARE, stage)
    elif key is None:
        found = ring.default(key_store(home, default_token()), Role.FIRMWARE, stage)
    else:
        found = ring.named(key_store(home, default_token()), Role.FIRMWARE, key, stage)
    return logged(home, found, Role.FIRMWARE, "image", subject)


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


# --- the signing log ---

# Keys of people and releases. The others sign online, for each device or each day: no log could be read.
LOGGED = frozenset({Role.ROOT, Role.FIRMWARE, Role.CALIBRATION, Role.RELEASE, Role.TARGETS})


def signing_log(home: Home) -> "SigningLog":
    return log_of(home.signing_log)


def log_of(folder: Path) -> "SigningLog":
    """The signing log in a folder, the maker's own or a copy of it."""
    from cellward.adapters.lock import file_lock
    from cellward.adapters.signlog import FolderLog

    return FolderLog(folder, lambda: file_lock(folder / "lock"), write_file)


def release_signer(home: Home, key: str | None, kind: str, subject: str) -> Signer:
    """A key by its PKCS#11 URI, or the token's own for releases or approvals. Every use is logged."""
    role = Role.APPROVAL if kind == "approval" else Role.RELEASE
    found = keyring(home).checked(signer(home, key), role) if key else role_signer(home, role)
    return logged(home, found, "approver" if kind == "approval" else Role.RELEASE, kind, subject)


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


def calibration_signer(home: Home, key: str | None, subject: str) -> Signer:
    """A key by its PKCS#11 URI, or the calibration role's own. Every use is logged."""
    ring = keyring(home)
    found = ring.checked(signer(home, key), Role.CALIBRATION) if key else role_signer(home, Role.CALIBRATION)
    return logged(home, found, Role.CALIBRATION, "calibration", subject)


def logged(home: Home, key: Signer, role: str, kind: str, subject: str) -> Signer:
    """The same key; what it is to sign is in the signing log before the signature is out."""
    from datetime import UTC, datetime

    from cellward.sign.logged import LoggedSigner, Purpose

    return LoggedSigner(key, signing_log(home), role, Purpose(kind, subject), lambda: datetime.now(UTC))


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


def registration_file(path: Path) -> "RegistrationFile":
    """What the plant keeps of a module; a file for its owner alone."""
    from cellward.adapters.registration import RegistrationFile

    return RegistrationFile(path, read_file, write_file)


# --- the pack controller ---


def device_store(state: Path) -> DirectoryStore:
    """The agent's state directory: its own alone, for the identity's key lies in it."""
    return DirectoryStore(state, 0o600)


def device_lock(state: Path) -> "AbstractContextManager[None]":
    """One agent for one state directory. Raises storage.busy."""
    from cellward.adapters.lock import file_lock

    return file_lock(state / "lock", patience=5.0)


def tpm(state: Path) -> "AbstractContextManager[Tpm]":
    """The pack controller's TPM: the one that CELLWARD_TPM names (`device:/dev/tpmrm0`), or else an embedded
    one in the state directory, which has power for as long as this lasts. Raises Unavailable (tpm.*)."""
    named = os.environ.get("CELLWARD_TPM")
    if not named:
        return _embedded_tpm(state).running()
    with _tpm_library():
        from cellward.adapters.tpm2 import Tpm2

    return Tpm2(named)


def tpm_authorities(state: Path) -> bytes:
    """Certificates, PEM, of who certified the embedded TPM: they stand for a manufacturer's."""
    return _embedded_tpm(state).authorities()


def _embedded_tpm(state: Path) -> "EmbeddedTpm":
    from cellward.adapters.lock import file_lock

    with _tpm_library():
        from cellward.adapters.tpm2 import EmbeddedTpm

    folder = state / "tpm"
    return EmbeddedTpm(folder, lambda: file_lock(folder / "lock", patience=5.0))


@contextmanager
def _tpm_library() -> "Iterator[None]":
    try:
        yield
    except ImportError as error:
        raise Unavailable(
            Code.TPM_ABSENT,
            "TPM",
            expected="the optional package tpm2-pytss and its C libraries",
            found=f"{error}",
            advice="install cellward[tpm]; it is built against libtss2-dev",
        ) from error


def transport(
    url: str, server_ca: bytes, certificate: bytes | None = None, key: bytes | None = None
) -> "HttpTransport":
    """A server of the pinned CA, as a context manager; PEM. Raises config.invalid, key.format."""
    from cellward.adapters.http import ClientCertificate, HttpTransport

    pair = None if certificate is None or key is None else ClientCertificate(certificate, key)
    return HttpTransport(url, server_ca, pair)


# --- repositories, registry and authorities of the maker: what `repo` and `server` work on ---


def registry(home: Home) -> "SqliteRegistry":
    """Raises storage.database."""
    from cellward.adapters.sql import SqliteRegistry

    return SqliteRegistry(home.database)


def image_repository(home: Home) -> "ImageRepository":
    from cellward.adapters.lock import file_lock
    from cellward.publish.images import ImageRepository

    return ImageRepository(
        DirectoryStore(home.image_repository),
        DirectoryStore(home.artefacts),
        _signers(home),
        lambda: file_lock(home.image_lock),
    )


def gate(home: Home) -> "Gate":
    """What publishing must pass. Raises token.*, key.*, module.absent without the emulator."""
    from cellward.publish.gate import Gate
    from cellward.publish.verifiers import Pair

    keys = frozenset(key.key_hash for key in firmware_keys(home))
    return Gate(
        keys,
        Pair(module_verifier()),
        development=_development_keys(home),
        configuration=configuration_pages(home),
        judge=_key_judge(home),
    )


def _development_keys(home: Home) -> "frozenset[bytes]":
    from cellward.core.keys import KeyStage

    found = key_register(home)
    entries = () if found is None else found.of(Role.FIRMWARE, KeyStage.DEVELOPMENT)
    return frozenset(entry.key.key_hash for entry in entries)


def _key_judge(home: Home) -> "Callable[[str], object]":
    """Refuses the fingerprint of a key that the register does not let sign firmware for production."""
    from cellward.core.keys import KeyStage

    ring = keyring(home)
    found = ring.register
    if found is None:
        return lambda fingerprint: fingerprint
    return lambda fingerprint: found.check_use(
        found.key(fingerprint).key, Role.FIRMWARE, KeyStage.PRODUCTION, ring.now()
    )


def configuration_pages(home: Home) -> "dict[str, tuple[Region, ...]]":
    """What each hardware keeps for itself in its banks, by its target profile, where the maker has one.

    Raises config.invalid, publish.policy for a target that no release may be made for.
    """
    from cellward.core import policy
    from cellward.core.slots import HARDWARE

    store, found = DirectoryStore(home.profiles), {}
    for name, hardware in HARDWARE.items():
        data = store.read(f"{name}.toml")
        if data is None:
            continue
        profile = policy.decode(data, str(home.profiles / f"{name}.toml"))
        policy.check_hardware(profile, name)
        policy.check(profile, policy.lint(profile))
        found[name] = profile.configuration_of(hardware)
    return found


def released(home: Home) -> "Released":
    from cellward.adapters.lock import file_lock
    from cellward.publish.releases import Released

    return Released(DirectoryStore(home.releases), lambda: file_lock(home.image_lock))


def release_gate(home: Home) -> "ReleaseGate":
    """What a release must pass, against what is published. Raises as `gate`."""
    from cellward.publish.releases import ReleaseGate
    from cellward.sign.wrapping import content_key

    held = content_keys(home)
    return ReleaseGate(
        gate(home),
        image_repository(home).targets(),
        released(home).all(),
        lambda data, what: _read_calibration(home, data, what),
        lambda data: content_key(data, held),
        released(home).withdrawn().keys(),
        keyring(home).same_hand,
    )


def _read_calibration(home: Home, data: bytes, what: str) -> "tuple[str, Version, int]":
    from cellward.core.calibration import check_device, verify

    ring = keyring(home)
    if ring.register is None:
        keys = [role_signer(home, Role.CALIBRATION).public_key]
    else:
        keys = ring.trusted(Role.CALIBRATION)
    found = verify(data, keys, what).calibration
    check_device(found, found.hardware, None, 0, what)  # a release is for every module of its hardware
    return found.hardware, found.version, found.counter


def module_verifier() -> "DeviceVerifier":
    """The battery module's own. Raises module.absent without the emulator, storage.missing where the
    firmware has not been built: without it nothing is published."""
    try:
        from cellward.vbms.verifier import ModuleVerifier
    except ModuleNotFoundError as error:
        raise Unavailable(
            Code.MODULE_ABSENT,
            "the module's own verifier",
            expected="the optional package unicorn, which runs it",
            found=f"no {error.name}",
            advice="install cellward[module]: nothing is published that the module has not judged",
        ) from error
    return ModuleVerifier()


def director(home: Home, held: "SqliteRegistry") -> "Director":
    from cellward.publish.director import Director

    wrapped = DirectoryStore(home.wrapped_keys)
    return Director(DirectoryStore(home.director_repository), held, _signers(home), wrapped)


# --- what the maker keeps of modules and of encrypted images: secrets, for their owner alone ---


def content_keys(home: Home) -> DirectoryStore:
    return DirectoryStore(home.content_keys, 0o600)


def register(home: Home, registration: "Registration") -> None:
    """Raises storage.exists for a module that is registered otherwise."""
    DirectoryStore(home.modules, 0o600).write_once(registration.serial, registration.encode())


def registration(home: Home, serial: str) -> "Registration | None":
    from cellward.core.registration import decode

    data = DirectoryStore(home.modules, 0o600).read(serial)
    return None if data is None else decode(data)


def measured(home: Home) -> "Measured":
    """What verifies boot records, and compares them with the images that are published."""
    from cellward.core.image import decode
    from cellward.rollout.measured import Measured

    images, artefacts = image_repository(home), DirectoryStore(home.artefacts)

    def digest_of(installed: "Installed") -> bytes | None:
        found = (target for target in images.targets() if target.installed_sha256 == installed.sha256)
        data = next((artefacts.read(target.stored_name) for target in found), None)
        return None if data is None else decode(data, installed.filename).stated_digest

    return Measured(lambda serial: registration(home, serial), DirectoryStore(home.measured), digest_of)


def wrap_for(home: Home, sha256: str, serial: str) -> None:
    """Wrap the content key of this published file for this module, once.

    Raises module.unregistered, image.encryption.
    """
    from cellward.sign import wrapping

    wrapped, name = DirectoryStore(home.wrapped_keys), f"{sha256}/{serial}"
    if wrapped.read(name) is not None:
        return
    held = registration(home, serial)
    if held is None:
        raise PolicyRefused(
            Code.MODULE_UNREGISTERED,
            f"module {serial}",
            expected="its registration, with the key to wrap for",
            found="none",
            advice="hand it over with `cellward server register`",
        )
    wrapped.write(name, wrapping.wrap_for(sha256, held.keys.update, content_keys(home)))


def repositories(home: Home, held: "SqliteRegistry") -> "Repositories":
    """What the devices' listener serves from. Raises metadata.missing before `repo init`."""
    from cellward.core.attestedtime import attestation
    from cellward.server.device_api import Repositories
    from cellward.sign.documents import sign_document

    time = role_signer(home, Role.TIME)
    found = Repositories(
        registry=held,
        director=director(home, held),
        images=image_repository(home),
        image_metadata=DirectoryStore(home.image_repository),
        artefacts=DirectoryStore(home.artefacts),
        measured=measured(home),
        attest=lambda nonce, at: sign_document(attestation(nonce, at), time).encode(),
    )
    found.images.timestamp()
    found.director.roots.newest()
    return found


def authorities(home: Home, now: "datetime") -> "Authorities":
    """Both CAs; their certificates are made when they are first asked for. Raises token.*, key.*."""
    from cellward.server.ca import open_authority
    from cellward.server.serve import Authorities

    store = DirectoryStore(home.authorities)
    server_ca, device_ca = (
        open_authority(store, role.value, role_signer(home, role), now)
        for role in (Role.SERVER_CA, Role.DEVICE_CA)
    )
    return Authorities(server_ca, device_ca)


def _signers(home: Home) -> "Callable[[str], Signer]":
    """A role's signer by name, opened when it is first asked for and kept."""
    opened: dict[str, Signer] = {}

    def find(name: str) -> Signer:
        if name not in opened:
            role = Role(name)
            found = role_signer(home, role)
            opened[name] = logged(home, found, role, "metadata", name) if role in LOGGED else found
        return opened[name]

    return find


# --- evidence ---


def checkout(root: Path) -> "Checkout":
    """The project's own files around the test plan."""
    from cellward.adapters.checkout import WorkingTree

    return WorkingTree(root, read_file)


def tools() -> dict[str, str]:
    """Name and version of what builds and tests the project here."""
    from cellward.adapters.checkout import tools as installed

    return installed()
