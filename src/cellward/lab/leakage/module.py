"""Every routine of the module's binaries that handles a secret, each with a known answer.

What is public is not here: verification of signatures, slot keys, digests and headers of images. A
routine that only one binary has is looked at there; one that several have, in each of them, since each
is a build of its own.
"""

import hmac
from collections.abc import Callable, Mapping
from functools import cache
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cellward.core import ladder, vault
from cellward.core.bootrecord import BootRecord, Measurer
from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code
from cellward.core.image import Version
from cellward.core.image.encryption import KEY_SIZE, POINT_SIZE, TAG_SIZE, WRAPPED_SIZE, wrap
from cellward.core.keys import P256_ORDER
from cellward.core.slots import (
    DATA_PAGE_SIZE,
    ERASED,
    OTP_DEVICE_SECRET,
    OTP_VAULT_CALIBRATION,
    DataPage,
    Lifecycle,
)
from cellward.lab.leakage.subject import (
    Call,
    Draw,
    Firmware,
    Layout,
    Run,
    Subject,
    random_bytes,
    random_match,
)
from cellward.lab.routines import MODULE_RAM, Area, Elf
from cellward.vbms.packaged import packaged
from cellward.vbms.registers import DATA_BASE, OTP_BASE, RAM_BASE

BINARIES = ("rom.elf", "loader-1.3.0.elf", "app-1.3.0.elf")
BUFFERS = RAM_BASE + 0x4000  # above the variables of all three, far below the stack
SECRET = ladder.SECRET_SIZE
DATA_PAGES = 16
WINDOWS = (Area(DATA_BASE, DATA_PAGES * DATA_PAGE_SIZE), Area(OTP_BASE, 0x1000))
MESSAGE = bytes(range(100, 156))  # as long as a boot record
INFO = b"MCUBoot_ECIES_v1"
HANDOVER_SIZE, AT_SCALAR, AT_STAGE, AT_REPORT, AT_VAULT = 384, 8, 40, 72, 104  # handover.h
AES_CONTEXT = 256
NONCE = bytes(range(0xF0, 0x100))
CONTENT_KEY = bytes(range(0x30, 0x40))
CALIBRATION = vault.Calibration(120, -35, 4180, 2950).encode()
ALL_ONES = 0xFFFF_FFFF


def firmware() -> tuple[Firmware, ...]:
    """Raises Unavailable (storage.missing) before the firmware is built."""
    return tuple(Firmware(elf, subjects_of(elf), MODULE_RAM, WINDOWS) for elf in map(_elf, BINARIES))


@cache
def _elf(name: str) -> Elf:
    return Elf(packaged(name), name)


def subjects_of(elf: Elf) -> tuple[Subject, ...]:
    found = [make() for function, make in SUBJECTS if function in elf.symbols]
    return tuple(found)


def _random_scalar() -> Draw:
    """In [1, n-1]; outside of it the ladder derives another, once in 2^32 devices."""
    constant = bytes(range(1, SECRET + 1))

    def draw(random: Random, is_fixed: bool) -> bytes:
        return constant if is_fixed else random.randrange(1, P256_ORDER).to_bytes(SECRET, "big")

    return draw


