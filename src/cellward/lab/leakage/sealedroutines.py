"""Routines that open what was sealed: content keys, payloads, blocks of the vault."""

import hmac
from functools import cache
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cellward.core import ladder, vault
from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code
from cellward.core.image.encryption import KEY_SIZE, POINT_SIZE, TAG_SIZE, WRAPPED_SIZE, wrap
from cellward.core.slots import DATA_PAGE_SIZE, ERASED, OTP_VAULT_CALIBRATION, DataPage
from cellward.lab.leakage.keyroutines import BUFFERS, MESSAGE, SECRET, random_scalar
from cellward.lab.leakage.subject import Call, Draw, Layout, Run, Subject, random_bytes, random_match
from cellward.vbms.registers import DATA_BASE, OTP_BASE

AES_CONTEXT = 256
NONCE = bytes(range(0xF0, 0x100))
CONTENT_KEY = bytes(range(0x30, 0x40))
CALIBRATION = vault.Calibration(120, -35, 4180, 2950).encode()


def _aes_ctr(key: bytes, nonce: bytes, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


@cache
def _ephemeral() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(bytes(range(2, 34)), "big"), ec.SECP256R1())


def _wrapped(scalar: bytes) -> bytes:
    return wrap(CONTENT_KEY, ladder.update_public_key(scalar).spki[-POINT_SIZE:], _ephemeral())


def unwrap() -> Subject:
    """The right key for the wrapped one: all of the routine runs."""
    places = Layout(BUFFERS)
    scalar, wrapped, key = places.take(SECRET), places.take(WRAPPED_SIZE), places.take(KEY_SIZE)

    def run(secret: bytes) -> Run:
        call = Call("ecies_unwrap", (scalar, wrapped, key))
        return Run({scalar: secret, wrapped: _wrapped(secret)}, [call], {key: CONTENT_KEY}, STATUS_OK)

    return Subject("ecies_unwrap", "the update scalar", random_scalar(), run, 650)


def unwrap_refused() -> Subject:
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


def decrypt() -> Subject:
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


def vault_tag() -> Subject:
    places = Layout(BUFFERS)
    key, block, tag = places.take(SECRET), places.take(len(MESSAGE)), places.take(SECRET)

    def run(secret: bytes) -> Run:
        authenticate = ladder.vault_keys(secret, vault.Name.KEYS)[1]
        call = Call("tag_of", (vault.Name.KEYS, key, block, len(MESSAGE), tag))
        return Run({key: secret, block: MESSAGE}, [call], {tag: hmac.digest(authenticate, MESSAGE, "sha256")})

    return Subject("tag_of", "the vault key", random_bytes(SECRET), run, 4)


def vault_crypt() -> Subject:
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
    counters = (NONCE[:12] + (first + number & 0xFFFF_FFFF).to_bytes(4, "big") for number in blocks)
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


def vault_open() -> Subject:
    places = Layout(BUFFERS)
    key, out = places.take(SECRET), places.take(12 + vault.MAX_VALUE)

    def run(secret: bytes) -> Run:
        call = Call("vault_open", (vault.Name.CALIBRATION, key, out))
        head = b"".join(n.to_bytes(4, "little") for n in (3, 1, len(CALIBRATION)))
        memory = {key: secret, **_vault_memory(_page(secret))}
        return Run(memory, [call], {out: head + CALIBRATION}, STATUS_OK)

    return Subject("vault_open", "the vault key", random_bytes(SECRET), run, 10)


def vault_refused() -> Subject:
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


def vault_commit() -> Subject:
    places = Layout(BUFFERS)
    key, committed = places.take(SECRET), places.take(4)

    def run(secret: bytes) -> Run:
        call = Call("vault_commit", (vault.Name.CALIBRATION, key, committed))
        memory = {key: secret, **_vault_memory(_page(secret))}
        return Run(memory, [call], {committed: bytes(4)}, STATUS_OK)

    return Subject("vault_commit", "the vault key", random_bytes(SECRET), run, 6)
