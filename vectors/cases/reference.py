"""Images by imgtool, which is what the field builds with."""

import tempfile
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec

from vectors import imgtool
from vectors.cases.world import Cases, World
from vectors.forge import CLASS, COUNTER, PAYLOAD, VENDOR
from vectors.recipe import Case

FULL = ("--public-key-format", "full")
HARDWARE = ("--vid", str(UUID(bytes=VENDOR)), "--cid", str(UUID(bytes=CLASS)))
USUAL = ("--version", "1.4.0", "--security-counter", str(COUNTER), *HARDWARE)


def cases(world: World) -> Cases:
    for name, options, verdict, reason in (
        ("full", (*USUAL, *FULL), "ok", "what imgtool makes with a full key boots"),
        ("hash", USUAL, "image.no_signature", "imgtool's default carries only the key's hash"),
        ("dependency", (*USUAL, *FULL, "--dependencies", "(1, 1.2.3+4)"), "ok", "signed, not read"),
        ("boot-record", (*USUAL, *FULL, "--boot-record", "app"), "ok", "signed, not read"),
        ("custom", (*USUAL, *FULL, "--custom-tlv", "0xa0", "0x1234"), "ok", "signed, not read"),
        (
            "load-address",
            (*USUAL, *FULL, "--load-addr", "0x20000000"),
            "image.flags",
            "asks for a load to RAM",
        ),
        ("rom-fixed", (*USUAL, *FULL, "--rom-fixed", "0x8000000"), "image.flags", "asks for a fixed address"),
        (
            "non-bootable",
            (*USUAL, *FULL, "--non-bootable"),
            "image.flags",
            "says that it is not to be booted",
        ),
        ("erased-0", (*USUAL, *FULL, "--erased-val", "0"), "ok", "padded as on flash that erases to 0"),
        (
            "no-counter",
            ("--version", "1.4.0", *HARDWARE, *FULL),
            "image.counter",
            "imgtool's default has none",
        ),
        (
            "no-hardware",
            ("--version", "1.4.0", "--security-counter", "7", *FULL),
            "image.hardware",
            "as before",
        ),
        ("big-endian", (*USUAL, *FULL, "--endian", "big"), "image.magic", "another byte order"),
    ):
        yield Case(
            f"imgtool-{name}",
            imgtool.sign(world.maker, PAYLOAD, *options),
            verdict,
            reason,
            made_by="imgtool",
        )
    yield Case(
        "imgtool-unsigned",
        imgtool.sign(None, PAYLOAD, *USUAL),
        "image.no_signature",
        "SIGNATURE_TYPE_NONE",
        attack="19",
        made_by="imgtool",
    )
    yield Case(
        "imgtool-stranger",
        imgtool.sign(world.stranger, PAYLOAD, *USUAL, *FULL),
        "image.key_unknown",
        "a good image by somebody else",
        attack="8",
        made_by="imgtool",
    )
    while (padded := imgtool.sign(world.maker, PAYLOAD, *USUAL, *FULL, "--pad-sig"))[-72:][1] == 70:
        pass  # nothing to pad where r and s both have their top bit set
    yield Case(
        "imgtool-pad-sig",
        padded,
        "image.signature",
        "zeros behind the DER, for MCUboot before 1.5",
        made_by="imgtool",
    )
    confirmed = imgtool.sign(world.maker, PAYLOAD, *USUAL, *FULL, "--confirm", "--align", "8")[:0x1000]
    yield Case(
        "imgtool-in-slot",
        confirmed,
        "ok",
        "the start of a slot with imgtool's trailer at its end",
        file="wire.trailing",
        made_by="imgtool",
    )
    yield from _encrypted(world)


def _encrypted(world: World) -> Cases:
    with tempfile.TemporaryDirectory() as name:
        key = imgtool.write_public_key(Path(name), ec.generate_private_key(ec.SECP256R1()).public_key())
        encrypt = (*USUAL, *FULL, "--encrypt", key)
        yield Case(
            "imgtool-encrypted",
            imgtool.sign(world.maker, PAYLOAD, *encrypt),
            "image.hash",
            "the digest is over the plaintext",
            attack="8",
            made_by="imgtool",
        )
        yield Case(
            "imgtool-decrypted",
            imgtool.sign(world.maker, PAYLOAD, *encrypt, "--clear"),
            "ok",
            "as it stands in a bank, with its encryption TLV",
            made_by="imgtool",
        )
