"""TPM2_MakeCredential in software: a secret that one object in one TPM can be given (Part 1, 24).

Only the TPM that has the endorsement key recovers the seed, and it gives the secret out only while an
object with exactly this Name is loaded in it.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import P256_ORDER
from cellward.core.tpm.numbers import DIGEST_SIZE, Alg
from cellward.core.tpm.public import COORDINATE_SIZE, Public, decode_name
from cellward.core.wire import be_sized

_IDENTITY = b"IDENTITY\0"
_AES_SIZE = 16
_BLOCK = 16


@dataclass(frozen=True)
class Credential:
    """The two arguments of TPM2_ActivateCredential: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET."""

    blob: bytes = field(repr=False)
    encrypted_seed: bytes = field(repr=False)


def make_credential(
    endorsement: Public, name: bytes, secret: bytes, random: Callable[[int], bytes]
) -> Credential:
    """`endorsement` is what core/tpm/keys.endorsement_key returned; `random` gives that many new bytes.

    Raises FormatRefused (attest.format) for a secret that is not 1 to 32 bytes, or no Name.
    """
    decode_name(name)
    if not 1 <= len(secret) <= DIGEST_SIZE:
        raise FormatRefused(
            Code.ATTEST_FORMAT, "credential", expected="a secret of 1 to 32 bytes", found=f"{len(secret)}"
        )
    share = _share_by_ecdh if endorsement.kind is Alg.ECC else _share_by_oaep
    seed, encrypted_seed = share(endorsement, random)
    encrypt = kdf_a(seed, b"STORAGE", name, _AES_SIZE)
    authenticate = kdf_a(seed, b"INTEGRITY", b"", DIGEST_SIZE)
    sealed = _encrypt(encrypt, be_sized(secret))
    integrity = hmac.digest(authenticate, sealed + name, "sha256")
    return Credential(be_sized(be_sized(integrity) + sealed), be_sized(encrypted_seed))


def _share_by_ecdh(endorsement: Public, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Part 1, C.6.1: the seed is derived, the ephemeral point is what is sent."""
    # 64 bits more than the order has: what the modulus leaves of bias is nothing (FIPS 186-5, A.2.1).
    scalar = 1 + int.from_bytes(random(COORDINATE_SIZE + 8), "big") % (P256_ORDER - 1)
    ephemeral = ec.derive_private_key(scalar, ec.SECP256R1())
    shared_x = ephemeral.exchange(ec.ECDH(), endorsement.point.cryptography)
    numbers = ephemeral.public_key().public_numbers()
    x, y = (number.to_bytes(COORDINATE_SIZE, "big") for number in (numbers.x, numbers.y))
    seed = kdf_e(shared_x, _IDENTITY, x, endorsement.unique[:COORDINATE_SIZE])
    return seed, be_sized(x) + be_sized(y)


def _share_by_oaep(endorsement: Public, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Part 1, B.10.4: the seed itself, encrypted. The padding's own randomness is the library's."""
    seed = random(DIGEST_SIZE)
    key = rsa.RSAPublicNumbers(65537, int.from_bytes(endorsement.unique, "big")).public_key()
    return seed, key.encrypt(seed, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), _IDENTITY))


def kdf_a(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """Part 1, 11.4.10.2: SP 800-108 in counter mode with HMAC-SHA-256."""
    return KBKDFHMAC(
        algorithm=hashes.SHA256(),
        mode=Mode.CounterMode,
        length=size,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    ).derive(key)


def kdf_e(shared: bytes, label: bytes, party_u: bytes, party_v: bytes) -> bytes:
    """Part 1, 11.4.10.3: SP 800-56A's one-step derivation with SHA-256; the label ends in a zero."""
    return ConcatKDFHash(hashes.SHA256(), DIGEST_SIZE, label + party_u + party_v).derive(shared)


def _encrypt(key: bytes, data: bytes) -> bytes:
    """AES-128-CFB from an IV of zeros; each key is used once. cryptography has CFB among the decrepit."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  of CFB's registers
    sealed = bytes(_BLOCK)
    for start in range(0, len(data), _BLOCK):
        stream = block.update(sealed[-_BLOCK:])
        sealed += bytes(a ^ b for a, b in zip(data[start : start + _BLOCK], stream, strict=False))
    return sealed[_BLOCK:]