def _aes_ctr(key: bytes, nonce: bytes, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _compare() -> Subject:
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


def _hmac() -> Subject:
    places = Layout(BUFFERS)
    key, data, out = places.take(SECRET), places.take(len(MESSAGE)), places.take(SECRET)

    def run(secret: bytes) -> Run:
        call = Call("hmac_sha256", (key, SECRET, data, len(MESSAGE), out))
        return Run({key: secret, data: MESSAGE}, [call], {out: hmac.digest(secret, MESSAGE, "sha256")})

    return Subject("hmac_sha256", "the key", random_bytes(SECRET), run, 2)


def _extract() -> Subject:
    places = Layout(BUFFERS)
    salt, secret_at, out = places.take(SECRET), places.take(SECRET), places.take(SECRET)

    def run(secret: bytes) -> Run:
        call = Call("hkdf_extract", (salt, len(ladder.SALT), secret_at, SECRET, out))
        prk = ladder.extract(ladder.SALT, secret)
        return Run({salt: ladder.SALT, secret_at: secret}, [call], {out: prk})

    return Subject("hkdf_extract", "the device secret, a point's x", random_bytes(SECRET), run, 2)


def _expand() -> Subject:
    size = KEY_SIZE + TAG_SIZE
    places = Layout(BUFFERS)
    prk, info, out = places.take(SECRET), places.take(len(INFO)), places.take(size)

    def run(secret: bytes) -> Run:
        call = Call("hkdf_expand", (prk, info, len(INFO), out, size))
        return Run({prk: secret, info: INFO}, [call], {out: ladder.expand(secret, INFO, size)})

    return Subject("hkdf_expand", "the pseudorandom key", random_bytes(SECRET), run, 4)


def _copy_of_secret() -> Subject:
    out = Layout(BUFFERS).take(SECRET)

    def run(secret: bytes) -> Run:
        call = Call("otp_copy", (OTP_DEVICE_SECRET.offset, out, SECRET))
        return Run({OTP_BASE + OTP_DEVICE_SECRET.offset: secret}, [call], {out: secret})

    return Subject("otp_copy", "the device secret", random_bytes(SECRET), run)


def _ladder_rom() -> Subject:
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


def _ladder_loader() -> Subject:
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


def _vault_key() -> Subject:
    places = Layout(BUFFERS)
    stage, out = places.take(SECRET), places.take(SECRET)

    def run(secret: bytes) -> Run:
        call = Call("vault_key_from_stage", (stage, out))
        return Run({stage: secret}, [call], {out: ladder.expand(secret, b"vault")})

    return Subject("vault_key_from_stage", "the stage key", random_bytes(SECRET), run, 2)


def _record() -> Subject:
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


def _in_range() -> Subject:
    scalar = Layout(BUFFERS).take(SECRET)

    def run(secret: bytes) -> Run:
        return Run({scalar: secret}, [Call("scalar_in_range", (scalar,))], {}, ALL_ONES)

    return Subject("scalar_in_range", "the update scalar", _random_scalar(), run)


def _public_key() -> Subject:
    places = Layout(BUFFERS)
    scalar, point = places.take(SECRET), places.take(POINT_SIZE)

    def run(secret: bytes) -> Run:
        public = ladder.update_public_key(secret).spki[-POINT_SIZE:]
        return Run({scalar: secret}, [Call("update_public_key", (scalar, point))], {point: public})

    return Subject("update_public_key", "the update scalar", _random_scalar(), run, 450)


@cache
def _ephemeral() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(bytes(range(2, 34)), "big"), ec.SECP256R1())


def _wrapped(scalar: bytes) -> bytes:
    return wrap(CONTENT_KEY, ladder.update_public_key(scalar).spki[-POINT_SIZE:], _ephemeral())


def _unwrap() -> Subject:
    """The right key for the wrapped one: all of the routine runs."""
    places = Layout(BUFFERS)
    scalar, wrapped, key = places.take(SECRET), places.take(WRAPPED_SIZE), places.take(KEY_SIZE)

    def run(secret: bytes) -> Run:
        call = Call("ecies_unwrap", (scalar, wrapped, key))
        return Run({scalar: secret, wrapped: _wrapped(secret)}, [call], {key: CONTENT_KEY}, STATUS_OK)

    return Subject("ecies_unwrap", "the update scalar", _random_scalar(), run, 650)


def _unwrap_refused() -> Subject:
    """Where a forged tag first differs from the right one must not show."""
    places = Layout(BUFFERS)
    scalar, wrapped, key = places.take(SECRET), places.take(WRAPPED_SIZE), places.take(KEY_SIZE)
    value = bytes(range(1, SECRET + 1))
    good = _wrapped(value)

    def run(secret: bytes) -> Run:
        forged = good[:POINT_SIZE] + secret + good[POINT_SIZE + TAG_SIZE :]
        call = Call("ecies_unwrap", (scalar, wrapped, key))
        refused = STATUS_WORDS[Code.IMAGE_ENCRYPTION]
        return Run({scalar: value, wrapped: forged}, [call], {key: bytes(KEY_SIZE)}, refused)

    tag = good[POINT_SIZE : POINT_SIZE + TAG_SIZE]
    return Subject("ecies_unwrap, refused", "the right tag", _forged(tag), run, 650)


