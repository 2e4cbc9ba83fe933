"""Every routine of the module's binaries that handles a secret, each with a known answer.

What is public is not here: verification of signatures, slot keys, digests and headers of images. A
routine that only one binary has is looked at there; one that several have, in each of them, since each
is a build of its own.
"""

from collections.abc import Callable, Mapping
from functools import cache

from cellward.core.slots import DATA_PAGE_SIZE
from cellward.lab.leakage import keyroutines, sealedroutines
from cellward.lab.leakage.subject import Firmware, Subject
from cellward.lab.routines import MODULE_RAM, Area, Elf
from cellward.vbms.packaged import packaged
from cellward.vbms.registers import DATA_BASE, OTP_BASE

BINARIES = ("rom.elf", "loader-1.3.0.elf", "app-1.3.0.elf")
DATA_PAGES = 16
WINDOWS = (Area(DATA_BASE, DATA_PAGES * DATA_PAGE_SIZE), Area(OTP_BASE, 0x1000))


def firmware() -> tuple[Firmware, ...]:
    """Raises Unavailable (storage.missing) before the firmware is built."""
    return tuple(Firmware(elf, subjects_of(elf), MODULE_RAM, WINDOWS) for elf in map(_elf, BINARIES))


@cache
def _elf(name: str) -> Elf:
    return Elf(packaged(name), name)


def subjects_of(elf: Elf) -> tuple[Subject, ...]:
    found = [make() for function, make in SUBJECTS if function in elf.symbols]
    return tuple(found)


# By the function that a binary must have.
SUBJECTS: tuple[tuple[str, Callable[[], Subject]], ...] = (
    ("bytes_differ", keyroutines.compare),
    ("hmac_sha256", keyroutines.hmac_sha256),
    ("hkdf_extract", keyroutines.extract),
    ("hkdf_expand", keyroutines.expand),
    ("otp_copy", keyroutines.copy_of_secret),
    ("ladder_rom", keyroutines.ladder_rom),
    ("ladder_loader", keyroutines.ladder_loader),
    ("vault_key_from_stage", keyroutines.vault_key),
    ("record_make", keyroutines.record),
    ("scalar_in_range", keyroutines.in_range),
    ("update_public_key", keyroutines.public_key),
    ("ecies_unwrap", sealedroutines.unwrap),
    ("ecies_unwrap", sealedroutines.unwrap_refused),
    ("br_aes_ct_ctr_init", sealedroutines.decrypt),
    ("tag_of", sealedroutines.vault_tag),
    ("crypt", sealedroutines.vault_crypt),
    ("vault_open", sealedroutines.vault_open),
    ("vault_open", sealedroutines.vault_refused),
    ("vault_commit", sealedroutines.vault_commit),
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
