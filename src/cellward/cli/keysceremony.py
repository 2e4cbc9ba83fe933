"""`cellward keys ceremony`: root key holders agree on a version of the register by passing a file on."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellward import bootstrap
from cellward.cli import keyoptions, options
from cellward.config import Home
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import KeyStage, Role

if TYPE_CHECKING:
    from cellward.core.ceremony import Ceremony
    from cellward.core.register import Entry, Register

_file = click.argument("file", type=keyoptions.path)


@click.group()
def ceremony() -> None:
    """Agree on the key register: begin a draft, sign it in turn, finish."""


@ceremony.command()
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="[NAME=]KEY",
    help="A holder's root key: attestation, PEM file or PKCS#11 URI; once for each.  [default: as before]",
)
@click.option(
    "--threshold", type=click.IntRange(1, 8), help="How many must agree.  [default: as before, or all]"
)
@click.option(
    "--key",
    "others",
    multiple=True,
    metavar="ROLE=KEY",
    help="A key that is not in the maker's token, such as approval=PEM; may be repeated.",
)
@click.option(
    "--development", multiple=True, metavar="NAME", help="Which keys of the token are development keys."
)
@click.option("--without-token", is_flag=True, help="Enter no key of the maker's token.")
@keyoptions.years
@keyoptions.token
@click.option("-o", "--output", required=True, type=keyoptions.path, help="Draft to write and pass on.")
@options.as_json
@click.pass_obj
def begin(
    home: Home,
    roots: tuple[str, ...],
    threshold: int | None,
    others: tuple[str, ...],
    development: tuple[str, ...],
    without_token: bool,
    years: int,
    token: str,
    output: Path,
    as_json: bool,
) -> None:
    """Draft the next version of the register: another root, and keys that are new.

    Every key of the maker's token is entered that the register does not know yet, but no root key: those are
    the holders', and given with --root.
    """
    holders = [_entry(home, Role.ROOT, text, years) for text in roots]
    given = []
    for text in others:
        role, _, key = text.partition("=")
        if role not in {each.value for each in Role} or role == Role.ROOT or not key:
            raise click.UsageError(f"--key {text}: ROLE=KEY with a role other than root")
        given.append(_entry(home, Role(role), key, years))
    held = [] if without_token else _of_token(home, token, years, development)
    made = _drafted(home, holders, given, held, threshold)
    keyoptions.tell(output, home, made, json_wanted=as_json)


def _entry(home: Home, role: Role, text: str, years: int) -> "Entry":
    from cellward.core.attestation import NAME
    from cellward.sign.ceremony import entry_of

    name, equals, rest = text.partition("=")
    named = bool(equals) and NAME.fullmatch(name) is not None
    found, key, kept = keyoptions.given_key(home, rest if named else text)
    label = name if named else found
    if not NAME.fullmatch(label):
        raise FormatRefused(
            Code.KEY_FORMAT, f"name of key {text[:64]}", expected=NAME.pattern, found=repr(label[:64])
        )
    return entry_of(key, label, role, KeyStage.PRODUCTION, keyoptions.validity(years), kept)


def _of_token(home: Home, token: str, years: int, development: tuple[str, ...]) -> "list[Entry]":
    from cellward.sign.ceremony import custody, entry_of
    from cellward.sign.keys import list_roles, named_key

    store = bootstrap.key_store(home, token)
    for name in development:
        named_key(store, name)
    return [
        entry_of(
            row.key.public_key,
            row.key.label,
            row.role,
            KeyStage.DEVELOPMENT if row.key.label in development else KeyStage.PRODUCTION,
            keyoptions.validity(years),
            custody(store, row.key),
        )
        for row in list_roles(store)
        if row.role is not Role.ROOT and not row.role.personal
    ]


def _drafted(
    home: Home, roots: "list[Entry]", given: "list[Entry]", held: "list[Entry]", threshold: int | None
) -> "Register":
    """`held`: the token's, of which only new ones are entered; who is `given` must be new."""
    from cellward.core import register

    at = keyoptions.now()
    if bootstrap.key_register(home) is None:
        if not roots:
            raise click.UsageError("the first register needs its root keys: --root, once for each holder.")
        return register.first([*roots, *given, *held], threshold or len(roots), at)
    before = keyoptions.newest(home)
    known = {entry.fingerprint for entry in before.register.entries}
    others = [*given, *(entry for entry in held if entry.fingerprint not in known)]
    if not roots and not others and threshold is None:
        raise click.UsageError("nothing changes: the register knows every key of the token.")
    wanted = before.register.root.threshold if threshold is None else threshold
    return register.with_root(before, roots or before.register.roots(), wanted, others, at)


