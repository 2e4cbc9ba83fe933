"""Encrypted images, as MCUboot has them: AES-128-CTR over the payload, the content key by ECIES-P256.

The flag that says so stands in the signed header, and hash and signature are over the plaintext. So an
image is built for encryption (`build(..., encrypted=True)`), signed, and then encrypted for publishing;
header and TLVs stay clear. Who holds a module's public key wraps the content key for it, without a new
signature. Randomness (content key, ephemeral key) is the caller's.
"""

import hmac
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.image.decoding import decode
from cellward.core.image.layout import Flag
from cellward.core.keys import P256_ORDER

KEY_SIZE = 16
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
    end = decoded.header_size + decoded.payload_size
    return image[: decoded.header_size] + _aes_ctr(content_key, decoded.payload) + image[end:]


def decrypt(published: bytes, content_key: bytes, what: str = "image") -> bytes:
    """The signed image of a published file. Whether it is one is for `verify` to say. Raises as `encrypt`."""
    return encrypt(published, content_key, what)


def wrap(content_key: bytes, module: bytes, ephemeral: ec.EllipticCurvePrivateKey) -> bytes:
    """The value of TLV 0x32 for the module with this update public key (uncompressed point).

    `ephemeral` is a new P-256 key each time. Raises FormatRefused (key.format, image.encryption).
    """
    derived = _derive(ephemeral, module)
    sealed = _aes_ctr(derived[:KEY_SIZE], _checked(content_key))
    point = ephemeral.public_key().public_numbers()
    return _encode_point(point) + hmac.digest(derived[KEY_SIZE:], sealed, "sha256") + sealed


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


def _derive(private: ec.EllipticCurvePrivateKey, point: bytes) -> bytes:
    """AES key and MAC key: HKDF-SHA256 of the shared x coordinate, no salt."""
    if len(point) != POINT_SIZE:
        raise _no_point(f"{len(point)} bytes")
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise _no_point("another point") from error
    shared = private.exchange(ec.ECDH(), public)
    return HKDF(hashes.SHA256(), KEY_SIZE + TAG_SIZE, salt=None, info=INFO).derive(shared)


def _encode_point(numbers: ec.EllipticCurvePublicNumbers) -> bytes:
    return b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _aes_ctr(key: bytes, data: bytes) -> bytes:
    """Counter block 0 first; block n belongs to offset 16 n of the payload."""
    cipher: Any = Cipher(algorithms.AES(_checked(key)), modes.CTR(bytes(16)))
    encryptor = cipher.encryptor()
    return bytes(encryptor.update(data) + encryptor.finalize())


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
