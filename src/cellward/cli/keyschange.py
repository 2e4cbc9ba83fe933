"""`cellward keys` rotate, revoke, revoke-slot, attest."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellward import bootstrap
from cellward.cli import keyoptions, options
from cellward.config import Home
from cellward.core.errors import Code, PolicyRefused
from cellward.core.keys import KeyStage, Role

if TYPE_CHECKING:
    from cellward.core.register import Entry, Register
    from cellward.ports.signer import KeyStore, StoredKey

_output = click.option("-o", "--output", required=True, type=keyoptions.path, help="File to write.")


@click.command()
@click.argument("role", type=click.Choice([role.value for role in Role if role is not Role.ROOT]))
@click.option(
    "--key", help="Which key is replaced, by name or fingerprint.  [default: the role's active one]"
)
@click.option("--name", help="Of the new key, ROLE-NAME.  [default: the next free number]")
@keyoptions.algorithm
@keyoptions.stage
@keyoptions.years
@click.option(
    "--overlap-days",
    type=click.IntRange(0, 3650),
    default=30,
    show_default=True,
    help="How long the old key may still sign.",
)
@keyoptions.token
@_output
@options.as_json
@click.pass_obj
def rotate(
    home: Home,
    role: str,
    key: str | None,
    name: str | None,
    algorithm: str | None,
    stage: str,
    years: int,
    overlap_days: int,
    token: str,
    output: Path,
    as_json: bool,
) -> None:
    """Make the successor of a ROLE's key in the token, and draft the register in which it takes over.

    The new key signs nothing, and the old one goes on, until the root has agreed. Root keys change with
    `cellward keys ceremony begin --root`.
    """
    from cellward.core import register
    from cellward.sign.ceremony import custody, entry_of

    before, purpose, wanted = keyoptions.newest(home), Role(role), KeyStage(stage)
    old = _replaced(before.register, purpose, wanted, key)
    store = bootstrap.key_store(home, token)
    stored = _successor(store, before.register, purpose, name, algorithm)
    entry = entry_of(
        stored.public_key, stored.label, purpose, wanted, keyoptions.validity(years), custody(store, stored)
    )
    at = keyoptions.now()
    made = register.rotated(before, old.fingerprint, entry, at + timedelta(days=overlap_days), at)
    keyoptions.tell(output, home, made, json_wanted=as_json)


def _replaced(register: "Register", purpose: Role, stage: KeyStage, key: str | None) -> "Entry":
    if key is not None:
        found = register.named(key)
        if (found.purpose, found.stage) != (purpose, stage):
            raise PolicyRefused(
                Code.KEY_PURPOSE if found.purpose is not purpose else Code.KEY_STAGE,
                f"key {found}",
                expected=f"a {stage} key for {purpose}",
                found=f"a {found.stage} key for {found.purpose}",
            )
        return found
    active = [entry for entry in register.of(purpose, stage) if entry.active]
    if len(active) != 1:
        raise PolicyRefused(
            Code.REGISTER_AMBIGUOUS if active else Code.KEY_UNKNOWN,
            f"the {stage} key for {purpose}",
            expected="one active key",
            found=", ".join(map(str, active)) or "none",
            advice="name it with --key" if active else "make one with `cellward keys new --draft`",
        )
    return active[0]


def _successor(
    store: "KeyStore", register: "Register", purpose: Role, name: str | None, algorithm: str | None
) -> "StoredKey":
    """A new key; or the one that a rotation that was cut short has made, which no register knows yet."""
    from cellward.sign.keys import key_name, new_key, next_name, role_labels

    known = {entry.fingerprint for entry in register.entries}
    labels = [label for label in role_labels(store, purpose) if re.fullmatch(rf"{purpose}-\d+", label)]
    wanted = next_name(store, purpose) if name is None else key_name(purpose, name)
    for label in labels if name is None else [wanted]:
        held = store.find(label)
        if (
            held is not None
            and held.public_key.fingerprint not in known
            and algorithm in (None, held.public_key.algorithm.value)
        ):
            return held
    return new_key(store, purpose, wanted, keyoptions.algorithm_of(purpose, algorithm)).key


@click.command()
@click.argument("key")
@click.option("--reason", required=True, help="Why, in one line; everybody reads it.")
@click.option(
    "--at", type=keyoptions.Moment(), help="Since when it may be in other hands (UTC).  [default: now]"
)
@click.option("--even-last", is_flag=True, help="Even where no other key of its purpose is left to sign.")
@click.option("--threshold", type=click.IntRange(1, 8), help="Of the root, once a root key has left it.")
@_output
@options.as_json
@click.pass_obj
def revoke(
    home: Home,
    key: str,
    reason: str,
    at: datetime | None,
    even_last: bool,
    threshold: int | None,
    output: Path,
    as_json: bool,
) -> None:
    """Draft the register in which KEY (name or fingerprint) is revoked.

    What it signed counts only where the signing log has it from before --at. Modules in the field learn of it
    by `keys revoke-slot`, which makes their own file.
    """
    from cellward.core import register
    from cellward.core.attestation import PLAIN

    if not reason or not PLAIN.fullmatch(reason):
        raise click.UsageError("--reason: one line of up to 128 printable ASCII characters.")
    before = keyoptions.newest(home)
    found, now = before.register.named(key), keyoptions.now()
    made = register.revoked(
        before,
        found.fingerprint,
        reason,
        at or now,
        now,
        even_last=even_last,
        threshold=threshold,
    )
    keyoptions.tell(output, home, made, json_wanted=as_json)
    if found.purpose is Role.FIRMWARE:
        click.echo(
            f"modules: `cellward keys revoke-slot {found.fingerprint} -o FILE` makes what their fuses take",
            err=True,
        )


@click.command("revoke-slot")
@click.argument("key")
@keyoptions.token
@click.option(
    "--root-key",
    "root_keys",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="PEM of every key of the quorum that the modules hold. [default: the root role's alone]",
)
@click.option("--root-threshold", type=click.IntRange(1, 4), default=1, show_default=True)
@click.option("--with", "begun", type=keyoptions.path, help="A revocation of KEY that others have signed.")
@click.option("--key", "root_name", default=Role.ROOT.value, show_default=True, help="Name of the root key.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write."
)
@click.pass_obj
def revoke_slot(
    home: Home,
    key: str,
    token: str,
    root_keys: tuple[Path, ...],
    root_threshold: int,
    begun: Path | None,
    root_name: str,
    output: Path,
) -> None:
    """Revoke the firmware key KEY (PEM, or its SHA-256 in hex) in every module that is given the file.

    Signed by the root quorum: each holder adds a signature to the file of the one before (--with), until it
    has as many as the modules want. There is no way back: a module that has taken it never boots what KEY
    signed again.
    """
    from cellward.cli.keyfiles import key_hash, quorum
    from cellward.core.revocation import MAX_SIZE, Quorum
    from cellward.sign.keys import key_name
    from cellward.sign.revocation import add_signature, start

    digest = key_hash(key)
    key_of_root = bootstrap.key_store(home, token).signer(key_name(Role.ROOT, root_name))
    root = bootstrap.logged(home, key_of_root, Role.ROOT, "revocation", f"slot key {digest.hex()}")
    if begun is not None:
        if root_keys or root_threshold != 1:
            raise click.UsageError("--with FILE: the quorum is the file's.")
        held = bootstrap.read_file(begun, MAX_SIZE)
    else:
        known = quorum(root_threshold, root_keys) if root_keys else Quorum.of(1, (root.public_key,))
        held = start(known, digest)
    made, missing = add_signature(held, digest, root)
    bootstrap.write_file(output, made)
    rest = f"; {missing} signatures are missing: hand it to the next holder" if missing else ""
    click.echo(f"wrote {output}: revokes key {digest.hex()[:16]}{rest}")


@click.command()
@click.argument("names", metavar="[NAME]…", nargs=-1)
@keyoptions.token
@click.option("--challenge", default="", help="Text that the attestation must repeat, so that it is new.")
@click.option("-o", "--output", type=keyoptions.path, help="File to write: one attestation a line.")
@options.as_json
@click.pass_obj
def attest(
    home: Home, names: tuple[str, ...], token: str, challenge: str, output: Path | None, as_json: bool
) -> None:
    """What the token says of each key, signed by that key: it is there, and this is how it is kept.

    A holder's attestation is what `keys ceremony begin --root` takes best.
    """
    from cellward.core import attestation
    from cellward.core.attestation import PLAIN
    from cellward.sign.ceremony import attest as made
    from cellward.sign.keys import list_roles, named_key

    if not PLAIN.fullmatch(challenge):
        raise click.UsageError("--challenge: one line of up to 128 printable ASCII characters.")
    store = bootstrap.key_store(home, token)
    stored = [named_key(store, name) for name in names] or [row.key for row in list_roles(store)]
    lines = [made(store, key, store.signer(key.label), keyoptions.now(), challenge) for key in stored]
    if output is not None:
        bootstrap.write_file(output, b"".join(lines))
    read = [attestation.decode(line, "attestation", challenge) for line in lines]
    if as_json:
        click.echo(
            json.dumps(
                [
                    {"name": each.name, "fingerprint": each.key.fingerprint, "challenge": each.challenge}
                    | each.custody.tree()
                    for each in read
                ],
                indent=2,
            )
        )
        return
    for each in read:
        said = each.custody
        inside = "made inside, never outside" if said.attributes.confined_from_birth else "COULD BE OUTSIDE"
        where = f"{said.token.label}, {said.token.model}, serial {said.token.serial}"
        click.echo(f"{each.name:<14} {each.key.fingerprint[:16]}  {inside} ({where})")
    if output is not None:
        click.echo(f"wrote {output}")
