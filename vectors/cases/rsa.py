"""RSA-3072-PSS: good images, keys that are none, signatures of the wrong kind, encodings that are not PSS."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core.image import Tlv
from vectors import imgtool
from vectors.cases.reference import FULL, USUAL
from vectors.cases.world import Cases, World
from vectors.forge import COUNTER, PAYLOAD, Draft, Pss, RsaKey, Sealed, flip, hardware_tlvs
from vectors.recipe import Case

DIGEST = Draft().digest
SIZE = 384
NONE = "image.no_signature"
MALFORMED = "image.key_malformed"
BAD = "image.signature"


def cases(world: World) -> Cases:
    for case in (*_good(world), *_kinds(world), *_keys(world), *_structure(world), *_signatures(world)):
        yield case if case.trust != "device" else replace(case, trust="rsa")


def _good(world: World) -> Cases:
    good = world.good_rsa
    yield Case("rsa-good", good.write(), "ok", "a key of the other kind in a slot")
    yield Case("rsa-beside-p256", world.good.write(), "ok", "each slot has its own kind")
    yield Case("rsa-full", good.without(Tlv.KEYHASH).write(), "ok", "PUBKEY alone names the key")
    for name, salt in (("zeros", bytes(32)), ("ones", b"\xff" * 32), ("repeated", good.body[:32])):
        signature = world.rsa.sign_raw(Pss(salt).encode(DIGEST))
        yield Case(f"rsa-salt-{name}", _with(good, signature), "ok", "any 32 bytes are a salt")
    yield Case(
        "rsa-imgtool", imgtool.sign(world.rsa, PAYLOAD, *USUAL, *FULL), "ok", "imgtool's", made_by="imgtool"
    )
    yield Case(
        "rsa-imgtool-hash",
        imgtool.sign(world.rsa, PAYLOAD, *USUAL),
        NONE,
        "only the key's hash",
        made_by="imgtool",
    )
    older = Draft().with_tlvs(hardware_tlvs(COUNTER - 1)).seal(world.rsa)
    yield Case("rsa-counter", older.write(), "image.counter", "6 behind 5 here too", attack="20")


def _with(sealed: Sealed, signature: bytes) -> bytes:
    return sealed.having(Tlv.RSA3072_PSS, signature).write()


def _kinds(world: World) -> Cases:
    """The key decides which signature counts; the other kind's is none."""
    good, p256 = world.good_rsa, world.good
    ecdsa, pss = p256.value(Tlv.ECDSA), good.value(Tlv.RSA3072_PSS)
    stranger = Draft().seal(world.rsa_stranger)
    for name, sealed, verdict, reason in (
        ("ecdsa-for-rsa", good.without(Tlv.RSA3072_PSS).plus((Tlv.ECDSA, ecdsa)), NONE, "the wrong kind"),
        ("rsa-for-p256", p256.without(Tlv.ECDSA).plus((Tlv.RSA3072_PSS, pss)), NONE, "the wrong kind"),
        ("both-for-rsa", good.plus((Tlv.ECDSA, ecdsa)), NONE, "one signature, not a choice"),
        ("both-for-p256", p256.plus((Tlv.RSA3072_PSS, pss)), NONE, "one signature, not a choice"),
        ("other-first", good.after((Tlv.ECDSA, ecdsa)), NONE, "whichever stands first"),
        (
            "2048-kind",
            good.without(Tlv.RSA3072_PSS).plus((Tlv.RSA2048_PSS, pss)),
            NONE,
            "TLV 0x20 is not read",
        ),
        ("key-behind", good.ordered(Tlv.SHA256, Tlv.RSA3072_PSS, Tlv.KEYHASH, Tlv.PUBKEY), NONE, "as ECDSA"),
        (
            "pubkey-behind",
            good.ordered(Tlv.SHA256, Tlv.KEYHASH, Tlv.RSA3072_PSS, Tlv.PUBKEY),
            NONE,
            "as ECDSA",
        ),
        ("no-signature", good.without(Tlv.RSA3072_PSS), NONE, "a key alone"),
        ("hash-only", good.without(Tlv.PUBKEY), NONE, "the fuses hold only the hash"),
        (
            "stranger-of-another-kind",
            stranger.without(Tlv.RSA3072_PSS).plus((Tlv.ECDSA, ecdsa)),
            "image.key_unknown",
            "the slot before the signature's kind",
        ),
        ("stranger", stranger, "image.key_unknown", "in no slot"),
    ):
        yield Case(f"rsa-kind-{name}", sealed.write(), verdict, reason, attack="19")
    revoked = good.without(Tlv.RSA3072_PSS).plus((Tlv.ECDSA, ecdsa))
    for name, data in (("", good.write()), ("-of-another-kind", revoked.write())):
        yield Case(
            f"rsa-revoked{name}",
            data,
            "image.key_revoked",
            "revocation before the signature",
            trust="rsa_revoked",
            attack="16",
        )


