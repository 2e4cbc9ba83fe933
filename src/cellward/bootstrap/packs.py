"""What the maker believes of packs: whose TPMs, which agents, which images."""

from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore
from cellward.bootstrap.maker import image_repository
from cellward.config import Home
from cellward.core.errors import Code, FormatRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from cellward.core.slots import Stage
    from cellward.rollout.attested import Known


def known(home: Home) -> "Known":
    """Whose TPMs, which agents and which images count; looked up each time."""
    from functools import lru_cache

    from cellward.core.metadata import Role, file_name
    from cellward.rollout.attested import Known

    images, metadata = image_repository(home), DirectoryStore(home.image_repository)
    agents = DirectoryStore(home.agents)

    @lru_cache(maxsize=1)  # the timestamp changes with whatever is published
    def published(timestamp: bytes) -> "dict[tuple[str, str], set[bytes]]":
        found: dict[tuple[str, str], set[bytes]] = {}
        for target in images.targets():
            for hardware in target.hardware_ids:
                digests = found.setdefault((hardware, target.stage), set())
                digests.add(bytes.fromhex(target.installed_sha256))
        return found

    def of(hardware: str, stage: "Stage") -> set[bytes]:
        now = metadata.read(file_name(Role.TIMESTAMP, 1)) or b""
        return published(now).get((hardware, stage), set())

    return Known(lambda: known_manufacturers(home), lambda digest: agents.read(digest.hex()) is not None, of)


def known_manufacturers(home: Home) -> "list[x509.Certificate]":
    from cellward.core.tpm.certificate import load_certificate

    store = DirectoryStore(home.tpm_manufacturers)
    return [load_certificate(store.read(name) or b"", name) for name in store.names()]


def known_agents(home: Home) -> dict[str, str]:
    """What each was known as, by digest in hex."""
    store = DirectoryStore(home.agents)
    return {name: (store.read(name) or b"").decode() for name in store.names()}


def read_manufacturers(pem: bytes, what: str) -> "list[x509.Certificate]":
    """Raises FormatRefused (attest.certificate)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from cellward.core.tpm.certificate import load_certificate

    try:
        given = [
            certificate.public_bytes(Encoding.DER) for certificate in x509.load_pem_x509_certificates(pem)
        ]
    except (ValueError, x509.InvalidVersion) as error:
        raise FormatRefused(
            Code.ATTEST_CERTIFICATE, what, expected="certificates in PEM", found="something else"
        ) from error
    return [load_certificate(der, what) for der in given]


def know_manufacturers(
    home: Home, certificates: "Sequence[x509.Certificate]", *, forget: bool = False
) -> None:
    """Believe what these certify of TPMs, from now on, or not any more."""
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding

    store = DirectoryStore(home.tpm_manufacturers)
    for certificate in certificates:
        der = certificate.public_bytes(Encoding.DER)
        name = f"{hashlib.sha256(der).hexdigest()}.der"
        store.delete(name) if forget else store.write(name, der)


def know_agent(home: Home, digest: bytes, name: str, *, forget: bool = False) -> None:
    """Let packs start this code, from now on, or not any more."""
    store = DirectoryStore(home.agents)
    store.delete(digest.hex()) if forget else store.write(digest.hex(), name.encode())


def agent_digest(wheel: bytes | None = None, what: str = "wheel") -> bytes:
    """Of the code that runs here, or of a wheel's. Raises FormatRefused (attest.format)."""
    from cellward.adapters import package
    from cellward.core.tpm.measurement import code_digest

    return code_digest(package.installed() if wheel is None else package.of_wheel(wheel, what))
