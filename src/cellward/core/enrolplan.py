"""What the plant hands over to enrol many packs at once: a plan, and the tokens for it.

Normative: docs/formats/enrolment-plan.md. Both are CSV (RFC 4180), for that is what a manufacturing execution
system exports. No refusal repeats a token.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from cellward.core.errors import Code, FormatRefused
from cellward.core.metadata.target import VEHICLE_ID
from cellward.core.strictjson import SHA256_HEX

MAX_SIZE = 8 * 1024 * 1024
MAX_PACKS = 20_000
MAX_MODULES = 64
MAX_CELL = 4096
COLUMNS = ("vehicle", "state", "modules", "tpm", "endorsement")
NEEDED_BY_THE_PLANT = ("vehicle", "state", "modules")
NEEDED_BY_THE_SERVER = ("vehicle",)
BETWEEN_MODULES = "|"  # neither separator of a CSV file
_SEPARATORS = (",", ";")  # the second is what a spreadsheet writes where the comma is for decimals
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


@dataclass(frozen=True)
class Pack:
    """A line of the plan. `tpm` is a TCTI, or empty for an embedded TPM in `state`; `endorsement` the SHA-256
    of its TPM's endorsement certificate, or empty where the plan does not say which TPM it has."""

    line: int
    vehicle: str
    state: str = ""
    modules: tuple[str, ...] = ()
    tpm: str = ""
    endorsement: bytes = b""


def decode(data: bytes, what: str, needed: Sequence[str]) -> tuple[Pack, ...]:
    """The packs of a plan that has the columns `needed`, in its order.

    Raises FormatRefused (enrol.plan): also for a vehicle, a state directory, a module or a TPM that stands
    in it twice.
    """
    rows = _rows(data, what, COLUMNS, needed, MAX_PACKS)
    packs = tuple(_pack(line, cells, what) for line, cells in rows)
    for of in _ONCE:
        _each_once(packs, of, what)
    return packs


def encode_tokens(tokens: Mapping[str, str]) -> bytes:
    return "".join(
        f"{vehicle},{token}\n" for vehicle, token in {"vehicle": "token", **tokens}.items()
    ).encode()


def decode_tokens(data: bytes, what: str) -> dict[str, str]:
    """Tokens by vehicle. Raises FormatRefused (enrol.plan) without repeating any."""
    columns = ("vehicle", "token")
    found: dict[str, str] = {}
    for line, cells in _rows(data, what, columns, columns, MAX_PACKS):
        vehicle, token = _vehicle(cells["vehicle"], line, what), cells["token"]
        if not _TOKEN.fullmatch(token):
            _refuse(what, f"a token in line {line}", "something else")
        if vehicle in found:
            _refuse(what, "every vehicle once", f"{vehicle} again in line {line}")
        found[vehicle] = token
    return found


# --- CSV


def _rows(
    data: bytes, what: str, columns: Sequence[str], needed: Sequence[str], limit: int
) -> list[tuple[int, dict[str, str]]]:
    """Cells by column, with the number of their line. A column that nobody knows is refused: left out, it
    could be a check that somebody relies on, spelled wrong."""
    lines = _lines(data, what)
    head, separator = _head(next(lines, (1, ""))[1], what, columns, needed)
    rows = []
    for number, line in lines:
        cells = _cells(line, separator, number, what)
        if len(cells) != len(head):
            _refuse(what, f"{len(head)} cells in line {number}", f"{len(cells)}")
        rows.append((number, dict(zip(head, cells, strict=True))))
        if len(rows) > limit:
            _refuse(what, f"at most {limit} lines", "more")
    if not rows:
        _refuse(what, "lines below the head", "none")
    return rows


def _lines(data: bytes, what: str) -> Iterator[tuple[int, str]]:
    if len(data) > MAX_SIZE:
        _refuse(what, f"at most {MAX_SIZE} bytes", f"{len(data)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        _refuse(what, "CSV in UTF-8", "other bytes")
    numbered = enumerate(text.split("\n"), 1)
    return ((number, line.removesuffix("\r")) for number, line in numbered if line.strip())


def _head(line: str, what: str, columns: Sequence[str], needed: Sequence[str]) -> tuple[list[str], str]:
    for separator in _SEPARATORS:
        head = _cells(line, separator, 1, what)
        if len(set(head)) == len(head) and set(needed) <= set(head) <= set(columns):
            return head, separator
    expected = f"a head with {', '.join(needed)}, and at will others of {', '.join(columns)}"
    raise _refused(what, expected, "another")


def _cells(line: str, separator: str, number: int, what: str) -> list[str]:
    """One line is one record: a quoted line break is in nothing that stands here."""
    try:
        (cells,) = csv.reader([line], delimiter=separator, strict=True)
    except (csv.Error, ValueError):
        _refuse(what, f"CSV in line {number}", "a quote that is none")
    if any(len(cell) > MAX_CELL or not cell.isprintable() for cell in cells):
        _refuse(what, f"printable cells of at most {MAX_CELL} characters in line {number}", "another")
    return [cell.strip() for cell in cells]


# --- a plan


def _pack(line: int, cells: Mapping[str, str], what: str) -> Pack:
    modules = tuple(part.strip() for part in cells.get("modules", "").split(BETWEEN_MODULES) if part.strip())
    endorsement = cells.get("endorsement", "").lower()
    if endorsement and not SHA256_HEX.fullmatch(endorsement):
        _refuse(what, f"a SHA-256 in hex as endorsement in line {line}", "something else")
    if "modules" in cells and not 0 < len(modules) <= MAX_MODULES:
        _refuse(what, f"1 to {MAX_MODULES} modules in line {line}", f"{len(modules)}")
    if "state" in cells and not cells["state"]:
        _refuse(what, f"a state directory in line {line}", "none")
    return Pack(
        line,
        _vehicle(cells["vehicle"], line, what),
        cells.get("state", ""),
        modules,
        cells.get("tpm", ""),
        bytes.fromhex(endorsement),
    )


def _vehicle(text: str, line: int, what: str) -> str:
    if not VEHICLE_ID.fullmatch(text):
        _refuse(what, f"a vehicle id of the form {VEHICLE_ID.pattern} in line {line}", "something else")
    return text


# What no two packs have, and no pack twice.
_ONCE: tuple[Callable[[Pack], Sequence[str]], ...] = (
    lambda pack: (f"vehicle {pack.vehicle}",),
    lambda pack: (f"state directory {pack.state}",) if pack.state else (),
    lambda pack: tuple(f"module {module}" for module in pack.modules),
    lambda pack: (f"TPM {pack.tpm}",) if pack.tpm else (),
    lambda pack: (f"endorsement {pack.endorsement.hex()}",) if pack.endorsement else (),
)


def _each_once(packs: Sequence[Pack], of: Callable[[Pack], Sequence[str]], what: str) -> None:
    seen: dict[str, int] = {}
    for pack in packs:
        for thing in of(pack):
            if thing in seen:
                _refuse(
                    what, f"each {thing.split()[0]} once", f"{thing} in lines {seen[thing]} and {pack.line}"
                )
            seen[thing] = pack.line


def _refuse(what: str, expected: str, found: str) -> NoReturn:
    raise _refused(what, expected, found)


def _refused(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.ENROL_PLAN, what, expected=expected, found=found)
