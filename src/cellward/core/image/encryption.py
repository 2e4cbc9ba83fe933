"""Encrypted images, as MCUboot has them: AES-128-CTR over the payload, the content key by ECIES-P256.

The flag that says so stands in the signed header, and hash and signature are over the plaintext. So an
image is built for encryption (`build(..., encrypted=True)`), signed, and then encrypted for publishing;
header and TLVs stay clear. Who holds a module's public key wraps the content key for it, without a new
signature. Randomness (content key, ephemeral key) is the caller's.
"""

import hmac
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.image.building import encode_area
from cellward.core.image.decoding import decode
from cellward.core.image.layout import TLV_MAGIC, Flag, Tlv
from cellward.core.keys import P256_ORDER

KEY_SIZE = 16
CHUNK = 256 * 1024  # fits the caches, and is all that a body of any size needs of memory
POINT_SIZE = 65
TAG_SIZE = 32
WRAPPED_SIZE = POINT_SIZE + TAG_SIZE + KEY_SIZE
INFO = b"MCUBoot_ECIES_v1"


def encrypt(image: bytes, content_key: bytes, what: str = "image") -> bytes:
    """The published file of a signed image that was built for encryption.

    A content key is for one image: under the same key two payloads give away their difference.
    Raises FormatRefused (image.encryption for another image or key, and as `decode`).
    """
    decoded = decode(image, what)
    if decoded.flags != Flag.ENC_AES128:
        raise FormatRefused(
            Code.IMAGE_ENCRYPTION,
            what,
            expected="an image built for encryption (flag ENC_AES128)",
            found=f"flags 0x{decoded.flags:x}",
        )
    payload = memoryview(image)[decoded.header_size : decoded.header_size + decoded.payload_size]
    body = encrypt_body(lambda offset, size: payload[offset : offset + size], content_key)
    parts = [bytes(chunk) for chunk in body]
    return b"".join((image[: decoded.header_size], *parts, image[decoded.header_size + len(payload) :]))


Buffer = bytes | bytearray | memoryview


def encrypt_body(read: Callable[[int, int], Buffer], content_key: bytes) -> Iterator[memoryview]:
    """The payload that `read(offset, size)` gives piece by piece, encrypted; b"" or less than `size` ends it.

    A chunk is good until the next is asked for: one buffer serves them all. Raises FormatRefused
    (image.encryption).
    """
    cipher = _cipher(content_key)
    buffer = memoryview(bytearray(CHUNK + KEY_SIZE))  # update_into wants a block more than there is data
    offset = 0
    while piece := read(offset, CHUNK):
        offset += len(piece)
        yield buffer[: cipher.update_into(piece, buffer)]
        if len(piece) < CHUNK:
            return


def decrypt(published: bytes, content_key: bytes, what: str = "image") -> bytes:
    """The signed image of a published file. Whether it is one is for `verify` to say. Raises as `encrypt`."""
    return encrypt(published, content_key, what)


_KEY_TLVS = (Tlv.ENC_RSA2048, Tlv.ENC_KW, Tlv.ENC_EC256, Tlv.ENC_X25519, Tlv.ENC_X25519_SHA512)


def with_wrapped_key(published: bytes, wrapped: bytes, what: str = "image") -> bytes:
    """The published file with TLV 0x32 behind the others, where imgtool puts it: for one device.

    Nothing of it is under the signature. Raises FormatRefused as `decode`, and PolicyRefused
    (image.encryption) where a key is wrapped in it already, or nothing is encrypted.
    """
    image = decode(published, what)
    held = next((entry.name for entry in image.entries if entry.type in _KEY_TLVS), None)
    if held is not None or image.flags != Flag.ENC_AES128 or len(wrapped) != WRAPPED_SIZE:
        raise PolicyRefused(
            Code.IMAGE_ENCRYPTION,
            what,
            expected=f"an encrypted image without a key in it, and {WRAPPED_SIZE} bytes of key",
            found=held or f"flags 0x{image.flags:x}, {len(wrapped)} bytes",
        )
    tlvs = [(entry.type, entry.value) for entry in image.entries if not entry.protected]
    return published[: image.signed_size] + encode_area(TLV_MAGIC, [*tlvs, (Tlv.ENC_EC256, wrapped)])


