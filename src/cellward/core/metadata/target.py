"""Targets: an image as the Image repository lists it, and as the Director orders it for ECUs."""

import re
from dataclasses import dataclass, field

from tuf.api.metadata import TargetFile, Targets

from cellward.core.errors import Code, FormatRefused
from cellward.core.strictjson import MAX_INTEGER, SHA256_HEX, Fields, Json, refuse

# docs/formats/uptane.md, "Target names": no segment can be empty, "." or "..", on server and client
# (Uptane 5.2.7(3)).
MAX_SEGMENT = 128
SEGMENT = re.compile(r"[a-z0-9][a-z0-9.+_-]{0,127}", re.ASCII)
_TARGET_NAME = re.compile(r"[a-z0-9][a-z0-9.+_-]{0,127}/[a-z0-9][a-z0-9.+_-]{0,127}\.img", re.ASCII)
VEHICLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
ECU_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?:/[a-z0-9][a-z0-9.+_-]{0,31})?", re.ASCII)
MAX_HARDWARE_IDS = 32
WRAPPED_KEY_SIZE = 113  # the value of MCUboot's TLV 0x32: point 65, tag 32, key 16
_WRAPPED_KEY = re.compile(rf"[0-9a-f]{{{2 * WRAPPED_KEY_SIZE}}}", re.ASCII)
MAX_LENGTH = 2**32 - 1


def check_target_name(name: str) -> str:
    """`HARDWARE/STAGE-VERSION.img`. Raises FormatRefused (target.name)."""
    if not _TARGET_NAME.fullmatch(name):
        raise FormatRefused(
            Code.TARGET_NAME,
            f"target {name[:80]!r}",
            expected="HARDWARE/STAGE-VERSION.img of [a-z0-9.+_-]",
            found="another name",
        )
    return name


def target_name(hardware_id: str, stage: str, version: str) -> str:
    """`bms-m33/app-1.4.0.img`. Raises FormatRefused (target.name)."""
    return check_target_name(f"{hardware_id}/{stage}-{version}.img")


@dataclass(frozen=True)
class Target:
    """One image: name, length in bytes, SHA-256 in hex, and the four fields that SHALL match.

    `release_counter` is the image's security counter. `plain_sha256` is an encrypted image's alone: the
    SHA-256 of what lies in a module's flash. `release` is the SHA-256 of the release (core.release) that it
    was published with, if it was. The Director need not repeat either.
    Raises FormatRefused: target.name for the name (one of `hardware_ids`, then stage and version),
    metadata.format for any other field.
    """

    name: str
    length: int
    sha256: str
    hardware_ids: tuple[str, ...]
    stage: str
    version: str
    release_counter: int
    plain_sha256: str = ""
    release: str = ""

    def __post_init__(self) -> None:
        check_target_name(self.name)
        what = f"target {self.name}"
        for digest in (self.sha256, self.installed_sha256, *([self.release] if self.release else [])):
            if not SHA256_HEX.fullmatch(digest):
                refuse(what, "a SHA-256 in hex", repr(digest[:80]))
        for low, value, high in ((1, self.length, MAX_LENGTH), (0, self.release_counter, MAX_INTEGER)):
            if not low <= value <= high:
                refuse(what, f"a number from {low} to {high}", f"{value}")
        for text in (*self.hardware_ids, self.stage, self.version):
            if not SEGMENT.fullmatch(text):
                refuse(what, f"text of the form {SEGMENT.pattern}", repr(text[:80]))
        stem = f"{self.stage}-{self.version}.img"
        if self.name not in {f"{hardware}/{stem}" for hardware in self.hardware_ids}:
            raise FormatRefused(
                Code.TARGET_NAME,
                what,
                expected=f"{' or '.join(self.hardware_ids)[:80]} / {stem[:80]}",
                found=self.name,
            )

    @property
    def stored_name(self) -> str:
        """`HARDWARE/SHA256.STAGE-VERSION.img`: the immutable name of the bytes (Uptane 5.2.7(2))."""
        folder, _, file = self.name.partition("/")
        return f"{folder}/{self.sha256}.{file}"

    @property
    def release_name(self) -> str:
        """The immutable name of the release's bytes, beside the artefacts."""
        return f"releases/{self.release}.json"

    @property
    def encrypted(self) -> bool:
        return bool(self.plain_sha256)

    @property
    def installed_sha256(self) -> str:
        """What a module tells of it once it is installed."""
        return self.plain_sha256 or self.sha256

    def custom(self) -> dict[str, object]:
        """The four SHALL-match fields as JSON, and what only some images have besides."""
        besides = {"plain_sha256": self.plain_sha256, "release": self.release}
        return {
            **{name: digest for name, digest in besides.items() if digest},
            "hardware_ids": list(self.hardware_ids),
            "stage": self.stage,
            "version": self.version,
            "release_counter": self.release_counter,
        }


