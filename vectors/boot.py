"""Make vectors/boot.json anew: `python -m vectors.boot` from the top of the tree, with src on the path.

Keys, records, vault blocks and revocations as the boot chain must derive, make and judge them. Made
with the `cryptography` package straight from docs/formats, never with the code under test; keys of the
root quorum are made here and forgotten. A case is a command of firmware/test/boot_main.c, and its answer.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PATH = Path(__file__).parent / "boot.json"
SHA256 = hashes.SHA256()
NONE = "-"


@dataclass(frozen=True)
class BootCase:
    """`words` and `answer` as boot_main.c takes and gives them: hex, numbers, codes, `-` for nothing."""

    name: str
    command: str
    words: tuple[str, ...]
    answer: tuple[str, ...]
    reason: str


def load() -> tuple[BootCase, ...]:
    rows = json.loads(PATH.read_text())["cases"]
    return tuple(
        BootCase(**{**row, "words": tuple(row["words"]), "answer": tuple(row["answer"])}) for row in rows
    )


def mac(key: bytes, data: bytes) -> bytes:
    context = HMAC(key, SHA256)
    context.update(data)
    return context.finalize()


def expand(prk: bytes, info: bytes, size: int = 32) -> bytes:
    return HKDFExpand(SHA256, size, info).derive(prk)


# RFC 5869, appendix A.1 to A.3: salt, secret, info, PRK, output.
RFC5869 = (
    (
        "000102030405060708090a0b0c",
        "0b" * 22,
        "f0f1f2f3f4f5f6f7f8f9",
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0x50)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    (
        NONE,
        "0b" * 22,
        NONE,
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
)


def key_cases() -> Iterator[BootCase]:
    for number, (salt, secret, info, prk, out) in enumerate(RFC5869, start=1):
        words = (salt, secret, info, str(len(out) // 2))
        yield BootCase(f"rfc5869-{number}", "hkdf", words, (prk, out), f"RFC 5869, appendix A.{number}")
    long_key = bytes(range(131))
    yield BootCase(
        "hmac-long-key",
        "hmac",
        (long_key.hex(), "00" * 200),
        (mac(long_key, bytes(200)).hex(),),
        "a key longer than the hash's block is hashed first (RFC 2104)",
    )
    for name, secret_bytes in (
        ("ladder-counting", bytes(range(32))),
        ("ladder-zeros", bytes(32)),
        ("ladder-ones", b"\xff" * 32),
        ("ladder-hash", hashlib.sha256(b"a device").digest()),
    ):
        yield BootCase(
            name, "ladder", (secret_bytes.hex(),), ladder(secret_bytes), "the table of boot-record.md"
        )


def ladder(secret: bytes) -> tuple[str, ...]:
    prk = mac(b"cellward v1", secret)
    scalar = expand(prk, b"update\x00")
    private = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    stage = expand(prk, b"stage")
    keys = (
        scalar,
        point(private),
        expand(prk, b"record rom"),
        stage,
        *(expand(stage, label) for label in (b"record loader", b"report", b"vault")),
    )
    return tuple(key.hex() for key in keys)


def point(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def record_cases() -> Iterator[BootCase]:
    digest, key = hashlib.sha256(b"loader").digest(), hashlib.sha256(b"record key").digest()
    for name, by, lifecycle, bank, count, counter, version in (
        ("record-rom", 1, 2, 0, 4096, 7, "0104000000000000"),
        ("record-loader", 2, 1, 1, 4096, 7, "0104000000000000"),
        ("record-highest", 2, 4, 1, 0xFFFFFFFF, 1024, "fffefdfcfbfaf9f8"),
    ):
        head = (
            b"CWBR"
            + bytes([by, lifecycle, bank, 0])
            + count.to_bytes(4, "little")
            + counter.to_bytes(4, "little")
        )
        body = head + bytes.fromhex(version) + digest
        words = (*map(str, (by, lifecycle, bank, count, counter)), version, digest.hex(), key.hex())
        yield BootCase(name, "record", words, ((body + mac(key, body)).hex(),), "the table of boot-record.md")


def vault_cases() -> Iterator[BootCase]:
    key, nonce = hashlib.sha256(b"vault key").digest(), bytes(range(0x40, 0x50))
    value, long_value = b"limits of fourteen cells", bytes(n % 251 for n in range(1024))
    good, next_one = block(0, key, 3, 5, value, nonce), block(0, key, 4, 6, b"next", nonce)
    held, following = ("ok", "3", "5", value.hex()), ("ok", "4", "6", b"next".hex())
    refused = {code: (f"vault.{code}", "0", "0", NONE) for code in ("seal", "counter", "missing")}
    edited = good[:-1] + bytes([good[-1] ^ 1])
    wrap = bytes(12) + b"\xff\xff\xff\xfe"

    def case(
        name: str, committed: int, pages: tuple[bytes, bytes], answer: tuple[str, ...], reason: str
    ) -> BootCase:
        words = ("0", key.hex(), str(committed), *(page.hex() or NONE for page in pages))
        return BootCase(f"vault-{name}", "open", words, answer, reason)

    yield case("first-page", 5, (good, b""), held, "a committed block")
    yield case("second-page", 5, (b"", good), held, "either page holds it")
    yield case("to-be-committed", 4, (good, b""), held, "one above the fuses")
    yield case("higher-wins", 5, (good, next_one), following, "the block that waits for its commit")
    yield case("higher-wins-first-page", 5, (next_one, good), following, "whichever page")
    yield case("committed", 6, (good, next_one), following, "the older one is good no more")
    yield case("old", 6, (good, b""), refused["counter"], "below the fuses")
    yield case("future", 3, (good, b""), refused["counter"], "two above the fuses")
    yield case("none", 0, (b"", b""), refused["missing"], "erased pages")
    yield case("edited", 5, (edited, b""), refused["seal"], "the last bit of the tag")
    yield case("edited-and-good", 5, (edited, good), held, "the other page is good")
    yield case("edited-before-old", 6, (good, edited), refused["seal"], "an edit is told before an old block")
    yield case(
        "other-name", 5, (block(1, key, 3, 5, value, nonce), b""), refused["seal"], "copied from `keys`"
    )
    other = block(0, bytes(32), 3, 5, value, nonce)
    yield case("other-module", 5, (other, b""), refused["seal"], "copied from another module")
    yield case("magic-alone", 0, (good[:4], b""), refused["missing"], "a first write that was cut")
    longest = block(0, key, 1, 1, long_value, nonce)
    yield case("longest", 0, (longest, b""), ("ok", "1", "1", long_value.hex()), "1024 bytes")
    wrapped = block(0, key, 1, 1, long_value[:96], wrap)
    answer = ("ok", "1", "1", long_value[:96].hex())
    yield case(
        "counter-wraps", 0, (wrapped, b""), answer, "the block counter has 32 bits: it wraps, no carry"
    )
    for name, unfit in (("sealed-no-value", b""), ("sealed-long-value", bytes(1025))):
        yield case(
            name,
            5,
            (block(0, key, 3, 5, unfit, nonce), b""),
            refused["seal"],
            "the right key, a wrong length",
        )
    reserved = block(0, key, 3, 5, value, nonce, reserved=1)
    yield case("reserved", 5, (reserved, b""), refused["seal"], "the right key, a reserved byte")
    for name, length in (("no-value", 0), ("long-value", 1025), ("length-ones", 0xFFFFFFFF)):
        bad = good[:16] + length.to_bytes(4, "little") + good[20:]
        yield case(name, 5, (bad, b""), refused["seal"], f"a length of {length}")


def block(
    name: int, vault_key: bytes, version: int, counter: int, value: bytes, nonce: bytes, *, reserved: int = 0
) -> bytes:
    numbers = b"".join(number.to_bytes(4, "little") for number in (version, counter, len(value)))
    key, first = expand(vault_key, b"vault encrypt" + bytes([name]), 16), int.from_bytes(nonce[12:], "big")
    sealed = b""
    for index in range(0, len(value), 16):  # a cipher a block: no counter mode of 128 bits in between
        counter_block = nonce[:12] + ((first + index // 16) % 2**32).to_bytes(4, "big")
        one = Cipher(algorithms.AES(key), modes.CTR(counter_block)).encryptor()
        sealed += one.update(value[index : index + 16]) + one.finalize()
    body = b"CWVB" + bytes([name, 0, 0, reserved]) + numbers + nonce + sealed
    return body + mac(expand(vault_key, b"vault authenticate" + bytes([name])), body)


class Roots:
    """Three root keys; `sign` makes revocations, right or wrong."""

    def __init__(self) -> None:
        made = [ec.generate_private_key(ec.SECP256R1()) for _ in range(4)]
        self.keys = sorted(made, key=point)

    def points(self, n: int) -> list[bytes]:
        return [point(key) for key in self.keys[:n]]

    def quorum(self, m: int, n: int) -> bytes:
        return hashlib.sha256(b"cellward root quorum v1" + bytes([m, n]) + b"".join(self.points(n))).digest()

    def signature(
        self, index: int, quorum: bytes, key_hash: bytes, label: bytes = b"cellward revocation v1"
    ) -> bytes:
        digest = hashlib.sha256(label + quorum + key_hash).digest()
        r, s = decode_dss_signature(self.keys[index].sign(digest, ec.ECDSA(Prehashed(SHA256))))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def sign(self, key_hash: bytes, m: int, n: int, indices: tuple[int, ...]) -> bytes:
        quorum = self.quorum(m, n)
        entries = [bytes([index]) + self.signature(index, quorum, key_hash) for index in indices]
        return body(m, n, len(indices), key_hash, self.points(n), entries)


def body(m: int, n: int, k: int, key_hash: bytes, points: list[bytes], entries: list[bytes]) -> bytes:
    return b"CWRV" + bytes([1, m, n, k]) + key_hash + b"".join(points) + b"".join(entries)


SLOTS = tuple(hashlib.sha256(bytes([slot])).digest() for slot in range(4))
PROVISIONED, PRODUCTION = 0x000000FF, 0x0000FFFF


def revoke(
    name: str,
    data: bytes,
    answer: tuple[str, int],
    reason: str,
    *,
    quorum: bytes,
    slots: tuple[bytes, ...] = SLOTS[:2],
    revoked: int = 0,
    development: int = 0,
    lifecycle: int = PRODUCTION,
    in_use: tuple[bytes, ...] = (),
) -> BootCase:
    fuses = b"".join(slots).ljust(128, b"\0").hex()
    numbers = (hex(revoked), hex(development), hex(lifecycle))
    words = (data.hex() or NONE, quorum.hex(), fuses, *numbers, b"".join(in_use).hex() or NONE)
    return BootCase(f"revoke-{name}", "revoke", words, (answer[0], hex(answer[1])), reason)


def signature_cases(roots: Roots) -> Iterator[BootCase]:
    good, quorum = roots.sign(SLOTS[0], 2, 3, (0, 2)), roots.quorum(2, 3)
    refused = ("revocation.signature", 0)
    yield revoke("good", good, ("ok", 1), "slot 0 is revoked", quorum=quorum)
    every = roots.sign(SLOTS[0], 2, 3, (0, 1, 2))
    yield revoke("more-than-enough", every, ("ok", 1), "three of the two that are needed", quorum=quorum)
    one = roots.sign(SLOTS[0], 1, 1, (0,))
    yield revoke("one-of-one", one, ("ok", 1), "the smallest quorum", quorum=roots.quorum(1, 1))
    four = roots.sign(SLOTS[0], 4, 4, (0, 1, 2, 3))
    yield revoke("four-of-four", four, ("ok", 1), "the largest quorum", quorum=roots.quorum(4, 4))
    yield revoke("no-quorum", good, refused, "no quorum is burned", quorum=bytes(32))
    yield revoke("other-quorum", good, refused, "another quorum is burned", quorum=roots.quorum(2, 2))
    lowered = roots.sign(SLOTS[0], 1, 3, (0,))
    yield revoke("lowered-threshold", lowered, refused, "one signature, a threshold of one", quorum=quorum)
    strangers = Roots().sign(SLOTS[0], 2, 3, (0, 1))
    yield revoke("strangers", strangers, refused, "other root keys", quorum=quorum)
    for name, at in (("first", 40 + 3 * 65 + 30), ("last", len(good) - 1)):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        yield revoke(f"edited-{name}", bad, refused, f"a bit of the {name} signature", quorum=quorum)
    third = every[:-1] + bytes([every[-1] ^ 1])
    yield revoke(
        "edited-third", third, refused, "every signature must be good, also one too many", quorum=quorum
    )
    other_key = good[:8] + SLOTS[1] + good[40:]
    yield revoke("edited-key", other_key, refused, "signed for another key", quorum=quorum)
    entries = [bytes([i]) + roots.signature(0, quorum, SLOTS[0]) for i in (0, 1)]
    twice = body(2, 3, 2, SLOTS[0], roots.points(3), entries)
    yield revoke("one-key-twice", twice, refused, "key 0's signature as key 1's", quorum=quorum)
    label = [bytes([i]) + roots.signature(i, quorum, SLOTS[0], b"cellward revocation v2") for i in (0, 1)]
    relabelled = body(2, 3, 2, SLOTS[0], roots.points(3), label)
    yield revoke("other-label", relabelled, refused, "signed for another purpose", quorum=quorum)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    head = good[: 40 + 3 * 65 + 65 + 1]
    for name, r, s in (
        ("zero", 0, 0),
        ("r-zero", 0, 1),
        ("s-zero", 1, 0),
        ("r-n", order, 1),
        ("s-n", 1, order),
    ):
        bad = head + r.to_bytes(32, "big") + s.to_bytes(32, "big")
        yield revoke(f"signature-{name}", bad, refused, "r and s are in [1, n-1]", quorum=quorum)
    off = [b"\x04" + bytes(63) + b"\x05"]
    entry = [bytes([0]) + roots.signature(0, quorum, SLOTS[0])]
    off_hash = hashlib.sha256(b"cellward root quorum v1\x01\x01" + off[0]).digest()
    off_curve = body(1, 1, 1, SLOTS[0], off, entry)
    yield revoke("off-curve", off_curve, refused, "a root key that is no point, burned so", quorum=off_hash)


def slot_cases(roots: Roots) -> Iterator[BootCase]:
    quorum, both = roots.quorum(2, 3), SLOTS[:2]
    first, second, third = (roots.sign(key_hash, 2, 3, (0, 1)) for key_hash in SLOTS[:3])
    last, unknown, used = "revocation.last_key", "image.key_unknown", "revocation.in_use"
    yield revoke("second-slot", second, ("ok", 2), "slot 1 is revoked", quorum=quorum)
    yield revoke("unknown", third, (unknown, 0), "no slot holds it", quorum=quorum)
    zeros = roots.sign(bytes(32), 2, 3, (0, 1))
    yield revoke("unburned", zeros, (unknown, 0), "an empty slot is no key", quorum=quorum)
    yield revoke("only-key", first, (last, 0), "one slot", quorum=quorum, slots=SLOTS[:1])
    yield revoke("last-key", first, (last, 2), "the other is revoked", quorum=quorum, revoked=2)
    yield revoke(
        "last-but-one", first, ("ok", 3), "a third remains", quorum=quorum, slots=SLOTS[:3], revoked=2
    )
    held = ("ok", 1)
    yield revoke("again", first, held, "done already", quorum=quorum, revoked=1)
    yield revoke(
        "again-last",
        first,
        held,
        "done already, though one key is left",
        quorum=quorum,
        revoked=1,
        slots=both,
    )
    yield revoke("again-in-use", first, held, "done already", quorum=quorum, revoked=1, in_use=(SLOTS[0],))
    same = (SLOTS[0], SLOTS[0])
    yield revoke("one-key-in-two-slots", first, (last, 0), "no other key remains", quorum=quorum, slots=same)
    three = (*same, SLOTS[1])
    yield revoke("both-slots-of-a-key", first, ("ok", 3), "every slot of the key", quorum=quorum, slots=three)
    yield revoke(
        "half-revoked", first, ("ok", 3), "the other slot of the key", quorum=quorum, slots=three, revoked=1
    )
    yield revoke(
        "development-left", first, (last, 0), "only a development key remains", quorum=quorum, development=2
    )
    yield revoke(
        "development-left-open",
        first,
        ("ok", 1),
        "not closed yet",
        quorum=quorum,
        development=2,
        lifecycle=PROVISIONED,
    )
    yield revoke(
        "tampered", first, (last, 0), "closed too", quorum=quorum, development=2, lifecycle=0x00FFFFFF
    )
    yield revoke("of-development", first, ("ok", 1), "a development key", quorum=quorum, development=1)
    yield revoke(
        "in-use-loader", first, (used, 0), "the loader's key", quorum=quorum, in_use=(SLOTS[0], SLOTS[1])
    )
    yield revoke("in-use-app", first, (used, 0), "the app's key", quorum=quorum, in_use=(SLOTS[1], SLOTS[0]))
    yield revoke(
        "not-in-use", first, ("ok", 1), "both by another key", quorum=quorum, in_use=(SLOTS[1], SLOTS[1])
    )
    yield revoke(
        "order-last-first",
        first,
        (last, 0),
        "told before in use",
        quorum=quorum,
        slots=SLOTS[:1],
        in_use=SLOTS[:1],
    )
    yield revoke(
        "order-unknown-first", third, (unknown, 0), "told before in use", quorum=quorum, in_use=(SLOTS[2],)
    )
    bad = third[:-1] + bytes([third[-1] ^ 1])
    yield revoke(
        "order-signature-first", bad, ("revocation.signature", 0), "told before unknown", quorum=quorum
    )


def burn_cases(roots: Roots) -> Iterator[BootCase]:
    good = roots.sign(SLOTS[0], 2, 3, (0, 1))
    case = revoke("", good, ("otp.one_way", 0), "fuses that do not burn", quorum=roots.quorum(2, 3))
    for how in ("stuck", "locked"):
        yield replace(case, name=f"revoke-{how}", command=f"revoke_{how}")
    done, kept = ("ok", "0x1", "0"), ("flash.locked", "0x1", "1")
    yield replace(case, name="carry", command="carry", answer=done, reason="burned, then erased")
    yield replace(
        case, name="carry-closed", command="carry_closed", answer=kept, reason="burned, and still there"
    )


def format_cases(roots: Roots) -> Iterator[BootCase]:
    good, quorum = roots.sign(SLOTS[0], 2, 3, (0, 2)), roots.quorum(2, 3)
    points, entries = roots.points(3), [good[-130:-65], good[-65:]]
    h, five = SLOTS[0], sorted([*roots.points(4), b"\4" * 65])
    rows = (
        ("empty", b"", "nothing"),
        ("short-head", good[:39], "39 bytes"),
        ("head-alone", good[:40], "40 bytes"),
        ("cut", good[:-1], "a byte too few"),
        ("longer", good + b"\0", "a byte too many"),
        ("magic", b"CWRW" + good[4:], "another magic"),
        ("format-0", good[:4] + b"\0" + good[5:], "format 0"),
        ("format-2", good[:4] + b"\2" + good[5:], "format 2"),
        ("no-threshold", body(0, 3, 2, h, points, entries), "m = 0"),
        ("threshold-above-n", body(4, 3, 3, h, points, [*entries, entries[1]]), "m = 4 of 3"),
        ("no-keys", body(0, 0, 0, h, [], []), "n = 0"),
        ("five-keys", body(2, 5, 2, h, five, entries), "n = 5"),
        ("too-few", body(2, 3, 1, h, points, entries[:1]), "k below m"),
        ("too-many", body(2, 3, 4, h, points, [*entries, *entries]), "k above n"),
        (
            "compressed",
            body(2, 3, 2, h, [b"\2" + points[0][1:], *points[1:]], entries),
            "not an uncompressed point",
        ),
        ("descending", body(2, 3, 2, h, points[::-1], entries), "root keys not in order"),
        (
            "swapped-last",
            body(2, 3, 2, h, [points[0], points[2], points[1]], entries),
            "root keys not in order",
        ),
        ("same-key-twice", body(2, 3, 2, h, [points[0], points[0], points[1]], entries), "a root key twice"),
        ("index-twice", body(2, 3, 2, h, points, [entries[0], entries[0]]), "a signature twice"),
        ("indices-descending", body(2, 3, 2, h, points, entries[::-1]), "signatures not in order"),
        ("index-outside", body(2, 3, 2, h, points, [entries[0], b"\3" + entries[1][1:]]), "key 3 of 3"),
    )
    for name, data, reason in rows:
        yield revoke(f"format-{name}", data, ("revocation.format", 0), reason, quorum=quorum)


def count_cases() -> Iterator[BootCase]:
    def entry(count: int) -> str:
        return (count.to_bytes(4, "little") + (count ^ 0xFFFFFFFF).to_bytes(4, "little")).hex()

    def case(name: str, epoch: int, pages: tuple[str, str], answer: tuple[int, int], reason: str) -> BootCase:
        return BootCase(f"count-{name}", "count", (str(epoch), *pages), tuple(map(str, answer)), reason)

    yield case("first", 0, (NONE, NONE), (4096, 1), "nothing is stored: the next epoch")
    yield case("next", 1, (entry(4096), NONE), (4097, 1), "one more")
    yield case("second-page", 1, (entry(4096), entry(4099)), (4100, 1), "the highest of both pages")
    yield case("epoch-ends", 1, (entry(8191), NONE), (8192, 2), "into the next epoch")
    yield case("fuse-behind", 1, (entry(8192), NONE), (8193, 2), "a cut before the fuse")
    yield case("older-epoch", 3, (entry(8192), NONE), (16384, 4), "an older epoch's pages: lost")
    yield case("garbage", 2, ("00" * 2048, "5a" * 2048), (12288, 3), "no count: lost")
    yield case("last", 256, (entry(257 * 4096 - 1), NONE), (257 * 4096 - 1, 256), "no count is left")
    yield case("last-lost", 256, (NONE, NONE), (257 * 4096 - 1, 256), "no epoch is left")


def cases() -> tuple[BootCase, ...]:
    roots = Roots()
    groups = (key_cases(), record_cases(), vault_cases(), count_cases())
    revocations = (signature_cases(roots), slot_cases(roots), burn_cases(roots), format_cases(roots))
    return tuple(case for group in (*groups, *revocations) for case in group)


ABOUT = "Keys, boot records, counts, vault blocks and revocations: for core/ and firmware/boot on the host."


def dump(made: tuple[BootCase, ...]) -> str:
    return json.dumps({"about": ABOUT, "cases": [asdict(case) for case in made]}, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(dump(cases()))
