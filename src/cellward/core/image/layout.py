"""What stands where in an image, and the decoded image as a value."""

import hashlib
import re
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from functools import cached_property

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import DIGEST_SIZE, RSA3072_SIGNATURE_SIZE, Algorithm

MAGIC = 0x96F3B83D
TLV_PROTECTED_MAGIC = 0x6908
TLV_MAGIC = 0x6907
HEADER_SIZE = 32
TLV_INFO_SIZE = 4
TLV_HEADER_SIZE = 4
MAX_HEADER_SIZE = 0x1000


class Flag(IntFlag):
    ENC_AES128 = 0x4
    ENC_AES256 = 0x8
    NON_BOOTABLE = 0x10
    RAM_LOAD = 0x20
    ROM_FIXED = 0x100
    LZMA1 = 0x200
    LZMA2 = 0x400
    ARM_THUMB = 0x800


# In a bank the bytes are always plaintext, so the ENC flags change nothing there; every other flag
# asks for something that this boot chain does not do, and is refused rather than ignored.
ACCEPTED_FLAGS = Flag.ENC_AES128 | Flag.ENC_AES256


class Tlv(IntEnum):
    KEYHASH = 0x01
    PUBKEY = 0x02
    SHA256 = 0x10
    SHA384 = 0x11
    SHA512 = 0x12
    RSA2048_PSS = 0x20
    ECDSA = 0x22
    RSA3072_PSS = 0x23
    ED25519 = 0x24
    SIG_PURE = 0x25
    ENC_RSA2048 = 0x30
    ENC_KW = 0x31
    ENC_EC256 = 0x32
    ENC_X25519 = 0x33
    ENC_X25519_SHA512 = 0x34
    DEPENDENCY = 0x40
    SECURITY_COUNTER = 0x50
    BOOT_RECORD = 0x60
    UUID_VENDOR = 0x74
    UUID_CLASS = 0x75


# MCUboot's allow-list (bootutil image_validate.c): what may stand outside the signed area.
UNPROTECTED_TYPES = frozenset(t for t in Tlv if t < Tlv.DEPENDENCY)
# Read by this boot chain, so two of them would be two readings: refused. MCUboot takes the first
# counter and the last signature.
SINGLE_TYPES = frozenset(
    {
        Tlv.KEYHASH,
        Tlv.PUBKEY,
        Tlv.SHA256,
        Tlv.ECDSA,
        Tlv.RSA3072_PSS,
        Tlv.SECURITY_COUNTER,
        Tlv.UUID_VENDOR,
        Tlv.UUID_CLASS,
    }
)
# SHA384 and SHA512 are not read; a KEYHASH or PUBKEY with one bit flipped has not their size.
FIXED_LENGTHS: dict[int, int] = {
    Tlv.KEYHASH: DIGEST_SIZE,
    Tlv.SHA256: DIGEST_SIZE,
    Tlv.SHA384: 48,
    Tlv.SHA512: 64,
    Tlv.RSA3072_PSS: RSA3072_SIGNATURE_SIZE,
    Tlv.SECURITY_COUNTER: 4,
    Tlv.UUID_VENDOR: 16,
    Tlv.UUID_CLASS: 16,
}

SIGNATURES: dict[Algorithm, Tlv] = {
    Algorithm.P256: Tlv.ECDSA,
    Algorithm.RSA_3072: Tlv.RSA3072_PSS,
    Algorithm.ED25519: Tlv.ED25519,
}
"""The signature that a key of each algorithm makes, and the only one that it is asked about. Always over
the digest, also Ed25519's."""

_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,5})(?:\+(\d{1,10}))?", re.ASCII)


@dataclass(frozen=True, order=True)
class Version:
    """MCUboot's image version; ordered field by field, the build number included."""

    major: int
    minor: int
    revision: int
    build: int = 0

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Raises FormatRefused (image.version) unless `text` is MAJOR.MINOR.REVISION[+BUILD]."""
        match = _VERSION.fullmatch(text)
        parts = tuple(int(part or 0) for part in match.groups()) if match else ()
        if not parts or any(p > m for p, m in zip(parts, (0xFF, 0xFF, 0xFFFF, 0xFFFFFFFF), strict=True)):
            raise FormatRefused(
                Code.IMAGE_VERSION,
                f"version {text!r}",
                expected="MAJOR.MINOR.REVISION[+BUILD] with at most 255.255.65535+4294967295",
                found="another form",
            )
        return cls(*parts)

    def __str__(self) -> str:
        build = f"+{self.build}" if self.build else ""
        return f"{self.major}.{self.minor}.{self.revision}{build}"

    def encode(self) -> bytes:
        return bytes([self.major, self.minor]) + wire.u16(self.revision) + wire.u32(self.build)


@dataclass(frozen=True)
class Entry:
    """One TLV. `offset` is that of its value in the image."""

    type: int
    value: bytes
    protected: bool
    offset: int

    @property
    def name(self) -> str:
        known = self.type in Tlv.__members__.values()
        return Tlv(self.type).name if known else f"0x{self.type:04x}"


@dataclass(frozen=True)
class Image:
    """A decoded image. Its claims are claims until `verify` has returned it."""

    data: bytes = field(repr=False)
    load_address: int
    header_size: int
    payload_size: int
    protected_size: int
    flags: int
    version: Version
    entries: tuple[Entry, ...]

    @property
    def payload(self) -> bytes:
        return self.data[self.header_size : self.header_size + self.payload_size]

    @property
    def signed_size(self) -> int:
        """Bytes under the digest: header, payload and protected TLVs."""
        return self.header_size + self.payload_size + self.protected_size

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over what is signed, recomputed from the bytes."""
        return hashlib.sha256(memoryview(self.data)[: self.signed_size]).digest()

    def with_digest(self, digest: bytes) -> "Image":
        """This image, for who has computed the digest of these very bytes already."""
        known = replace(self)
        known.__dict__["digest"] = digest  # where cached_property would put it
        return known

    @cached_property
    def _first(self) -> dict[int, bytes]:
        return {entry.type: entry.value for entry in reversed(self.entries)}

    def find(self, kind: Tlv) -> bytes | None:
        return self._first.get(kind)

    @property
    def stated_digest(self) -> bytes | None:
        return self.find(Tlv.SHA256)

    @property
    def counter(self) -> int | None:
        value = self.find(Tlv.SECURITY_COUNTER)
        return None if value is None else int.from_bytes(value, "little")

    @property
    def hardware(self) -> tuple[bytes | None, bytes | None]:
        return self.find(Tlv.UUID_VENDOR), self.find(Tlv.UUID_CLASS)