def _forged(tag: bytes) -> Draw:
    """The first byte wrong, against the first wrong byte anywhere."""
    early = bytes([tag[0] ^ 0xFF]) + tag[1:]
    anywhere = random_match(tag)

    def draw(random: Random, is_fixed: bool) -> bytes:
        return early if is_fixed else anywhere(random, False)  # noqa: FBT003

    return draw


def _decrypt() -> Subject:
    size = 64
    places = Layout(BUFFERS)
    context, key, nonce, data = (places.take(n) for n in (AES_CONTEXT, KEY_SIZE, 16, size))

    def run(secret: bytes) -> Run:
        plain = secret[KEY_SIZE:]
        calls = [
            Call("br_aes_ct_ctr_init", (context, key, KEY_SIZE)),
            Call("br_aes_ct_ctr_run", (context, nonce, 5, data, size)),
        ]
        counter = NONCE[:12] + (5).to_bytes(4, "big")
        memory = {key: secret[:KEY_SIZE], nonce: NONCE[:12], data: plain}
        return Run(memory, calls, {data: _aes_ctr(secret[:KEY_SIZE], counter, plain)})

    return Subject("br_aes_ct_ctr", "content key and plaintext", random_bytes(KEY_SIZE + size), run, 3)


def _vault_tag() -> Subject:
    places = Layout(BUFFERS)
    key, block, tag = places.take(SECRET), places.take(len(MESSAGE)), places.take(SECRET)

    def run(secret: bytes) -> Run:
        authenticate = ladder.vault_keys(secret, vault.Name.KEYS)[1]
        call = Call("tag_of", (vault.Name.KEYS, key, block, len(MESSAGE), tag))
        return Run({key: secret, block: MESSAGE}, [call], {tag: hmac.digest(authenticate, MESSAGE, "sha256")})

    return Subject("tag_of", "the vault key", random_bytes(SECRET), run, 4)


def _vault_crypt() -> Subject:
    size = 64
    places = Layout(BUFFERS)
    key, nonce, data = places.take(SECRET), places.take(16), places.take(size)

    def run(secret: bytes) -> Run:
        encrypt = ladder.vault_keys(secret[:SECRET], vault.Name.KEYS)[0]
        memory = {key: secret[:SECRET], nonce: NONCE, data: secret[SECRET:]}
        call = Call("crypt", (vault.Name.KEYS, key, nonce, data, size))
        return Run(memory, [call], {data: _ctr32(encrypt, secret[SECRET:])})

    return Subject("crypt", "the vault key and a value", random_bytes(SECRET + size), run, 6)


