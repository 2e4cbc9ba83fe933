"""TPM2_MakeCredential in software: a secret that one object in one TPM can be given (Part 1, 24).

Only the TPM that has the endorsement key recovers the seed, and it gives the secret out only while an
object with exactly this Name is loaded in it.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cellward.core.errors import Code, FormatRefused
from cellward.core.tpm.derivation import AES_SIZE, cfb, kdf_a, share_by_ecdh
from cellward.core.tpm.numbers import DIGEST_SIZE, Alg
from cellward.core.tpm.public import Public, decode_name
from cellward.core.wire import be_sized

_IDENTITY = b"IDENTITY\0"


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
    encrypt = kdf_a(seed, b"STORAGE", name, AES_SIZE)
    authenticate = kdf_a(seed, b"INTEGRITY", b"", DIGEST_SIZE)
    sealed = bytearray(be_sized(secret))
    cfb(encrypt, bytes(AES_SIZE), sealed)  # from zeros: each key is used once
    integrity = hmac.digest(authenticate, sealed + name, "sha256")
    return Credential(be_sized(be_sized(integrity) + sealed), be_sized(encrypted_seed))


def _share_by_ecdh(endorsement: Public, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    return share_by_ecdh(endorsement, _IDENTITY, random)


def _share_by_oaep(endorsement: Public, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Part 1, B.10.4: the seed itself, encrypted. The padding's own randomness is the library's."""
    seed = random(DIGEST_SIZE)
    key = rsa.RSAPublicNumbers(65537, int.from_bytes(endorsement.unique, "big")).public_key()
    return seed, key.encrypt(seed, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), _IDENTITY))
