"""Lengths and layout: what no image looks like. Everything is signed correctly where it can be, so that
only the check under test stands between the bytes and a boot."""

import hashlib

from cellward.core import wire
from cellward.core.image import TLV_MAGIC, TLV_PROTECTED_MAGIC, Flag, Tlv, encode_area
from vectors.cases.world import Cases, World
from vectors.forge import PAYLOAD, Draft, Sealed, hardware_tlvs
from vectors.recipe import Case

PROTECTED = encode_area(TLV_PROTECTED_MAGIC, hardware_tlvs())
SIGNED = 0x200 + len(PAYLOAD) + len(PROTECTED)


def cases(world: World) -> Cases:
    yield from _short(world)
    yield from _magic(world)
    yield from _header(world)
    yield from _sizes(world)
    yield from _areas(world)
    yield from _totals(world)


def _short(world: World) -> Cases:
    good = world.good.write()
    yield Case("short-empty", b"", "image.size", "nothing at all", erased="image.magic")
    yield Case("short-magic", good[:4], "image.size", "four bytes", erased="image.header")
    yield Case("short-text", b"hello", "image.size", "shorter than a header", erased="image.magic")
    yield Case("short-31", good[:31], "image.size", "one byte short of a header", erased="image.tlv")
    for name, size in (("header", 32), ("payload", 0x220), ("protected", SIGNED - 8), ("signed", SIGNED)):
        yield Case(f"short-{name}", good[:size], "image.size", f"cut at {size} bytes", erased="image.tlv")
    yield Case("short-info", good[: SIGNED + 3], "image.size", "cut in the TLV info", erased="image.tlv")
    for name, size in (("area", SIGNED + 4), ("tlvs", SIGNED + 50)):
        yield Case(f"short-{name}", good[:size], "image.tlv", f"cut at {size} bytes")
    yield Case("short-last", good[:-1], "image.tlv", "one byte is missing", erased="image.signature")


def _magic(world: World) -> Cases:
    for name, magic in (
        ("zero", 0),
        ("erased", 0xFFFFFFFF),
        ("old", 0x96F3B83C),
        ("big-endian", 0x3DB8F396),
        ("byte-1", 0x96F3B93D),
        ("byte-2", 0x96F2B83D),
        ("byte-3", 0x16F3B83D),
    ):
        yield Case(
            f"magic-{name}", Draft(magic=magic).seal(world.maker).write(), "image.magic", "not MCUboot's"
        )


def _header(world: World) -> Cases:
    for size in (0, 1, 31, 0x1001, 0x2000, 0xFFFF):
        data = Draft(header_size=size).seal(world.maker).write()
        yield Case(f"header-size-{size}", data, "image.header", "a header has 32 to 4096 bytes")
    for flag in (
        *(f for f in Flag if f not in (Flag.ENC_AES128, Flag.ENC_AES256)),
        0x1,
        0x2,
        0x40,
        0x80,
        0x1000,
        0x1_0000,
        0x8000_0000,
        0xFFFF_FFFF,
        0x1C,
    ):
        data = Draft(flags=flag).seal(world.maker).write()
        yield Case(f"flags-{int(flag):08x}", data, "image.flags", "asks for what this boot chain does not do")
    both = Draft(header_size=31, flags=0x20).seal(world.maker).write()
    yield Case("header-before-flags", both, "image.header", "the order of the checks")
    late = Draft(flags=0x20, payload_size=2**32 - 1).seal(world.maker).write()
    yield Case("flags-before-size", late, "image.flags", "the order of the checks")


def _sizes(world: World) -> Cases:
    good = world.good.write()
    room = len(good) - 0x200 - len(PROTECTED) - 4
    nothing = Draft(payload=b"").seal(world.maker).write()
    yield Case("size-zero", nothing, "image.size", "an image without code")
    for name, size in (
        ("one-more", len(PAYLOAD) + 1),
        ("one-less", len(PAYLOAD) - 1),
        ("to-the-last-byte", room),
    ):
        data = Draft(payload_size=size).seal(world.maker).write()[: len(good)].ljust(len(good), b"\x00")
        yield Case(f"size-{name}", data, "image.tlv", "no TLV area where it should start")
    for name, size in (
        ("one-too-many", room + 1),
        ("sign-bit", 0x8000_0000),
        ("largest", 0xFFFF_FFFF),
        ("wraps-to-0", 2**32 - 0x200),
        ("wraps-to-header", 2**32 - len(PROTECTED)),
        ("wraps-to-signed-0", 2**32 - 0x200 - len(PROTECTED)),
        ("wraps-to-info-0", 2**32 - 0x200 - len(PROTECTED) - 4),
    ):
        data = Draft(payload_size=size).seal(world.maker).write()[: len(good)].ljust(len(good), b"\x00")
        yield Case(
            f"size-{name}",
            data,
            "image.size",
            "img_size is larger than the slot",
            erased="image.tlv" if name == "one-too-many" else None,
            attack="6",
        )
    yield _wrapped_into_padding(world)
    huge = Draft(header_size=0x1000).seal(world.maker).write()[:0x800]
    yield Case(
        "size-header-alone", huge, "image.size", "the header is longer than the bytes", erased="image.tlv"
    )


