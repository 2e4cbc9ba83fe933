"""A value that left the vault, encrypted to one recipient. Normative: docs/formats/controller-vault.md.

The content key is wrapped as an encrypted image's is (core.image.encryption: ECIES on P-256), and used once.
"""

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.image.encryption import WRAPPED_SIZE, unwrap, wrap
from cellward.core.packvault import DIGEST_SIZE, TAG_SIZE, Buffer, check_name, check_size
from cellward.core.wire import BigEndianReader, be16, be32, be_sized

MAGIC = b"CWPX"
FORMAT = 1
_WHAT = "exported value"
_NONCE = bytes(12)  # a content key encrypts once


@dataclass(frozen=True)
class Exported:
    """`device` and `version` as in the vault that it left."""

    device: bytes
    name: str
    version: int
    wrapped: bytes
    sealed: bytes = field(repr=False)

    @property
    def head(self) -> bytes:
        return b"".join(
            (
                *(MAGIC, be16(FORMAT), self.device, be_sized(self.name.encode())),
                *(self.version.to_bytes(8, "big"), self.wrapped),
            )
        )

    def encode(self) -> bytes:
        return self.head + be32(len(self.sealed) - TAG_SIZE) + self.sealed

    def open(self, scalar: bytes, into: memoryview) -> None:
        """With the recipient's private key. Raises TrustRefused (image.encryption, vault.seal)."""
        key = unwrap(self.wrapped, scalar)
        try:
            AESGCM(key).decrypt_into(_NONCE, self.sealed, self.head, into)
        except InvalidTag as error:
            raise TrustRefused(
                Code.VAULT_SEAL, f"{_WHAT} {self.name}", expected="its own seal", found="another one"
            ) from error

    @property
    def size(self) -> int:
        return len(self.sealed) - TAG_SIZE


def export(
    device: bytes,
    name: str,
    version: int,
    value: Buffer,
    recipient: ec.EllipticCurvePublicKey,
    ephemeral: ec.EllipticCurvePrivateKey,
    content_key: Buffer,
) -> Exported:
    """`ephemeral` and `content_key` (16 bytes) are fresh each time. Raises FormatRefused (key.format)."""
    made = Exported(device, name, version, wrap(bytes(content_key), recipient, ephemeral), b"")
    sealed = bytearray(len(value) + TAG_SIZE)
    AESGCM(content_key).encrypt_into(_NONCE, value, made.head, sealed)
    return Exported(device, name, version, made.wrapped, bytes(sealed))


def decode(data: bytes) -> Exported:
    """Raises FormatRefused (wire.*, vault.format)."""
    reader = BigEndianReader(data, _WHAT)
    if reader.take(4) != MAGIC or reader.u16() != FORMAT:
        raise FormatRefused(
            Code.VAULT_FORMAT,
            _WHAT,
            expected=f"{MAGIC.decode()} in format {FORMAT}",
            found=f"{data[:6].hex()}",
        )
    device, name = reader.take(DIGEST_SIZE), check_name(reader.sized().decode("ascii", "replace"))
    version, wrapped = reader.u64(), reader.take(WRAPPED_SIZE)
    sealed = reader.take(check_size(reader.u32()) + TAG_SIZE)
    reader.finish()
    return Exported(device, name, version, wrapped, sealed)
