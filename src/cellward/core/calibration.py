"""The calibration artefact: how a pack's sensor reads, and how far its cells may go, signed by the maker.

docs/formats/calibration.md is the normative text. It is an envelope (core.envelope) of its own kind, signed
by one key of the role `calibration`, with a version and a counter of its own: changed parameters are a
software update too (UN R156, 2.3). `block` is what the module's vault takes of it (core.vault).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from cellward.core import envelope, stricttoml, vault
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.image import Version
from cellward.core.keys import PublicKey
from cellward.core.slots import COUNTER_MAX, HARDWARE, OTP_SERIAL
from cellward.core.strictjson import Fields, format_time, refuse

KIND = "calibration"
MAX_SIZE = 64 * 1024
MAX_SOURCE = 64 * 1024
MAX_POINTS = 64
FULL_PERMILLE = 1000
COLDEST_DC, HOTTEST_DC = -400, 1000  # what the sensors of a pack can read, tenths of a degree
MAX_CURRENT_MA = 2_000_000
MAX_GAIN_PPM, MAX_OFFSET_MA = 100_000, 10_000
MAX_CELL_MV = 5000
_HARDWARE = re.compile("|".join(map(re.escape, HARDWARE)))
_SERIAL = re.compile(rf"[ -~]{{1,{OTP_SERIAL.size}}}", re.ASCII)
_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,5}", re.ASCII)


class Chemistry(StrEnum):
    NMC = "nmc"
    NCA = "nca"
    LFP = "lfp"
    LTO = "lto"
    SODIUM_ION = "sodium-ion"


# Lowest and highest cell voltage in mV that no limit of this chemistry passes. Wider than any data sheet:
# a value outside is another chemistry's or a slip of the pen, one inside still needs the cell's maker.
WINDOWS: Mapping[Chemistry, tuple[int, int]] = {
    Chemistry.NMC: (2400, 4450),
    Chemistry.NCA: (2400, 4300),
    Chemistry.LFP: (1900, 3800),
    Chemistry.LTO: (1400, 2900),
    Chemistry.SODIUM_ION: (1400, 4200),
}
_CHEMISTRY = re.compile("|".join(Chemistry))


@dataclass(frozen=True)
class Temperatures:
    """Tenths of a degree Celsius. A cell that is too cold to charge may still be discharged."""

    charge_over_dc: int
    charge_under_dc: int
    discharge_over_dc: int
    discharge_under_dc: int


@dataclass(frozen=True)
class Point:
    """Open-circuit voltage of a cell at a state of charge."""

    charge_permille: int
    mv: int

    def __str__(self) -> str:
        return f"{self.mv} mV at {self.charge_permille} permille"


@dataclass(frozen=True)
class PackCalibration:
    """`serial` None: of every module with this hardware. Both currents are positive."""

    hardware: str
    serial: str | None
    version: Version
    counter: int
    created: datetime
    chemistry: Chemistry
    cell_over_mv: int
    cell_under_mv: int
    temperatures: Temperatures
    charge_ma: int
    discharge_ma: int
    current_gain_ppm: int
    current_offset_ma: int
    ocv: tuple[Point, ...] = field(repr=False)

    @property
    def block(self) -> vault.Calibration:
        """What the module applies of it: the value of its vault's calibration block."""
        return vault.Calibration(
            self.current_gain_ppm, self.current_offset_ma, self.cell_over_mv, self.cell_under_mv
        )

    @property
    def block_version(self) -> int:
        """The version in that block: major, minor and revision as one number that rises with them."""
        return self.version.major << 24 | self.version.minor << 16 | self.version.revision

    def to_sign(self) -> Envelope:
        """Raises FormatRefused (metadata.format, calibration.range) for what would not be read back."""
        made = envelope.make(KIND, _tree(self))
        _read(made.fields("new calibration"))
        return made


@dataclass(frozen=True)
class Verified:
    """A calibration and whose it is; only `verify` makes one."""

    calibration: PackCalibration
    key: PublicKey


def decode(data: bytes, what: str = "calibration") -> PackCalibration:
    """What a calibration says; nothing of it is verified.

    Raises FormatRefused (metadata.*, document.kind, calibration.range).
    """
    return _read(envelope.decode(data, KIND, what, MAX_SIZE).fields(what))


