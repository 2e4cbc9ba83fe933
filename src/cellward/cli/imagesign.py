"""`cellward image sign`: by a key in a token, or with a signature that was made elsewhere."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.config import Home
from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.image import Custom, Dependency, Extras, KeyTlv, VerifiedImage, Version
from cellward.core.keys import KeyStage, Role
from cellward.core.slots import HARDWARE, Stage

if TYPE_CHECKING:
    from cellward.sign.build import Label
    from cellward.sign.firmware import Firmware

MAX_FIRMWARE = 128 * 1024 * 1024  # an ELF file with its debugging information
Facts = dict[str, object]

_file = click.Path(readable=False, path_type=Path)  # an unreadable file is a refusal, not bad usage


class _Number(click.ParamType[int]):
    """As imgtool takes them: 512, 0x200."""

    name = "integer"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(str(value), 0)
        except ValueError:
            self.fail(f"{value!r} is no number such as 512 or 0x200", param, ctx)


@dataclass(frozen=True)
class ByToken:
    """Sign with a key in a token."""

    output: Path
    key: str | None


@dataclass(frozen=True)
class Elsewhere:
    """The first step of two: write what another machine is to sign."""

    digest: Path
    public_key: Path


@dataclass(frozen=True)
class Attached:
    """The second: its signature into the image."""

    output: Path
    signature: Path
    public_key: Path


@dataclass(frozen=True)
class Request:
    """The options of the command, by their names."""

    firmware: Path
    version: str
    counter: int
    hardware: str
    stage: str
    key: str | None
    key_tlv: str
    dependencies: str | None
    boot_record: str | None
    custom_tlv: tuple[tuple[str, str], ...]
    header_size: int | None
    fill_gaps: bool
    encrypt: bool
    output: Path | None
    output_format: str | None
    hex_addr: int | None
    life: str | None
    digest_out: Path | None
    attach_signature: Path | None
    public_key: Path | None
    as_json: bool

    @cached_property
    def label(self) -> "Label":
        """Raises Refused (image.version, image.counter, image.tlv, image.header)."""
        from cellward.sign.build import Label, with_header_size

        extras = Extras(
            self.boot_record,
            () if self.dependencies is None else Dependency.parse(self.dependencies),
            tuple(Custom.parse(tag, value) for tag, value in self.custom_tlv),
        )
        board = with_header_size(HARDWARE[self.hardware], self.header_size)
        return Label(Version.parse(self.version), self.counter, board, Stage(self.stage), extras)

    @property
    def key_stage(self) -> KeyStage | None:
        return None if self.life is None else KeyStage(self.life)

    @property
    def way(self) -> ByToken | Elsewhere | Attached:
        """Raises UsageError for options that do not belong together."""
        given = {
            "-o": self.output,
            "--key": self.key,
            "--public-key": self.public_key,
            "--digest-out": self.digest_out,
            "--attach-signature": self.attach_signature,
        }
        names = {name for name, value in given.items() if value is not None}
        match self.output, self.public_key, self.digest_out, self.attach_signature:
            case Path() as output, None, None, None:
                return ByToken(output, self.key)
            case None, Path() as public_key, Path() as digest, None if self.key is None:
                return Elsewhere(digest, public_key)
            case Path() as output, Path() as public_key, None, Path() as signature if self.key is None:
                return Attached(output, signature, public_key)
        raise click.UsageError(
            "-o with or without --key, or --digest-out with --public-key, or --attach-signature with "
            f"--public-key and -o; here {', '.join(sorted(names)) or 'none of them'}."
        )


@click.command()
@click.argument("firmware", type=_file)
@click.option("--version", required=True, help="MAJOR.MINOR.REVISION[+BUILD].")
@click.option("--counter", required=True, type=int, help="Security counter: no device goes below it.")
@click.option(
    "--hardware", required=True, type=click.Choice(sorted(HARDWARE)), help="Module hardware it is for."
)
@click.option(
    "--stage",
    type=click.Choice([stage.value for stage in Stage]),
    default=Stage.APP.value,
    show_default=True,
)
@click.option("--key", help="Name of a firmware key, or a URI (docs/signers.md).  [default: firmware]")
@click.option(
    "--for",
    "life",
    type=click.Choice([stage.value for stage in KeyStage]),
    help="Which keys of the key register may sign it.  [default with a register: production]",
)
@click.option(
    "--key-tlv",
    type=click.Choice([which.value for which in KeyTlv]),
    default=KeyTlv.BOTH.value,
    show_default=True,
    help="Key TLVs: KEYHASH, the full PUBKEY, or both (boots here and on a stock MCUboot).",
)
@click.option("-d", "--dependencies", help='Images it needs: "(NUMBER, VERSION), …".')
@click.option("--boot-record", metavar="TYPE", help="Add a boot record for software of this type.")
@click.option(
    "--custom-tlv",
    nargs=2,
    multiple=True,
    metavar="TAG VALUE",
    help="Add a protected TLV: text, or bytes as 0x…; may be repeated.",
)
@click.option("-H", "--header-size", type=_Number(), help="Of firmware that is linked behind another header.")
@click.option(
    "--fill-gaps", is_flag=True, help="Let the image cover whole pages that the firmware leaves out."
)
@click.option(
    "--encrypt", is_flag=True, help="Encrypt it under a key of its own, kept in the data directory."
)
@click.option("-o", "--output", type=_file, help="Image to write.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["bin", "hex", "elf"]),
    help="Of the output.  [default: by its suffix]",
)
@click.option(
    "-x", "--hex-addr", type=_Number(), help="Address in hex and elf output.  [default: the slot's]"
)
@click.option("--digest-out", type=_file, help="Write what must be signed elsewhere, and stop.")
@click.option(
    "--attach-signature", type=_file, help="Take this signature, once it verifies, and sign nothing."
)
@click.option("--public-key", type=_file, help="PEM of the key that signs elsewhere.")
@options.as_json
@click.pass_obj
def sign(home: Home, /, **options: Any) -> None:
    """Sign FIRMWARE (.bin, .hex, .srec, .elf) with a key that stays in its token.

    Signature and digest are over the plaintext; of an encrypted image only the module sees it. With a
    key elsewhere: --digest-out first, then the same command with --attach-signature.
    """
    from cellward.sign.firmware import read_firmware
    from cellward.sign.output import output_format

    request = Request(**options)
    way = request.way
    if not isinstance(way, Elsewhere):
        output_format(str(way.output), request.output_format)  # before anything is signed
    label = request.label
    data = _read_firmware(request.firmware)
    read = read_firmware(
        str(request.firmware), data, label.hardware, label.stage, fill_gaps=request.fill_gaps
    )
    if isinstance(way, Elsewhere):
        said = _write_digest(home, request, read, way)
        headline = "to be signed elsewhere, then attached with the same options"
    else:
        made, by = _signed(home, request, read, way)
        said = _facts(read, made, by) | {"output": _write(home, request, made, way.output)}
        headline = f"signed {label.subject}"
    _tell(headline, said, request.as_json)


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


def _write_digest(home: Home, request: Request, read: "Firmware", way: Elsewhere) -> Facts:
    from cellward.cli.keyfiles import read_key
    from cellward.sign.build import plan

    key = read_key(way.public_key)
    bootstrap.keyring(home).check(key, Role.FIRMWARE, request.key_stage)
    unsigned = plan(read, request.label, key, encrypted=request.encrypt)
    bootstrap.write_file(way.digest, unsigned.digest)
    return _input(read) | {
        "digest": unsigned.digest.hex(),
        "key": f"{key.fingerprint[:16]} ({key.algorithm.display}) in {way.public_key}",
        "output": f"{way.digest}, {len(unsigned.digest)} bytes",
    }


def _signed(
    home: Home, request: Request, read: "Firmware", way: ByToken | Attached
) -> tuple[VerifiedImage, str]:
    """The image, and where its key is."""
    from cellward.sign.build import attach, plan, sign_image

    label, key_tlv, encrypted = request.label, KeyTlv(request.key_tlv), request.encrypt
    if isinstance(way, ByToken):
        signer = bootstrap.firmware_signer(home, way.key, label.subject, request.key_stage)
        return sign_image(read, label, signer, key_tlv, encrypted=encrypted), signer.uri
    from cellward.cli.keyfiles import read_key
    from cellward.sign.external import MAX_SIGNATURE, read_signature

    key = read_key(way.public_key)
    bootstrap.keyring(home).check(key, Role.FIRMWARE, request.key_stage)
    signature = read_signature(bootstrap.read_file(way.signature, MAX_SIGNATURE), key)
    unsigned = plan(read, label, key, encrypted=encrypted)
    return attach(unsigned, label, key, signature, key_tlv), str(way.public_key)


def _write(home: Home, request: Request, made: VerifiedImage, output: Path) -> str:
    """Returns what was written, in words."""
    from cellward.sign.output import encode_output, output_format

    data, label = made.image.data, request.label
    if request.encrypt:
        from cellward.sign.wrapping import seal

        data = seal(made, bootstrap.content_keys(home))
    fmt = output_format(str(output), request.output_format)
    slot = label.hardware.active_base + label.hardware.slot(label.stage).offset
    address = slot if request.hex_addr is None else request.hex_addr
    file = encode_output(fmt, data, address)
    bootstrap.write_file(output, file)
    where = "" if file is data else f" of {fmt} at 0x{address:08x}"
    return f"{output}, {len(file)} bytes{where}"


def _input(read: "Firmware") -> Facts:
    return {
        "input": f"{read.format}, {len(read.payload)} bytes at 0x{read.address:08x}",
        "gaps": ", ".join(f"{gap} read as erased flash" for gap in read.gaps),
    }


def _facts(read: "Firmware", made: VerifiedImage, by: str) -> Facts:
    return _input(read) | {"digest": made.image.digest.hex(), "key": f"{made.key.fingerprint[:16]} in {by}"}


def _tell(headline: str, said: Facts, as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(said, indent=2))
    else:
        click.echo(headline)
        click.echo("\n".join(f"  {name:<9} {value}" for name, value in said.items() if value))
