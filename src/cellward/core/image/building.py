"""Payload to image: what imgtool writes, with the signature made elsewhere."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from cellward.core import wire
from cellward.core.errors import Code
from cellward.core.image.decoding import decode
from cellward.core.image.layout import (
    MAGIC,
    SIGNATURES,
    TLV_INFO_SIZE,
    TLV_MAGIC,
    TLV_PROTECTED_MAGIC,
    Flag,
    Image,
    Tlv,
    Version,
)
from cellward.core.image.protected import NO_EXTRAS, Extras
from cellward.core.keys import PublicKey

AES_BLOCK = 16


class KeyTlv(StrEnum):
    """Which key TLVs an image carries. BOTH boots here and on a stock MCUboot."""

    BOTH = "both"
    HASH = "hash"
    FULL = "full"


@dataclass(frozen=True)
class Unsigned:
    """Header, payload and protected TLVs of an image, ready to be signed.

    The payload is never copied before the image is whole: hashing and one copy is all that its size costs.
    """

    header: bytes = field(repr=False)
    payload: bytes = field(default=b"", repr=False)
    protected: bytes = field(default=b"", repr=False)

    @property
    def body(self) -> bytes:
        return self.header + self.payload + self.protected

    @property
    def size(self) -> int:
        return len(self.header) + len(self.payload) + len(self.protected)

    @cached_property
    def digest(self) -> bytes:
        """What is signed: SHA-256 over the body."""
        digest = hashlib.sha256(self.header)
        digest.update(self.payload)
        digest.update(self.protected)
        return digest.digest()

    def signed(self, key: PublicKey, signature: bytes, key_tlv: KeyTlv = KeyTlv.BOTH) -> bytes:
        """The whole image. `signature` is `key`'s over `digest`; checked before it is used.

        Raises TrustRefused (image.signature): a signer that answers wrongly ships nothing.
        """
        key.verify(self.digest, signature, code=Code.IMAGE_SIGNATURE, subject="new image")
        return self.assembled(key, signature, key_tlv)

    def assembled(self, key: PublicKey, signature: bytes, key_tlv: KeyTlv) -> bytes:
        """As `signed`, for who verifies the whole image afterwards."""
        key_tlvs = {
            KeyTlv.BOTH: [(Tlv.KEYHASH, key.key_hash), (Tlv.PUBKEY, key.encoded)],
            KeyTlv.HASH: [(Tlv.KEYHASH, key.key_hash)],
            KeyTlv.FULL: [(Tlv.PUBKEY, key.encoded)],
        }[key_tlv]
        tlvs = [(Tlv.SHA256, self.digest), *key_tlvs, (SIGNATURES[key.algorithm], signature)]
        return b"".join((self.header, self.payload, self.protected, encode_area(TLV_MAGIC, tlvs)))

    def read_back(self, key: PublicKey, signature: bytes, key_tlv: KeyTlv) -> Image:
        """The image with this signature, decoded, nothing of it verified yet.

        Its digest is not computed a second time: what was hashed are the first `size` bytes of the file, and
        where the decoder finds so many under the signature, that is their digest.
        """
        image = decode(self.assembled(key, signature, key_tlv), "new image")
        return image.with_digest(self.digest) if image.signed_size == self.size else image


def build(
    payload: bytes,
    *,
    version: Version,
    counter: int | None,
    hardware: tuple[bytes, bytes] | None,
    header_size: int = 0x200,
    load_address: int = 0,
    encrypted: bool = False,
    extras: Extras = NO_EXTRAS,
    key_hash: bytes = b"",
) -> Unsigned:
    """Header, payload and protected TLVs as imgtool writes them for -H, -s, --vid and --cid.

    `encrypted`: for image.encrypt after signing, as imgtool's -E: the flag is under the signature, and
    the payload is filled up to whole AES blocks. `header_size` must then be a multiple of 16.
    `key_hash` is the signing key's, which a boot record names. Without counter, hardware and extras
    there is no protected area; no device of ours takes such an image.
    """
    if encrypted:
        payload = payload + bytes(-(header_size + len(payload)) % AES_BLOCK)
    tlvs: list[tuple[int, bytes]] = []
    if counter is not None:
        tlvs.append((Tlv.SECURITY_COUNTER, wire.u32(counter)))
    tlvs += extras.before_the_uuids(version, key_hash)
    if hardware is not None:
        tlvs += [(Tlv.UUID_VENDOR, hardware[0]), (Tlv.UUID_CLASS, hardware[1])]
    tlvs += extras.after_the_uuids()
    protected = encode_area(TLV_PROTECTED_MAGIC, tlvs) if tlvs else b""
    header = b"".join(
        (
            wire.u32(MAGIC),
            wire.u32(load_address),
            wire.u16(header_size),
            wire.u16(len(protected)),
            wire.u32(len(payload)),
            wire.u32(Flag.ENC_AES128 if encrypted else 0),
            version.encode(),
            wire.u32(0),  # pad
        )
    )
    # The padding reads as erased flash, as imgtool leaves it.
    return Unsigned(header.ljust(header_size, b"\xff"), payload, protected)


def encode_area(magic: int, tlvs: Sequence[tuple[int, bytes]]) -> bytes:
    body = b"".join(wire.u16(kind) + wire.u16(len(value)) + value for kind, value in tlvs)
    return wire.u16(magic) + wire.u16(TLV_INFO_SIZE + len(body)) + body
