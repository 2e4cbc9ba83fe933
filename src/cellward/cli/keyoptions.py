"""What the `keys` commands share: options, key files, drafts of the register."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellward import bootstrap
from cellward.config import Home
from cellward.core.errors import Code, FormatRefused, Unavailable
from cellward.core.keys import Algorithm, KeyStage, PublicKey, Role
from cellward.ports.token_uri import TokenUri

if TYPE_CHECKING:
    from cellward.core.attestation import Custody
    from cellward.core.register import Document, Register

path = click.Path(readable=False, path_type=Path)  # an unreadable file is a refusal, not bad usage
token = click.option(
    "--token",
    envvar="CELLWARD_TOKEN",
    default=bootstrap.default_token,
    show_default="pkcs11:token=cellward, made in the data directory",
    help="PKCS#11 URI of the token.",
)
stage = click.option(
    "--stage",
    type=click.Choice([each.value for each in KeyStage]),
    default=KeyStage.PRODUCTION.value,
    show_default=True,
    help="What the key may sign for.",
)
years = click.option(
    "--years",
    type=click.IntRange(1, 30),
    default=5,
    show_default=True,
    help="How long the key may sign.",
)
algorithm = click.option(
    "--algorithm",
    type=click.Choice(["p256", "p384", "rsa-3072", "ed25519"]),
    help="Modules verify P-256 and RSA-3072.  [default: the role's]",
)
draft = click.option(
    "--draft", "draft_file", type=path, help="File to write the next version of the register to."
)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def validity(count: int) -> tuple[datetime, datetime]:
    at = now()
    return at, at + timedelta(days=365 * count)


def algorithm_of(role: Role, name: str | None) -> Algorithm:
    return role.algorithm if name is None else Algorithm(name)


class Moment(click.ParamType[datetime]):
    """2026-11-24, or 2026-11-24T05:31:00Z; UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"):
            try:
                return datetime.strptime(str(value), form).replace(tzinfo=UTC)
            except ValueError:
                continue
        raise click.BadParameter(
            f"{value!r} is no time such as 2026-11-24 or 2026-11-24T05:31:00Z", ctx=ctx, param=param
        )


def newest(home: Home) -> "Document":
    """The register of this data directory, verified. Raises Unavailable (register.missing)."""
    from cellward.core import register
    from cellward.sign.keyring import no_register

    if bootstrap.key_register(home) is None:
        raise no_register("key register")
    return register.decode(bootstrap.register_versions(home)[-1])


def write_draft(home: Home, file: Path, made: "Register") -> str:
    """Begin a ceremony for this version; returns the lines to show."""
    from cellward.cli.registerview import ceremony_lines
    from cellward.core import ceremony

    begun = ceremony.begin(bootstrap.register_versions(home), made)
    bootstrap.write_file(file, begun.encode())
    lines = "\n".join(ceremony_lines(begun))
    return f"{lines}\nwrote {file}: root key holders sign it with `cellward keys ceremony sign {file}`"


def draft_facts(home: Home, made: "Register") -> dict[str, object]:
    from cellward.cli.registerview import ceremony_facts
    from cellward.core import ceremony

    return ceremony_facts(ceremony.begin(bootstrap.register_versions(home), made))


def tell(file: Path, home: Home, made: "Register", *, json_wanted: bool) -> None:
    lines = write_draft(home, file, made)
    click.echo(json.dumps(draft_facts(home, made), indent=2) if json_wanted else lines)


def given_key(home: Home, text: str) -> tuple[str, PublicKey, "Custody | None"]:
    """Name, key, and what its token says: from an attestation, a PEM file, or a PKCS#11 URI.

    Raises FormatRefused (key.format, metadata.*, token.uri), TrustRefused (document.signature), token.*,
    storage.*.
    """
    if ":" in text and not Path(text).exists():
        return _from_token(home, text)
    from cellward.cli.keyfiles import read_key
    from cellward.core import attestation

    data = bootstrap.read_file(Path(text), attestation.MAX_SIZE)
    if not data.startswith(b"{"):
        return Path(text).stem, read_key(Path(text)), None
    read = attestation.decode(data, text)
    return read.name, read.key, read.custody


def _from_token(home: Home, uri: str) -> tuple[str, PublicKey, "Custody | None"]:
    from cellward.sign.ceremony import custody

    label = TokenUri.parse(uri).object
    if label is None:
        raise FormatRefused(Code.TOKEN_URI, "key URI", expected="object=…", found="none")
    store = bootstrap.key_store(home, uri)
    stored = store.find(label)
    if stored is None:
        raise Unavailable(
            Code.TOKEN_KEY_MISSING,
            f"key {label}",
            expected="a key with that label",
            found=", ".join(store.labels()[:20]) or "no key",
        )
    return label, stored.public_key, custody(store, stored)


def print_lines(lines: Iterable[str], echo: Callable[[str], None] = click.echo) -> None:
    for line in lines:
        echo(line)