def _wrapped_into_padding(world: World) -> Case:
    """hdr_size + img_size is 0x20 in 32 bits, and there, in the padding, stand areas that are signed."""
    draft = Draft(header_size=0x20, payload=b"", payload_size=2**32 - 0x200 + 0x20)
    header = draft.header[:8] + wire.u16(0x200) + draft.header[10:]
    body = header + PROTECTED
    digest = hashlib.sha256(body).digest()
    sealed = (
        Sealed(body, world.good.tlvs).having(Tlv.SHA256, digest).having(Tlv.ECDSA, world.maker.sign(digest))
    )
    return Case(
        "size-wraps-into-padding",
        sealed.write().ljust(0x400, b"\xff"),
        "image.size",
        "a decoder that adds in 32 bits finds a signed image in the header's padding",
        attack="6",
    )


def _areas(world: World) -> Cases:
    good = world.good.write()
    for size in (0, 1, 3, 4, len(PROTECTED) - 1, len(PROTECTED) + 1):
        data = Draft(protected_size=size).seal(world.maker).write()
        yield Case(
            f"protected-size-{size}", data, "image.tlv", "the header and the area disagree", attack="6"
        )
    data = Draft(protected_size=0xFFFF).seal(world.maker).write()
    yield Case("protected-size-max", data, "image.size", "larger than any loader slot")
    for name, info in (
        ("magic-plain", wire.u16(TLV_MAGIC) + PROTECTED[2:4]),
        ("magic-zero", bytes(2) + PROTECTED[2:4]),
        ("total-0", PROTECTED[:2] + wire.u16(0)),
        ("total-3", PROTECTED[:2] + wire.u16(3)),
        ("total-short", PROTECTED[:2] + wire.u16(len(PROTECTED) - 20)),
        ("total-long", PROTECTED[:2] + wire.u16(len(PROTECTED) + 4)),
        ("total-max", PROTECTED[:2] + wire.u16(0xFFFF)),
    ):
        data = Draft(protected=info + PROTECTED[4:]).seal(world.maker).write()
        yield Case(f"protected-{name}", data, "image.tlv", "the protected area's info is wrong", attack="6")
    bare = Draft(protected=encode_area(TLV_PROTECTED_MAGIC, [])).seal(world.maker)
    yield Case("protected-empty", bare.write(), "image.counter", "an empty area is one, but has no counter")
    none = Draft(protected=b"").seal(world.maker)
    yield Case("protected-none", none.write(), "image.counter", "no area at all is fine, no counter is not")
    unsigned_counter = none.plus(*hardware_tlvs()).write()
    yield Case(
        "protected-moved-out",
        unsigned_counter,
        "image.tlv_unknown",
        "counter and hardware outside the signature",
        attack="6",
    )
    yield Case(
        "area-magic-protected",
        world.good.write(magic=TLV_PROTECTED_MAGIC),
        "image.tlv",
        "two protected areas",
    )
    yield Case("area-magic-erased", good[:SIGNED] + b"\xff" * 64, "image.tlv", "no TLVs behind the image")
    yield Case(
        "area-second-protected-in-plain",
        Draft().seal(world.maker).body + PROTECTED + encode_area(TLV_MAGIC, world.good.tlvs),
        "image.tlv",
        "an unsigned copy of the area",
        attack="6",
    )


def _totals(world: World) -> Cases:
    good = world.good
    area = len(good.write()) - SIGNED
    signature = len(good.value(Tlv.ECDSA)) + 4
    for total in (0, 1, 3):
        yield Case(f"total-{total}", good.write(total=total), "image.tlv", "shorter than its own info")
    yield Case("total-4", good.write(total=4), "image.hash", "an area without TLVs", file="wire.trailing")
    for name, total in (
        ("5", 5),
        ("7", 7),
        ("8", 8),
        ("one-less", area - 1),
        ("in-signature", area - signature + 3),
    ):
        yield Case(f"total-{name}", good.write(total=total), "image.tlv", "ends inside a TLV")
    for name, total in (("one-more", area + 1), ("four-more", area + 4), ("max", 0xFFFF)):
        yield Case(f"total-{name}", good.write(total=total), "image.tlv", "longer than the bytes")
    yield Case(
        "total-hides-signature",
        good.write(total=area - signature),
        "image.no_signature",
        "ends before the signature",
        file="wire.trailing",
    )
    for extra in (1, 2, 3):
        yield Case(
            f"area-tail-{extra}",
            good.write(total=area + extra) + bytes(extra),
            "image.tlv",
            "bytes that are no TLV",
        )
    for name, length in (("one-more", signature - 3), ("max", 0xFFFF), ("sign-bit", 0x8000)):
        data = good.write()
        data = data[: len(data) - signature + 2] + wire.u16(length) + data[len(data) - signature + 4 :]
        yield Case(f"tlv-length-{name}", data, "image.tlv", "a TLV longer than its area")
    short = good.write()
    short = (
        short[: len(short) - signature + 2] + wire.u16(signature - 5) + short[len(short) - signature + 4 :]
    )
    yield Case("tlv-length-one-less", short, "image.tlv", "the rest is no TLV")
    tail = PROTECTED[:2] + wire.u16(len(PROTECTED) + 3) + PROTECTED[4:] + bytes(3)
    yield Case(
        "protected-tail",
        Draft(protected=tail).seal(world.maker).write(),
        "image.tlv",
        "signed bytes that are no TLV",
    )
    long = PROTECTED[:-18] + wire.u16(17) + PROTECTED[-16:]
    yield Case(
        "protected-length-one-more",
        Draft(protected=long).seal(world.maker).write(),
        "image.tlv",
        "a signed TLV longer than its area",
    )
