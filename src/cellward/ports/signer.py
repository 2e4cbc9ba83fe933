"""Keys that sign and never leave where they live."""

from typing import Protocol

from cellward.core.keys import PublicKey


class Signer(Protocol):
    """One private key behind a URI (RFC 7512 for tokens)."""

    @property
    def uri(self) -> str: ...

    @property
    def public_key(self) -> PublicKey: ...

    def sign(self, digest: bytes) -> bytes:
        """ECDSA over a SHA-256 digest, as DER.

        Raises Unavailable (token.*) when the key cannot be reached.
        """
        ...
