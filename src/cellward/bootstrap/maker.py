"""Repositories, registry and authorities of the maker, and its secrets: what `repo` and `server` work on."""

from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore
from cellward.bootstrap.keys import role_signer
from cellward.bootstrap.log import LOGGED, logged
from cellward.config import Home
from cellward.core.errors import Code, PolicyRefused
from cellward.ports.signer import Role, Signer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cellward.adapters.sql import SqliteRegistry
    from cellward.core.metadata import Installed
    from cellward.core.registration import Registration
    from cellward.publish.director import Director
    from cellward.publish.images import ImageRepository
    from cellward.rollout.measured import Measured
    from cellward.server.device_api import Repositories
    from cellward.server.serve import Authorities


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


def director(home: Home, held: "SqliteRegistry") -> "Director":
    from cellward.publish.director import Director

    wrapped = DirectoryStore(home.wrapped_keys)
    return Director(DirectoryStore(home.director_repository), held, _signers(home), wrapped)


def repositories(home: Home, held: "SqliteRegistry") -> "Repositories":
    """What the devices' listener serves from. Raises metadata.missing before `repo init`."""
    from cellward.core.attestedtime import attestation
    from cellward.publish.servercas import Statements
    from cellward.server.device_api import Repositories
    from cellward.sign.documents import sign_document

    time, images, signers = role_signer(home, Role.TIME), image_repository(home), _signers(home)
    statements = Statements(DirectoryStore(home.server_ca_statements), images.roots, signers)
    found = Repositories(
        registry=held,
        director=director(home, held),
        images=images,
        image_metadata=DirectoryStore(home.image_repository),
        artefacts=DirectoryStore(home.artefacts),
        measured=measured(home),
        server_cas=statements,
        attest=lambda nonce, at: sign_document(attestation(nonce, at), time).encode(),
    )
    found.images.timestamp()
    found.director.roots.newest()
    return found


def authorities(home: Home, now: "datetime") -> "Authorities":
    """Both CAs; their certificates are made when they are first asked for. Raises token.*, key.*."""
    from cellward.bootstrap.packs import known
    from cellward.bootstrap.serverca import server_authority
    from cellward.server.ca import open_authority
    from cellward.server.serve import Authorities

    store = DirectoryStore(home.authorities)
    device_ca = open_authority(store, Role.DEVICE_CA.value, role_signer(home, Role.DEVICE_CA), now)
    return Authorities(server_authority(home, now), device_ca, known(home))


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
