"""Signatures that were made elsewhere, as the tools that make them write them."""

import base64
import binascii
import re

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import Algorithm, PublicKey, encode_signature

MAX_SIGNATURE = 4096
_RAW_ECDSA = 64
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


def read_signature(data: bytes, key: PublicKey) -> bytes:
    """The signature in a file, in the form that an image carries. Whether it is one is not said.

    Bytes as they are (`openssl pkeyutl`), base64 of them (imgtool's `--sig-out`), and for ECDSA r and s
    one after the other, as PKCS#11 tokens write them. Raises FormatRefused (image.signature).
    """
    text = b"".join(data.split())
    if _BASE64.fullmatch(text):
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise _refused("damaged base64") from error
    if not 0 < len(data) <= MAX_SIGNATURE:
        raise _refused(f"{len(data)} bytes")
    raw = key.algorithm is Algorithm.P256 and len(data) == _RAW_ECDSA
    return encode_signature(data) if raw else data


def _refused(found: str) -> FormatRefused:
    return FormatRefused(
        Code.IMAGE_SIGNATURE,
        "attached signature",
        expected="a signature's bytes, or base64 of them",
        found=found,
    )
