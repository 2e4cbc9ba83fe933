"""Images that boot, and the odd but harmless."""

from cellward.core import wire
from cellward.core.image import KeyTlv, Tlv, Version, build
from vectors.cases.world import Cases, World
from vectors.forge import CLASS, COUNTER, PAYLOAD, VENDOR, Draft, hardware_tlvs
from vectors.recipe import Case


def cases(world: World) -> Cases:
    yield from _built(world)
    yield from _headers(world)
    yield from _tlvs(world)


def _built(world: World) -> Cases:
    """By our own encoder."""
    for fmt in (KeyTlv.BOTH, KeyTlv.FULL, KeyTlv.HASH):
        unsigned = build(PAYLOAD, version=Version(1, 4, 0), counter=COUNTER, hardware=(VENDOR, CLASS))
        data = unsigned.signed(world.maker.public, world.maker.sign(unsigned.digest), fmt)
        verdict = "image.no_signature" if fmt is KeyTlv.HASH else "ok"
        reason = "the fuses hold only the key's hash" if fmt is KeyTlv.HASH else "an image as we build it"
        yield Case(f"good-key-{fmt}", data, verdict, reason)
    for name, payload, size in (("small", b"\x00", 32), ("large", bytes(5000), 0x1000)):
        unsigned = build(
            payload,
            version=Version(255, 255, 65535, 2**32 - 1),
            counter=2**32 - 1,
            hardware=(VENDOR, CLASS),
            header_size=size,
        )
        data = unsigned.signed(world.maker.public, world.maker.sign(unsigned.digest))
        yield Case(
            f"good-{name}", data, "ok", f"{len(payload)} bytes behind a header of {size}, highest numbers"
        )
    yield Case("good-second-slot", Draft().seal(world.second).write(), "ok", "any slot of the fuses will do")
    yield Case(
        "good-counter-equal", world.good.write(), "ok", "the counter may stay where it is", attack="20"
    )
    higher = Draft().with_tlvs(hardware_tlvs(COUNTER + 1)).seal(world.maker)
    yield Case("good-counter-higher", higher.write(), "ok", "the counter may rise", attack="20")
    zero = Draft().with_tlvs(hardware_tlvs(0)).seal(world.maker)
    yield Case("good-counter-zero", zero.write(), "ok", "0 is a counter", trust="counter_0", attack="20")
    yield Case(
        "good-in-erased-flash",
        world.good.write() + b"\xff" * 64,
        "ok",
        "a slot is larger than its image",
        file="wire.trailing",
    )
    yield Case(
        "good-before-old-bytes",
        world.good.write() + PAYLOAD,
        "ok",
        "what follows is not executed",
        file="wire.trailing",
    )


def _headers(world: World) -> Cases:
    for name, draft, reason in (
        ("load-address", Draft(load_address=0xFFFF_FFFF), "an address that nobody here uses"),
        ("header-pad", Draft(pad=0xDEADBEEF), "the spare word is signed and means nothing"),
        ("header-padding-zero", Draft(padding=b"\x00"), "the padding is signed and means nothing"),
        ("enc-aes128", Draft(flags=0x4), "in a bank the bytes are plaintext; the flag says how they came"),
        ("enc-aes256", Draft(flags=0x8), "as before"),
        ("enc-both", Draft(flags=0xC), "as before"),
        ("version-zero", Draft(version=Version(0, 0, 0)), "0.0.0 is a version"),
    ):
        yield Case(f"good-{name}", draft.seal(world.maker).write(), "ok", reason)


def _tlvs(world: World) -> Cases:
    good = world.good
    unread = [
        *(
            Tlv.RSA2048_PSS,
            Tlv.ED25519,
            Tlv.SIG_PURE,
            Tlv.ENC_RSA2048,
        ),
        *(Tlv.ENC_KW, Tlv.ENC_EC256, Tlv.ENC_X25519, Tlv.ENC_X25519_SHA512),
    ]
    for kind in unread:
        yield Case(
            f"good-unread-{kind.name.lower()}",
            good.plus((kind, b"\x01")).write(),
            "ok",
            "on MCUboot's allow-list and not read here",
        )
    for kind, size in ((Tlv.SHA384, 48), (Tlv.SHA512, 64)):
        yield Case(
            f"good-unread-{kind.name.lower()}",
            good.plus((kind, bytes(size))).write(),
            "ok",
            "a digest of another kind is not read, whatever it says",
        )
    yield Case(
        "good-two-unread",
        good.plus((Tlv.ENC_EC256, b"a"), (Tlv.ENC_EC256, b"b")).write(),
        "ok",
        "two readings of nothing are none",
    )
    yield Case("good-unread-empty", good.after((Tlv.ENC_KW, b"")).write(), "ok", "a TLV may be empty")
    orders = {
        "pubkey-first": (Tlv.SHA256, Tlv.PUBKEY, Tlv.KEYHASH, Tlv.ECDSA),
        "hash-last": (Tlv.KEYHASH, Tlv.PUBKEY, Tlv.ECDSA, Tlv.SHA256),
        "hash-between": (Tlv.PUBKEY, Tlv.SHA256, Tlv.ECDSA),
    }
    for name, order in orders.items():
        yield Case(
            f"good-order-{name}",
            good.ordered(*order).write(),
            "ok",
            "only the key before its signature counts",
        )
    hardware = hardware_tlvs()
    for name, tlvs in {
        "reversed": hardware[::-1],
        "vendor-tlv": [*hardware, (0xA0, b"calibration")],
        "vendor-tlv-twice": [(0xFFFE, b""), *hardware, (0xFFFE, b"x")],
        "dependency": [*hardware, (Tlv.DEPENDENCY, bytes(12))],
        "boot-record": [*hardware, (Tlv.BOOT_RECORD, b"\xa0")],
        "unknown": [(0x7777, wire.u32(1)), *hardware],
        "type-0x0110": [(0x0110, bytes(32)), *hardware],
    }.items():
        yield Case(
            f"good-protected-{name}",
            Draft().with_tlvs(tlvs).seal(world.maker).write(),
            "ok",
            "what is signed may be there without being read",
        )