def wrap(
    content_key: bytes, module: bytes | ec.EllipticCurvePublicKey, ephemeral: ec.EllipticCurvePrivateKey
) -> bytes:
    """The value of TLV 0x32 for the module with this update public key (or its uncompressed point).

    `ephemeral` is a new P-256 key each time. Raises FormatRefused (key.format, image.encryption).
    """
    derived = _derive(ephemeral, module)
    sealed = _aes_ctr(derived[:KEY_SIZE], _checked(content_key))
    point = ephemeral.public_key().public_bytes(*_uncompressed())
    return point + hmac.digest(derived[KEY_SIZE:], sealed, "sha256") + sealed


def unwrap(wrapped: bytes, scalar: bytes) -> bytes:
    """The content key, by the module's update scalar, as firmware/update/ecies.c opens it.

    Raises TrustRefused (image.encryption): not wrapped for this module, or changed.
    """
    number = int.from_bytes(scalar, "big")
    if len(wrapped) != WRAPPED_SIZE or not 0 < number < P256_ORDER:
        raise _refused(f"{WRAPPED_SIZE} bytes and a scalar", f"{len(wrapped)} bytes")
    point, tag, sealed = wrapped[:POINT_SIZE], wrapped[POINT_SIZE:-KEY_SIZE], wrapped[-KEY_SIZE:]
    try:
        derived = _derive(ec.derive_private_key(number, ec.SECP256R1()), point)
    except FormatRefused as error:
        raise _refused(error.expected, error.found) from error
    if not hmac.compare_digest(tag, hmac.digest(derived[KEY_SIZE:], sealed, "sha256")):
        raise _refused("a key wrapped for this module", "another tag")
    return _aes_ctr(derived[:KEY_SIZE], sealed)


def _derive(private: ec.EllipticCurvePrivateKey, point: bytes | ec.EllipticCurvePublicKey) -> bytes:
    """AES key and MAC key: HKDF-SHA256 (RFC 5869) of the shared x coordinate, no salt.

    By hmac: HKDF's objects would cost a tenth of a wrapped key.
    """
    public = _on_curve(point) if isinstance(point, bytes) else point
    shared = private.exchange(ec.ECDH(), public)
    pseudorandom = hmac.digest(bytes(TAG_SIZE), shared, "sha256")
    first = hmac.digest(pseudorandom, INFO + b"\x01", "sha256")
    second = hmac.digest(pseudorandom, first + INFO + b"\x02", "sha256")
    return (first + second)[: KEY_SIZE + TAG_SIZE]


def _on_curve(point: bytes) -> ec.EllipticCurvePublicKey:
    if len(point) != POINT_SIZE:
        raise _no_point(f"{len(point)} bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise _no_point("another point") from error


@cache
def _uncompressed() -> tuple[Any, Any]:
    """Of X9.62. Imported here: signing must not pay for `serialization`."""
    from cryptography.hazmat.primitives import serialization

    return serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint


def _cipher(key: bytes) -> Any:
    """Counter block 0 first; block n belongs to offset 16 n of the payload."""
    cipher: Any = Cipher(algorithms.AES(_checked(key)), modes.CTR(bytes(16)))
    return cipher.encryptor()


def _aes_ctr(key: bytes, data: bytes) -> bytes:
    return bytes(_cipher(key).update(data))


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_SIZE:
        raise FormatRefused(
            Code.IMAGE_ENCRYPTION, "content key", expected=f"{KEY_SIZE} bytes", found=f"{len(key)}"
        )
    return key


def _no_point(found: str) -> FormatRefused:
    return FormatRefused(
        Code.KEY_FORMAT, "update public key", expected="an uncompressed point on P-256", found=found
    )


def _refused(expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.IMAGE_ENCRYPTION, "wrapped key", expected=expected, found=found)
