"""Keys that sign and never leave where they live, and the store that makes them."""

from dataclasses import dataclass
from typing import Protocol

from cellward.core.keys import Algorithm, KeyAttributes, PublicKey, Role, TokenFacts

__all__ = ["KeyAttributes", "KeyStore", "Role", "Signer", "StoredKey", "TokenFacts"]


class Signer(Protocol):
    """One private key behind a URI (RFC 7512 for tokens)."""

    @property
    def uri(self) -> str: ...

    @property
    def public_key(self) -> PublicKey: ...

    def sign(self, data: bytes) -> bytes:
        """A signature of the key's algorithm over `data`, which is what PublicKey.to_sign makes of a message:
        its digest, or for Ed25519 and ML-DSA itself. ECDSA as DER, every other as it is.

        Raises Unavailable (token.*) when the key cannot be reached.
        """
        ...


@dataclass(frozen=True)
class StoredKey:
    """A key pair in a token: its label, its public half, and what the token says of the private."""

    label: str
    public_key: PublicKey
    attributes: KeyAttributes


class KeyStore(Protocol):
    """Keys that are made in one token and stay there.

    Every method raises Unavailable (token.*) when the token cannot be reached, and Refused
    (token.ambiguous) where two keys have the label that was asked for.
    """

    def facts(self) -> TokenFacts:
        """What the token says of itself."""
        ...

    def labels(self) -> list[str]:
        """Of every private key in the token, sorted."""
        ...

    def find(self, label: str) -> StoredKey | None: ...

    def create(self, label: str, algorithm: Algorithm = Algorithm.P256) -> StoredKey:
        """Generate a key pair in the token.

        Raises Refused (key.exists) when the label is taken; nothing is made then.
        """
        ...

    def signer(self, label: str) -> Signer:
        """Raises Unavailable (token.key_missing), Refused (key.exportable)."""
        ...
