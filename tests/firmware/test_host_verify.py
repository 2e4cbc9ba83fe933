"""The C verifier gives core.image's verdict, byte for byte of input, under ASan and UBSan.

The vectors are run through it in tests/vectors; here are mutations, and what only fuses can hold.
"""

import hashlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellward.core import wire
from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code, Refused
from cellward.core.image import TLV_MAGIC, TLV_PROTECTED_MAGIC, Tlv, decode_slot, encode_area, verify
from tests.firmware.host_verifier import VERIFY, Fuses, HostVerifier, Verdict, host_verifier
from tests.firmware.rig import built
from vectors.forge import (
    CLASS,
    COUNTER,
    PAYLOAD,
    VENDOR,
    Draft,
    Key,
    der_integer,
    der_sequence,
    hardware_tlvs,
)

KEY, OTHER = Key.make(), Key.make()
DRAFT = Draft()
SEALED = DRAFT.seal(KEY)
GOOD = SEALED.write()
FUSES = Fuses((OTHER.public.key_hash, KEY.public.key_hash), COUNTER, VENDOR, CLASS)
ROUNDS = 8000
WORD_OF = {code.value: word for code, word in STATUS_WORDS.items()} | {"ok": STATUS_OK}


@pytest.fixture(scope="module")
def c() -> Iterator[HostVerifier]:
    with host_verifier() as verifier:
        yield verifier


def python(data: bytes, fuses: Fuses) -> str:
    try:
        verify(decode_slot(data), fuses.trust())
    except Refused as refusal:
        return refusal.code
    return "ok"


def same(c: HostVerifier, data: bytes, fuses: Fuses = FUSES, slot_size: int | None = None) -> str:
    """Both verdicts, which must be one."""
    verdict = c.judge(data, fuses, slot_size)
    assert verdict.code == python(data.ljust(slot_size or 0, b"\xff"), fuses)
    assert verdict.status == WORD_OF[verdict.code]
    return verdict.code


def test_a_good_image_is_accepted(c: HostVerifier) -> None:
    assert c.judge(GOOD, FUSES, 0x10000) == Verdict(STATUS_OK, "ok", COUNTER, len(PAYLOAD))
    assert same(c, GOOD) == "ok"


def test_every_bit_of_header_and_tlvs_counts(c: HostVerifier) -> None:
    """The padding behind the 32 header bytes is under the digest as well."""
    for place in (*range(0x40), *range(0x200 + len(PAYLOAD), len(GOOD))):
        for bit in range(8):
            flipped = bytearray(GOOD)
            flipped[place] ^= 1 << bit
            assert same(c, bytes(flipped)) != "ok", (place, bit)


def test_every_truncation_is_refused(c: HostVerifier) -> None:
    for size in range(len(GOOD)):
        assert same(c, GOOD[:size]) != "ok", size
        assert same(c, GOOD[:size], slot_size=len(GOOD) + 64) != "ok", size


# Steps 3 to 7 -----------------------------------------------------------------------------------


def test_an_unburned_slot_key_matches_nothing(c: HostVerifier) -> None:
    zeros = SEALED.without(Tlv.PUBKEY).having(Tlv.KEYHASH, bytes(32)).write()
    for keys in ((), (bytes(32), OTHER.public.key_hash)):
        fuses = Fuses(keys, COUNTER, VENDOR, CLASS)
        assert same(c, zeros, fuses) == Code.IMAGE_KEY_UNKNOWN
        assert same(c, GOOD, fuses) == Code.IMAGE_KEY_UNKNOWN


@pytest.mark.parametrize(
    ("revoked", "verdict"), [(0, "ok"), (0b01, "ok"), (0b10, Code.IMAGE_KEY_REVOKED), (0b1100, "ok")]
)
def test_a_slot_is_revoked_by_its_own_bit(c: HostVerifier, revoked: int, verdict: str) -> None:
    fuses = Fuses(FUSES.key_hashes, COUNTER, VENDOR, CLASS, revoked)
    assert same(c, GOOD, fuses) == verdict


def test_a_key_in_two_slots_is_revoked_by_either(c: HostVerifier) -> None:
    twice = (KEY.public.key_hash, KEY.public.key_hash)
    for revoked in (0b01, 0b10):
        assert c.judge(GOOD, Fuses(twice, COUNTER, VENDOR, CLASS, revoked)).code == Code.IMAGE_KEY_REVOKED


@pytest.mark.parametrize(("counter", "verdict"), [(6, "ok"), (7, "ok"), (8, Code.IMAGE_COUNTER)])
def test_the_counter_is_the_fuses_or_above(c: HostVerifier, counter: int, verdict: str) -> None:
    assert same(c, GOOD, Fuses(FUSES.key_hashes, counter, VENDOR, CLASS)) == verdict


def test_the_refusal_tells_both_sides(c: HostVerifier) -> None:
    verdict = c.judge(GOOD, Fuses(FUSES.key_hashes, 9, VENDOR, CLASS))
    assert (verdict.expected, verdict.found) == (9, COUNTER)
    strange = c.judge(DRAFT.but(magic=0x96F3B83C).seal(KEY).write(), FUSES)
    assert (strange.code, strange.expected, strange.found) == (Code.IMAGE_MAGIC, 0x96F3B83D, 0x96F3B83C)


