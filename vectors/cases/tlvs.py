"""Which TLVs may stand where, how often and how long."""

from cellward.core import wire
from cellward.core.image import Tlv
from vectors.cases.world import Cases, World
from vectors.forge import CLASS, COUNTER, VENDOR, Draft, Tlvs, hardware_tlvs
from vectors.recipe import Case

UNPROTECTED = [kind for kind in Tlv if kind < Tlv.DEPENDENCY]


def cases(world: World) -> Cases:
    yield from _allow_list(world)
    yield from _protected(world)
    yield from _twice(world)
    yield from _lengths(world)
    yield from _order_of_checks(world)


def _allow_list(world: World) -> Cases:
    outside = (
        *(0x00, 0x03, 0x0F, 0x13, 0x21, 0x26, 0x2F, 0x35, 0x3F),
        *(Tlv.DEPENDENCY, Tlv.SECURITY_COUNTER, Tlv.BOOT_RECORD, 0x70, 0x73, Tlv.UUID_VENDOR, Tlv.UUID_CLASS),
        *(0xA0, 0xFFFE, 0xFFFF),
        *(0x0101, 0x0110, 0x1022, 0x2200, 0x8002),  # a listed type in one of the two bytes
    )
    for kind in outside:
        for at, data in (
            ("first", world.good.after((kind, b"\x00"))),
            ("last", world.good.plus((kind, b"\x00"))),
        ):
            if at == "last" or kind in (0x03, 0x50):
                yield Case(
                    f"unknown-{kind:04x}-{at}",
                    data.write(),
                    "image.tlv_unknown",
                    "not on MCUboot's list of what may stand unsigned",
                    attack="6",
                )
    empty = world.good.plus((0xA0, b""))
    yield Case("unknown-empty", empty.write(), "image.tlv_unknown", "empty is not absent", attack="6")
    lower = world.good.plus((Tlv.SECURITY_COUNTER, wire.u32(COUNTER + 90)))
    yield Case(
        "unknown-second-counter",
        lower.write(),
        "image.tlv_unknown",
        "an unsigned counter beside the signed one",
        attack="20",
    )


def _protected(world: World) -> Cases:
    for kind in UNPROTECTED:
        draft = Draft().with_tlvs([*hardware_tlvs(), (kind, bytes(32))])
        yield Case(
            f"protected-{kind.name.lower()}",
            draft.seal(world.maker).write(),
            "image.tlv",
            "a hash, key, signature or encryption TLV inside what it is about",
        )
    sealed = Draft().with_tlvs([*hardware_tlvs(), (Tlv.PUBKEY, world.maker.public.spki)]).seal(world.maker)
    yield Case("protected-key-alone", sealed.without(Tlv.PUBKEY).write(), "image.tlv", "the key only inside")
    first = (
        Draft().with_tlvs([(Tlv.KEYHASH, world.maker.public.key_hash), *hardware_tlvs()]).seal(world.maker)
    )
    yield Case("protected-keyhash-alone", first.without(Tlv.KEYHASH).write(), "image.tlv", "as before")


def _twice(world: World) -> Cases:
    good = world.good
    other = {
        Tlv.SHA256: bytes(32),
        Tlv.KEYHASH: world.stranger.public.key_hash,
        Tlv.PUBKEY: world.stranger.public.spki,
        Tlv.ECDSA: world.stranger.sign(Draft().digest),
    }
    for kind, value in other.items():
        same = good.plus((kind, good.value(kind)))
        yield Case(
            f"twice-{kind.name.lower()}-same", same.write(), "image.tlv_duplicate", "twice is two readings"
        )
        for where, data in (("last", good.plus((kind, value))), ("first", good.after((kind, value)))):
            yield Case(
                f"twice-{kind.name.lower()}-other-{where}",
                data.write(),
                "image.tlv_duplicate",
                "MCUboot takes the last signature and the first of the others",
                attack="6",
            )
    hardware = hardware_tlvs()
    for kind, wrong in (
        (Tlv.SECURITY_COUNTER, wire.u32(COUNTER - 1)),
        (Tlv.UUID_VENDOR, CLASS),
        (Tlv.UUID_CLASS, VENDOR),
    ):
        for where, tlvs in (("last", [*hardware, (kind, wrong)]), ("first", [(kind, wrong), *hardware])):
            yield Case(
                f"twice-{kind.name.lower()}-{where}",
                Draft().with_tlvs(tlvs).seal(world.maker).write(),
                "image.tlv_duplicate",
                "two values are two readings, signed or not",
                attack="20" if kind == Tlv.SECURITY_COUNTER else None,
            )


