"""What keys are derived and used by, between a TPM and who speaks with it (Part 1, 11.4, B and C)."""

from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from cellward.core.keys import P256_ORDER
from cellward.core.tpm.numbers import DIGEST_SIZE
from cellward.core.tpm.public import COORDINATE_SIZE, Public
from cellward.core.wire import be_sized

AES_SIZE = 16  # of a key, and of a block


def share_by_ecdh(owner: Public, label: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """A secret with the TPM that has this key, and TPM2B_ENCRYPTED_SECRET's content, from which that TPM
    derives it too (Part 1, C.6.1). `random` gives that many new bytes."""
    # 64 bits more than the order has: what the modulus leaves of bias is nothing (FIPS 186-5, A.2.1).
    scalar = 1 + int.from_bytes(random(COORDINATE_SIZE + 8), "big") % (P256_ORDER - 1)
    ephemeral = ec.derive_private_key(scalar, ec.SECP256R1())
    shared_x = ephemeral.exchange(ec.ECDH(), owner.point.cryptography)
    numbers = ephemeral.public_key().public_numbers()
    x, y = (number.to_bytes(COORDINATE_SIZE, "big") for number in (numbers.x, numbers.y))
    seed = kdf_e(shared_x, label, x, owner.unique[:COORDINATE_SIZE])
    return seed, be_sized(x) + be_sized(y)


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


def cfb(key: bytes, iv: bytes, data: bytearray, *, decrypt: bool = False) -> None:
    """AES-128-CFB, in place: no copy of a secret is made. cryptography has the mode among the decrepit."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  of CFB's registers
    register = iv
    for start in range(0, len(data), AES_SIZE):
        stream, end = block.update(register), min(start + AES_SIZE, len(data))
        if decrypt:
            register = bytes(data[start:end])
        for at in range(start, end):
            data[at] ^= stream[at - start]
        if not decrypt:
            register = bytes(data[start:end])
