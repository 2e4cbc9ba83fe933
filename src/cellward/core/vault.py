"""A block of the module's vault, as firmware/boot/vaultblock.c writes and opens it.

Little-endian: magic | name u8 | 3 zeros | version u32 | counter u32 | length u32 | nonce 16 |
ciphertext (AES-128-CTR from the nonce, its last 4 bytes counting big-endian) | HMAC-SHA256 over all
before it. Two pages a name, written in turn. A block is good when its tag is right and its counter
is that of the name's fuses (committed) or one above (written, to be committed at the next boot).
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused
from cellward.core.ladder import vault_keys

MAGIC = b"CWVB"
NONCE_SIZE = 16
HEAD_SIZE = 36
TAG_SIZE = 32
MAX_VALUE = 1024
_ERASED = b"\xff" * 4


class Name(IntEnum):
    CALIBRATION = 0
    KEYS = 1


@dataclass(frozen=True)
class Calibration:
    """What the plant measured of a pack: the calibration value of the vault (docs/formats/vault.md).

    The app corrects its current by gain and offset, and keeps its cells within these voltages, where
    they are narrower than its own. Raises FormatRefused (vault.seal) for values no app takes.
    """

    current_gain_ppm: int  # -100 000 to 100 000
    current_offset_ma: int  # -10 000 to 10 000
    cell_over_mv: int  # 1000 <= under < over <= 5000
    cell_under_mv: int

    def __post_init__(self) -> None:
        in_range = abs(self.current_gain_ppm) <= 100_000 and abs(self.current_offset_ma) <= 10_000
        if not in_range or not 1000 <= self.cell_under_mv < self.cell_over_mv <= 5000:
            raise FormatRefused(
                Code.VAULT_SEAL,
                "calibration",
                expected="gain within 100 000 ppm, offset within 10 A, 1000 mV <= under < over <= 5000 mV",
                found=f"{self.current_gain_ppm}, {self.current_offset_ma}, "
                f"{self.cell_under_mv} to {self.cell_over_mv}",
            )

    def encode(self) -> bytes:
        signed = (self.current_gain_ppm, self.current_offset_ma)
        unsigned = (self.cell_over_mv, self.cell_under_mv)
        return b"".join(
            [n.to_bytes(4, "little", signed=True) for n in signed] + [wire.u32(n) for n in unsigned]
        )


def decode_calibration(value: bytes) -> Calibration:
    """Raises FormatRefused (wire.*, vault.seal)."""
    reader = wire.Reader(value, "calibration")
    gain, offset = (int.from_bytes(reader.take(4), "little", signed=True) for _ in range(2))
    over, under = reader.u32(), reader.u32()
    reader.finish()
    return Calibration(gain, offset, over, under)


@dataclass(frozen=True)
class Block:
    """What a good block holds."""

    version: int
    counter: int
    value: bytes = field(repr=False)


def encode(name: Name, vault_key: bytes, block: Block, nonce: bytes) -> bytes:
    """Raises FormatRefused (vault.seal) unless the value is 1 to 1024 bytes and the nonce 16."""
    if not 1 <= len(block.value) <= MAX_VALUE or len(nonce) != NONCE_SIZE:
        raise FormatRefused(
            Code.VAULT_SEAL,
            _subject(name),
            expected=f"1 to {MAX_VALUE} bytes and a nonce of {NONCE_SIZE}",
            found=f"{len(block.value)} and {len(nonce)}",
        )
    encrypt, authenticate = vault_keys(vault_key, name)
    body = b"".join(
        (
            *(MAGIC, bytes([name, 0, 0, 0])),
            *(wire.u32(block.version), wire.u32(block.counter), wire.u32(len(block.value))),
            *(nonce, _crypt(encrypt, nonce, block.value)),
        )
    )
    return body + hmac.digest(authenticate, body, "sha256")


def open_page(name: Name, vault_key: bytes, page: bytes, committed: int) -> Block:
    """The good block at the start of `page`; `committed` is the name's fuse thermometer.

    Raises FormatRefused (vault.missing) where no block is, TrustRefused (vault.seal) for a wrong tag,
    name or length, TrustRefused (vault.counter) for a block that is too old or too new.
    """
    if page[:4] != MAGIC or page[4:8] == _ERASED:  # the magic alone: a write that was cut
        raise FormatRefused(Code.VAULT_MISSING, _subject(name), expected="a block", found="none")
    if len(page) < HEAD_SIZE + 1 + TAG_SIZE:
        raise _unsealed(name)
    reader = wire.Reader(page, _subject(name), start=4)
    head, version, counter, length = reader.take(4), reader.u32(), reader.u32(), reader.u32()
    if not 1 <= length <= MAX_VALUE or reader.remaining < NONCE_SIZE + length + TAG_SIZE:
        raise _unsealed(name)
    nonce, sealed, tag = reader.take(NONCE_SIZE), reader.take(length), reader.take(TAG_SIZE)
    encrypt, authenticate = vault_keys(vault_key, name)
    expected = hmac.digest(authenticate, page[: HEAD_SIZE + length], "sha256")
    if not hmac.compare_digest(expected, tag) or head != bytes([name, 0, 0, 0]):
        raise _unsealed(name)
    if counter not in (committed, committed + 1):
        raise TrustRefused(
            Code.VAULT_COUNTER,
            _subject(name),
            expected=f"counter {committed} or {committed + 1}",
            found=f"{counter}",
        )
    return Block(version, counter, _crypt(encrypt, nonce, sealed))


def open_pages(name: Name, vault_key: bytes, pages: Sequence[bytes], committed: int) -> Block:
    """The good block of a name's pages, the committed one or the one that waits.

    Raises as `open_page`: a wrong seal before an old block before none.
    """
    good: list[Block] = []
    refusals: list[Refused] = []
    for page in pages:
        try:
            good.append(open_page(name, vault_key, page, committed))
        except Refused as refusal:
            refusals.append(refusal)
    if good:
        return max(good, key=lambda block: block.counter)
    order = (Code.VAULT_SEAL, Code.VAULT_COUNTER, Code.VAULT_MISSING)
    raise min(refusals, key=lambda refusal: order.index(refusal.code))


def _crypt(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """AES-CTR over a 32-bit counter: `modes.CTR` would carry into the nonce's other bytes."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    fixed, first = nonce[:12], int.from_bytes(nonce[12:], "big")
    blocks = range(first, first + (len(data) + 15) // 16)
    counters = b"".join(fixed + (block & 0xFFFFFFFF).to_bytes(4, "big") for block in blocks)
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  of counters, not of data
    stream = encryptor.update(counters) + encryptor.finalize()
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def _subject(name: Name) -> str:
    return f"vault block {name.name.lower()}"


def _unsealed(name: Name) -> TrustRefused:
    return TrustRefused(Code.VAULT_SEAL, _subject(name), expected="the module's seal", found="another one")
