"""The MCUboot image: encode, strict decode, verify. docs/formats/image.md is the normative text.

    header | payload | [protected TLVs] | TLVs

Verification runs in one order, here, in the ROM and in the loader:

1. structure     every length inside the image, TLVs on MCUboot's allow-list, none twice
2. digest        SHA-256 over header, payload and protected TLVs
3. key           PUBKEY hashes to KEYHASH, and that is a trusted slot key
4. revocation    that slot is not revoked
5. signature     of that key's algorithm, over the digest
6. counter       not below the device's security counter
7. hardware      vendor and class UUID are this device's, for this stage
"""

from cellward.core.image.building import KeyTlv, Unsigned, build, encode_area
from cellward.core.image.decoding import decode, decode_slot
from cellward.core.image.layout import (
    ACCEPTED_FLAGS,
    FIXED_LENGTHS,
    HEADER_SIZE,
    MAGIC,
    MAX_HEADER_SIZE,
    SIGNATURES,
    SINGLE_TYPES,
    TLV_HEADER_SIZE,
    TLV_INFO_SIZE,
    TLV_MAGIC,
    TLV_PROTECTED_MAGIC,
    UNPROTECTED_TYPES,
    Entry,
    Flag,
    Image,
    Tlv,
    Version,
)
from cellward.core.image.protected import NO_EXTRAS, Custom, Dependency, Extras
from cellward.core.image.verification import Trust, VerifiedImage, verify, verify_stated

__all__ = [
    "ACCEPTED_FLAGS",
    "FIXED_LENGTHS",
    "HEADER_SIZE",
    "MAGIC",
    "MAX_HEADER_SIZE",
    "NO_EXTRAS",
    "SIGNATURES",
    "SINGLE_TYPES",
    "TLV_HEADER_SIZE",
    "TLV_INFO_SIZE",
    "TLV_MAGIC",
    "TLV_PROTECTED_MAGIC",
    "UNPROTECTED_TYPES",
    "Custom",
    "Dependency",
    "Entry",
    "Extras",
    "Flag",
    "Image",
    "KeyTlv",
    "Tlv",
    "Trust",
    "Unsigned",
    "VerifiedImage",
    "Version",
    "build",
    "decode",
    "decode_slot",
    "encode_area",
    "verify",
    "verify_stated",
]
