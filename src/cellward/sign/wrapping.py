"""Content keys: one for each encrypted image, kept where images are signed, given out wrapped only.

A Store of the maker's holds them under the SHA-256 of the published file; whoever publishes, orders,
serves or carries the image sees blobs that one module each can open (core/image/encryption.py).
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.errors import Code, PolicyRefused
from cellward.core.image import VerifiedImage
from cellward.core.image.encryption import KEY_SIZE, encrypt, wrap
from cellward.core.keys import PublicKey
from cellward.ports.store import Store


def seal(signed: VerifiedImage, content_keys: Store) -> bytes:
    """The published file of an image that was signed for encryption, under a key of its own. The key is
    kept before anybody has the file. Raises FormatRefused (image.encryption), Unavailable (storage.*)."""
    key = secrets.token_bytes(KEY_SIZE)
    published = encrypt(signed.image.data, key, "new image")
    content_keys.write_once(hashlib.sha256(published).hexdigest(), key)
    return published


def content_key(published: bytes, content_keys: Store) -> bytes | None:
    return content_keys.read(hashlib.sha256(published).hexdigest())


def wrap_for(sha256: str, update: PublicKey, content_keys: Store) -> bytes:
    """The content key of the published file with this hash (hex), for the module with this update key.

    Raises PolicyRefused (image.encryption) where the key is not here, TrustRefused (key.published) for an
    update key with which anybody could unwrap it.
    """
    return next(wrap_for_all(sha256, [update], content_keys))


def wrap_for_all(sha256: str, updates: Iterable[PublicKey], content_keys: Store) -> Iterator[bytes]:
    """The same for each of these modules, in their order, an ephemeral key for each. Raises as `wrap_for`."""
    key = content_keys.read(sha256)
    if key is None:
        raise PolicyRefused(
            Code.IMAGE_ENCRYPTION,
            f"image {sha256[:16]}",
            expected="its content key in this data directory",
            found="none",
            advice="order it where it was signed",
        )
    curve = ec.SECP256R1()
    for update in updates:
        yield wrap(key, update.unpublished("update key").cryptography, ec.generate_private_key(curve))
