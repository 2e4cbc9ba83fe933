"""`cellward image`: sign, show and verify MCUboot images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellward import bootstrap
from cellward.config import Home
from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused, Unavailable
from cellward.core.image import (
    Image,
    KeyFormat,
    Trust,
    VerifiedImage,
    Version,
    decode,
    verify,
    verify_stated,
)
from cellward.core.keys import PublicKey
from cellward.core.slots import HARDWARE, Hardware, Stage
from cellward.ports.token_uri import SCHEME

if TYPE_CHECKING:
    from cellward.ports.signer import Signer
    from cellward.sign.firmware import Firmware

MAX_FIRMWARE = 128 * 1024 * 1024  # an ELF file with its debugging information
MAX_IMAGE = 16 * 1024 * 1024
MAX_PEM = 4096

_hardware = click.Choice(sorted(HARDWARE))
_stage = click.Choice([stage.value for stage in Stage])
_file = click.Path(readable=False, path_type=Path)  # an unreadable file is a refusal, not bad usage


@click.group()
def image() -> None:
    """Sign, show and verify MCUboot images."""


@image.command()
@click.argument("firmware", type=_file)
@click.option("--version", required=True, help="MAJOR.MINOR.REVISION[+BUILD].")
@click.option("--counter", required=True, type=int, help="Security counter: no device goes below it.")
@click.option("--hardware", required=True, type=_hardware, help="Module hardware it is for.")
@click.option("--stage", type=_stage, default=Stage.APP.value, show_default=True)
@click.option("--key", help="Name of a firmware key, or PKCS#11 URI.  [default: firmware]")
@click.option(
    "--key-format",
    type=click.Choice([fmt.value for fmt in KeyFormat]),
    default=KeyFormat.BOTH.value,
    show_default=True,
    help="Key TLVs: KEYHASH, the full PUBKEY, or both (boots here and on a stock MCUboot).",
)
@click.option(
    "--fill-gaps", is_flag=True, help="Let the image cover whole pages that the firmware leaves out."
)
@click.option(
    "--encrypt", is_flag=True, help="Encrypt it under a key of its own, kept in the data directory."
)
@click.option("-o", "--output", required=True, type=_file, help="Image to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def sign(
    home: Home,
    firmware: Path,
    version: str,
    counter: int,
    hardware: str,
    stage: str,
    key: str | None,
    key_format: str,
    fill_gaps: bool,
    encrypt: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Sign FIRMWARE (.bin, .hex, .srec, .elf) with a key that stays in its token.

    Signature and digest are over the plaintext; of an encrypted image only the module sees it.
    """
    from cellward.sign.build import Label, sign_image
    from cellward.sign.firmware import read_firmware
    from cellward.sign.wrapping import seal

    label = Label(Version.parse(version), counter, HARDWARE[hardware], Stage(stage))
    data = _read_firmware(firmware)
    read = read_firmware(str(firmware), data, label.hardware, label.stage, fill_gaps=fill_gaps)
    signer = bootstrap.firmware_signer(home, key)
    made = sign_image(read, label, signer, KeyFormat(key_format), encrypted=encrypt)
    signed = made.image
    bootstrap.write_file(output, seal(made, bootstrap.content_keys(home)) if encrypt else signed.data)
    facts = _signed_facts(read, signed, signer, output)
    if as_json:
        _echo_json(facts)
    else:
        click.echo(f"signed {stage} {signed.version} for {hardware}, security counter {counter}")
        click.echo("\n".join(f"  {name:<9} {value}" for name, value in facts.items() if value))


def _echo_json(facts: dict[str, object]) -> None:
    import json

    click.echo(json.dumps(facts, indent=2))


def _read_firmware(path: Path) -> bytes:
    try:
        return bootstrap.read_file(path, MAX_FIRMWARE)
    except Unavailable as error:
        found = error.found if error.code is not Code.STORAGE_MISSING else "no such file"
        raise Unavailable(
            Code.FIRMWARE_UNREADABLE, str(path), expected="a readable file", found=found
        ) from error
    except Refused as error:
        raise Refused(
            Code.FIRMWARE_TOO_LARGE,
            str(path),
            expected=f"at most {MAX_FIRMWARE} bytes",
            found="a larger file",
        ) from error


