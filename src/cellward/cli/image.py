"""`cellward image`: sign, show, verify and wrap MCUboot images."""

import hashlib
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.imagesign import sign
from cellward.config import Home
from cellward.core.errors import Code, PolicyRefused
from cellward.core.image import (
    SIGNATURES,
    Trust,
    VerifiedImage,
    decode,
    verify,
    verify_stated,
)
from cellward.core.keys import ROM_ALGORITHMS, Algorithm, PublicKey
from cellward.core.slots import HARDWARE, Hardware, Stage

MAX_IMAGE = 16 * 1024 * 1024

_hardware = click.Choice(sorted(HARDWARE))
_stage = click.Choice([stage.value for stage in Stage])
_file = click.Path(readable=False, path_type=Path)  # an unreadable file is a refusal, not bad usage


@click.group()
def image() -> None:
    """Sign, show, verify and wrap MCUboot images."""


image.add_command(sign)


def _read_image(path: Path) -> bytes:
    """The image in a file of any format that `sign` writes."""
    from cellward.sign.output import decode_output

    return decode_output(str(path), bootstrap.read_file(path, MAX_IMAGE))


def _echo_json(facts: dict[str, object]) -> None:
    import json

    click.echo(json.dumps(facts, indent=2))


@image.command()
@click.argument("file", metavar="IMAGE", type=_file)
@options.as_json
def show(file: Path, as_json: bool) -> None:
    """Print what IMAGE says of itself. Nothing of it is verified: see `cellward image verify`."""
    from cellward.cli.image_table import facts, print_tables

    shown = decode(_read_image(file), str(file))
    if as_json:
        _echo_json(facts(shown))
    else:
        print_tables(str(file), shown)


@image.command("verify")
@click.argument("file", metavar="IMAGE", type=_file)
@click.option("--key", "keys", multiple=True, help="Trusted key: PEM file or URI; may be repeated.")
@click.option("--counter", type=int, help="Refuse an image below this security counter.")
@click.option("--hardware", type=_hardware, help="Refuse an image for other hardware or another stage.")
@click.option("--stage", type=_stage, default=Stage.APP.value, show_default=True)
@options.as_json
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
    """Verify IMAGE with the named keys, as a device does. Without a key nothing is verified: refused.

    With --hardware only algorithms that this hardware verifies will do; else Ed25519 will do too.
    """
    data = _read_image(file)
    if not keys:
        raise PolicyRefused(
            Code.IMAGE_NO_KEY_GIVEN,
            str(file),
            expected="--key with a PEM file or a URI",
            found="none",
            advice="an image that names its own key proves nothing",
        )
    trusted = [_public_key(home, key) for key in keys]
    ids = _ids(HARDWARE[hardware], Stage(stage)) if hardware else None
    algorithms = ROM_ALGORITHMS if hardware else frozenset(SIGNATURES)
    trust = Trust({key.key_hash: key for key in trusted}, frozenset(), counter, ids, algorithms)
    decoded = decode(data, str(file))
    sealed = bool(decoded.flags) and decoded.digest != decoded.stated_digest
    verified = (verify_stated if sealed else verify)(decoded, trust, str(file))
    unchecked = ["digest: the payload is encrypted, the module recomputes it"] if sealed else []
    unchecked += _unchecked(counter, hardware)
    if verified.key.algorithm not in ROM_ALGORITHMS:
        unchecked.append(f"whether a device verifies {verified.key.algorithm.display}: our modules do not")
    _report(decoded.stated_digest or b"", verified, unchecked, as_json)


def _ids(hardware: Hardware, stage: Stage) -> tuple[bytes, bytes]:
    return hardware.vendor_id, hardware.class_id(stage)


def _public_key(home: Home, key: str) -> PublicKey:
    if ":" in key and not Path(key).exists():
        return bootstrap.signer(home, key).public_key
    from cellward.cli.keyfiles import read_key

    return read_key(Path(key))


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


@image.command()
@click.argument("file", metavar="IMAGE", type=_file)
@click.option("--for", "device", required=True, type=_file, help="PEM of the device's P-256 public key.")
@click.option("-o", "--output", required=True, type=_file, help="Image to write.")
@click.pass_obj
def wrap(home: Home, file: Path, device: Path, output: Path) -> None:
    """Write the encrypted IMAGE with its content key wrapped for one device (TLV 0x32).

    That is what imgtool's --encrypt writes, and a stock MCUboot takes. Modules of ours get the same file
    for all, and the wrapped key beside it. The content key is in the data directory that signed IMAGE.
    """
    from cellward.core.image.encryption import with_wrapped_key
    from cellward.sign.wrapping import wrap_for

    data = _read_image(file)
    key = _public_key(home, str(device)).require([Algorithm.P256], str(device))
    wrapped = wrap_for(hashlib.sha256(data).hexdigest(), key, bootstrap.content_keys(home))
    bootstrap.write_file(output, with_wrapped_key(data, wrapped, str(file)))
    click.echo(f"wrote {output} for the device with key {key.fingerprint[:16]}")
