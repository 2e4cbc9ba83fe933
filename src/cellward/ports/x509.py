"""Certificates issued by a key that stays in its token, with cryptography's own builders."""

from typing import NoReturn

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core.errors import Code, PolicyRefused
from cellward.ports.signer import Signer


class HsmPrivateKey(ec.EllipticCurvePrivateKey):
    """What `CertificateBuilder.sign` and `CertificateRevocationListBuilder.sign` take as issuer key.

    Only ECDSA with SHA-256. Everything that would need the private value is refused (key.format).
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def curve(self) -> ec.EllipticCurve:
        return self.public_key().curve

    @property
    def key_size(self) -> int:
        return self.curve.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._signer.public_key.cryptography

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """ECDSA, DER. Raises what the signer raises (token.*)."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed) or not isinstance(algorithm, hashes.SHA256):
            raise self._refused("ECDSA with SHA-256 over the whole message", "another algorithm")
        digest = hashes.Hash(algorithm)
        digest.update(data)
        return self._signer.sign(digest.finalize())

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise self._refused("a signature", "a key agreement")

    def private_numbers(self) -> NoReturn:
        raise self._refused("a signature", "a request for the private value")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        raise self._refused("a signature", "a request for the private value")

    def __copy__(self) -> "HsmPrivateKey":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "HsmPrivateKey":
        return self

    def _refused(self, expected: str, found: str) -> PolicyRefused:
        return PolicyRefused(Code.KEY_FORMAT, self._signer.uri, expected=expected, found=found)
