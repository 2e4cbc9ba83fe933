"""The MCUboot image: encode, strict decode, verify. docs/formats/image.md is the normative text.

    header | payload | [protected TLVs] | TLVs

Verification runs in one order, here, in the ROM and in the loader:

1. structure     every length inside the image, TLVs on MCUboot's allow-list, none twice
2. digest        SHA-256 over header, payload and protected TLVs
3. key           PUBKEY hashes to KEYHASH, and that is a trusted slot key
4. revocation    that slot is not revoked
5. signature     ECDSA over the digest
6. counter       not below the device's security counter
7. hardware      vendor and class UUID are this device's, for this stage
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum
from functools import cached_property

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import DIGEST_SIZE, P256_SPKI_PREFIX, P256_SPKI_SIZE, PublicKey, canonical_signature

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
        Tlv.SECURITY_COUNTER,
        Tlv.UUID_VENDOR,
        Tlv.UUID_CLASS,
    }
)
_FIXED_LENGTHS: dict[int, int] = {
    Tlv.KEYHASH: DIGEST_SIZE,
    Tlv.SHA256: DIGEST_SIZE,
    Tlv.SECURITY_COUNTER: 4,
    Tlv.UUID_VENDOR: 16,
    Tlv.UUID_CLASS: 16,
}

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

    def find(self, kind: Tlv) -> bytes | None:
        return next((entry.value for entry in self.entries if entry.type == kind), None)

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


@dataclass(frozen=True)
class Trust:
    """What a verifier holds against an image.

    `keys` maps a key hash to its public key, or to None where, as in the ROM, only the hash is
    known and the image must carry the key. `counter` and `hardware` are not checked where None.
    """

    keys: Mapping[bytes, PublicKey | None]
    revoked: frozenset[bytes] = frozenset()
    counter: int | None = None
    hardware: tuple[bytes, bytes] | None = None


@dataclass(frozen=True)
class VerifiedImage:
    """An image that passed every check of `trust`; only `verify` makes one."""

    image: Image
    key: PublicKey


def decode(data: bytes, what: str = "image") -> Image:
    """Decode a file that is exactly one image.

    Raises FormatRefused; wire.trailing where bytes follow the last TLV.
    """
    image, end = _decode(data, what)
    wire.Reader(data, what, start=end).finish()
    return image


def decode_slot(data: bytes, what: str = "slot") -> Image:
    """Decode the image at the start of a flash slot; what follows it is not looked at."""
    image, end = _decode(data, what)
    return Image(**{**image.__dict__, "data": data[:end]})


def _decode(data: bytes, what: str) -> tuple[Image, int]:
    if len(data) < HEADER_SIZE:
        raise FormatRefused(
            Code.IMAGE_SIZE, what, expected=f"at least a header of {HEADER_SIZE} bytes", found=f"{len(data)}"
        )
    header = wire.Reader(data, what)
    magic = header.u32()
    if magic != MAGIC:
        raise FormatRefused(
            Code.IMAGE_MAGIC, what, expected=f"0x{MAGIC:08x} at offset 0", found=f"0x{magic:08x}"
        )
    load_address, header_size, protected_size = header.u32(), header.u16(), header.u16()
    payload_size, flags = header.u32(), header.u32()
    version = Version(header.u8(), header.u8(), header.u16(), header.u32())
    header.u32()  # pad
    _check_header(what, header_size, flags)
    signed_size = header_size + payload_size + protected_size
    if payload_size == 0 or signed_size + TLV_INFO_SIZE > len(data):
        raise FormatRefused(
            Code.IMAGE_SIZE,
            what,
            expected=f"1 to {len(data) - header_size - protected_size - TLV_INFO_SIZE} bytes of payload",
            found=f"{payload_size}",
        )
    protected = header_size + payload_size
    entries: list[Entry] = []
    if protected_size:
        end = _decode_area(data, what, protected, TLV_PROTECTED_MAGIC, entries)
        if end != signed_size:
            raise _bad_tlv(what, f"a protected area of {protected_size} bytes", f"{end - protected}")
    end = _decode_area(data, what, signed_size, TLV_MAGIC, entries)
    _check_entries(what, entries)
    return (
        Image(
            data,
            load_address,
            header_size,
            payload_size,
            protected_size,
            flags,
            version,
            tuple(entries),
        ),
        end,
    )


def _check_header(what: str, header_size: int, flags: int) -> None:
    if not HEADER_SIZE <= header_size <= MAX_HEADER_SIZE:
        raise FormatRefused(
            Code.IMAGE_HEADER,
            what,
            expected=f"a header of {HEADER_SIZE} to {MAX_HEADER_SIZE} bytes",
            found=f"{header_size}",
        )
    if flags & ~int(ACCEPTED_FLAGS):  # int: an IntFlag's complement holds only the named flags
        raise FormatRefused(
            Code.IMAGE_FLAGS, what, expected=f"only 0x{ACCEPTED_FLAGS:x}", found=f"0x{flags:x}"
        )


def _decode_area(data: bytes, what: str, start: int, magic: int, entries: list[Entry]) -> int:
    """Append the TLVs of the area at `start`, where the caller has made sure of an info; returns its end."""
    info = wire.Reader(data, what, start)
    found, total = info.u16(), info.u16()
    if found != magic:
        raise _bad_tlv(what, f"0x{magic:04x} at offset {start}", f"0x{found:04x}")
    if total < TLV_INFO_SIZE or start + total > len(data):
        raise _bad_tlv(what, f"an area of 4 to {len(data) - start} bytes", f"{total}")
    reader = wire.Reader(data, what, start + TLV_INFO_SIZE, start + total)
    while reader.remaining:
        if reader.remaining < TLV_HEADER_SIZE:
            raise _bad_tlv(what, f"a TLV header at offset {reader.offset}", f"{reader.remaining} bytes")
        kind, length = reader.u16(), reader.u16()
        if length > reader.remaining:
            raise _bad_tlv(what, f"at most {reader.remaining} bytes in TLV 0x{kind:04x}", f"{length}")
        offset = reader.offset
        entries.append(Entry(kind, reader.take(length), magic == TLV_PROTECTED_MAGIC, offset))
    return start + total


def _bad_tlv(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.IMAGE_TLV, what, expected=expected, found=found)


def _check_entries(what: str, entries: list[Entry]) -> None:
    seen: set[int] = set()
    for entry in entries:
        if not entry.protected and entry.type not in UNPROTECTED_TYPES:
            raise FormatRefused(
                Code.IMAGE_TLV_UNKNOWN,
                what,
                expected="only hash, key, signature and encryption TLVs outside the signed area",
                found=f"{entry.name} at offset {entry.offset - TLV_HEADER_SIZE}",
            )
        if entry.protected and entry.type in UNPROTECTED_TYPES:
            raise _bad_tlv(what, f"{entry.name} outside the protected area", "it inside")
        if entry.type in SINGLE_TYPES and entry.type in seen:
            raise FormatRefused(Code.IMAGE_TLV_DUPLICATE, what, expected=f"one {entry.name}", found="two")
        seen.add(entry.type)
        length = _FIXED_LENGTHS.get(entry.type)
        if length is not None and length != len(entry.value):
            raise _bad_tlv(what, f"{length} bytes in {entry.name}", f"{len(entry.value)}")


def verify(image: Image, trust: Trust, what: str = "image") -> VerifiedImage:
    """Steps 2 to 7 of the order above; step 1 was `decode`.

    Raises TrustRefused with the code of the first check that failed.
    """
    _verify_digest(image, what)
    return verify_stated(image, trust, what)


def verify_stated(image: Image, trust: Trust, what: str = "image") -> VerifiedImage:
    """Steps 3 to 7 over the *stated* digest, for a verifier that cannot see the plaintext.

    What it returns still needs the digest recomputed where the plaintext is (DESIGN section 1, 4
    and 5). Raises as `verify`.
    """
    key = _trusted_key(image, trust, what)
    _verify_signature(image, key, what)
    _verify_counter(image, trust, what)
    _verify_hardware(image, trust, what)
    return VerifiedImage(image, key)


def _verify_digest(image: Image, what: str) -> None:
    stated = image.stated_digest
    if stated != image.digest:
        raise TrustRefused(
            Code.IMAGE_HASH,
            what,
            expected=f"SHA-256 {stated.hex()}" if stated else "a SHA-256 TLV",
            found=image.digest.hex() if stated else "none",
        )


def _trusted_key(image: Image, trust: Trust, what: str) -> PublicKey:
    """Steps 3 and 4."""
    spki = image.find(Tlv.PUBKEY)
    stated = image.find(Tlv.KEYHASH)
    if image.find(Tlv.ECDSA) is None or (spki is None and stated is None):
        raise TrustRefused(
            Code.IMAGE_NO_SIGNATURE, what, expected="a key and an ECDSA signature", found="none"
        )
    order = [entry.type for entry in image.entries]
    before = order[: order.index(Tlv.ECDSA)]
    if any(kind in order and kind not in before for kind in (Tlv.PUBKEY, Tlv.KEYHASH)):
        # MCUboot ignores a signature whose key has not been named yet.
        raise TrustRefused(
            Code.IMAGE_NO_SIGNATURE, what, expected="the key before its signature", found="it after"
        )
    key_hash = _key_hash(spki, stated, what)
    if key_hash not in trust.keys:
        raise TrustRefused(
            Code.IMAGE_KEY_UNKNOWN,
            what,
            expected="a key hash of " + (", ".join(k.hex()[:16] for k in trust.keys) or "no key"),
            found=key_hash.hex()[:16],
        )
    if key_hash in trust.revoked:
        raise TrustRefused(
            Code.IMAGE_KEY_REVOKED, what, expected="a key that is not revoked", found=key_hash.hex()[:16]
        )
    known = trust.keys[key_hash]
    if known is not None:
        return known
    if spki is None:
        raise TrustRefused(
            Code.IMAGE_NO_SIGNATURE,
            what,
            expected="the full public key in the image: this verifier holds only its hash",
            found="KEYHASH alone",
        )
    try:
        return PublicKey(spki)
    except FormatRefused as error:
        raise _malformed(what, error.expected, error.found) from error


def _key_hash(spki: bytes | None, stated: bytes | None, what: str) -> bytes:
    """The hash of the key the image names, by PUBKEY where it is there and by KEYHASH otherwise."""
    if spki is None:
        return stated or b""
    if len(spki) != P256_SPKI_SIZE or not spki.startswith(P256_SPKI_PREFIX):
        raise _malformed(what, "a P-256 key (SubjectPublicKeyInfo, 91 bytes)", f"{len(spki)} other bytes")
    key_hash = hashlib.sha256(spki).digest()
    if stated is not None and stated != key_hash:
        raise _malformed(what, f"PUBKEY to hash to KEYHASH {stated.hex()[:16]}", key_hash.hex()[:16])
    return key_hash


def _malformed(what: str, expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.IMAGE_KEY_MALFORMED, what, expected=expected, found=found)


def _verify_signature(image: Image, key: PublicKey, what: str) -> None:
    signature, stated = image.find(Tlv.ECDSA) or b"", image.stated_digest
    if stated is None:
        raise TrustRefused(Code.IMAGE_HASH, what, expected="a SHA-256 TLV", found="none")
    if not canonical_signature(signature):
        raise TrustRefused(
            Code.IMAGE_SIGNATURE, what, expected="the DER of r and s in [1, n-1]", found="another form"
        )
    key.verify(stated, signature, code=Code.IMAGE_SIGNATURE, subject=what)


def _verify_counter(image: Image, trust: Trust, what: str) -> None:
    if trust.counter is None:
        return
    if image.counter is None or image.counter < trust.counter:
        raise TrustRefused(
            Code.IMAGE_COUNTER,
            what,
            expected=f"a security counter of at least {trust.counter}",
            found="none" if image.counter is None else f"{image.counter}",
        )


def _verify_hardware(image: Image, trust: Trust, what: str) -> None:
    if trust.hardware is not None and image.hardware != trust.hardware:
        raise TrustRefused(
            Code.IMAGE_HARDWARE,
            what,
            expected=f"vendor-class {_hardware_name(trust.hardware)}",
            found=_hardware_name(image.hardware),
        )


def _hardware_name(pair: tuple[bytes | None, bytes | None]) -> str:
    return "-".join(part.hex()[:8] if part else "none" for part in pair)


class KeyFormat(StrEnum):
    """Which key TLVs an image carries. BOTH boots here and on a stock MCUboot."""

    BOTH = "both"
    HASH = "hash"
    FULL = "full"


@dataclass(frozen=True)
class Unsigned:
    """Header, payload and protected TLVs of an image, ready to be signed."""

    body: bytes = field(repr=False)

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(self.body).digest()

    def signed(self, key: PublicKey, signature: bytes, fmt: KeyFormat = KeyFormat.BOTH) -> bytes:
        """The whole image. `signature` is ECDSA DER over `digest`; checked before it is used.

        Raises TrustRefused (image.signature): a signer that answers wrongly ships nothing.
        """
        key.verify(self.digest, signature, code=Code.IMAGE_SIGNATURE, subject="new image")
        key_tlvs = {
            KeyFormat.BOTH: [(Tlv.KEYHASH, key.key_hash), (Tlv.PUBKEY, key.spki)],
            KeyFormat.HASH: [(Tlv.KEYHASH, key.key_hash)],
            KeyFormat.FULL: [(Tlv.PUBKEY, key.spki)],
        }[fmt]
        tlvs = [(Tlv.SHA256, self.digest), *key_tlvs, (Tlv.ECDSA, signature)]
        return self.body + encode_area(TLV_MAGIC, tlvs)


def build(
    payload: bytes,
    *,
    version: Version,
    counter: int,
    hardware: tuple[bytes, bytes],
    header_size: int = 0x200,
    load_address: int = 0,
) -> Unsigned:
    """Header, payload and protected TLVs as imgtool writes them for -H, -s, --vid and --cid."""
    vendor, klass = hardware
    protected = encode_area(
        TLV_PROTECTED_MAGIC,
        [
            (Tlv.SECURITY_COUNTER, wire.u32(counter)),
            (Tlv.UUID_VENDOR, vendor),
            (Tlv.UUID_CLASS, klass),
        ],
    )
    header = b"".join(
        (
            wire.u32(MAGIC),
            wire.u32(load_address),
            wire.u16(header_size),
            wire.u16(len(protected)),
            wire.u32(len(payload)),
            wire.u32(0),  # flags
            version.encode(),
            wire.u32(0),  # pad
        )
    )
    # The padding reads as erased flash, as imgtool leaves it.
    return Unsigned(header.ljust(header_size, b"\xff") + payload + protected)


def encode_area(magic: int, tlvs: Sequence[tuple[int, bytes]]) -> bytes:
    body = b"".join(wire.u16(kind) + wire.u16(len(value)) + value for kind, value in tlvs)
    return wire.u16(magic) + wire.u16(TLV_INFO_SIZE + len(body)) + body
