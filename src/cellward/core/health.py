"""The record of a pack's state of health, signed by its identity key. Normative: docs/formats/health.md.

It has what the controller knows of Annex VII of Regulation (EU) 2023/1542, and says of each parameter that it
does not know, why. Nothing in it is estimated.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum

from cellward.core import envelope
from cellward.core.attestation import encode_key, one_encoding, read_key
from cellward.core.envelope import Envelope
from cellward.core.errors import Code, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.slots import Stage
from cellward.core.strictjson import SHA256_HEX, Fields, format_time, refuse

KIND = "health"
FORMAT = 1
MAX_SIZE = 256 * 1024
MAX_MODULES = 64
_LOWEST = -(2**31)
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f]*")  # nothing that a terminal obeys


class Parameter(StrEnum):
    """Of Annex VII: part A, of electric vehicles' batteries (the first) and of stationary ones; part B."""

    CERTIFIED_ENERGY = "state of certified energy"
    REMAINING_CAPACITY = "remaining capacity"
    POWER = "remaining power capability"
    EFFICIENCY = "remaining round trip efficiency"
    SELF_DISCHARGE = "evolution of self-discharging rates"
    RESISTANCE = "ohmic resistance"
    MADE = "date of manufacturing"
    IN_SERVICE = "date of putting into service"
    ENERGY = "energy throughput"
    CAPACITY = "capacity throughput"
    HARMFUL = "harmful events"
    CYCLES = "full equivalent cycles"


@dataclass(frozen=True)
class Measured:
    """Now: permille, millivolts, tenths of a degree, milliamperes (positive discharges)."""

    charge_permille: int
    cells: int
    cell_lowest_mv: int
    cell_highest_mv: int
    temperature_lowest_dc: int
    temperature_highest_dc: int
    pack_mv: int
    current_ma: int


@dataclass(frozen=True)
class Observed:
    """At how many looks since then something was outside of the calibration in force. Between two looks the
    controller knows nothing."""

    since: datetime
    looks: int = 0
    deep_discharge: int = 0
    overcharge: int = 0
    extreme_temperature: int = 0
    extreme_temperature_charging: int = 0

    def tree(self) -> dict[str, object]:
        return {**asdict(self), "since": format_time(self.since)}

    @classmethod
    def read(cls, its: Fields) -> "Observed":
        """Raises FormatRefused (metadata.format)."""
        numbers = {each.name: its.integer(each.name) for each in fields(cls) if each.name != "since"}
        found = cls(its.time("since"), **numbers)
        its.finish()
        return found


@dataclass(frozen=True)
class ModuleHealth:
    """`silent`: why nothing was measured; empty where it was. `calibration`: version in force, or empty."""

    serial: str
    hardware: str
    firmware: Mapping[str, str]  # version by stage, as last seen
    calibration: str
    silent: str = ""
    tampered: bool = False
    measured: Measured | None = None
    observed: Observed | None = None

    def tree(self) -> dict[str, object]:
        return {
            **asdict(self),
            "firmware": dict(self.firmware),
            "observed": self.observed and self.observed.tree(),
        }


@dataclass(frozen=True)
class Record:
    """`nonce`: of the challenge that it answers. `absent`: why a parameter is not known."""

    vehicle: str
    at: datetime
    nonce: str
    key: PublicKey = field(repr=False)
    modules: tuple[ModuleHealth, ...]
    absent: Mapping[Parameter, str]

    def tree(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "vehicle": self.vehicle,
            "at": format_time(self.at),
            "nonce": self.nonce,
            "algorithm": self.key.algorithm.value,
            "key": encode_key(self.key),
            "modules": [module.tree() for module in self.modules],
            "absent": {str(parameter): why for parameter, why in self.absent.items()},
        }

    def to_sign(self) -> Envelope:
        """Raises FormatRefused (metadata.format) for what would not be read back."""
        made = envelope.make(KIND, self.tree())
        _read(made.fields("new record"), "new record")
        return made


def verify(data: bytes, fingerprints: frozenset[str], what: str = "health record") -> Record:
    """The record, if the key that it names has signed it, and that is a pack's whose fingerprint is given.

    Raises FormatRefused (metadata.*, document.kind, key.format), TrustRefused (document.signature).
    """
    read = envelope.decode(data, KIND, what, MAX_SIZE)
    found = _read(read.fields(what), what)
    one_encoding(read, found.to_sign(), what)
    if found.key.fingerprint not in fingerprints:
        raise TrustRefused(
            Code.DOCUMENT_SIGNATURE,
            what,
            expected="a pack's identity key: " + ", ".join(sorted(each[:16] for each in fingerprints)),
            found=found.key.fingerprint[:16],
            advice="ask the maker for the fingerprint of the pack's key",
        )
    if found.key not in read.signers([found.key], what):
        raise TrustRefused(Code.DOCUMENT_SIGNATURE, what, expected="the pack's signature", found="none")
    return found


def _read(its: Fields, what: str) -> Record:
    its.integer("format", FORMAT, FORMAT)
    modules = its.items("modules", MAX_MODULES)
    found = Record(
        vehicle=its.text("vehicle", _LINE),
        at=its.time("at"),
        nonce=its.text("nonce", SHA256_HEX),
        key=read_key(its, what),
        modules=tuple(_module(Fields(item, f"{what} module {n}")) for n, item in enumerate(modules)),
        absent=_absent(its.fields("absent"), what),
    )
    its.finish()
    known = {Parameter.HARMFUL} if any(module.observed for module in found.modules) else set()
    if known ^ set(found.absent) != set(Parameter):
        refuse(what, "every parameter of Annex VII, or why it is absent", "another list")
    return found


def _absent(its: Fields, what: str) -> dict[Parameter, str]:
    if not set(its.names()) <= set(Parameter):
        refuse(what, "parameters of Annex VII", ", ".join(sorted(set(its.names()) - set(Parameter)))[:80])
    return {Parameter(name): its.text(name, _LINE) for name in its.names()}


def _module(its: Fields) -> ModuleHealth:
    firmware = its.fields("firmware")
    if not set(firmware.names()) <= set(Stage):
        refuse(its.what, "versions of " + " and ".join(Stage), "another stage")
    measured, observed = its.optional_fields("measured"), its.optional_fields("observed")
    found = ModuleHealth(
        serial=its.text("serial", _LINE),
        hardware=its.text("hardware", _LINE),
        firmware={stage: firmware.text(stage, _LINE) for stage in firmware.names()},
        calibration=its.text("calibration", _LINE),
        silent=its.text("silent", _LINE),
        tampered=its.boolean("tampered"),
        measured=None if measured is None else _measured(measured),
        observed=None if observed is None else Observed.read(observed),
    )
    its.finish()
    if (found.measured is None) != bool(found.silent):
        refuse(its.what, "what was measured, or why nothing was", "both or neither")
    return found


def _measured(its: Fields) -> Measured:
    found = Measured(*(its.integer(each.name, _LOWEST, -_LOWEST) for each in fields(Measured)))
    its.finish()
    return found
