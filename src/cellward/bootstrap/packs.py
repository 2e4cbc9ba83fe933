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
    from cellward.core.tpm.certificate import load_certificate
    from cellward.rollout.attested import Known

    images = image_repository(home)
    agents, manufacturers = DirectoryStore(home.agents), DirectoryStore(home.tpm_manufacturers)

    def roots() -> "list[x509.Certificate]":
        return [load_certificate(manufacturers.read(name) or b"", name) for name in manufacturers.names()]

    def published(hardware: str, stage: "Stage") -> frozenset[bytes]:
        fitting = (t for t in images.targets() if t.stage == stage and hardware in t.hardware_ids)
        return frozenset(bytes.fromhex(target.installed_sha256) for target in fitting)

    return Known(roots, lambda digest: agents.read(digest.hex()) is not None, published)


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


def know_manufacturers(home: Home, certificates: "Sequence[x509.Certificate]") -> None:
    """Believe what these certify of TPMs, from now on."""
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding

    for certificate in certificates:
        der = certificate.public_bytes(Encoding.DER)
        DirectoryStore(home.tpm_manufacturers).write(f"{hashlib.sha256(der).hexdigest()}.der", der)


def know_agent(home: Home, digest: bytes, name: str) -> None:
    DirectoryStore(home.agents).write(digest.hex(), name.encode())


def agent_digest(wheel: bytes | None = None, what: str = "wheel") -> bytes:
    """Of the code that runs here, or of a wheel's. Raises FormatRefused (attest.format)."""
    from cellward.adapters import package
    from cellward.core.tpm.measurement import code_digest

    return code_digest(package.installed() if wheel is None else package.of_wheel(wheel, what))
