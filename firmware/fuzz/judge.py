"""What Python says to the inputs of the fuzz targets: the words that the C side must have told.

Each judge takes the input as its target's C file describes it.
"""

from collections.abc import Callable, Sequence
from functools import partial

from cellward.core import vault, wire
from cellward.core.banks import State
from cellward.core.errors import STATUS_OK, STATUS_WORDS, Refused
from cellward.core.image import Trust, decode_slot, verify
from cellward.core.slots import DATA_PAGE_SIZE, OTP_SLOT_KEY_COUNT
from firmware.fuzz.link_model import Engine, carry_out
from firmware.fuzz.world import World

Words = tuple[int, ...]
Judge = Callable[[bytes], Words]

HASH_SIZE = 32
ERASED_MAX = 0x7FF
AT_KEYS, AT_VENDOR, AT_CLASS, AT_IMAGE = 12, 140, 156, 172


def word(refusal: Refused) -> int:
    return STATUS_WORDS[refusal.code]


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def trust_of(keys: Sequence[bytes], revoked: int, counter: int, hardware: tuple[bytes, bytes]) -> Trust:
    """As fuses hold it: a slot of zeros is not burned."""
    burned = {slot: key for slot, key in enumerate(keys) if any(key)}
    gone = frozenset(key for slot, key in burned.items() if revoked >> slot & 1)
    return Trust(dict.fromkeys(burned.values()), gone, counter, hardware)


def image(data: bytes) -> Words:
    keys = [data[AT_KEYS + HASH_SIZE * slot :][:HASH_SIZE] for slot in range(OTP_SLOT_KEY_COUNT)]
    hardware = (data[AT_VENDOR:AT_CLASS], data[AT_CLASS:AT_IMAGE])
    slot = data[AT_IMAGE:] + b"\xff" * (_u32(data, 0) & ERASED_MAX)
    try:
        good = verify(decode_slot(slot), trust_of(keys, _u32(data, 4), _u32(data, 8), hardware)).image
    except Refused as refusal:
        return (word(refusal), *[0] * 7)
    version = good.version
    numbers = (version.major, version.minor, version.revision, version.build)
    return (STATUS_OK, good.header_size, good.payload_size, good.counter or 0, *numbers)


def revoke(world: World, data: bytes) -> Words:
    circumstances, before = data[0], data[0] >> 1 & 15
    in_use = world.slot_keys[0] if circumstances >> 5 & 1 else None
    return carry_out(world, data[1:], before, production=bool(circumstances & 1), in_use=in_use)


VAULT_KEY = b"\x5a" * 32
FNV_START, FNV_PRIME = 0x811C9DC5, 0x01000193


def checksum(value: bytes) -> int:
    total = FNV_START
    for byte in value:
        total = (total ^ byte) * FNV_PRIME & 0xFFFF_FFFF
    return total


def open_vault(data: bytes) -> Words:
    name, committed = vault.Name(data[0] & 1), data[1]
    first = data[4:][: _u16(data, 2)]
    pages = [
        content[:DATA_PAGE_SIZE].ljust(DATA_PAGE_SIZE, b"\xff") for content in (first, data[4 + len(first) :])
    ]
    try:
        block = vault.open_pages(name, VAULT_KEY, pages, committed)
    except Refused as refusal:
        return (word(refusal), 0, 0, 0, FNV_START)
    return (STATUS_OK, block.version, block.counter, len(block.value), checksum(block.value))


REQUESTS_MAX = 64


def link(world: World, data: bytes) -> Words:
    engine = Engine(world, in_rom=bool(data[0] & 1), on_trial=bool(data[0] & 2))
    reader = wire.Reader(data[1:], "requests")
    said: list[int] = []
    while reader.remaining >= 2 and len(said) < REQUESTS_MAX and not engine.restarted:
        length = min(reader.u16() % (engine.BUFFER + 1), reader.remaining)
        if length:
            said.append(engine.answer(reader.take(length)))
    state = State.PENDING if engine.staged else State.EMPTY
    return (*said, state.value, engine.revoked)


def judges(world: World) -> dict[str, Judge]:
    return {
        "image": image,
        "revocation": partial(revoke, world),
        "vault": open_vault,
        "link": partial(link, world),
    }