def verify(data: bytes, keys: Collection[PublicKey], what: str = "calibration") -> Verified:
    """The calibration, if one of `keys`, and nobody else, has signed it.

    Raises as `decode`, and TrustRefused (document.signature).
    """
    found = envelope.decode(data, KIND, what, MAX_SIZE)
    signers = found.signers(keys, what)
    if len(signers) != 1:
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE, what, expected="one signature", found=f"{len(signers) or 'none'}"
        )
    return Verified(_read(found.fields(what)), next(iter(signers)))


def check_device(
    found: PackCalibration, hardware: str, serial: str | None, counter: int, what: str = "calibration"
) -> None:
    """Refuse one for another module, or an older one than it has. `serial` None: any module's.

    Raises TrustRefused (calibration.hardware, calibration.serial, calibration.counter).
    """
    if found.hardware != hardware:
        raise TrustRefused(Code.CALIBRATION_HARDWARE, what, expected=hardware, found=found.hardware)
    if found.serial is not None and found.serial != serial:
        expected = "one of every module" if serial is None else f"one of module {serial}, or of every one"
        raise TrustRefused(
            Code.CALIBRATION_SERIAL, what, expected=expected, found=f"one of module {found.serial}"
        )
    if found.counter < counter:
        raise TrustRefused(
            Code.CALIBRATION_COUNTER,
            what,
            expected=f"a counter of at least {counter}",
            found=f"{found.counter}",
        )


def check_newer(found: PackCalibration, held: PackCalibration, what: str = "calibration") -> None:
    """Refuse one that is not newer than what was applied before it.

    Raises TrustRefused (calibration.counter, calibration.version).
    """
    if found.counter < held.counter:
        raise TrustRefused(
            Code.CALIBRATION_COUNTER,
            what,
            expected=f"a counter of at least {held.counter}",
            found=f"{found.counter}",
        )
    if found.block_version <= held.block_version:
        raise TrustRefused(
            Code.CALIBRATION_VERSION,
            what,
            expected=f"a version after {held.version}, which was applied",
            found=f"{found.version}",
            advice="sign a newer one: an older calibration never comes back",
        )


def from_source(data: bytes, created: datetime, what: str) -> PackCalibration:
    """What an engineer has written down in TOML, to be signed.

    Raises FormatRefused (config.invalid, metadata.format, calibration.range).
    """
    tree = stricttoml.decode(data, what, MAX_SOURCE)
    if "created" in tree:
        refuse(what, "no time of its own: signing sets it", "'created'")
    return _read(Fields({"serial": None, **tree, "created": format_time(created)}, what))


# --- the payload ---


def _tree(found: PackCalibration) -> dict[str, object]:
    limits = found.temperatures
    return {
        "hardware": found.hardware,
        "serial": found.serial,
        "version": str(found.version),
        "counter": found.counter,
        "created": format_time(found.created),
        "chemistry": str(found.chemistry),
        "cells": {"over_mv": found.cell_over_mv, "under_mv": found.cell_under_mv},
        "temperatures": {
            "charge_over_dc": limits.charge_over_dc,
            "charge_under_dc": limits.charge_under_dc,
            "discharge_over_dc": limits.discharge_over_dc,
            "discharge_under_dc": limits.discharge_under_dc,
        },
        "currents": {"charge_ma": found.charge_ma, "discharge_ma": found.discharge_ma},
        "sensor": {"gain_ppm": found.current_gain_ppm, "offset_ma": found.current_offset_ma},
        "ocv": [[point.charge_permille, point.mv] for point in found.ocv],
    }