def test_another_hardware_or_stage_is_refused(c: HostVerifier) -> None:
    for vendor, klass in ((bytes(16), CLASS), (VENDOR, bytes(16))):
        assert same(c, GOOD, Fuses(FUSES.key_hashes, COUNTER, vendor, klass)) == Code.IMAGE_HARDWARE


def test_a_trusted_key_that_is_no_point_of_the_curve(c: HostVerifier) -> None:
    """Both say so before they look at the signature, whatever that is."""
    spki = KEY.public.spki[:-1] + bytes([KEY.public.spki[-1] ^ 1])
    key_hash = hashlib.sha256(spki).digest()
    fuses = Fuses((key_hash,), COUNTER, VENDOR, CLASS)
    image = SEALED.having(Tlv.PUBKEY, spki).having(Tlv.KEYHASH, key_hash)
    assert same(c, image.write(), fuses) == Code.IMAGE_KEY_MALFORMED
    assert same(c, image.having(Tlv.ECDSA, b"").write(), fuses) == Code.IMAGE_KEY_MALFORMED


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def signatures() -> dict[str, bytes]:
    # With both top bits set, so that their zero byte can be left out.
    pairs = (KEY.sign_raw(DRAFT.digest) for _ in range(200))
    r, s = next((r, s) for r, s in pairs if r >> 255 and s >> 255)
    bare_r, bare_s = (b"\x02\x20" + number.to_bytes(32, "big") for number in (r, s))
    good = der_sequence(der_integer(r) + der_integer(s))
    return {
        "empty": b"",
        "one byte": b"\x30",
        "negative r": der_sequence(bare_r + der_integer(s)),
        "negative s": der_sequence(der_integer(r) + bare_s),
        "zero r": der_sequence(der_integer(0) + der_integer(s)),
        "zero s": der_sequence(der_integer(r) + der_integer(0)),
        "both zero": der_sequence(der_integer(0) * 2),
        "r is n": der_sequence(der_integer(ORDER) + der_integer(s)),
        "s is n": der_sequence(der_integer(r) + der_integer(ORDER)),
        "r + n": der_sequence(der_integer(r + ORDER) + der_integer(s)),
        "padded r": der_sequence(der_integer(r, 1) + der_integer(s)),
        "padded s": der_sequence(der_integer(r) + der_integer(s, 1)),
        "long length": der_sequence(der_integer(r) + der_integer(s), bytes([0x81, len(good) - 2])),
        "indefinite": b"\x30\x80" + good[2:] + b"\0\0",
        "trailing": good + b"\0",
        "trailing inside": der_sequence(der_integer(r) + der_integer(s) + b"\0"),
        "cut": good[:-1],
        "a set": b"\x31" + good[1:],
        "a bit string": good[:2] + b"\x03" + good[3:],
        "no s": der_sequence(der_integer(r)),
        "three": der_sequence(der_integer(r) + der_integer(s) + der_integer(1)),
        "swapped": der_sequence(der_integer(s) + der_integer(r)),
        "empty integer": der_sequence(b"\x02\x00" + der_integer(s)),
        "another message": KEY.sign(bytes(32)),
        "another key": OTHER.sign(DRAFT.digest),
        "huge": b"\xff" * 0x1000,
    }


FORMS = signatures()


@pytest.mark.parametrize("form", FORMS)
def test_a_signature_has_one_form(c: HostVerifier, form: str) -> None:
    assert same(c, SEALED.having(Tlv.ECDSA, FORMS[form]).write()) == Code.IMAGE_SIGNATURE


def test_the_other_s_verifies_in_both(c: HostVerifier) -> None:
    """(r, n - s) is ECDSA's other signature: authentic, and TLVs outside the digest decide nothing."""
    r, s = KEY.sign_raw(DRAFT.digest)
    assert (
        same(c, SEALED.having(Tlv.ECDSA, der_sequence(der_integer(r) + der_integer(ORDER - s))).write())
        == "ok"
    )


def test_short_r_and_s_are_padded_rightly(c: HostVerifier) -> None:
    """One signature in 128 has an r or s of 31 bytes, half of them one whose top bit needs a zero."""
    lengths = set()
    for nonce in range(400):
        sealed = DRAFT.but(pad=nonce).seal(KEY)
        lengths.add(len(sealed.value(Tlv.ECDSA)))
        assert same(c, sealed.write()) == "ok"
    assert len(lengths) >= 3


# Mutations --------------------------------------------------------------------------------------


