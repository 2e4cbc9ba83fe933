"""The module's keys, all from its device secret. Normative: docs/formats/boot-record.md.

The module's side is firmware/boot/ladder.c; here the plant computes the same before it forgets the
secret. HKDF is RFC 5869's with SHA-256.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import P256_ORDER, PublicKey

SALT = b"cellward v1"
SECRET_SIZE = 32
KEY_SIZE = 32
ATTEMPTS = 256


def extract(salt: bytes, secret: bytes) -> bytes:
    """RFC 5869 section 2.2."""
    return hmac.digest(salt, secret, "sha256")


def expand(prk: bytes, info: bytes, size: int = KEY_SIZE) -> bytes:
    """RFC 5869 section 2.3; `size` up to 255 * 32 bytes."""
    out = block = b""
    number = 0
    while len(out) < size:
        number += 1
        block = hmac.digest(prk, block + info + bytes([number]), "sha256")
        out += block
    return out[:size]


@dataclass(frozen=True)
class ModuleKeys:
    """Every key of the ladder, 32 bytes each. None of them is to be kept; see `registered`."""

    update_scalar: bytes = field(repr=False)
    rom_record: bytes = field(repr=False)
    stage: bytes = field(repr=False)
    loader_record: bytes = field(repr=False)
    report: bytes = field(repr=False)
    vault: bytes = field(repr=False)


@dataclass(frozen=True)
class RegisteredKeys:
    """What the plant registers with the maker: who holds these can check the module's records and
    reports and encrypt an image for it, and read nothing."""

    rom_record: bytes = field(repr=False)
    loader_record: bytes = field(repr=False)
    report: bytes = field(repr=False)
    update: PublicKey


def update_scalar(candidate: Callable[[int], bytes]) -> bytes:
    """The first candidate in [1, n-1] of P-256; `candidate` derives the one of an attempt.

    Zeros after 256 attempts, as the module: once in 2^8192 secrets.
    """
    for attempt in range(ATTEMPTS):
        scalar = candidate(attempt)
        if 0 < int.from_bytes(scalar, "big") < P256_ORDER:
            return scalar
    return bytes(KEY_SIZE)


def derive(secret: bytes) -> ModuleKeys:
    """The whole ladder. Raises FormatRefused (key.format) unless the secret is 32 bytes."""
    if len(secret) != SECRET_SIZE:
        raise FormatRefused(
            Code.KEY_FORMAT, "device secret", expected=f"{SECRET_SIZE} bytes", found=f"{len(secret)}"
        )
    prk = extract(SALT, secret)
    stage = expand(prk, b"stage")
    return ModuleKeys(
        update_scalar=update_scalar(lambda attempt: expand(prk, b"update" + bytes([attempt]))),
        rom_record=expand(prk, b"record rom"),
        stage=stage,
        loader_record=expand(stage, b"record loader"),
        report=expand(stage, b"report"),
        vault=expand(stage, b"vault"),
    )


def update_public_key(scalar: bytes) -> PublicKey:
    """Of the module's own key, for which content keys are wrapped."""
    private = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    return PublicKey.from_cryptography(private.public_key())


def registered(secret: bytes) -> RegisteredKeys:
    """What the maker keeps of a module with this secret. Raises as `derive`."""
    keys = derive(secret)
    return RegisteredKeys(
        keys.rom_record, keys.loader_record, keys.report, update_public_key(keys.update_scalar)
    )


def vault_keys(vault: bytes, name: int) -> tuple[bytes, bytes]:
    """AES-128 key and HMAC key of one name of the vault."""
    encrypt = expand(vault, b"vault encrypt" + bytes([name]), 16)
    return encrypt, expand(vault, b"vault authenticate" + bytes([name]))