def _keys(world: World) -> Cases:
    key = world.rsa.public.encoded
    public = world.rsa.private.public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    for name, encoded in {
        "exponent-3": RsaKey.make(exponent=3).encoded,
        "exponent-1": key[:-3] + b"\x00\x00\x01",
        "exponent-65539": key[:-1] + b"\x03",
        "exponent-wide": key[:-5] + b"\x02\x04\x00\x01\x00\x01",
        "2048": RsaKey.make(bits=2048).encoded,
        "3080": RsaKey.make(bits=3080).encoded,
        "spki": spki,
        "one-less": key[:-1],
        "one-more": key + b"\x00",
        "even": key[:-6] + bytes([key[-6] & 0xFE]) + key[-5:],
        "3071": key[:9] + bytes([key[9] & 0x7F]) + key[10:],
        "negative": key[:5] + b"\x01\x80" + key[9:],
        "indefinite": key[:1] + b"\x80" + key[2:],
        "set": b"\x31" + key[1:],
        "not-integer": key[:4] + b"\x03" + key[5:],
        "leading-byte": key[:8] + b"\x01" + key[9:],
        "zeros": bytes(398),
        "length-of-p256": key[:91],
    }.items():
        data = world.good_rsa.without(Tlv.KEYHASH).having(Tlv.PUBKEY, encoded)
        yield Case(f"rsa-key-{name}", data.write(), MALFORMED, "not the one encoding of an RSA-3072 key")
    borrowed = Draft().seal(world.rsa_stranger).having(Tlv.KEYHASH, world.rsa.public.key_hash)
    yield Case(
        "rsa-key-borrowed-hash", borrowed.write(), MALFORMED, "KEYHASH and PUBKEY disagree", attack="8"
    )


def _structure(world: World) -> Cases:
    good = world.good_rsa
    signature = good.value(Tlv.RSA3072_PSS)
    for name, value in (
        ("empty", b""),
        ("383", signature[1:]),
        ("385", b"\x00" + signature),
        ("385-behind", signature + b"\x00"),
        ("256", signature[:256]),
    ):
        yield Case(f"rsa-length-{name}", _with(good, value), "image.tlv", "the signature is of one length")
    twice = good.plus((Tlv.RSA3072_PSS, signature))
    yield Case("rsa-twice", twice.write(), "image.tlv_duplicate", "two readings")


def _signatures(world: World) -> Cases:
    good, key = world.good_rsa, world.rsa
    for name, pss in _encodings().items():
        signature = key.sign_raw(pss.encode(DIGEST))
        yield Case(f"pss-{name}", _with(good, signature), BAD, "not the PSS encoding of this digest")
    for name, signature in (*_other_schemes(world), *_numbers(key, good.value(Tlv.RSA3072_PSS))):
        yield Case(f"rsa-signature-{name}", _with(good, signature), BAD, "does not verify")


