"""A release and the payload that is signed, both ways."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from cellward.core.envelope import Envelope
from cellward.core.image import Version
from cellward.core.release.values import (
    FILE_NAME,
    HARDWARE_NAME,
    MAX_FILE_SIZE,
    MAX_KEYS,
    MAX_PARTS,
    NAME,
    OWN_NAMES,
    PART_STAGE,
    TEXT,
    VERSION,
    File,
    Part,
    Release,
    Requirement,
)
from cellward.core.slots import COUNTER_MAX
from cellward.core.strictjson import SHA256_HEX, Fields, format_time, refuse

T = TypeVar("T")


def tree(release: Release) -> dict[str, object]:
    return {
        "name": release.name,
        "created": format_time(release.created),
        "security_fix": release.security_fix,
        "safety_impact": release.safety_impact,
        "parts": [
            _file_tree(part.file)
            | {
                "hardware": part.hardware,
                "stage": part.stage,
                "version": str(part.version),
                "counter": part.counter,
            }
            for part in release.parts
        ],
        "notes": _file_tree(release.notes),
        "sbom": _file_tree(release.sbom),
        "requires": [
            {"hardware": r.hardware, "of": r.of, "name": r.name, "at_least": str(r.at_least)}
            for r in release.requires
        ],
        "keys": list(release.keys),
    }


def _file_tree(file: File) -> dict[str, object]:
    return {"file": file.name, "sha256": file.sha256, "length": file.length}


def read(found: Envelope, what: str) -> Release:
    fields = found.fields(what)
    release = Release(
        name=fields.text("name", NAME),
        created=fields.time("created"),
        security_fix=fields.boolean("security_fix"),
        safety_impact=fields.text("safety_impact", TEXT),
        parts=_each(fields, "parts", _part),
        notes=_file(fields.fields("notes"), last=True),
        sbom=_file(fields.fields("sbom"), last=True),
        requires=_each(fields, "requires", _requirement),
        keys=fields.texts("keys", SHA256_HEX, MAX_KEYS),
        encoded=found.payload,
    )
    fields.finish()
    names = [file.name for file in release.files()]
    places = [f"{part.hardware} {part.stage}" for part in release.parts]
    if not places or len(set(places)) != len(places):
        refuse(what, "one part for each hardware and stage", _twice(places) or "no part")
    if len(set(names)) != len(names):
        refuse(what, "every file under a name of its own", _twice(names))
    if OWN_NAMES & {name.lower() for name in names}:
        refuse(what, f"files of other names than {', '.join(sorted(OWN_NAMES))}", "one of them")
    if list(release.keys) != sorted(release.keys):
        refuse(what, "keys in order", "another order")
    return release


def _twice(items: Sequence[object]) -> str:
    return ", ".join(f"{item} twice" for item in dict.fromkeys(items) if items.count(item) > 1)


def _each(fields: Fields, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
    items = fields.items(name, MAX_PARTS)
    return tuple(read(Fields(item, f"{fields.what} {name} {n}")) for n, item in enumerate(items))


def _file(fields: Fields, *, last: bool = False) -> File:
    file = File(
        fields.text("file", FILE_NAME),
        fields.text("sha256", SHA256_HEX),
        fields.integer("length", 1, MAX_FILE_SIZE),
    )
    if last:
        fields.finish()
    return file


def _part(fields: Fields) -> Part:
    part = Part(
        _file(fields),
        fields.text("hardware", HARDWARE_NAME),
        fields.text("stage", PART_STAGE),
        _version(fields, "version"),
        fields.integer("counter", 0, COUNTER_MAX),
    )
    fields.finish()
    return part


def _requirement(fields: Fields) -> Requirement:
    requirement = Requirement(
        fields.text("hardware", HARDWARE_NAME),
        fields.text("of", PART_STAGE),
        fields.text("name", PART_STAGE),
        _version(fields, "at_least"),
    )
    fields.finish()
    return requirement


def _version(fields: Fields, name: str) -> Version:
    text = fields.text(name, VERSION)
    version = Version.parse(text)
    if str(version) != text:
        refuse(fields.what, f"{name!r} as {version}", repr(text))
    return version
