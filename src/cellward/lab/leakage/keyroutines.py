"""Routines that derive keys, use them for a MAC, or compare one."""

import hmac
from random import Random

from cellward.core import ladder
from cellward.core.bootrecord import BootRecord, Measurer
from cellward.core.image import Version
from cellward.core.image.encryption import INFO, KEY_SIZE, POINT_SIZE, TAG_SIZE
from cellward.core.keys import P256_ORDER
from cellward.core.slots import OTP_DEVICE_SECRET, Lifecycle
from cellward.lab.leakage.subject import Call, Draw, Layout, Run, Subject, random_bytes, random_match
from cellward.vbms.registers import OTP_BASE, RAM_BASE

BUFFERS = RAM_BASE + 0x4000  # above the variables of all binaries, far below the stack
SECRET = ladder.SECRET_SIZE
MESSAGE = bytes(range(100, 156))  # as long as a boot record
HANDOVER_SIZE, AT_SCALAR, AT_STAGE, AT_REPORT, AT_VAULT = 384, 8, 40, 72, 104  # handover.h
ALL_ONES = 0xFFFF_FFFF


def random_scalar() -> Draw:
    """In [1, n-1]; outside of it the ladder derives another, once in 2^32 devices."""
    constant = bytes(range(1, SECRET + 1))

    def draw(random: Random, is_fixed: bool) -> bytes:
        return constant if is_fixed else random.randrange(1, P256_ORDER).to_bytes(SECRET, "big")

    return draw


def compare() -> Subject:
    places = Layout(BUFFERS)
    ours, theirs = places.take(SECRET), places.take(SECRET)
    received = bytes(range(1, SECRET + 1))

    def run(secret: bytes) -> Run:
        differ = 0
        for a, b in zip(secret, received, strict=True):
            differ |= a ^ b
        return Run(
            {ours: secret, theirs: received}, [Call("bytes_differ", (ours, theirs, SECRET))], {}, differ
        )

    return Subject("bytes_differ", "the right MAC", random_match(received), run)


def hmac_sha256() -> Subject:
    places = Layout(BUFFERS)
    key, data, out = places.take(SECRET), places.take(len(MESSAGE)), places.take(SECRET)

    def run(secret: bytes) -> Run:
        call = Call("hmac_sha256", (key, SECRET, data, len(MESSAGE), out))
        return Run({key: secret, data: MESSAGE}, [call], {out: hmac.digest(secret, MESSAGE, "sha256")})

    return Subject("hmac_sha256", "the key", random_bytes(SECRET), run, 2)


def extract() -> Subject:
    places = Layout(BUFFERS)
    salt, secret_at, out = places.take(SECRET), places.take(SECRET), places.take(SECRET)

    def run(secret: bytes) -> Run:
        call = Call("hkdf_extract", (salt, len(ladder.SALT), secret_at, SECRET, out))
        prk = ladder.extract(ladder.SALT, secret)
        return Run({salt: ladder.SALT, secret_at: secret}, [call], {out: prk})

    return Subject("hkdf_extract", "the device secret, a point's x", random_bytes(SECRET), run, 2)


def expand() -> Subject:
    size = KEY_SIZE + TAG_SIZE
    places = Layout(BUFFERS)
    prk, info, out = places.take(SECRET), places.take(len(INFO)), places.take(size)

    def run(secret: bytes) -> Run:
        call = Call("hkdf_expand", (prk, info, len(INFO), out, size))
        return Run({prk: secret, info: INFO}, [call], {out: ladder.expand(secret, INFO, size)})

    return Subject("hkdf_expand", "the pseudorandom key", random_bytes(SECRET), run, 4)


def copy_of_secret() -> Subject:
    out = Layout(BUFFERS).take(SECRET)

    def run(secret: bytes) -> Run:
        call = Call("otp_copy", (OTP_DEVICE_SECRET.offset, out, SECRET))
        return Run({OTP_BASE + OTP_DEVICE_SECRET.offset: secret}, [call], {out: secret})

    return Subject("otp_copy", "the device secret", random_bytes(SECRET), run)


def ladder_rom() -> Subject:
    places = Layout(BUFFERS)
    secret_at, handover, record = places.take(SECRET), places.take(HANDOVER_SIZE), places.take(SECRET)

    def run(secret: bytes) -> Run:
        keys = ladder.derive(secret)
        expected = {
            handover + AT_SCALAR: keys.update_scalar,
            handover + AT_STAGE: keys.stage,
            record: keys.rom_record,
        }
        return Run({secret_at: secret}, [Call("ladder_rom", (secret_at, handover, record))], expected)

    return Subject("ladder_rom", "the device secret", random_bytes(SECRET), run, 8)


def ladder_loader() -> Subject:
    places = Layout(BUFFERS)
    handover, record = places.take(HANDOVER_SIZE), places.take(SECRET)

    def run(secret: bytes) -> Run:
        expected = {
            handover + AT_SCALAR: bytes(2 * SECRET),  # scalar and stage key are wiped
            handover + AT_REPORT: ladder.expand(secret, b"report"),
            handover + AT_VAULT: ladder.expand(secret, b"vault"),
            record: ladder.expand(secret, b"record loader"),
        }
        return Run({handover + AT_STAGE: secret}, [Call("ladder_loader", (handover, record))], expected)

    return Subject("ladder_loader", "the stage key", random_bytes(SECRET), run, 6)


def vault_key() -> Subject:
    places = Layout(BUFFERS)
    stage, out = places.take(SECRET), places.take(SECRET)

    def run(secret: bytes) -> Run:
        call = Call("vault_key_from_stage", (stage, out))
        return Run({stage: secret}, [call], {out: ladder.expand(secret, b"vault")})

    return Subject("vault_key_from_stage", "the stage key", random_bytes(SECRET), run, 2)


def record() -> Subject:
    places = Layout(BUFFERS)
    record, digest, key, out = (places.take(size) for size in (32, SECRET, SECRET, 88))
    version = Version.parse("1.3.0")
    measured = BootRecord(Measurer.ROM, Lifecycle.PRODUCTION, 1, 77, 7, version, MESSAGE[:SECRET])
    lifecycle = list(Lifecycle).index(measured.lifecycle)
    words = (measured.by, lifecycle, measured.bank, measured.boot_count, measured.counter)
    struct = b"".join(word.to_bytes(4, "little") for word in words) + version.encode()
    struct += digest.to_bytes(4, "little")

    def run(secret: bytes) -> Run:
        memory = {record: struct, digest: measured.digest, key: secret}
        return Run(memory, [Call("record_make", (record, key, out))], {out: measured.encode(secret)})

    return Subject("record_make", "the record key", random_bytes(SECRET), run, 2)


def in_range() -> Subject:
    scalar = Layout(BUFFERS).take(SECRET)

    def run(secret: bytes) -> Run:
        return Run({scalar: secret}, [Call("scalar_in_range", (scalar,))], {}, ALL_ONES)

    return Subject("scalar_in_range", "the update scalar", random_scalar(), run)


def public_key() -> Subject:
    places = Layout(BUFFERS)
    scalar, point = places.take(SECRET), places.take(POINT_SIZE)

    def run(secret: bytes) -> Run:
        public = ladder.update_public_key(secret).spki[-POINT_SIZE:]
        return Run({scalar: secret}, [Call("update_public_key", (scalar, point))], {point: public})

    return Subject("update_public_key", "the update scalar", random_scalar(), run, 450)
