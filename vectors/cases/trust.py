"""Well formed, but not authentic, not new enough or not for this device."""

import hashlib
from dataclasses import replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cellward.core.image import Tlv, Version
from vectors.cases.world import APP_CLASS, OTHER_CLASS, OTHER_VENDOR, Cases, World
from vectors.forge import (
    CLASS,
    COUNTER,
    VENDOR,
    Draft,
    Key,
    Sealed,
    flip,
    hardware_tlvs,
)
from vectors.recipe import Case

SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
DER = serialization.Encoding.DER


def cases(world: World) -> Cases:
    yield from _digest(world)
    yield from _key_and_signature_present(world)
    yield from _malformed_keys(world)
    yield from _key(world)
    yield from _counter(world)
    yield from _hardware(world)
    yield from _order(world)


def _digest(world: World) -> Cases:
    good = world.good.write()
    for name, at in (
        ("load-address", 4),
        ("version", 20),
        ("build", 27),
        ("pad", 28),
        ("padding", 0x100),
        ("padding-last", 0x1FF),
        ("payload", 0x200),
        ("payload-last", 0x23F),
        ("counter", 0x248),
        ("class", 0x273),
    ):
        yield Case(
            f"hash-{name}",
            flip(good, at),
            "image.hash",
            f"a bit of the {name} is not the signed one",
            attack="6" if name != "payload" else "1",
        )
    yield Case(
        "hash-flag",
        good[:16] + b"\x04" + good[17:],
        "image.hash",
        "an accepted flag that was not signed",
        attack="6",
    )
    absent = world.good.without(Tlv.SHA256)
    yield Case("hash-absent", absent.write(), "image.hash", "no digest is stated")
    sha384 = absent.after((Tlv.SHA384, hashlib.sha384(Draft().body).digest()))
    yield Case("hash-sha384", sha384.write(), "image.hash", "only SHA-256 is read")
    for name, value in (
        ("zero", bytes(32)),
        ("flipped", flip(Draft().digest, 31)),
        ("first", flip(Draft().digest, 0)),
    ):
        yield Case(
            f"hash-{name}", world.good.having(Tlv.SHA256, value).write(), "image.hash", "not these bytes'"
        )
    payload_only = hashlib.sha256(Draft().payload).digest()
    sealed = world.good.having(Tlv.SHA256, payload_only).having(Tlv.ECDSA, world.maker.sign(payload_only))
    yield Case(
        "hash-payload-only", sealed.write(), "image.hash", "header and protected TLVs left out", attack="6"
    )
    unprotected = hashlib.sha256(Draft().body[:0x240]).digest()
    sealed = world.good.having(Tlv.SHA256, unprotected).having(Tlv.ECDSA, world.maker.sign(unprotected))
    yield Case(
        "hash-without-protected", sealed.write(), "image.hash", "the protected TLVs left out", attack="6"
    )


def _key_and_signature_present(world: World) -> Cases:
    good = world.good
    for name, data in {
        "signature": good.without(Tlv.ECDSA),
        "key": good.without(Tlv.KEYHASH, Tlv.PUBKEY),
        "anything": good.ordered(Tlv.SHA256),
        "pubkey": good.without(Tlv.PUBKEY),
        "key-and-signature-of-another-kind": good.without(Tlv.ECDSA).plus((Tlv.RSA3072_PSS, bytes(384))),
        "key-before": good.ordered(Tlv.SHA256, Tlv.ECDSA, Tlv.KEYHASH, Tlv.PUBKEY),
        "pubkey-before": good.ordered(Tlv.SHA256, Tlv.KEYHASH, Tlv.ECDSA, Tlv.PUBKEY),
        "keyhash-before": good.ordered(Tlv.SHA256, Tlv.PUBKEY, Tlv.ECDSA, Tlv.KEYHASH),
        "full-key-before": good.ordered(Tlv.SHA256, Tlv.ECDSA, Tlv.PUBKEY),
    }.items():
        yield Case(
            f"none-{name}",
            data.write(),
            "image.no_signature",
            "no ECDSA signature after its key",
            attack="19",
        )
    private = ed25519.Ed25519PrivateKey.generate()
    ed = good.ordered(Tlv.SHA256).plus(
        (Tlv.PUBKEY, private.public_key().public_bytes(DER, SPKI)),
        (Tlv.ED25519, private.sign(Draft().digest)),
    )
    yield Case("none-ed25519", ed.write(), "image.no_signature", "signed, but not with ECDSA")


