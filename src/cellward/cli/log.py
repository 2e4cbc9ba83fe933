"""`cellward log`: what was signed, and the proof that nobody changed the list afterwards."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.config import Home
from cellward.core.errors import Code, FormatRefused, Refused, Unavailable
from cellward.core.keys import PublicKey
from cellward.ports.signer import Role

if TYPE_CHECKING:
    from cellward.core.log.audit import Audited
    from cellward.core.log.checkpoint import Checkpoint
    from cellward.core.log.entry import Entry
    from cellward.core.log.note import NoteKey
    from cellward.ports.signinglog import LogSnapshot, SigningLog

LONG = 20_000  # entries: from here on a bar shows how far it is
MAX_KEY = 4096
MAX_CHECKPOINT = 64 * 1024  # with the lines of its witnesses

_file = click.Path(readable=False, path_type=Path)
_log = click.option(
    "--log",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the log, or of a copy of it.  [default: the data directory's]",
)
_key = click.option(
    "--key",
    help="The log's key: PEM file, or NAME+HASH+KEY (vkey).  [default: the role's in the token]",
)


@click.group()
def log() -> None:
    """The signing log: every use of a key is in it before the signature is out."""


@log.command()
@_log
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many, newest last.")
@options.as_json
@click.pass_obj
def show(home: Home, folder: Path | None, last: int, as_json: bool) -> None:
    """Print the newest entries. Nothing of them is verified: see `cellward log verify`."""
    snapshot = _open(home, folder).snapshot()
    rows = list(_entries(snapshot, max(0, snapshot.size - last)))
    if as_json:
        click.echo(json.dumps([_facts(index, entry) for index, entry in rows], indent=2))
    else:
        _print(rows)


@log.command()
@_log
@_key
@click.option(
    "--since", type=_file, multiple=True, help="An older checkpoint that you kept; may be repeated."
)
@options.as_json
@click.pass_obj
def verify(home: Home, folder: Path | None, key: str | None, since: tuple[Path, ...], as_json: bool) -> None:
    """Recompute everything, from every entry up to the checkpoint and to the older ones given by --since.

    Offline, and with the log's public key alone. What is newer than every checkpoint is only in order with
    itself.
    """
    from cellward.core.log.audit import audit

    opened = _open(home, folder)
    held = opened.checkpoint()
    files = {str(path): bootstrap.read_file(path, MAX_CHECKPOINT) for path in since}
    trusted = _trusted(home, key) if held is not None or files else None
    heads = {} if held is None else {"checkpoint": _head(held, trusted, "checkpoint")}
    heads |= {name: _head(data, trusted, name) for name, data in files.items()}
    _require_one_log(heads)
    snapshot = _snapshot(opened, heads.get("checkpoint"), copied=folder is not None)
    with _progress(snapshot.size, "verifying") as progress:
        found = audit(snapshot, tuple(heads.values()), progress)
    _report(found, heads, trusted, as_json)


@log.command()
@click.option("-o", "--output", type=_file, help="Where to put a copy: keep it where the maker cannot reach.")
@click.option("--origin", help="Name of the log, at its first checkpoint.  [default: made of its key]")
@options.as_json
@click.pass_obj
def checkpoint(home: Home, output: Path | None, origin: str | None, as_json: bool) -> None:
    """Sign the head of the log as it is now, after the one before was found in it."""
    from cellward.core.log import checkpoint as checkpoints
    from cellward.core.log.note import NoteKey
    from cellward.sign.checkpoint import seal

    signer = bootstrap.role_signer(home, Role.LOG)
    data = seal(bootstrap.signing_log(home), signer, origin)
    made = checkpoints.verify(data, signer.public_key, "checkpoint")
    if output is not None:
        bootstrap.write_file(output, data)
    facts = {
        "origin": made.origin,
        "size": made.size,
        "root": made.root.hex(),
        "key": NoteKey(made.origin, signer.public_key).vkey,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo(f"checkpoint of {made.size} entries" + (f" in {output}" if output else ""))
        click.echo("\n".join(f"  {name:<7} {value}" for name, value in facts.items()))


@log.command()
@click.argument("index", type=click.IntRange(0), required=False)
@click.option("--digest", help="The newest entry with this digest (hex, or sha256:…) instead of an INDEX.")
@_log
@_key
@click.option("-o", "--output", required=True, type=_file, help="Proof to write (*.tlog-proof).")
@click.pass_obj
def prove(
    home: Home, index: int | None, digest: str | None, folder: Path | None, key: str | None, output: Path
) -> None:
    """Write an entry with the proof that the log has it: to be verified offline, with the log's key alone.

    An entry that is newer than the newest checkpoint gets a new one, signed by the token.
    """
    from cellward.core.log.proof import LogProof

    if (index is None) == (digest is None):
        raise click.UsageError("give an INDEX, or --digest")
    opened = _open(home, folder)
    snapshot = opened.snapshot()
    if index is None:
        index = _find(snapshot, digest or "")
    entry = snapshot.entry(index)
    trusted = _trusted(home, key)
    data = _covering(home, opened, trusted, index, own=folder is None)
    head = _head(data, trusted, "checkpoint")
    proof = LogProof(entry, index, opened.snapshot().tree(head.size).inclusion(index), data)
    proved = proof.verified_by(trusted, f"entry {index}")
    bootstrap.write_file(output, proof.encode())
    click.echo(f"wrote {output}: entry {index} of {head.size}, {proved.entry.kind}, {proved.entry.subject}")


def _open(home: Home, folder: Path | None) -> "SigningLog":
    return bootstrap.log_of(folder) if folder is not None else bootstrap.signing_log(home)


def _snapshot(opened: "SigningLog", head: "Checkpoint | None", *, copied: bool) -> "LogSnapshot":
    """A copy may be of the static files alone, as a web server has them: then up to its checkpoint."""
    if copied and head is not None and not (opened.folder / "journal").exists():
        return opened.published(head.size)
    return opened.snapshot()


def _trusted(home: Home, key: str | None) -> "PublicKey | NoteKey":
    from cellward.core.log.note import NoteKey

    if key is None:
        try:
            return bootstrap.role_signer(home, Role.LOG).public_key
        except Unavailable as error:
            raise Unavailable(
                error.code,
                "key of the signing log",
                expected="--key with a PEM file or a vkey, or the role's key in the token",
                found=error.found or error.subject,
            ) from error
    if "+" in key and not Path(key).exists():
        return NoteKey.from_vkey(key)
    data = bootstrap.read_file(Path(key), MAX_KEY)
    try:
        if data.startswith(b"-----"):
            return PublicKey.from_pem(data)
        return NoteKey.from_vkey(data.decode(errors="replace"))
    except FormatRefused as error:
        raise error.about(key) from error


def _head(data: bytes, trusted: "PublicKey | NoteKey | None", what: str) -> "Checkpoint":
    from cellward.core.log import checkpoint as checkpoints

    assert trusted is not None  # noqa: S101  every caller that has a checkpoint has looked for its key
    return checkpoints.verify(data, trusted, what)


def _require_one_log(heads: "dict[str, Checkpoint]") -> None:
    origins = {head.origin for head in heads.values()}
    if len(origins) > 1:
        raise Refused(
            Code.LOG_ORIGIN,
            "checkpoints",
            expected="all of one log",
            found=", ".join(sorted(origins)),
        )


def _find(snapshot: "LogSnapshot", digest: str) -> int:
    from cellward.core.log.audit import find

    with _progress(snapshot.size, "searching") as progress:
        return find(snapshot, digest.lower(), lambda left: progress(snapshot.size - left))


def _covering(
    home: Home, opened: "SigningLog", trusted: "PublicKey | NoteKey", index: int, *, own: bool
) -> bytes:
    """The newest checkpoint, made now where it does not reach the entry."""
    held = opened.checkpoint()
    if held is not None and _head(held, trusted, "checkpoint").size > index:
        return held
    if not own:
        raise Unavailable(
            Code.LOG_MISSING,
            f"entry {index}",
            expected="a checkpoint that covers it",
            found="none in this copy",
            advice="let the maker run `cellward log checkpoint`, and copy the log again",
        )
    from cellward.sign.checkpoint import seal

    return seal(opened, bootstrap.role_signer(home, Role.LOG))


def _entries(snapshot: "LogSnapshot", first: int) -> "Iterator[tuple[int, Entry]]":
    from cellward.core.log.entry import decode

    for index in range(first, snapshot.size):
        yield index, decode(snapshot.entry(index), f"entry {index}")


def _facts(index: int, entry: "Entry") -> dict[str, object]:
    said: dict[str, Any] = vars(entry)
    return {"index": index} | said | {"time": entry.time.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _print(rows: "list[tuple[int, Entry]]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("entry", "time (UTC)", "key", "signed", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for index, entry in rows:
        table.add_row(
            f"{index}",
            entry.time.strftime("%Y-%m-%d\n%H:%M:%S"),
            f"{entry.role}\n{entry.key[:12]}",
            Text(f"{entry.subject}\n{entry.kind}, {entry.algorithm} {entry.signed[:20]}…"),
        )
    Console().print(table)


def _report(
    found: "Audited", heads: "dict[str, Checkpoint]", trusted: "PublicKey | NoteKey | None", as_json: bool
) -> None:
    from cellward.core.log.note import NoteKey

    signed = max((head.size for head in heads.values()), default=0)
    key = trusted.public_key if isinstance(trusted, NoteKey) else trusted
    if as_json:
        facts = {
            "verified": True,
            "entries": found.size,
            "root": found.root.hex(),
            "signed": signed,
            "checkpoints": {name: head.size for name, head in heads.items()},
            "key": None if key is None else key.fingerprint,
            "backwards": list(found.backwards),
        }
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"verified: {found.size} entries, root {found.root.hex()}")
    for name, head in heads.items():
        click.echo(f"  {name}: the first {head.size} entries are what was signed")
    if key is not None:
        click.echo(f"  signed by {key.fingerprint}")
    if found.size > signed:
        click.echo(
            f"  not signed yet: {found.size - signed}, from entry {signed} on (`cellward log checkpoint`)"
        )
    if found.backwards:
        entries = ", ".join(map(str, found.backwards[:8]))
        click.echo(f"  clock behind the entry before: {len(found.backwards)}, at {entries}")


@contextmanager
def _progress(size: int, verb: str) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal for what takes a while."""
    if size < LONG or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{verb} {size} entries", total=size)
        yield lambda done: bar.update(task, completed=done)
