"""`cellward repo`: publish images, order them for vehicles."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.keyfiles import read_key
from cellward.config import Home
from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.metadata import Factory, Target, encode_factory
from cellward.ports.signer import Role
from cellward.publish.gate import MAX_IMAGE_SIZE
from cellward.sign.wrapping import content_key


def _now() -> datetime:
    return datetime.now(UTC)


@click.group()
def repo() -> None:
    """Publish images and order them for vehicles."""


@repo.command()
@options.as_json
@click.pass_obj
def init(home: Home, as_json: bool) -> None:
    """Make both repositories, and the certificates of both CAs. What is there already stays."""
    now = _now()
    images = bootstrap.image_repository(home)
    images.init(now)
    with bootstrap.registry(home) as held:
        director = bootstrap.director(home, held)
        director.init(now)
    bootstrap.authorities(home, now)
    found = {
        str(roots.repository): {"root": root.version, "expires": f"{root.expires:%Y-%m-%d}"}
        for roots in (images.roots, director.roots)
        for root in (roots.newest().signed,)
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, root in found.items():
        click.echo(f"{name} repository: root version {root['root']}, until {root['expires']}")


@repo.command()
@click.argument("images", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), metavar="IMG...")
@click.option(
    "--release",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Publish this release's images instead: checked, approved, not withdrawn.",
)
@click.option(
    "--release-key",
    "release_keys",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="PEM of a key that releases are signed with.  [default: the key register's, or the token's]",
)
@click.option(
    "--approver",
    "approvers",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="PEM of somebody who may approve a release; may be repeated.  [default: the key register's]",
)
@options.as_json
@click.pass_obj
def publish(
    home: Home,
    images: tuple[Path, ...],
    folder: Path | None,
    release_keys: tuple[Path, ...],
    approvers: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Publish signed images, all of them in one new version or, if one is refused, none.

    Where the key register says who approves releases, nothing but a release is published. The gate asks two
    verifiers, Python's and the module's own ROM (which needs cellward[module]): both must take the image. It
    refuses a counter below the highest published one, and other bytes under a published name.
    """
    if bool(images) == (folder is not None):
        raise click.UsageError("name images, or a release")
    if folder is not None:
        from cellward.cli.release import publish_release

        targets = publish_release(home, folder, release_keys, approvers)
    else:
        from cellward.publish.releases import check_needs_no_release

        names = ", ".join(path.name for path in images)
        check_needs_no_release(bootstrap.keyring(home).trusted(Role.APPROVAL), names)
        files = {str(path): bootstrap.read_file(path, MAX_IMAGE_SIZE) for path in images}
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        bootstrap.released(home).check_not_withdrawn(digests)
        held = bootstrap.content_keys(home)
        targets = bootstrap.image_repository(home).publish(
            files, bootstrap.gate(home), _now(), lambda data: content_key(data, held)
        )
    if as_json:
        click.echo(json.dumps([_facts(target) for target in targets], indent=2))
        return
    for target in targets:
        click.echo(f"published {target.name}")