def _lengths(world: World) -> Cases:
    good = world.good
    for kind, sizes in ((Tlv.SHA256, (0, 20, 31, 33, 48, 64)), (Tlv.KEYHASH, (0, 20, 31, 33))):
        for size in sizes:
            value = good.value(kind).ljust(size, b"\x00")[:size]
            yield Case(
                f"length-{kind.name.lower()}-{size}",
                good.having(kind, value).write(),
                "image.tlv",
                "a digest has 32 bytes",
            )
    for kind, sizes in ((Tlv.SHA384, (0, 32, 47, 49)), (Tlv.SHA512, (0, 63, 65, 91))):
        for size in sizes:
            yield Case(
                f"length-{kind.name.lower()}-{size}",
                good.plus((kind, bytes(size))).write(),
                "image.tlv",
                "not read, but of a digest's size: no KEYHASH or PUBKEY with a flipped bit",
                attack="6",
            )
    for kind, sizes in (
        (Tlv.SECURITY_COUNTER, (0, 1, 2, 3, 5, 8)),
        (Tlv.UUID_VENDOR, (0, 4, 15, 17)),
        (Tlv.UUID_CLASS, (0, 4, 15, 17)),
    ):
        for size in sizes:
            values = dict(hardware_tlvs())
            values[kind] = values[kind].ljust(size, b"\x00")[:size]
            data = Draft().with_tlvs(list(values.items())).seal(world.maker).write()
            yield Case(
                f"length-{kind.name.lower()}-{size}",
                data,
                "image.tlv",
                "the value has one length",
                attack="20" if kind == Tlv.SECURITY_COUNTER else None,
            )


def _order_of_checks(world: World) -> Cases:
    """Where two things are wrong every implementation says the same one."""
    good = world.good
    duplicate = good.plus((Tlv.SHA256, bytes(31)))
    yield Case(
        "order-duplicate-before-length", duplicate.write(), "image.tlv_duplicate", "the order of the checks"
    )
    length = good.after((Tlv.KEYHASH, bytes(31)))
    yield Case(
        "order-length-before-later-duplicate", length.write(), "image.tlv", "the first TLV that is wrong"
    )
    unknown = good.after((0xA0, b"")).plus((Tlv.SHA256, bytes(32)))
    yield Case(
        "order-unknown-before-later-duplicate",
        unknown.write(),
        "image.tlv_unknown",
        "the first TLV that is wrong",
    )
    cut = good.after((0xA0, b"")).write()
    cut = (
        cut[: len(Draft().body) + 2]
        + wire.u16(len(cut) - len(Draft().body) - 1)
        + cut[len(Draft().body) + 4 :]
    )
    yield Case(
        "order-structure-before-unknown", cut, "image.tlv", "all areas are walked before any type is judged"
    )
    inside: Tlvs = [*hardware_tlvs(), (Tlv.SHA512, b"")]
    both = Draft().with_tlvs(inside).seal(world.maker).plus((0xA0, b""))
    yield Case(
        "order-protected-before-plain", both.write(), "image.tlv", "the protected area is judged first"
    )
    early = Draft().with_tlvs(inside).seal(world.maker)
    yield Case(
        "order-plain-structure-before-protected-type",
        early.write(total=3),
        "image.tlv",
        "all areas are walked first",
    )
