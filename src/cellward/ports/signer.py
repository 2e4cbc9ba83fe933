"""Keys that sign and never leave where they live, and the store that makes them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cellward.core.keys import Algorithm, PublicKey


class Role(StrEnum):
    """What a key is for. The label of its object in the token is the role's name."""

    ROOT = "root"
    FIRMWARE = "firmware"
    CALIBRATION = "calibration"
    RELEASE = "release"
    APPROVAL = "approval"
    TARGETS = "targets"
    SNAPSHOT = "snapshot"
    TIMESTAMP = "timestamp"
    DIRECTOR = "director"
    DEVICE_CA = "device-ca"
    SERVER_CA = "server-ca"
    TIME = "time"
    LOG = "log"

    @property
    def personal(self) -> bool:
        """Of people, each with a token of their own: the maker's token must not hold it too (four eyes)."""
        return self is Role.APPROVAL

    @property
    def algorithm(self) -> Algorithm:
        """Of its first key. A checkpoint of the log is signed with Ed25519 (C2SP signed-note)."""
        return Algorithm.ED25519 if self is Role.LOG else Algorithm.P256


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
class KeyAttributes:
    """What the token itself says of a private key (PKCS#11 v2.40, sections 4.7 and 4.9)."""

    sensitive: bool
    extractable: bool
    always_sensitive: bool
    never_extractable: bool
    local: bool

    @property
    def confined(self) -> bool:
        """The token will not give the value away, as plain text or wrapped."""
        return self.sensitive and not self.extractable


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
