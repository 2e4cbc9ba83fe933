"""What a key is for, how far it may go, and what its token says of it."""

from dataclasses import dataclass
from enum import StrEnum

from cellward.core.keys.algorithms import Algorithm


class Role(StrEnum):
    """What a key is for. The label of its object in the token is the role's name."""

    ROOT = "root"
    FIRMWARE = "firmware"
    CALIBRATION = "calibration"
    RELEASE = "release"
    APPROVAL = "approval"
    POLICY = "policy"
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


class KeyStage(StrEnum):
    """A development key signs for open modules, a production key for those in the field; never both."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


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

    @property
    def confined_from_birth(self) -> bool:
        """And it was made inside, and could never have been read since."""
        return self.confined and self.always_sensitive and self.never_extractable and self.local


@dataclass(frozen=True)
class TokenFacts:
    """What a token says of itself (CK_TOKEN_INFO)."""

    label: str
    manufacturer: str
    model: str
    serial: str