@repo.command("list")
@options.as_json
@click.pass_obj
def list_(home: Home, as_json: bool) -> None:
    """What is published, and when each role's metadata expires."""
    repository = bootstrap.image_repository(home)
    targets, expiries = repository.targets(), repository.expiries()
    if as_json:
        until = {role: f"{time:%Y-%m-%dT%H:%M:%SZ}" for role, time in expiries.items()}
        click.echo(json.dumps({"targets": [_facts(t) for t in targets], "expires": until}, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("target", "counter", "bytes", "sha256", box=box.SIMPLE_HEAD, pad_edge=False)
    for target in targets:
        size = f"{target.length:,}"
        table.add_row(f"[bold]{target.name}[/]", str(target.release_counter), size, target.sha256[:16])
    Console().print(table)
    now = _now()
    for role, time in expiries.items():
        late = "" if time > now else "  EXPIRED: run `cellward repo refresh`"
        click.echo(f"{role:<10} until {time:%Y-%m-%d %H:%M} UTC{late}")


@repo.command()
@click.argument("vehicle")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@options.as_json
@click.pass_obj
def assign(home: Home, vehicle: str, targets: tuple[str, ...], as_json: bool) -> None:
    """Order targets for every ECU of VEHICLE that has their hardware and stage.

    The content key of an encrypted one is wrapped for each module; that needs the module's registration
    (`cellward server register`).
    """
    from cellward.rollout.orders import order

    wanted = _published(bootstrap.image_repository(home).targets(), targets)
    bootstrap.released(home).check_not_withdrawn({target.name: target.sha256 for target in wanted})
    with bootstrap.registry(home) as held:
        orders = order(
            held, vehicle, wanted, lambda target, serial: bootstrap.wrap_for(home, target.sha256, serial)
        )
    if as_json:
        facts = [{"ecu_id": made.ecu_id, "target": made.target.name} for made in orders]
        click.echo(json.dumps({"vehicle": vehicle, "orders": facts}, indent=2))
        return
    for made in orders:
        click.echo(f"{vehicle}: {made.ecu_id} is to run {made.target.name}")


def _published(published: Sequence[Target], names: Sequence[str]) -> list[Target]:
    by_name = {target.name: target for target in published}
    for name in names:
        if name not in by_name:
            raise PolicyRefused(
                Code.TARGET_MISSING,
                f"target {name!r}"[:120],
                expected="a published one",
                found="none of that name",
                advice="see `cellward repo list`",
            )
    return [by_name[name] for name in names]


@repo.command()
@options.as_json
@click.pass_obj
def refresh(home: Home, as_json: bool) -> None:
    """Sign again what has less than half of its lifetime left."""
    now = _now()
    repository = bootstrap.image_repository(home)
    repository.renew(now)
    with bootstrap.registry(home) as held:
        bootstrap.director(home, held).roots.renew(now)
    until = {role: f"{time:%Y-%m-%dT%H:%M:%SZ}" for role, time in repository.expiries().items()}
    if as_json:
        click.echo(json.dumps({"expires": until}, indent=2))
        return
    for role, time in until.items():
        click.echo(f"{role:<10} until {time}")


@repo.command()
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option(
    "--url", "urls", multiple=True, default=["https://127.0.0.1:8443"], show_default=True,
    help="Devices' listener; may be repeated.",
)  # fmt: skip
@click.option(
    "--enrol-url", "enrol_urls", multiple=True, default=["https://127.0.0.1:8444"], show_default=True,
    help="Enrolment listener; may be repeated.",
)  # fmt: skip
@click.option(
    "--release-key", "release_keys", multiple=True, type=click.Path(dir_okay=False, path_type=Path),
    help="PEM: install only images of releases signed by this key; may be repeated.",
)  # fmt: skip
@click.option(
    "--calibration-key", "calibration_keys", multiple=True, type=click.Path(dir_okay=False, path_type=Path),
    help="PEM: apply calibrations signed by this key; may be repeated.  [default: the token's, if any]",
)  # fmt: skip
@click.pass_obj
def factory(
    home: Home,
    output: Path,
    urls: tuple[str, ...],
    enrol_urls: tuple[str, ...],
    release_keys: tuple[Path, ...],
    calibration_keys: tuple[Path, ...],
) -> None:
    """What a pack controller leaves the plant with: CAs, roots, firmware keys, where to ask.

    With release keys it installs only what they have released. All of them that a release names must have
    signed it: name the ML-DSA key too where releases carry two signatures.
    """
    authorities = bootstrap.authorities(home, _now())
    with bootstrap.registry(home) as held:
        repositories = bootstrap.repositories(home, held)
        director_root = repositories.director.roots.data()
    statement = repositories.server_cas.newest()
    made = Factory(
        server_ca=authorities.server_ca.pem,
        server_ca_version=statement.version if statement else 0,
        device_ca=authorities.device_ca.pem,
        director_root=director_root,
        image_root=repositories.images.roots.data(),
        firmware_keys=bootstrap.firmware_keys(home),
        director_urls=_https(urls),
        image_urls=_https(urls),
        enrol_urls=_https(enrol_urls),
        release_keys=tuple(read_key(path) for path in release_keys),
        time_keys=(bootstrap.role_signer(home, Role.TIME).public_key,),
        calibration_keys=bootstrap.calibration_keys(home, [read_key(path) for path in calibration_keys]),
    )
    bootstrap.write_file(output, encode_factory(made))
    click.echo(f"wrote {output}")


def _https(urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        if not url.startswith("https://"):
            raise FormatRefused(Code.CONFIG, f"URL {url!r}", expected="https://HOST:PORT", found="another")
    return urls


def _facts(target: Target) -> dict[str, object]:
    return {"target": target.name, "bytes": target.length, "sha256": target.sha256, **target.custom()}