def _signed_facts(read: "Firmware", signed: Image, signer: "Signer", output: Path) -> dict[str, object]:
    return {
        "input": f"{read.format}, {len(read.payload)} bytes at 0x{read.address:08x}",
        "gaps": ", ".join(f"{gap} read as erased flash" for gap in read.gaps),
        "digest": signed.digest.hex(),
        "key": f"{signer.public_key.fingerprint[:16]} in {signer.uri}",
        "output": f"{output}, {len(signed.data)} bytes",
    }


@image.command()
@click.argument("file", metavar="IMAGE", type=_file)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, as_json: bool) -> None:
    """Print what IMAGE says of itself. Nothing of it is verified: see `cellward image verify`."""
    from cellward.cli.image_table import facts, print_tables

    shown = decode(bootstrap.read_file(file, MAX_IMAGE), str(file))
    if as_json:
        _echo_json(facts(shown))
    else:
        print_tables(str(file), shown)


@image.command("verify")
@click.argument("file", metavar="IMAGE", type=_file)
@click.option("--key", "keys", multiple=True, help="Trusted key: PEM file or PKCS#11 URI; may be repeated.")
@click.option("--counter", type=int, help="Refuse an image below this security counter.")
@click.option("--hardware", type=_hardware, help="Refuse an image for other hardware or another stage.")
@click.option("--stage", type=_stage, default=Stage.APP.value, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify_(
    home: Home,
    file: Path,
    keys: tuple[str, ...],
    counter: int | None,
    hardware: str | None,
    stage: str,
    as_json: bool,
) -> None:
    """Verify IMAGE with the named keys, as a device does. Without a key nothing is verified: refused."""
    data = bootstrap.read_file(file, MAX_IMAGE)
    if not keys:
        raise PolicyRefused(
            Code.IMAGE_NO_KEY_GIVEN,
            str(file),
            expected="--key with a PEM file or a PKCS#11 URI",
            found="none",
            advice="an image that names its own key proves nothing",
        )
    trusted = [_public_key(home, key) for key in keys]
    ids = _ids(HARDWARE[hardware], Stage(stage)) if hardware else None
    trust = Trust({key.key_hash: key for key in trusted}, counter=counter, hardware=ids)
    decoded = decode(data, str(file))
    sealed = bool(decoded.flags) and decoded.digest != decoded.stated_digest
    verified = (verify_stated if sealed else verify)(decoded, trust, str(file))
    unchecked = ["digest: the payload is encrypted, the module recomputes it"] if sealed else []
    unchecked += _unchecked(counter, hardware)
    _report(decoded.stated_digest or b"", verified, unchecked, as_json)


def _ids(hardware: Hardware, stage: Stage) -> tuple[bytes, bytes]:
    return hardware.vendor_id, hardware.class_id(stage)


def _public_key(home: Home, key: str) -> PublicKey:
    if key.startswith(SCHEME):
        return bootstrap.signer(home, key).public_key
    try:
        return PublicKey.from_pem(bootstrap.read_file(Path(key), MAX_PEM))
    except FormatRefused as error:
        raise error.about(key) from error


def _unchecked(counter: int | None, hardware: str | None) -> list[str]:
    """What only a device knows, or the caller did not say."""
    open_points = ["security counter (--counter)"] if counter is None else []
    open_points += ["hardware and stage (--hardware, --stage)"] if hardware is None else []
    return [*open_points, "revocation of the key: it is in each device's fuses"]


def _report(digest: bytes, verified: VerifiedImage, unchecked: list[str], as_json: bool) -> None:
    image, key = verified.image, verified.key
    facts = {
        "verified": True,
        "version": str(image.version),
        "counter": image.counter,
        "digest": digest.hex(),
        "key": key.fingerprint,
        "not_checked": unchecked,
    }
    if as_json:
        _echo_json(facts)
        return
    click.echo(f"verified: image {image.version}, security counter {image.counter}")
    click.echo(f"  digest       {digest.hex()}")
    click.echo(f"  signed by    {key.fingerprint}")
    click.echo("\n".join(f"  not checked  {point}" for point in unchecked))
