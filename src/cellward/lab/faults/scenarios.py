"""The bad images, and the modules they are put into. Keys and signatures come from the seed alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cellward.core.image import Tlv, Version, build
from cellward.core.keys import Algorithm
from cellward.core.slots import (
    BANKS,
    BMS_M33,
    ERASED,
    OTP_APP_CLASS,
    OTP_COUNTER,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_LOADER_CLASS,
    OTP_SIZE,
    OTP_SLOT_KEYS,
    OTP_VENDOR_ID,
    TRAILER_MAGIC,
    WRITE_SIZE,
    Lifecycle,
    Stage,
    flag_phrase,
)
from cellward.lab.maker import public_key, sign_digest
from cellward.vbms.nor import flash_size
from cellward.vbms.packaged import packaged

HARDWARE = BMS_M33
COUNTER = 6
BOOTS = 5  # of this module so far
VERSION = "1.4.0"
TAMPERED_WORDS = 8


class Kind(StrEnum):
    """What is wrong with the bad image."""

    TAMPERED = "tampered"  # words of its code differ
    FORGED = "forged"  # the same, with the digest put right: only the signature is wrong
    WRONG_KEY = "wrong key"  # signed by a key that is in no slot
    ROLLED_BACK = "rolled back"  # authentic, with a counter below the fuses'


class Place(StrEnum):
    """Where the bad image lies, and what is in the other bank."""

    ALONE = "alone"  # bank a, confirmed; bank b empty
    ON_TRIAL = "on trial"  # bank b, pending; bank a good and confirmed
    NEWEST = "newest"  # bank a, confirmed, claims to be newer; bank b good and confirmed, to be committed


@dataclass(frozen=True)
class Scenario:
    """`bad`: the bank and stage of the bad image. `authorised`: the highest counter that the good
    images allow."""

    kind: Kind
    stage: Stage
    place: Place
    algorithm: Algorithm = Algorithm.P256

    @property
    def name(self) -> str:
        rsa = ", RSA" if self.algorithm is Algorithm.RSA_3072 else ""
        return f"{self.kind}, {self.stage}, {self.place}{rsa}"

    @property
    def bank(self) -> int:
        return 1 if self.place is Place.ON_TRIAL else 0

    @property
    def authorised(self) -> int:
        return COUNTER + 1 if self.place is Place.NEWEST else COUNTER

    def bad_in(self, bank: int) -> set[Stage]:
        """What must not run of a bank: behind a bad loader, nothing."""
        if bank != self.bank:
            return set()
        return set(Stage) if self.stage is Stage.LOADER else {Stage.APP}


# The other bank's part in it has nothing to do with the algorithm.
SCENARIOS = (
    *(Scenario(kind, stage, place) for place in Place for stage in Stage for kind in Kind),
    *(Scenario(kind, stage, Place.ALONE, Algorithm.RSA_3072) for stage in Stage for kind in Kind),
)

# What is wrong in each way, in each stage, with each algorithm, and with an image to fall back on.
SMOKE = (
    *(Scenario(kind, stage, Place.ALONE) for stage in Stage for kind in Kind if kind is not Kind.FORGED),
    Scenario(Kind.FORGED, Stage.LOADER, Place.ALONE, Algorithm.RSA_3072),
    Scenario(Kind.ROLLED_BACK, Stage.LOADER, Place.NEWEST),
    Scenario(Kind.WRONG_KEY, Stage.APP, Place.NEWEST),
)


def signed(
    payload: bytes, stage: Stage, counter: int, version: str, seed: int, name: str, algorithm: Algorithm
) -> bytes:
    """By the key of that name."""
    unsigned = build(
        payload,
        version=Version.parse(version),
        counter=counter,
        hardware=(HARDWARE.vendor_id, HARDWARE.class_id(stage)),
    )
    key = public_key(seed, name, algorithm)
    return unsigned.signed(key, sign_digest(seed, name, unsigned.digest, algorithm))


def tampered(image: bytes, payload_size: int) -> bytes:
    """Words in the middle of the code inverted; the vector table stays as it was."""
    start = HARDWARE.header_size + payload_size // 2 & ~3
    changed = bytes(byte ^ 0xFF for byte in image[start : start + 4 * TAMPERED_WORDS])
    return image[:start] + changed + image[start + len(changed) :]


def _with_right_digest(image: bytes, payload_size: int) -> bytes:
    """As whoever tampers with care would: the digest's TLV holds what the image now hashes to."""
    protected = int.from_bytes(image[10:12], "little")
    end = HARDWARE.header_size + payload_size + protected
    digest = hashlib.sha256(image[:end]).digest()
    at = image.index(bytes([Tlv.SHA256, 0, 32, 0]), end) + 4
    return image[:at] + digest + image[at + 32 :]