def _ctr32(key: bytes, data: bytes) -> bytes:
    """AES-CTR from NONCE, whose last four bytes wrap by themselves."""
    first = int.from_bytes(NONCE[12:], "big")
    blocks = range(-(-len(data) // 16))
    counters = (NONCE[:12] + (first + number & ALL_ONES).to_bytes(4, "big") for number in blocks)
    return b"".join(
        _aes_ctr(key, counter, data[16 * number : 16 * number + 16])
        for number, counter in enumerate(counters)
    )


def _page(key: bytes) -> bytes:
    block = vault.encode(vault.Name.CALIBRATION, key, vault.Block(3, 1, CALIBRATION), NONCE)
    return block.ljust(DATA_PAGE_SIZE, bytes([ERASED]))


def _vault_memory(page: bytes) -> dict[int, bytes]:
    pages = DATA_BASE + DataPage.VAULT_CALIBRATION.value * DATA_PAGE_SIZE
    erased = bytes([ERASED]) * DATA_PAGE_SIZE
    return {pages: page + erased, OTP_BASE + OTP_VAULT_CALIBRATION.offset: b"\x01" + bytes(31)}


def _vault_open() -> Subject:
    places = Layout(BUFFERS)
    key, out = places.take(SECRET), places.take(12 + vault.MAX_VALUE)

    def run(secret: bytes) -> Run:
        call = Call("vault_open", (vault.Name.CALIBRATION, key, out))
        head = b"".join(n.to_bytes(4, "little") for n in (3, 1, len(CALIBRATION)))
        memory = {key: secret, **_vault_memory(_page(secret))}
        return Run(memory, [call], {out: head + CALIBRATION}, STATUS_OK)

    return Subject("vault_open", "the vault key", random_bytes(SECRET), run, 10)


def _vault_refused() -> Subject:
    places = Layout(BUFFERS)
    key, out = places.take(SECRET), places.take(12 + vault.MAX_VALUE)
    value = bytes(range(1, SECRET + 1))
    page, at = _page(value), vault.HEAD_SIZE + len(CALIBRATION)

    def run(secret: bytes) -> Run:
        forged = page[:at] + secret + page[at + SECRET :]
        call = Call("vault_open", (vault.Name.CALIBRATION, key, out))
        memory = {key: value, **_vault_memory(forged)}
        return Run(memory, [call], {out: bytes(12)}, STATUS_WORDS[Code.VAULT_SEAL])

    tag = page[at : at + SECRET]
    return Subject("vault_open, refused", "the right tag", _forged(tag), run, 6)


def _vault_commit() -> Subject:
    places = Layout(BUFFERS)
    key, committed = places.take(SECRET), places.take(4)

    def run(secret: bytes) -> Run:
        call = Call("vault_commit", (vault.Name.CALIBRATION, key, committed))
        memory = {key: secret, **_vault_memory(_page(secret))}
        return Run(memory, [call], {committed: bytes(4)}, STATUS_OK)

    return Subject("vault_commit", "the vault key", random_bytes(SECRET), run, 6)


# By the function that a binary must have.
SUBJECTS: tuple[tuple[str, Callable[[], Subject]], ...] = (
    ("bytes_differ", _compare),
    ("hmac_sha256", _hmac),
    ("hkdf_extract", _extract),
    ("hkdf_expand", _expand),
    ("otp_copy", _copy_of_secret),
    ("ladder_rom", _ladder_rom),
    ("ladder_loader", _ladder_loader),
    ("vault_key_from_stage", _vault_key),
    ("record_make", _record),
    ("scalar_in_range", _in_range),
    ("update_public_key", _public_key),
    ("ecies_unwrap", _unwrap),
    ("ecies_unwrap", _unwrap_refused),
    ("br_aes_ct_ctr_init", _decrypt),
    ("tag_of", _vault_tag),
    ("crypt", _vault_crypt),
    ("vault_open", _vault_open),
    ("vault_open", _vault_refused),
    ("vault_commit", _vault_commit),
)

# Who else calls these routines in the binaries, and why that call is not traced. A test disassembles the
# binaries and finds no other one.
NOT_TRACED: Mapping[str, str] = {
    "revocation_decode": "public: magic of a revocation",
    "revocation_apply": "public: hashes of slot keys and of the root quorum",
    "verify_uuid": "public: hardware ids",
    "algorithm_of": "public: an image's key",
    "verify_key": "public: an image's key",
    "verify_digest": "public: an image's digest",
    "hash_differs": "public: a slot key's hash",
    "p256_verify": "public: a signature",
    "rsa3072_key_differs": "public: an image's key",
    "rsa3072_pss_verify": "public: a signature",
    "integrity_cycle": "public: the digest of the app's own bank",
    "stream_open": "nothing but a call of ecies_unwrap, and its answer",
    "stream_take": "decrypts a chunk: br_aes_ct_ctr is traced; where a chunk goes depends on its header",
    "answer_identify": "nothing but a call of update_public_key",
    "record_measured": "nothing but a call of record_make",
    "calibration_load": "nothing but a call of vault_open; the value is told to whoever asks",
    "vault_read": "nothing but a call of vault_open; the value is told to whoever asks",
    "vault_write": "find, crypt and tag_of are traced; what it programs is ciphertext",
}
