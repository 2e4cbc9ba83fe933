"""What only a reader of files meets: a whole key named on the command line, no fuses to compare with."""

from cellward.core.image import Tlv
from vectors.cases.world import OTHER_CLASS, Cases, World
from vectors.forge import COUNTER, Draft, hardware_tlvs
from vectors.recipe import Case


def cases(world: World) -> Cases:
    good = world.good
    data = good.write()
    hash_only = good.without(Tlv.PUBKEY).write()
    full_only = good.without(Tlv.KEYHASH).write()
    for name, image in (("both", data), ("hash", hash_only), ("full", full_only)):
        yield Case(f"named-{name}", image, "ok", "the reader has the key; the image names it", trust="named")
        yield Case(
            f"nobody-{name}",
            image,
            "image.key_unknown",
            "no key given is no key trusted",
            trust="nobody",
            attack="19",
        )
    yield Case("hash-both", data, "ok", "only the hash is known, the image carries the key", trust="hash")
    yield Case("hash-full", full_only, "ok", "as before", trust="hash")
    yield Case("hash-hash", hash_only, "image.no_signature", "nobody has the key", trust="hash")
    rsa = world.good_rsa
    for name, sealed in (
        ("both", rsa),
        ("hash", rsa.without(Tlv.PUBKEY)),
        ("full", rsa.without(Tlv.KEYHASH)),
    ):
        yield Case(f"named-rsa-{name}", sealed.write(), "ok", "the reader has the RSA key", trust="named_rsa")
    mixed = rsa.without(Tlv.PUBKEY, Tlv.RSA3072_PSS).plus((Tlv.ECDSA, good.value(Tlv.ECDSA)))
    yield Case(
        "named-rsa-ecdsa",
        mixed.write(),
        "image.no_signature",
        "the key that is named decides the kind of signature",
        trust="named_rsa",
    )
    for extra in (1, 2, 32, 4096):
        yield Case(
            f"trailing-{extra}",
            data + b"\xff" * extra,
            "wire.trailing",
            "a file is one image and no more",
            trust="named",
        )
    yield Case("trailing-image", data + data, "wire.trailing", "two images", trust="named")
    yield Case(
        "key-twice-named",
        Draft().seal(world.stranger).write(),
        "image.key_unknown",
        "another key than named",
        trust="named",
    )
    borrowed = (
        Draft().seal(world.stranger).without(Tlv.PUBKEY).having(Tlv.KEYHASH, world.maker.public.key_hash)
    )
    yield Case(
        "named-borrowed-hash",
        borrowed.write(),
        "image.signature",
        "the named key did not sign it",
        trust="named",
        attack="8",
    )
    bare = Draft(protected=b"").seal(world.maker).write()
    yield Case("named-bare", bare, "ok", "counter and hardware are not this reader's business", trust="named")
    yield Case("counter-bare", bare, "image.counter", "unless it asks", trust="named_counter")
    yield Case("hardware-bare", bare, "image.hardware", "unless it asks", trust="named_hardware")
    lower = Draft().with_tlvs(hardware_tlvs(COUNTER - 1, klass=OTHER_CLASS)).seal(world.maker).write()
    yield Case("named-lower", lower, "ok", "an older image is authentic all the same", trust="named")
    yield Case("counter-lower", lower, "image.counter", "unless the reader asks", trust="named_counter")
    yield Case("hardware-other", lower, "image.hardware", "unless the reader asks", trust="named_hardware")