def _malformed_keys(world: World) -> Cases:
    spki = world.maker.public.spki
    numbers = world.maker.private.public_key()
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    for name, key in {
        "empty": b"",
        "one-less": spki[:-1],
        "one-more": spki + b"\x00",
        "oid": spki[:20] + b"\x08" + spki[21:],
        "curve": spki[:12] + flip(spki[12:], 0),
        "tag": b"\x31" + spki[1:],
        "unused-bits": spki[:25] + b"\x01" + spki[26:],
        "raw": spki[26:],
        "hybrid": spki[:26] + b"\x06" + spki[27:],
        "compressed-in-place": spki[:26] + b"\x02" + spki[27:],
        "compressed": spki[:1]
        + b"\x39"
        + spki[2:23]
        + b"\x22\x00"
        + numbers.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint),
        "p384": ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(DER, SPKI),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(DER, SPKI),
        "rsa": rsa_key.public_bytes(DER, serialization.PublicFormat.PKCS1),
        "zeros": bytes(91),
        "huge": spki + bytes(5000),
    }.items():
        trust = {"hybrid": "hybrid", "raw": "raw_point"}.get(name, "device")
        data = world.good.without(Tlv.KEYHASH).having(Tlv.PUBKEY, key)
        yield Case(
            f"key-{name}",
            data.write(),
            "image.key_malformed",
            "not the one encoding of a P-256 key",
            trust=trust,
        )
    for name, key, trust in (
        ("off-curve", world.off_curve, "off_curve"),
        ("zero-point", spki[:27] + bytes(64), "zero_point"),
        ("unreduced", world.unreduced, "unreduced"),
    ):
        data = world.good.having(Tlv.KEYHASH, hashlib.sha256(key).digest()).having(Tlv.PUBKEY, key)
        yield Case(
            f"key-{name}",
            data.write(),
            "image.key_malformed",
            "a trusted hash of what is no key",
            trust=trust,
        )
        unknown = "image.key_unknown"
        yield Case(f"key-{name}-unknown", data.write(), unknown, "no slot holds it, whatever it is")
    for name, stated in (
        ("other", world.second.public.key_hash),
        ("stranger", world.stranger.public.key_hash),
        ("flipped", flip(world.maker.public.key_hash, 31)),
        ("zero", bytes(32)),
    ):
        data = world.good.having(Tlv.KEYHASH, stated)
        yield Case(f"keyhash-{name}", data.write(), "image.key_malformed", "KEYHASH and PUBKEY disagree")
    forged = Draft().seal(world.stranger).having(Tlv.KEYHASH, world.maker.public.key_hash)
    yield Case(
        "keyhash-borrowed",
        forged.write(),
        "image.key_malformed",
        "the maker's hash over a stranger's key and signature",
        attack="8",
    )


def _key(world: World) -> Cases:
    stranger = Draft().seal(world.stranger)
    yield Case("key-stranger", stranger.write(), "image.key_unknown", "a key of nobody's", attack="8")
    yield Case("key-stranger-full", stranger.without(Tlv.KEYHASH).write(), "image.key_unknown", "as before")
    hash_only = stranger.without(Tlv.PUBKEY)
    yield Case("key-stranger-hash", hash_only.write(), "image.key_unknown", "as before")
    zero = world.good.without(Tlv.PUBKEY).having(Tlv.KEYHASH, bytes(32))
    yield Case(
        "key-hash-of-an-empty-slot", zero.write(), "image.key_unknown", "a slot that is not burned reads zero"
    )
    yield Case(
        "key-none-trusted",
        world.good.write(),
        "image.key_unknown",
        "no slot is burned",
        trust="no_keys",
        attack="19",
    )
    revoked = Draft().seal(world.revoked)
    yield Case("revoked", revoked.write(), "image.key_revoked", "its slot is revoked", attack="16")
    for name, spec in (("one-of-two-slots", "one_slot_revoked"), ("all", "all_revoked")):
        yield Case(
            f"revoked-{name}",
            world.good.write(),
            "image.key_revoked",
            "revoked in any slot is revoked",
            trust=spec,
            attack="16",
        )
    yield Case(
        "revoked-hash-only",
        revoked.without(Tlv.PUBKEY).write(),
        "image.key_revoked",
        "before the key itself is asked for",
    )


