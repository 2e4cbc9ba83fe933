"""An image as tables for people and as plain facts for programs."""

from collections.abc import Iterator

from cellward.core.image import HEADER_SIZE, MAGIC, Dependency, Entry, Flag, Image, Tlv
from cellward.core.image.protected import DEPENDENCY_SIZE, software_type
from cellward.core.slots import HARDWARE, Stage

MEANINGS: dict[int, str] = {
    Tlv.KEYHASH: "SHA-256 of the signer's public key",
    Tlv.PUBKEY: "the signer's public key, in full",
    Tlv.SHA256: "digest of everything before",
    Tlv.SHA384: "digest",
    Tlv.SHA512: "digest",
    Tlv.RSA2048_PSS: "signature, RSA-2048 PSS",
    Tlv.ECDSA: "signature, ECDSA",
    Tlv.RSA3072_PSS: "signature, RSA-3072 PSS",
    Tlv.ED25519: "signature, Ed25519",
    Tlv.SIG_PURE: "the signature is over the image, not its digest",
    Tlv.ENC_RSA2048: "content key, wrapped with RSA-OAEP",
    Tlv.ENC_KW: "content key, wrapped with AES",
    Tlv.ENC_EC256: "content key, wrapped with ECIES-P256",
    Tlv.ENC_X25519: "content key, wrapped with ECIES-X25519",
    Tlv.ENC_X25519_SHA512: "content key, wrapped with ECIES-X25519",
    Tlv.DEPENDENCY: "needs another image",
    Tlv.SECURITY_COUNTER: "security counter",
    Tlv.BOOT_RECORD: "boot record, CBOR",
    Tlv.UUID_VENDOR: "vendor",
    Tlv.UUID_CLASS: "hardware and stage",
}

SHOWN = 32  # bytes of a value; --json has all of them


def facts(shown: Image) -> dict[str, object]:
    """Everything the image says; `digest_matches` is all that is computed."""
    return {
        "version": str(shown.version),
        "header_size": shown.header_size,
        "payload_size": shown.payload_size,
        "protected_size": shown.protected_size,
        "total_size": len(shown.data),
        "load_address": shown.load_address,
        "flags": [flag.name for flag in Flag if shown.flags & flag],
        "counter": shown.counter,
        "digest": shown.digest.hex(),
        "stated_digest": shown.stated_digest.hex() if shown.stated_digest else None,
        "digest_matches": shown.stated_digest == shown.digest,
        "tlvs": [
            {
                "type": entry.type,
                "name": entry.name,
                "protected": entry.protected,
                "offset": entry.offset,
                "value": entry.value.hex(),
            }
            for entry in shown.entries
        ],
    }


def print_tables(name: str, shown: Image) -> None:
    """Header and TLVs. What comes from the image is printed as text, never as markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    header = Table(
        "field",
        "value",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
        title=Text(name),
        title_justify="left",
    )
    for field, value in _header_rows(shown):
        header.add_row(field, Text(value, overflow="fold"))
    tlvs = Table("TLV", "bytes", "signed", "meaning", "value", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for entry in shown.entries:
        signed = "yes" if entry.protected else "no"
        tlvs.add_row(
            Text(entry.name),
            str(len(entry.value)),
            signed,
            _meaning(entry),
            Text(_value(entry), overflow="fold"),
        )
    console.print(header)
    console.print(tlvs)
    console.print("Nothing was verified: [bold]cellward image verify[/] does that.", highlight=False)


def _header_rows(shown: Image) -> Iterator[tuple[str, str]]:
    stated = shown.stated_digest
    if stated is None:
        said = "none in the image"
    else:
        said = "as stated in the image" if stated == shown.digest else f"but the image states {stated.hex()}"
    yield "magic", f"0x{MAGIC:08x}"
    yield "version", str(shown.version)
    yield (
        "sizes",
        (
            f"{len(shown.data)} bytes = header {shown.header_size} + payload {shown.payload_size}"
            f" + protected TLVs {shown.protected_size} + TLVs {len(shown.data) - shown.signed_size}"
        ),
    )
    yield "header", f"{HEADER_SIZE} bytes of fields, padded to {shown.header_size}"
    yield (
        "load address",
        f"0x{shown.load_address:08x}" + (" (runs in place)" if not shown.load_address else ""),
    )
    yield "flags", ", ".join(str(flag.name) for flag in Flag if shown.flags & flag) or "none"
    yield "digest", f"{shown.digest.hex()}\n{said}"


def _meaning(entry: Entry) -> str:
    return MEANINGS.get(entry.type, "the vendor's own" if entry.type >= 0xA0 else "unknown here")


def _value(entry: Entry) -> str:
    if entry.type == Tlv.SECURITY_COUNTER:
        return str(int.from_bytes(entry.value, "little"))
    if entry.type == Tlv.DEPENDENCY and len(entry.value) == DEPENDENCY_SIZE:
        needed = Dependency.decode(entry.value)
        return f"image {needed.image}, {needed.version} or later"
    names = {hw.vendor_id: hw.vendor for hw in HARDWARE.values()}
    names |= {hw.class_id(stage): f"{hw.name}/{stage}" for hw in HARDWARE.values() for stage in Stage}
    known = names.get(entry.value, "") if entry.type in (Tlv.UUID_VENDOR, Tlv.UUID_CLASS) else ""
    if entry.type == Tlv.BOOT_RECORD:
        known = software_type(entry.value) or "not as MCUboot reads it"
    shown = entry.value.hex() if len(entry.value) <= SHOWN else f"{entry.value[:SHOWN].hex()}…"
    return f"{known} {shown}".strip()
