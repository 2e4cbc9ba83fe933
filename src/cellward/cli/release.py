"""`cellward release`: what belongs together, who made it, who approved it."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.keyfiles import read_key
from cellward.cli.lint import lint
from cellward.config import Home
from cellward.core import calibration
from cellward.core import release as releases
from cellward.core.errors import Code, FormatRefused
from cellward.core.image import Version, decode
from cellward.core.image.place import place
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.release import File, Part, Release, Requirement
from cellward.ports.signer import Role

if TYPE_CHECKING:
    from cellward.core.metadata import Target
    from cellward.publish.releases import Folder

_file = click.Path(readable=False, dir_okay=False, path_type=Path)
_folder = click.Path(file_okay=False, path_type=Path)
_release_keys = click.option(
    "--release-key",
    "release_keys",
    multiple=True,
    type=_file,
    help="PEM of a key that releases are signed with; may be repeated.  [default: the key register's, or "
    "the token's]",
)
_approvers = click.option(
    "--approver",
    "approvers",
    multiple=True,
    type=_file,
    help="PEM of somebody who may approve; may be repeated.  [default: the key register's]",
)
_REQUIREMENT = re.compile(r"([a-z0-9-]+):([a-z]+) needs ([a-z]+)>=(\S+)", re.ASCII)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@click.group()
def release() -> None:
    """Make a release of images and calibrations, check it, let somebody else approve it, withdraw it."""


release.add_command(lint)


@release.command()
@click.argument("name")
@click.option("--image", "images", multiple=True, type=_file, help="Signed image; may be repeated.")
@click.option(
    "--calibration", "calibrations", multiple=True, type=_file, help="Signed calibration; may be repeated."
)
@click.option("--notes", required=True, type=_file, help="Release notes.")
@click.option("--sbom", required=True, type=_file, help="CycloneDX in JSON, with each image's SHA-256.")
@click.option("--safety-impact", help="What the release changes about safety.")
@click.option("--no-safety-impact", is_flag=True, help="The assessment found none.")
@click.option("--security-fix", is_flag=True, help="It mends a vulnerability: its counters must rise.")
@click.option(
    "--require", "requires", multiple=True, help="'HARDWARE:OF needs NAME>=VERSION'; may be repeated."
)
@click.option("--key", help="URI of the release key.  [default: the token's release key]")
@click.option("--post-quantum", help="softkey:/FILE of an ML-DSA key that signs it too: in software, no HSM.")
@click.option("-o", "--output", required=True, type=_folder, help="Folder to make.")
@options.as_json
@click.pass_obj
def create(
    home: Home,
    name: str,
    images: tuple[Path, ...],
    calibrations: tuple[Path, ...],
    notes: Path,
    sbom: Path,
    safety_impact: str | None,
    no_safety_impact: bool,
    security_fix: bool,
    requires: tuple[str, ...],
    key: str | None,
    post_quantum: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Make the folder of release NAME: copies of its files, and release.json, signed over their hashes."""
    from cellward.sign.release import sign_release

    if (safety_impact is None) != no_safety_impact or not (safety_impact or "x").strip():
        raise click.UsageError("say --safety-impact TEXT, or --no-safety-impact")
    if not images and not calibrations:
        raise click.UsageError("say what it is a release of: --image FILE, --calibration FILE")
    given = (*images, *calibrations, notes, sbom)
    files = {path: bootstrap.read_file(path, releases.MAX_FILE_SIZE) for path in given}
    parts = [_part(path, files[path]) for path in images]
    parts += [_calibration_part(path, files[path]) for path in calibrations]
    made = Release(
        name=name,
        created=_now(),
        security_fix=security_fix,
        safety_impact=safety_impact or "",
        parts=tuple(parts),
        notes=File.of(notes.name, files[notes]),
        sbom=File.of(sbom.name, files[sbom]),
        requires=tuple(_requirement(text) for text in requires),
    )
    signers = [bootstrap.release_signer(home, key, "release", name)]
    signers += [bootstrap.release_signer(home, post_quantum, "release", name)] if post_quantum else []
    copies = {path.name: content for path, content in files.items()}
    data = _open(output).make(copies, lambda: sign_release(made, signers))
    _show(releases.decode(data), [signer.public_key for signer in signers], as_json)


def _part(path: Path, data: bytes) -> Part:
    decoded = decode(data, str(path))
    hardware, stage = place(decoded, str(path))
    return Part(File.of(path.name, data), hardware.name, stage.value, decoded.version, decoded.counter or 0)