def reseal(rng: random.Random) -> bytes:
    """A mutant whose digest and signature are right: what an insider's signer could produce."""
    tlvs = [tlv for tlv in hardware_tlvs() if rng.random() < 0.9]
    tlvs += [
        (rng.choice((0x40, 0x50, 0x60, 0x74, 0x75, 0xA0, 0x10, 0x22)), rng.randbytes(rng.choice((0, 4, 16))))
        for _ in range(rng.randrange(3))
    ]
    rng.shuffle(tlvs)
    draft = Draft(
        protected=encode_area(rng.choice((TLV_PROTECTED_MAGIC, TLV_PROTECTED_MAGIC, TLV_MAGIC)), tlvs),
        header_size=rng.choice((0x200, 0x20, 0x1000)),
        flags=rng.choice((0, 0, 0, 4, 8, 0x10, 1 << rng.randrange(32))),
        payload=rng.randbytes(rng.choice((1, 64))),
    )
    sealed = draft.seal(KEY)
    outside = list(sealed.tlvs)
    if rng.random() < 0.3:
        outside.insert(rng.randrange(5), (rng.randrange(0x80), rng.randbytes(rng.randrange(40))))
    if rng.random() < 0.3:
        rng.shuffle(outside)
    if rng.random() < 0.2:
        outside.pop(rng.randrange(len(outside)))
    area = encode_area(rng.choice((TLV_MAGIC, TLV_MAGIC, TLV_MAGIC, TLV_PROTECTED_MAGIC)), outside)
    return sealed.body + area


def mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        # Aim at what is parsed: header and TLV areas.
        place = rng.choice((rng.randrange(0x20), rng.randrange(0x200 + len(PAYLOAD), len(GOOD))))
        if place >= len(out):
            continue
        match rng.randrange(5):
            case 0:
                out[place] ^= 1 << rng.randrange(8)
            case 1:
                out[place : place + 2] = wire.u16(
                    rng.choice((0, 1, 3, 4, 0x7FFF, 0xFFFF, rng.randrange(0x10000)))
                )
            case 2:
                out[place : place + 4] = wire.u32(
                    rng.choice((0, 0xFFFFFFFF, 0x80000000, rng.randrange(1 << 32)))
                )
            case 3:
                del out[place : place + rng.randrange(1, 9)]
            case _:
                out[place:place] = rng.randbytes(rng.randrange(1, 9))
    return bytes(out[: rng.randrange(len(out) + 1)] if rng.random() < 0.05 else out)


def some_fuses(rng: random.Random) -> Fuses:
    """Mostly those the image is made for."""
    if rng.random() < 0.8:
        return FUSES
    keys = rng.choice(
        ((), (KEY.public.key_hash,), (OTHER.public.key_hash,), (bytes(32), KEY.public.key_hash))
    )
    return Fuses(keys, rng.choice((0, 7, 8, 1024)), VENDOR, CLASS, rng.randrange(4))


def test_mutated_and_resealed_images_get_the_same_verdict(c: HostVerifier) -> None:
    rng = random.Random(20261124)
    seen: dict[str, int] = {}
    for round_ in range(ROUNDS):
        data = reseal(rng) if round_ % 3 == 0 else mutate(rng, GOOD if rng.random() < 0.7 else reseal(rng))
        code = same(c, data, some_fuses(rng), slot_size=None if rng.random() < 0.5 else 0x3000)
        seen[code] = seen.get(code, 0) + 1
    # Every verdict was reached, or the mutations have lost their aim.
    wanted = {code for code in WORD_OF if code == "ok" or code.startswith("image.")}
    assert set(seen) == wanted - {Code.IMAGE_ENCRYPTION}, seen  # the update engine's


def test_random_bytes_are_refused(c: HostVerifier) -> None:
    rng = random.Random(4)
    for _ in range(500):
        assert same(c, rng.randbytes(rng.randrange(200))) != "ok"
        assert same(c, GOOD[:4] + rng.randbytes(rng.randrange(200))) != "ok"


# One image from the command line ------------------------------------------------------------------


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    built("host")
    return subprocess.run([VERIFY, *arguments], capture_output=True, text=True, check=False)


def arguments(path: Path, counter: int = COUNTER) -> list[str | Path]:
    hashes = ",".join(key_hash.hex() for key_hash in FUSES.key_hashes)
    return [path, "0x10000", hashes, "0", str(counter), VENDOR.hex(), CLASS.hex()]


def test_command_line(tmp_path: Path) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(GOOD)
    good = run(*arguments(path))
    assert (good.returncode, good.stdout.split()[:2]) == (0, [f"0x{STATUS_OK:08x}", "ok"])
    old = run(*arguments(path, COUNTER + 1))
    assert (old.returncode, old.stdout.split()[1]) == (1, Code.IMAGE_COUNTER)


def test_command_line_misuse(tmp_path: Path) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(GOOD)
    good = arguments(path)
    wrong: list[list[str | Path]] = [
        [],
        good[:-1],
        [tmp_path / "absent", *good[1:]],
        [path, "ten", *good[2:]],
        [path, "0x10000", "zz" * 32, *good[3:]],
        [path, "0x10000", ",".join(["00" * 32] * 5), *good[3:]],
        [*good[:-1], "00"],
    ]
    for case in wrong:
        done = run(*case)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), case


def test_a_record_that_is_cut_short_is_said() -> None:
    built("host")
    for record in (b"\xff\xff\xff\xff", b"\x10\0\0\0" + bytes(16), b"\xff\0\0\0" + bytes(9)):
        done = subprocess.run([VERIFY, "--serve"], input=record, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (2, b"")
