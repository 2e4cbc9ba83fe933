"""Payload to image: what imgtool writes, with the signature made elsewhere."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from cellward.core import wire
from cellward.core.errors import Code
from cellward.core.image.layout import (
    MAGIC,
    SIGNATURES,
    TLV_INFO_SIZE,
    TLV_MAGIC,
    TLV_PROTECTED_MAGIC,
    Flag,
    Tlv,
    Version,
)
from cellward.core.keys import PublicKey

AES_BLOCK = 16


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
        """The whole image. `signature` is `key`'s over `digest`; checked before it is used.

        Raises TrustRefused (image.signature): a signer that answers wrongly ships nothing.
        """
        key.verify(self.digest, signature, code=Code.IMAGE_SIGNATURE, subject="new image")
        key_tlvs = {
            KeyFormat.BOTH: [(Tlv.KEYHASH, key.key_hash), (Tlv.PUBKEY, key.encoded)],
            KeyFormat.HASH: [(Tlv.KEYHASH, key.key_hash)],
            KeyFormat.FULL: [(Tlv.PUBKEY, key.encoded)],
        }[fmt]
        tlvs = [(Tlv.SHA256, self.digest), *key_tlvs, (SIGNATURES[key.algorithm], signature)]
        return self.body + encode_area(TLV_MAGIC, tlvs)


def build(
    payload: bytes,
    *,
    version: Version,
    counter: int,
    hardware: tuple[bytes, bytes],
    header_size: int = 0x200,
    load_address: int = 0,
    encrypted: bool = False,
) -> Unsigned:
    """Header, payload and protected TLVs as imgtool writes them for -H, -s, --vid and --cid.

    `encrypted`: for image.encrypt after signing, as imgtool's -E: the flag is under the signature, and
    the payload is filled up to whole AES blocks. `header_size` must then be a multiple of 16.
    """
    if encrypted:
        payload = payload + bytes(-(header_size + len(payload)) % AES_BLOCK)
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
            wire.u32(Flag.ENC_AES128 if encrypted else 0),
            version.encode(),
            wire.u32(0),  # pad
        )
    )
    # The padding reads as erased flash, as imgtool leaves it.
    return Unsigned(header.ljust(header_size, b"\xff") + payload + protected)


def encode_area(magic: int, tlvs: Sequence[tuple[int, bytes]]) -> bytes:
    body = b"".join(wire.u16(kind) + wire.u16(len(value)) + value for kind, value in tlvs)
    return wire.u16(magic) + wire.u16(TLV_INFO_SIZE + len(body)) + body