def _counter(world: World) -> Cases:
    for name, counter in (("one-lower", COUNTER - 1), ("zero", 0)):
        data = Draft().with_tlvs(hardware_tlvs(counter)).seal(world.maker)
        yield Case(
            f"counter-{name}", data.write(), "image.counter", "older than what was committed", attack="20"
        )
    newer = replace(Draft(), version=Version(255, 0, 0)).with_tlvs(hardware_tlvs(COUNTER - 1))
    yield Case(
        "counter-lower-version-higher",
        newer.seal(world.maker).write(),
        "image.counter",
        "the version does not count",
        attack="20",
    )
    for trust in ("device", "counter_0"):
        data = Draft().with_tlvs(hardware_tlvs()[1:]).seal(world.maker)
        yield Case(
            f"counter-absent-{trust}",
            data.write(),
            "image.counter",
            "no counter is older than any",
            trust=trust,
            attack="20",
        )
    big = Draft().with_tlvs(hardware_tlvs(0x0300_0000))
    yield Case(
        "good-counter-high-byte",
        big.seal(world.maker).write(),
        "ok",
        "0x03000000, little-endian",
        attack="20",
    )


def _hardware(world: World) -> Cases:
    counter = hardware_tlvs()[:1]
    for name, tlvs in {
        "vendor": hardware_tlvs(vendor=OTHER_VENDOR),
        "class": hardware_tlvs(klass=OTHER_CLASS),
        "stage": hardware_tlvs(klass=APP_CLASS),
        "both": hardware_tlvs(vendor=OTHER_VENDOR, klass=OTHER_CLASS),
        "swapped": hardware_tlvs(vendor=CLASS, klass=VENDOR),
        "zero": hardware_tlvs(vendor=bytes(16), klass=bytes(16)),
        "vendor-bit": hardware_tlvs(vendor=flip(VENDOR, 15)),
        "class-bit": hardware_tlvs(klass=flip(CLASS, 15)),
        "no-vendor": [*counter, (Tlv.UUID_CLASS, CLASS)],
        "no-class": [*counter, (Tlv.UUID_VENDOR, VENDOR)],
        "none": counter,
    }.items():
        data = Draft().with_tlvs(tlvs).seal(world.maker)
        yield Case(
            f"hardware-{name}", data.write(), "image.hardware", "not for this device and stage", attack="22"
        )


def _order(world: World) -> Cases:
    """The first of several that are wrong, step by step."""
    wrong = Draft().with_tlvs(hardware_tlvs(COUNTER - 1, klass=OTHER_CLASS))
    by_stranger, by_revoked, by_maker = (
        _bad_signature(wrong, key) for key in (world.stranger, world.revoked, world.maker)
    )
    everything = flip(by_stranger.write(), 0x200)
    yield Case("steps-digest-first", everything, "image.hash", "2 before 3 to 7")
    yield Case("steps-key", by_stranger.write(), "image.key_unknown", "3 before 4 to 7")
    malformed = by_stranger.having(Tlv.PUBKEY, world.stranger.public.spki + b"\x00").ordered(
        Tlv.SHA256, Tlv.KEYHASH, Tlv.ECDSA, Tlv.PUBKEY
    )
    yield Case(
        "steps-order-before-key",
        malformed.write(),
        "image.no_signature",
        "the order of TLVs before their values",
    )
    yield Case("steps-revocation", by_revoked.write(), "image.key_revoked", "4 before 5 to 7")
    yield Case("steps-signature", by_maker.write(), "image.signature", "5 before 6 and 7")
    yield Case("steps-counter", wrong.seal(world.maker).write(), "image.counter", "6 before 7")


def _bad_signature(draft: Draft, key: Key) -> Sealed:
    return draft.seal(key).having(Tlv.ECDSA, key.sign(bytes(32)))
