"""The test plan and the rows, read from TOML: bounded, typed, nothing unknown, nothing twice."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from cellward.core.errors import Code, FormatRefused
from cellward.core.strictjson import Fields, refuse

LIMIT = 1 << 20
MAX_ENTRIES = 1000
_ID = re.compile(r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*", re.ASCII)
_TEXT = re.compile(r"[^\x00-\x1f\x7f]+")
_PATH = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"  # no segment begins with a dot: none leads out of the checkout
_CONTROL = re.compile(rf"(?:\.ci/)?{_PATH}(?:/{_PATH})*", re.ASCII)
_TEST = re.compile(rf"tests(?:/{_PATH})*/test_\w+\.py(?:::\w+){{0,2}}", re.ASCII)


@dataclass(frozen=True)
class Claim:
    """What is said of the product, what holds it, the tests that can fail, and the last figure."""

    id: str
    area: str
    says: str
    control: tuple[str, ...]
    tests: tuple[str, ...]
    figure: str
    command: str
    date: date
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Open:
    """What is not claimed yet, and why."""

    id: str
    area: str
    says: str
    why: str


@dataclass(frozen=True)
class Plan:
    areas: tuple[str, ...]
    claims: tuple[Claim, ...]
    open: tuple[Open, ...]


@dataclass(frozen=True)
class Row:
    """A clause or an attack. `asks`: what must be shown. `recheck`: our knowledge of the field, to be
    compared with the official text. `missing`: what of `asks` is not answered; empty: nothing is."""

    id: str
    name: str
    says: str
    asks: str
    source: str
    recheck: bool
    missing: str


@dataclass(frozen=True)
class RowList:
    """`kind` begins every id in it."""

    kind: str
    title: str
    rows: tuple[Row, ...]


def read_plan(data: bytes, what: str) -> Plan:
    """Raises FormatRefused (metadata.format, metadata.too_large)."""
    top = _decode(data, what)
    areas = top.texts("areas", _TEXT, MAX_ENTRIES)
    claims = tuple(_claim(entry) for entry in _tables(top, "claim"))
    opened = tuple(_open(entry) for entry in _tables(top, "open")) if "open" in top else ()
    top.finish()
    _once([*(claim.id for claim in claims), *(entry.id for entry in opened)], what)
    for name, area in [(claim.id, claim.area) for claim in claims] + [
        (each.id, each.area) for each in opened
    ]:
        if area not in areas:
            refuse(f"{what} {name}", "an area of the list", repr(area))
    return Plan(areas, claims, opened)


def read_rows(data: bytes, what: str) -> RowList:
    """Raises FormatRefused (metadata.format, metadata.too_large)."""
    top = _decode(data, what)
    kind, title = top.text("kind", _ID), top.text("title", _TEXT)
    rows = tuple(_row(entry, kind) for entry in _tables(top, "row"))
    top.finish()
    _once([row.id for row in rows], what)
    return RowList(kind, title, rows)


def _decode(data: bytes, what: str) -> Fields:
    if len(data) > LIMIT:
        raise FormatRefused(
            Code.METADATA_TOO_LARGE, what, expected=f"at most {LIMIT} bytes", found=f"{len(data)} bytes"
        )
    try:
        return Fields(tomllib.loads(data.decode("utf-8")), what)
    except (ValueError, RecursionError) as error:
        found = "nesting without end" if isinstance(error, RecursionError) else str(error)[:120]
        raise FormatRefused(Code.METADATA_FORMAT, what, expected="TOML in UTF-8", found=found) from error


def _tables(top: Fields, name: str) -> Iterator[Fields]:
    for number, entry in enumerate(top.items(name, MAX_ENTRIES), start=1):
        yield Fields(entry, f"{top.what} {name} {number}")


def _once(names: list[str], what: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        refuse(what, "every id once", f"{twice} twice")


def _claim(entry: Fields) -> Claim:
    said = Claim(
        id=entry.text("id", _ID),
        area=entry.text("area", _TEXT),
        says=entry.text("says", _TEXT),
        control=entry.texts("control", _CONTROL, MAX_ENTRIES),
        tests=entry.texts("tests", _TEST, MAX_ENTRIES),
        figure=entry.text("figure", _TEXT),
        command=entry.text("command", _TEXT),
        date=_date(entry),
        answers=entry.texts("answers", _ID, MAX_ENTRIES) if "answers" in entry else (),
    )
    entry.finish()
    return said


def _date(entry: Fields) -> date:
    value = entry.value("date")
    if not isinstance(value, date) or isinstance(value, datetime):
        refuse(entry.what, "a date in 'date'", type(value).__name__)
    return value


def _open(entry: Fields) -> Open:
    said = Open(
        entry.text("id", _ID), entry.text("area", _TEXT), entry.text("says", _TEXT), entry.text("why", _TEXT)
    )
    entry.finish()
    return said


def _row(entry: Fields, kind: str) -> Row:
    said = Row(
        id=entry.text("id", re.compile(rf"{re.escape(kind)}\.[1-9][0-9]{{0,3}}", re.ASCII)),
        name=entry.text("name", _TEXT),
        says=entry.text("says", _TEXT),
        asks=entry.text("asks", _TEXT),
        source=entry.text("source", _TEXT),
        recheck=_yes(entry, "recheck"),
        missing=entry.text("missing", _TEXT) if "missing" in entry else "",
    )
    entry.finish()
    return said


def _yes(entry: Fields, name: str) -> bool:
    value = entry.value(name) if name in entry else False
    if not isinstance(value, bool):
        refuse(entry.what, f"true or false in {name!r}", type(value).__name__)
    return value