@dataclass(frozen=True)
class Ecu:
    """An ECU as the inventory and the factory know it: `SERIAL/STAGE` (or the vehicle) and hardware.

    Raises FormatRefused (metadata.format).
    """

    ecu_id: str
    hardware_id: str

    def __post_init__(self) -> None:
        if not ECU_ID.fullmatch(self.ecu_id):
            refuse("ECU", "an ECU id SERIAL/STAGE", repr(self.ecu_id[:80]))
        if not SEGMENT.fullmatch(self.hardware_id):
            refuse(f"ECU {self.ecu_id}", "a hardware id", repr(self.hardware_id[:80]))

    @property
    def stage(self) -> str | None:
        """The image slot that this ECU id names; None for the Primary itself."""
        return self.ecu_id.partition("/")[2] or None


@dataclass(frozen=True)
class Assignment:
    """The Director's order: `target` for these ECUs (at least one).

    `wrapped_keys` has, for ECUs of an encrypted target, its content key wrapped for their module: the
    value of TLV 0x32. Raises FormatRefused (metadata.format).
    """

    target: Target
    ecu_identifiers: tuple[Ecu, ...]
    wrapped_keys: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        what = f"target {self.target.name}"
        if not self.ecu_identifiers:
            refuse(what, "at least one ECU", "none")
        if not {ecu_id for ecu_id, _ in self.wrapped_keys} <= {ecu.ecu_id for ecu in self.ecu_identifiers}:
            refuse(what, "wrapped keys for its ECUs", "one for another")
        if any(len(key) != WRAPPED_KEY_SIZE for _, key in self.wrapped_keys):
            refuse(what, f"wrapped keys of {WRAPPED_KEY_SIZE} bytes", "others")


def check_vehicle_id(vehicle_id: str) -> str:
    """Raises FormatRefused (metadata.format)."""
    if not VEHICLE_ID.fullmatch(vehicle_id):
        refuse("vehicle", "a vehicle id of [A-Za-z0-9._-], at most 64", repr(vehicle_id[:80]))
    return vehicle_id


def target_file(target: Target) -> TargetFile:
    """The entry of the Image repository."""
    return _file(target, target.custom())


def assignment_file(assignment: Assignment) -> TargetFile:
    """The entry of the Director."""
    ecus = {ecu.ecu_id: {"hardware_id": ecu.hardware_id} for ecu in assignment.ecu_identifiers}
    for ecu_id, key in assignment.wrapped_keys:
        ecus[ecu_id]["wrapped_key"] = key.hex()
    if len(ecus) != len(assignment.ecu_identifiers):
        refuse(f"target {assignment.target.name}", "every ECU once", "one twice")
    return _file(assignment.target, {**assignment.target.custom(), "ecu_identifiers": ecus})


def _file(target: Target, custom: Json) -> TargetFile:
    return TargetFile(target.length, {"sha256": target.sha256}, target.name, {"custom": custom})


def target_of(file: TargetFile) -> Target:
    """Raises FormatRefused (metadata.format, target.name) unless every field is there and in form."""
    what = f"target {file.path[:80]}"
    custom = Fields(file.custom, f"{what} custom")
    return Target(
        name=file.path,
        length=Fields(file.to_dict(), what).integer("length", 1, MAX_LENGTH),
        sha256=Fields(file.to_dict(), what).sha256("hashes"),
        hardware_ids=custom.texts("hardware_ids", SEGMENT, MAX_HARDWARE_IDS),
        stage=custom.text("stage", SEGMENT),
        version=custom.text("version", SEGMENT),
        release_counter=custom.integer("release_counter"),
        plain_sha256=_digest(custom, "plain_sha256"),
        release=_digest(custom, "release"),
    )


def _digest(custom: Fields, name: str) -> str:
    return custom.text(name, SHA256_HEX) if name in custom else ""


def assignment_of(file: TargetFile) -> Assignment:
    """Raises FormatRefused (metadata.format, target.name)."""
    target = target_of(file)
    ecus = Fields(file.custom, f"target {target.name} custom").fields("ecu_identifiers")
    entries = [(ecu_id, ecus.fields(ecu_id)) for ecu_id in ecus.names()]
    return Assignment(
        target,
        tuple(Ecu(ecu_id, entry.text("hardware_id", SEGMENT)) for ecu_id, entry in entries),
        tuple(
            (ecu_id, bytes.fromhex(entry.text("wrapped_key", _WRAPPED_KEY)))
            for ecu_id, entry in entries
            if "wrapped_key" in entry
        ),
    )


def targets_of(targets: Targets) -> tuple[Target, ...]:
    """Every image of the Image repository's Targets, sorted by name."""
    return tuple(target_of(file) for _, file in sorted(targets.targets.items()))


def assignments_of(targets: Targets) -> tuple[Assignment, ...]:
    """Every order of the Director's Targets, sorted by name."""
    return tuple(assignment_of(file) for _, file in sorted(targets.targets.items()))


def vehicle_id_of(targets: Targets) -> str:
    """The vehicle that the Director's Targets are for (A8). Raises FormatRefused (metadata.format)."""
    signed = Fields(targets.unrecognized_fields, "director targets")
    return signed.fields("custom").text("vehicle_id", VEHICLE_ID)
