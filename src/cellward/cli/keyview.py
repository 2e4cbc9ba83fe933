"""Keys as tables and facts: what the token says of each, and what the register says."""

import json
from typing import TYPE_CHECKING

import click

from cellward import bootstrap
from cellward.cli import keyoptions, options
from cellward.cli.registerview import Facts, entry_facts, flags, grouped, state
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import Role
from cellward.sign.keys import RoleKey, named_key

if TYPE_CHECKING:
    from cellward.core.register import Entry, Register


def show_rows(rows: list[RoleKey], register: "Register | None", *, json_wanted: bool, init: bool) -> None:
    held = {} if register is None else {entry.fingerprint: entry for entry in register.entries}
    if json_wanted:
        found = [_facts(row, held, register is not None, init) for row in rows]
        click.echo(json.dumps(found if init else found + _elsewhere(rows, held), indent=2))
        return
    _table(rows, held if register is not None else None, init)
    if not rows:
        click.echo("no key yet: `cellward keys init` makes them")
    if register is None:
        click.echo("no register yet: `cellward keys ceremony begin` drafts the first")
        return
    root = register.root
    click.echo(f"register version {register.version}, root {root.threshold} of {len(root.keys)} keys")
    if not init:
        here = {row.key.public_key.fingerprint for row in rows}
        for entry in register.entries:
            if entry.fingerprint not in here:
                click.echo(f"  elsewhere  {entry.purpose} {entry}: {entry.stage}, {state(entry)}")


def _elsewhere(rows: list[RoleKey], held: "dict[str, Entry]") -> list[Facts]:
    here = {row.key.public_key.fingerprint for row in rows}
    return [
        {
            "role": entry.purpose.value,
            "name": entry.name,
            "algorithm": entry.key.algorithm.value,
            "fingerprint": entry.fingerprint,
            "attributes": None,
            "register": entry_facts(entry),
        }
        for entry in held.values()
        if entry.fingerprint not in here
    ]


def _table(rows: list[RoleKey], held: "dict[str, Entry] | None", init: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    headings = ["key", "fingerprint", "sensitive", "extractable", "local"]
    headings += (["register"] if held is not None else []) + (["now"] if init else [])
    console = Console()
    width = 32 if held is None or console.width >= 90 else 16  # of a line of a fingerprint
    table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for row in rows:
        said, print_ = row.key.attributes, row.key.public_key.fingerprint
        entry = None if held is None else held.get(print_)
        table.add_row(
            f"[bold]{row.key.label}[/]\n{row.key.public_key.algorithm}",
            "\n".join(print_[at : at + width] for at in range(0, len(print_), width)),
            _life(said.sensitive, said.always_sensitive, "yes", "always"),
            _life(not said.extractable, said.never_extractable, "no", "never"),
            "yes" if said.local else "no",
            *(() if held is None else (_registered(row.role, entry),)),
            *((("made" if row.created else "kept"),) if init else ()),
        )
    console.print(table)


def _registered(role: Role, entry: "Entry | None") -> str:
    if entry is not None:
        return f"{entry.stage}\n{state(entry)}"
    return "Uptane's" if role is Role.ROOT else "[red]unknown[/]"


def _life(now: bool, ever: bool, good: str, best: str) -> str:
    """What the token says of the flag today, or `best` where it vouches for the key's whole life."""
    if now and ever:
        return f"[green]{best}[/]"
    return good if now else f"[red]{'no' if good == 'yes' else 'yes'}[/]"


def _facts(row: RoleKey, held: "dict[str, Entry]", registered: bool, init: bool) -> Facts:
    facts: Facts = {
        "role": row.role.value,
        "name": row.key.label,
        "algorithm": row.key.public_key.algorithm.value,
        "fingerprint": row.key.public_key.fingerprint,
        "attributes": flags(row.key.attributes),
    }
    if registered:
        entry = held.get(row.key.public_key.fingerprint)
        facts["register"] = None if entry is None else entry_facts(entry)
    return facts | ({"created": row.created} if init else {})


@click.command()
@click.argument("key")
@keyoptions.token
@options.as_json
@click.pass_obj
def show(home: Home, key: str, token: str, as_json: bool) -> None:
    """All that is known of KEY, by its name or fingerprint: register, history, token.

    The register is asked first; a key that it does not know is looked for in the token.
    """
    register = bootstrap.key_register(home)
    facts = _of_token(home, key, token) if register is None else _of_register(home, register, key, token)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        said = grouped(str(value)) if name == "fingerprint" else value
        for number, line in enumerate(said if isinstance(said, list) else [said]):
            if line is not None and line != "":
                click.echo(f"{name if number == 0 else '':<12} {_words(line)}")


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return str(value)


def _of_token(home: Home, key: str, token: str) -> Facts:
    store = bootstrap.key_store(home, token)
    stored = named_key(store, key)
    return {
        "name": stored.label,
        "algorithm": stored.public_key.algorithm.value,
        "fingerprint": stored.public_key.fingerprint,
        "attributes": flags(stored.attributes),
        "token": store.facts().__dict__,
        "register": "no register yet",
    }


def _of_register(home: Home, register: "Register", key: str, token: str) -> Facts:
    try:
        entry = register.named(key)
    except CellwardError as error:
        if error.code is not Code.KEY_UNKNOWN:
            raise
        try:
            return _of_token(home, key, token) | {"register": "unknown: by it, it signs nothing"}
        except CellwardError:
            raise error from None  # nor is it in the token
    return entry_facts(entry) | {"history": list(_history(home, entry.fingerprint))}


def _history(home: Home, fingerprint: str) -> list[str]:
    """What each version of the register did to this key."""
    from cellward.core import register as registers

    told: list[str] = []
    before: Entry | None = None
    for data in bootstrap.register_versions(home):
        version = registers.decode(data).register
        now = next((entry for entry in version.entries if entry.fingerprint == fingerprint), None)
        if now is not None and now != before:
            what = "entered" if before is None else state(now)
            told.append(f"version {version.version}, {version.issued:%Y-%m-%d %H:%M} UTC: {what}")
        before = now
    return told