def _calibration_part(path: Path, data: bytes) -> Part:
    found = calibration.decode(data, str(path))
    file = File.of(path.name, data)
    return Part(file, found.hardware, releases.CALIBRATION, found.version, found.counter)


def _requirement(text: str) -> Requirement:
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        raise FormatRefused(
            Code.CONFIG,
            f"--require {text!r}",
            expected="'HARDWARE:OF needs NAME>=VERSION', as in 'bms-m33:app needs calibration>=2.0.0'",
            found="another form",
        )
    hardware, of, name, version = match.groups()
    return Requirement(hardware, of, name, Version.parse(version))


@release.command()
@click.argument("folder", type=_folder)
@_release_keys
@options.as_json
@click.pass_obj
def show(home: Home, folder: Path, release_keys: tuple[Path, ...], as_json: bool) -> None:
    """What release.json in FOLDER says, if its signatures are good."""
    keys = _trusted(home, release_keys, out_of_use=True)
    _show(_open(folder).release(keys), keys, as_json)


@release.command()
@click.argument("folder", type=_folder)
@_release_keys
@_approvers
@options.as_json
@click.pass_obj
def check(
    home: Home, folder: Path, release_keys: tuple[Path, ...], approvers: tuple[Path, ...], as_json: bool
) -> None:
    """Hold everything in FOLDER against what a device would say of it, and against what is published.

    Signatures, files, images (by both verifiers), counters, calibrations, requirements, SBOM. Approvals are
    looked at where --approver, or the key register, says who may give one. Nothing is published.
    """
    from cellward.publish.releases import check_four_eyes, check_release

    opened, keys = _open(folder), _trusted(home, release_keys)
    gate = bootstrap.release_gate(home)
    found, files, targets = check_release(opened, keys, bootstrap.released(home), gate)
    passed = [
        f"{len(found.keys)} signatures" if len(found.keys) > 1 else "signature",
        f"{len(files)} files",
        *(f"{target.name}: both verifiers" for target in targets),
        "counters" + (" (a security fix: higher than before)" if found.security_fix else ""),
        f"requirements: the images', and {len(found.requires)} of its own",
        "SBOM: a component for every image",
    ]
    approving = _approving(home, approvers)
    if approving:
        approvals = check_four_eyes(found, opened, approving, same_hand=gate.same_hand)
        passed.append("approved by " + ", ".join(approval.approver for approval in approvals))
    if as_json:
        click.echo(json.dumps({"release": found.name, "id": found.id, "passed": passed}, indent=2))
        return
    click.echo(f"release {found.name} ({found.id[:16]}) may be published" + _unapproved(approving))
    click.echo("\n".join(f"  ✓ {line}" for line in passed))


def _unapproved(approvers: list[PublicKey]) -> str:
    return "" if approvers else " once somebody else has approved it (not looked at: --approver)"


@release.command()
@click.argument("folder", type=_folder)
@click.option("--key", help="URI of the approver's own key.  [default: the token's approval key]")
@click.option("--name", "approver", required=True, help="Who approves.")
@click.option("--statement", default="", help="What was looked at.")
@_release_keys
@click.pass_obj
def approve(
    home: Home, folder: Path, key: str | None, approver: str, statement: str, release_keys: tuple[Path, ...]
) -> None:
    """Approve the release in FOLDER, with a key in a token of one's own: not one that made the release.

    The files are held against the release first: what is approved is these bytes.
    """
    from cellward.publish.releases import open_release
    from cellward.sign.release import approve as sign_approval

    opened = _open(folder)
    found = open_release(opened, _trusted(home, release_keys), bootstrap.released(home))
    opened.files(found)
    signer = bootstrap.release_signer(home, key, "approval", f"{found.name} ({found.id[:16]})")
    data = sign_approval(found, signer, approver, statement, _now(), bootstrap.keyring(home).same_hand)
    name = releases.approval_file(signer.public_key)
    opened.store.write(name, data)
    click.echo(f"{approver} approves release {found.name} ({found.id[:16]}): {name}")