def _encodings() -> dict[str, Pss]:
    zeros = 318
    return {
        **{f"salt-{size}": Pss(bytes(size)) for size in (0, 1, 20, 31, 33, 48, 64, 350)},
        "hash-sha512": Pss(hash="sha512"),
        "hash-sha3": Pss(hash="sha3_256"),
        "mask-sha1": Pss(mask="sha1"),
        "mask-sha512": Pss(mask="sha512"),
        "trailer-0": Pss(trailer=b"\x00"),
        "trailer-cc": Pss(trailer=b"\xcc"),
        "trailer-bd": Pss(trailer=b"\xbd"),
        "one-0": Pss(one=b"\x00"),
        "one-2": Pss(one=b"\x02"),
        "one-81": Pss(one=b"\x81"),
        "padding-first-bit": Pss(padding=b"\x40" + bytes(zeros - 1)),
        "padding-first": Pss(padding=b"\x01" + bytes(zeros - 1)),
        "padding-second": Pss(padding=b"\x00\x01" + bytes(zeros - 2)),
        "padding-middle": Pss(padding=bytes(100) + b"\x01" + bytes(zeros - 101)),
        "padding-last": Pss(padding=bytes(zeros - 1) + b"\x80"),
        "padding-ones": Pss(padding=b"\xff" * zeros),
        "one-too-early": Pss(padding=bytes(zeros - 1) + b"\x01"),
        "no-prime": Pss(prime=b""),
        "short-prime": Pss(prime=bytes(7)),
        "other-prime": Pss(prime=bytes(7) + b"\x01"),
    }


def _other_schemes(world: World) -> Iterator[tuple[str, bytes]]:
    key = world.rsa
    prehashed = Prehashed(hashes.SHA256())
    yield "pkcs1-v1.5", key.private.sign(DIGEST, padding.PKCS1v15(), prehashed)
    yield "bare-digest", key.sign_raw(DIGEST.rjust(SIZE, b"\x00"))
    yield "hashed-twice", key.sign(hashlib.sha256(DIGEST).digest())
    yield "other-image", key.sign(bytes(32))
    yield "stranger", world.rsa_stranger.sign(DIGEST)
    sha384 = hashlib.sha384(Draft().body).digest()
    yield (
        "sha384",
        key.private.sign(sha384, padding.PSS(padding.MGF1(hashes.SHA384()), 32), Prehashed(hashes.SHA384())),
    )
    hashed = bytearray(Pss().encode(DIGEST))
    hashed[-2] ^= 1
    yield "hash-flipped", key.sign_raw(bytes(hashed))
    yield "not-signed", Pss().encode(DIGEST)


def _numbers(key: RsaKey, signature: bytes) -> Iterator[tuple[str, bytes]]:
    number, modulus = int.from_bytes(signature, "big"), key.modulus
    # A number whose sum with the modulus still has 384 bytes, and an encoding with its unused bit set.
    while (small := int.from_bytes(key.sign(DIGEST), "big")) + modulus >= 1 << 8 * SIZE:
        pass
    salts = (n.to_bytes(32, "big") for n in range(10_000))
    high = (Pss(salt, unused=0x80).encode(DIGEST) for salt in salts)
    unused = next(em for em in high if int.from_bytes(em, "big") < modulus)
    yield "unused-bit", key.sign_raw(unused)
    for name, value in {
        "0": 0,
        "1": 1,
        "n-1": modulus - 1,
        "n": modulus,
        "n+1": modulus + 1,
        "max": (1 << 8 * SIZE) - 1,
        "s+n": small + modulus,
        "n-s": modulus - number,
        "doubled": 2 * number % modulus,
    }.items():
        yield name, value.to_bytes(SIZE, "big")
    yield "reversed", signature[::-1]
    for name, at in (("first", 0), ("middle", 192), ("last", 383)):
        yield f"flipped-{name}", flip(signature, at)