def _read(fields: Fields) -> PackCalibration:
    """The one reader: of envelopes, of sources, and of what is about to be signed."""
    cells, currents, sensor = fields.fields("cells"), fields.fields("currents"), fields.fields("sensor")
    found = PackCalibration(
        hardware=fields.text("hardware", _HARDWARE),
        serial=None if fields.value("serial") is None else fields.text("serial", _SERIAL),
        version=_version(fields),
        counter=fields.integer("counter", 0, COUNTER_MAX),
        created=fields.time("created"),
        chemistry=Chemistry(fields.text("chemistry", _CHEMISTRY)),
        cell_over_mv=cells.integer("over_mv", 0, MAX_CELL_MV),
        cell_under_mv=cells.integer("under_mv", 0, MAX_CELL_MV),
        temperatures=_temperatures(fields.fields("temperatures")),
        charge_ma=currents.integer("charge_ma", 1, MAX_CURRENT_MA),
        discharge_ma=currents.integer("discharge_ma", 1, MAX_CURRENT_MA),
        current_gain_ppm=sensor.integer("gain_ppm", -MAX_GAIN_PPM, MAX_GAIN_PPM),
        current_offset_ma=sensor.integer("offset_ma", -MAX_OFFSET_MA, MAX_OFFSET_MA),
        ocv=tuple(_point(item, fields.what) for item in fields.items("ocv", MAX_POINTS)),
    )
    for part in (cells, currents, sensor, fields):
        part.finish()
    _check(found, fields.what)
    return found


def _version(fields: Fields) -> Version:
    """Without a build number: a block has no room for it."""
    text = fields.text("version", _VERSION)
    version = Version.parse(text)
    if str(version) != text:
        refuse(fields.what, f"'version' as {version}", repr(text))
    return version


def _temperatures(fields: Fields) -> Temperatures:
    found = Temperatures(
        *(
            fields.integer(name, COLDEST_DC, HOTTEST_DC)
            for name in ("charge_over_dc", "charge_under_dc", "discharge_over_dc", "discharge_under_dc")
        )
    )
    fields.finish()
    return found


def _point(item: object, what: str) -> Point:
    if not isinstance(item, list) or [type(value) for value in item] != [int, int]:
        refuse(what, "points of 'ocv' as [permille, mV]", repr(item)[:60])
    charge, mv = item
    if not 0 <= charge <= FULL_PERMILLE or not 0 <= mv <= MAX_CELL_MV:
        refuse(what, f"points of 'ocv' in 0 to {FULL_PERMILLE} permille, 0 to {MAX_CELL_MV} mV", repr(item))
    return Point(charge, mv)


# --- what the numbers must be to each other ---


def _check(found: PackCalibration, what: str) -> None:
    for holds, expected, said in _rules(found):
        if not holds:
            raise FormatRefused(Code.CALIBRATION_RANGE, what, expected=expected, found=said)


def _rules(found: PackCalibration) -> Iterator[tuple[bool, str, str]]:
    under, over = found.cell_under_mv, found.cell_over_mv
    lowest, highest = WINDOWS[found.chemistry]
    yield under < over, "the under-voltage limit below the over-voltage limit", f"{under} and {over} mV"
    yield (
        lowest <= under and over <= highest,
        f"cell limits within {lowest} to {highest} mV, the window of {found.chemistry}",
        f"{under} to {over} mV",
    )
    limits = found.temperatures
    order = (
        limits.discharge_under_dc,
        limits.charge_under_dc,
        limits.charge_over_dc,
        limits.discharge_over_dc,
    )
    yield (
        order[0] <= order[1] < order[2] <= order[3],
        "charging allowed at some temperatures, and only where discharging is",
        f"charging from {_celsius(order[1:3])}, discharging from {_celsius(order[::3])}",
    )
    yield from _rules_of_ocv(found)


def _rules_of_ocv(found: PackCalibration) -> Iterator[tuple[bool, str, str]]:
    points = found.ocv
    yield len(points) >= 2, "an OCV table of two points or more", f"{len(points)}"
    if len(points) < 2:
        return
    first, last = points[0], points[-1]
    yield (
        (first.charge_permille, last.charge_permille) == (0, FULL_PERMILLE),
        f"an OCV table from 0 to {FULL_PERMILLE} permille",
        f"{first.charge_permille} to {last.charge_permille}",
    )
    for before, after in pairwise(points):
        yield (
            before.charge_permille < after.charge_permille and before.mv < after.mv,
            "an OCV table in which charge and voltage rise from point to point",
            f"{before}, then {after}",
        )
    yield (
        found.cell_under_mv <= first.mv and last.mv <= found.cell_over_mv,
        f"an OCV table within the cell limits, {found.cell_under_mv} to {found.cell_over_mv} mV",
        f"{first.mv} to {last.mv} mV",
    )


def _celsius(ends: tuple[int, ...]) -> str:
    return " to ".join(f"{end / 10}" for end in ends) + " °C"