@release.command()
@click.argument("folder", type=_folder)
@click.option("--reason", required=True, help="Why it is not to be given out any more.")
@click.option("--key", help="URI of the release key.  [default: the token's release key]")
@_release_keys
@click.pass_obj
def withdraw(home: Home, folder: Path, reason: str, key: str | None, release_keys: tuple[Path, ...]) -> None:
    """Take a release back: from now on it is neither published nor ordered. There is no way to undo it.

    What vehicles have been ordered already stays ordered: order something else for them.
    """
    from cellward.sign.release import withdraw as sign_withdrawal

    opened, keys = _open(folder), _trusted(home, release_keys, out_of_use=True)
    found = opened.release(keys)

    def make() -> bytes:
        about = f"{found.name} ({found.id[:16]})"
        signer = bootstrap.release_signer(home, key, "withdrawal", about)
        return sign_withdrawal(found, keys, signer, reason, _now())

    bootstrap.released(home).withdraw(found, opened, keys, make)
    done = opened.withdrawal(found, keys)
    said = reason if done is None else done.reason
    click.echo(f"release {found.name} ({found.id[:16]}) is withdrawn: {said}")


@release.command()
@click.argument("file", type=_file)
@click.option(
    "--algorithm",
    type=click.Choice([Algorithm.ML_DSA_65.value, Algorithm.ML_DSA_87.value]),
    default=Algorithm.ML_DSA_65.value,
    show_default=True,
)
@click.option("--public", required=True, type=_file, help="Where its public half goes, as PEM.")
def softkey(file: Path, algorithm: str, public: Path) -> None:
    """Make an ML-DSA key in FILE (mode 0600), for `create --post-quantum softkey:FILE`: no HSM.

    Its signature is only ever one beside a token's: no token carries ML-DSA yet.
    """
    path = file.absolute()
    key = bootstrap.make_softkey(path, Algorithm(algorithm))
    bootstrap.write_file(public, key.pem())
    click.echo(f"softkey:{path}: {key.algorithm.display} {key.fingerprint[:32]}, in software, no HSM")


def _open(folder: Path) -> "Folder":
    from cellward.publish.releases import Folder

    return Folder(bootstrap.DirectoryStore(folder), str(folder))


def _trusted(home: Home, paths: Iterable[Path], *, out_of_use: bool = False) -> list[PublicKey]:
    """Raises key.*, register.*, token.* for the token's, where none is given."""
    return bootstrap.release_keys(home, [read_key(path) for path in paths], out_of_use=out_of_use)


def _approving(home: Home, paths: Iterable[Path]) -> list[PublicKey]:
    """Raises key.*, register.*."""
    return bootstrap.keyring(home).trusted(Role.APPROVAL, [read_key(path) for path in paths])


def _show(found: Release, keys: Iterable[PublicKey], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_facts(found), indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "counter", "bytes", "sha256", box=box.SIMPLE_HEAD, pad_edge=False)
    for part in found.parts:
        size = f"{part.file.length:,}"
        table.add_row(
            f"[bold]{part.title}[/]\n{part.file.name}", str(part.counter), size, part.file.sha256[:16]
        )
    Console().print(table)
    for need in found.requires:
        click.echo(f"{need.hardware} {need.of} needs {need.name} {need.at_least} or later")
    fix = "mends a vulnerability" if found.security_fix else "no security fix"
    click.echo(f"release {found.name}, {found.created:%Y-%m-%d %H:%M} UTC, {fix}")
    click.echo(f"  id       {found.id}")
    click.echo(f"  safety   {found.safety_impact or 'no impact'}")
    click.echo(f"  beside   {found.notes.name}, {found.sbom.name}")
    by = {key.fingerprint: key.algorithm for key in keys}
    for key in found.keys:
        said = _kind(by[key]) if key in by else "not known here, not verified"
        click.echo(f"  signed   {key}  {said}")


def _kind(algorithm: Algorithm) -> str:
    return algorithm.display + (" (software, no HSM)" if algorithm.post_quantum else "")


def _facts(found: Release) -> dict[str, object]:
    return {"id": found.id, **json.loads(found.encoded)}


def publish_release(
    home: Home, folder: Path, release_keys: tuple[Path, ...], approvers: tuple[Path, ...]
) -> "tuple[Target, ...]":
    """For `cellward repo publish --release`: everything is checked again, then all of it or nothing goes out.

    Raises what `release check` raises, and PolicyRefused (release.approval).
    """
    from cellward.publish.releases import publish

    return publish(
        _open(folder),
        _trusted(home, release_keys),
        _approving(home, approvers),
        bootstrap.released(home),
        bootstrap.image_repository(home),
        bootstrap.release_gate(home),
        _now(),
    )