@ceremony.command()
@_file
@options.as_json
def show(file: Path, as_json: bool) -> None:
    """What FILE is about to change, in plain words, and who has signed it."""
    from cellward.cli.registerview import ceremony_facts, ceremony_lines

    read = _read(file)
    if as_json:
        click.echo(json.dumps(ceremony_facts(read), indent=2))
        return
    keyoptions.print_lines(ceremony_lines(read))


@ceremony.command()
@_file
@keyoptions.token
@click.option("--key", default=Role.ROOT.value, show_default=True, help="Name of the root key in the token.")
@click.option("--holder", required=True, help="Who signs, for the record.")
@click.option(
    "--fingerprint",
    help="Of the draft that was agreed on, 16 digits or more, as told aloud.  [default: asked]",
)
@click.option("-o", "--output", type=keyoptions.path, help="File to write.  [default: FILE]")
@click.pass_obj
def sign(
    home: Home,
    file: Path,
    token: str,
    key: str,
    holder: str,
    fingerprint: str | None,
    output: Path | None,
) -> None:
    """Sign the draft in FILE with a root key, and the record of who did it, when, with which token."""
    from cellward.cli.registerview import ceremony_lines
    from cellward.core.ceremony import check_grown_from
    from cellward.sign.ceremony import Holder, sign_draft
    from cellward.sign.keys import named_key

    read = _read(file)
    check_grown_from(read, bootstrap.register_versions(home))
    keyoptions.print_lines(ceremony_lines(read), lambda line: click.echo(line, err=True))
    agreed = fingerprint if fingerprint is not None else _asked()
    store = bootstrap.key_store(home, token)
    stored = named_key(store, key)
    signer = bootstrap.logged(
        home, store.signer(key), Role.ROOT, "register", f"key register {read.draft.register.version}"
    )
    made = sign_draft(read, Holder(_name(holder), store, stored, signer), agreed, keyoptions.now())
    bootstrap.write_file(output or file, made.encode())
    rest = "; ".join(made.step.missing) or "complete: `cellward keys ceremony finish`"
    click.echo(f"signed version {made.draft.register.version} as {holder}; {rest}")


def _name(holder: str) -> str:
    from cellward.core.attestation import NAME

    if not NAME.fullmatch(holder):
        raise FormatRefused(
            Code.CEREMONY_HOLDER,
            "name of the holder",
            expected="1 to 64 letters, digits, spaces and . _ @ + -",
            found=repr(holder[:64]),
        )
    return holder


def _asked() -> str:
    """From the sheet in the holder's hand; what the screen shows is no second source."""
    if not sys.stdin.isatty():
        raise TrustRefused(
            Code.CEREMONY_FINGERPRINT,
            "draft",
            expected="--fingerprint, or somebody at the terminal",
            found="neither",
        )
    return str(click.prompt("First 16 digits of the fingerprint that was agreed on", err=True))


@ceremony.command()
@_file
@click.option("-o", "--output", type=keyoptions.path, help="Copy of the register to write.")
@click.option("--transcript", type=keyoptions.path, help="Copy of the signed transcript to write.")
@click.pass_obj
def finish(home: Home, file: Path, output: Path | None, transcript: Path | None) -> None:
    """Check the signatures and put the register in force in this data directory, transcript included."""
    read = _read(file)
    bootstrap.install_register(home, read)
    version = read.draft.register.version
    names = ", ".join(each.record.holder for each in read.records)
    click.echo(f"key register {version} is in force, agreed by {names}")
    click.echo(f"  register     {home.key_register}")
    click.echo(f"  transcript   {home.ceremonies / f'{version}.jsonl'}")
    click.echo(f"  fingerprint  {read.draft.fingerprint}")
    for copy, data in ((output, read.chain), (transcript, read.transcript)):
        if copy is not None:
            bootstrap.write_file(copy, data)


def _read(file: Path) -> "Ceremony":
    from cellward.core import ceremony as files
    from cellward.core.register import MAX_FILE

    return files.decode(bootstrap.read_file(file, MAX_FILE), str(file))