def bad_image(scenario: Scenario, counter: int, version: str, seed: int) -> bytes:
    kind, stage = scenario.kind, scenario.stage
    payload = packaged(f"{stage}-{VERSION}.bin")
    name = "stranger" if kind is Kind.WRONG_KEY else "maker"
    counter = COUNTER - 1 if kind is Kind.ROLLED_BACK else counter
    image = signed(payload, stage, counter, version, seed, name, scenario.algorithm)
    if kind in (Kind.WRONG_KEY, Kind.ROLLED_BACK):
        return image
    image = tampered(image, len(payload))
    return _with_right_digest(image, len(payload)) if kind is Kind.FORGED else image


def fuses(scenario: Scenario, seed: int) -> bytes:
    """A module in production, with the maker's key in slot 0."""
    memory = bytearray(OTP_SIZE)
    for fuse, value in (
        (OTP_SLOT_KEYS, public_key(seed, "maker", scenario.algorithm).key_hash),
        (OTP_LIFECYCLE, Lifecycle.PRODUCTION.fuses.to_bytes(OTP_LIFECYCLE.size, "little")),
        (OTP_COUNTER, ((1 << COUNTER) - 1).to_bytes(OTP_COUNTER.size, "little")),
        (OTP_VENDOR_ID, HARDWARE.vendor_id),
        (OTP_LOADER_CLASS, HARDWARE.class_id(Stage.LOADER)),
        (OTP_APP_CLASS, HARDWARE.class_id(Stage.APP)),
        (OTP_DEVICE_SECRET, hashlib.sha256(f"cellward lab {seed} secret".encode()).digest()),
    ):
        memory[fuse.offset : fuse.offset + len(value)] = value
    return bytes(memory)


def _bank(images: Mapping[Stage, bytes], *, confirmed: bool) -> bytes:
    bank = bytearray([ERASED]) * HARDWARE.bank_size
    for stage, image in images.items():
        offset = HARDWARE.slot(stage).offset
        bank[offset : offset + len(image)] = image
    erased = bytes([ERASED]) * WRITE_SIZE
    trailer = erased + (flag_phrase() if confirmed else erased) + TRAILER_MAGIC
    bank[-len(trailer) :] = trailer
    return bytes(bank)


def flash(scenario: Scenario, seed: int) -> bytes:
    """Both banks and the data flash."""
    good_counter = scenario.authorised

    def good(counter: int, version: str) -> dict[Stage, bytes]:
        return {
            s: signed(packaged(f"{s}-{VERSION}.bin"), s, counter, version, seed, "maker", scenario.algorithm)
            for s in Stage
        }

    newest = scenario.place is Place.NEWEST
    counter, version = (COUNTER + 2, "9.0.0") if newest else (COUNTER, VERSION)
    bad = good(counter, version)
    bad[scenario.stage] = bad_image(scenario, counter, version, seed)
    banks = [bytes([ERASED]) * HARDWARE.bank_size] * len(BANKS)
    banks[scenario.bank] = _bank(bad, confirmed=scenario.place is not Place.ON_TRIAL)
    if scenario.place is not Place.ALONE:
        banks[1 - scenario.bank] = _bank(good(good_counter, VERSION), confirmed=True)
    boots = BOOTS.to_bytes(4, "little") + (BOOTS ^ 0xFFFF_FFFF).to_bytes(4, "little")
    return (b"".join(banks) + boots).ljust(flash_size(HARDWARE), bytes([ERASED]))
