"""Signatures: bytes that are not the one encoding, and numbers that do not verify."""

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core.image import Tlv
from cellward.core.keys import P256_ORDER
from vectors.cases.world import Cases, World
from vectors.forge import Draft, der_integer, der_sequence, flip
from vectors.recipe import Case

N = P256_ORDER


def cases(world: World) -> Cases:
    yield from _encodings(world)
    yield from _values(world)


def _encodings(world: World) -> Cases:
    """A signature that verifies, in bytes that are not its one encoding."""
    r, s = world.maker.sign_raw(Draft().digest)
    one, two = der_integer(r), der_integer(s)
    plain = one + two
    for name, signature in {
        "empty": b"",
        "one-byte": b"\x30",
        "no-integers": der_sequence(b""),
        "one-integer": der_sequence(one),
        "three-integers": der_sequence(plain + der_integer(1)),
        "raw": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
        "set": b"\x31" + der_sequence(plain)[1:],
        "trailing-byte": der_sequence(plain) + b"\x00",
        "mcuboot-1.4-padding": der_sequence(plain) + bytes(2),
        "trailing-inside": der_sequence(plain + b"\x00"),
        "long-form": der_sequence(plain, bytes([0x81, len(plain)])),
        "longer-form": der_sequence(plain, bytes([0x82, 0, len(plain)])),
        "indefinite": der_sequence(plain, b"\x80") + bytes(2),
        "sequence-short": der_sequence(plain, bytes([len(plain) - 1])),
        "sequence-long": der_sequence(plain, bytes([len(plain) + 1])),
        "sequence-0": der_sequence(plain, b"\x00"),
        "sequence-127": der_sequence(plain, b"\x7f"),
        "r-padded": der_sequence(der_integer(r, 1) + two),
        "s-padded": der_sequence(one + der_integer(s, 1)),
        "s-padded-far": der_sequence(one + der_integer(s, 20)),
        "r-empty": der_sequence(b"\x02\x00" + two),
        "s-empty": der_sequence(one + b"\x02\x00"),
        "r-octets": der_sequence(b"\x04" + one[1:] + two),
        "r-length-long-form": der_sequence(b"\x02\x81" + one[1:] + two),
        "s-length-long": der_sequence(one + b"\x02" + bytes([two[1] + 1]) + two[2:]),
        "s-length-max": der_sequence(one + b"\x02\xff" + two[2:]),
        "s-missing-length": der_sequence(one + b"\x02"),
        "huge": der_sequence(plain) + bytes(2000),
    }.items():
        data = world.good.having(Tlv.ECDSA, signature)
        yield Case(
            f"der-{name}", data.write(), "image.signature", "there is one DER encoding of r and s", attack="6"
        )
    while (pair := world.maker.sign_raw(Draft().digest))[0] < 2**255 or pair[1] < 2**255:
        pass
    for name, signature in (
        ("r-negative", der_sequence(b"\x02\x20" + pair[0].to_bytes(32, "big") + der_integer(pair[1]))),
        ("s-negative", der_sequence(der_integer(pair[0]) + b"\x02\x20" + pair[1].to_bytes(32, "big"))),
    ):
        yield Case(
            f"der-{name}",
            world.good.having(Tlv.ECDSA, signature).write(),
            "image.signature",
            "the sign bit is a sign",
        )


def _values(world: World) -> Cases:
    good, digest = world.good, Draft().digest
    r, s = world.maker.sign_raw(digest)
    for name, first, second in (
        ("r-0", 0, s),
        ("s-0", r, 0),
        ("both-0", 0, 0),
        ("r-n", N, s),
        ("s-n", r, N),
        ("r-plus-n", r + N, s),
        ("s-plus-n", r, s + N),
        ("r-max", 2**256 - 1, s),
        ("s-33-bytes", r, 2**256 + s),
        ("s-40-bytes", r, 2**319),
        ("both-1", 1, 1),
        ("swapped", s, r),
        ("r-negated", N - r, s),
    ):
        data = good.having(Tlv.ECDSA, der_sequence(der_integer(first) + der_integer(second)))
        yield Case(f"signature-{name}", data.write(), "image.signature", "r and s are in [1, n-1] and verify")
    negated = good.having(Tlv.ECDSA, der_sequence(der_integer(r) + der_integer(N - s)))
    yield Case(
        "signature-s-negated", negated.write(), "ok", "(r, n-s) is as valid; nothing depends on its being one"
    )
    for size in (70, 71, 72):
        while len(signature := world.maker.sign(digest)) != size:
            pass
        yield Case(
            f"signature-{size}-bytes", good.having(Tlv.ECDSA, signature).write(), "ok", "DER is not padded"
        )
    while len(signature := world.maker.sign(digest)) > 69:
        pass
    yield Case(
        "signature-short", good.having(Tlv.ECDSA, signature).write(), "ok", "a small r or s is shorter"
    )
    yield Case(
        "signature-other-image",
        good.having(Tlv.ECDSA, world.maker.sign(bytes(32))).write(),
        "image.signature",
        "over another digest",
    )
    double = world.maker.private.sign(digest, ec.ECDSA(hashes.SHA256()))
    yield Case(
        "signature-of-hashed-digest",
        good.having(Tlv.ECDSA, double).write(),
        "image.signature",
        "hashed twice",
    )
    sha384 = world.maker.private.sign(
        hashlib.sha384(Draft().body).digest(), ec.ECDSA(Prehashed(hashes.SHA384()))
    )
    yield Case("signature-sha384", good.having(Tlv.ECDSA, sha384).write(), "image.signature", "over SHA-384")
    for name, key in (("second", world.second), ("revoked", world.revoked), ("stranger", world.stranger)):
        yield Case(
            f"signature-by-{name}",
            good.having(Tlv.ECDSA, key.sign(digest)).write(),
            "image.signature",
            "another key than the one named",
        )
    signature = good.value(Tlv.ECDSA)
    for name, at in (("first", 4), ("middle", 20), ("second", 40), ("last", len(signature) - 1)):
        yield Case(
            f"signature-flipped-{name}",
            good.having(Tlv.ECDSA, flip(signature, at)).write(),
            "image.signature",
            "one bit",
        )
