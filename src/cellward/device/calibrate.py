"""Signed calibrations on the pack controller: taken when newer, kept in its vault, checked again at each use.

Normative: docs/formats/calibration.md, "On the pack controller". The vault says that a kept one was not
edited and is the newest; signature, hardware, serial and ranges are judged again all the same, at the start
of every cycle: factory data and modules change, and the vault is opened by whoever is root.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cellward.core import calibration
from cellward.core.calibration import PackCalibration
from cellward.core.errors import (
    CellwardError,
    Code,
    ModuleRefused,
    PolicyRefused,
    Refused,
    TrustRefused,
    Unavailable,
)
from cellward.core.keys import PublicKey
from cellward.core.slots import Lifecycle
from cellward.core.vault import Calibration as Block
from cellward.core.vault import Name, decode_calibration
from cellward.device.link import UpdateLink
from cellward.device.memory import ModuleEntry
from cellward.device.safety import Limits
from cellward.device.vault import FILE, Place, Vault, opened
from cellward.ports.module import Module, ModuleStatus, Telemetry
from cellward.ports.tpm import VAULT_COUNTER

PREFIX = "calibration."


def value_name(serial: str) -> str:
    """In the vault: a serial has characters that names there have not."""
    return PREFIX + serial.encode().hex()


# --- taking one ---


@dataclass(frozen=True)
class Taken:
    """`changed` is False for what was kept already."""

    entry: ModuleEntry
    calibration: PackCalibration
    changed: bool


def meant(
    data: bytes, keys: Collection[PublicKey], entries: Sequence[ModuleEntry], what: str
) -> tuple[PackCalibration, list[ModuleEntry]]:
    """The calibration, and which of the pack's modules it is for.

    Raises FormatRefused (metadata.*, document.kind, calibration.range), TrustRefused (document.signature;
    calibration.hardware, calibration.serial where it is for none of them).
    """
    found = calibration.verify(data, keys, what).calibration
    fitting: list[ModuleEntry] = []
    refusals: list[TrustRefused] = []
    for entry in entries:
        try:
            calibration.check_device(found, entry.hardware, entry.serial, 0, what)
        except TrustRefused as refusal:
            refusals.append(refusal)
        else:
            fitting.append(entry)
    if refusals and not fitting:
        raise refusals[0]
    return found, fitting


def take(
    vault: Vault,
    data: bytes,
    found: PackCalibration,
    blocks: Mapping[ModuleEntry, tuple[int, Block] | None],
    what: str,
) -> list[Taken]:
    """Keep it for these modules; `blocks`: what each has in its own vault. Every check is made before the
    first is kept. Once more after a cut goes on where that one ended.

    Raises TrustRefused (calibration.counter, calibration.version), PolicyRefused (vault.full), tpm.*.
    """
    new = [entry for entry in blocks if _kept(vault, entry.serial) != data]
    for entry in new:
        _check_newer(vault, found, entry, blocks[entry], what)
    for entry in new:
        vault.put(value_name(entry.serial), data)
    return [Taken(entry, found, entry in new) for entry in blocks]


def _check_newer(
    vault: Vault, found: PackCalibration, entry: ModuleEntry, block: tuple[int, Block] | None, what: str
) -> None:
    kept = _kept(vault, entry.serial)
    if kept is not None:  # its signature is not asked for: a key that was retired brings nothing old back
        calibration.check_newer(found, calibration.decode(kept, f"kept calibration of {entry.serial}"), what)
    if block is not None and found.block_version < block[0]:
        raise TrustRefused(
            Code.CALIBRATION_VERSION,
            what,
            expected=f"a version that is not below module {entry.serial}'s own, number {block[0]}",
            found=f"{found.version}, number {found.block_version}",
        )


def _kept(vault: Vault, serial: str) -> bytes | None:
    name = value_name(serial)
    if all(value.name != name for value in vault.content.values):
        return None
    with vault.get(name) as view:
        return bytes(view)


def kept(place: Place) -> dict[str, bytes]:
    """All that the vault keeps, by the values' names; nothing where no vault was ever made.

    Raises as vault.opened: a vault that was there and is gone is refused too (vault.missing).
    """
    if place.store.read(FILE) is None and not _had_vault(place):
        return {}
    with opened(place) as vault:
        found = {}
        for value in vault.content.values:
            if value.name.startswith(PREFIX):
                with vault.get(value.name) as view:
                    found[value.name] = bytes(view)
        return found


def _had_vault(place: Place) -> bool:
    try:
        return place.tpm.counter(VAULT_COUNTER) > 0
    except Unavailable as error:
        if error.code is Code.TPM_MISSING:
            return False
        raise


# --- the module's part ---


class InModule(StrEnum):
    """What became of the four numbers that the module applies."""

    SAME = "as in the module"
    WRITTEN = "in the module from its next start on"
    OWN = "the module keeps its own"


def block_of(link: UpdateLink) -> tuple[int, Block] | None:
    """Version and value of the module's calibration block; None without a good one."""
    try:
        version, _, value = link.vault_read(Name.CALIBRATION)
    except ModuleRefused as error:
        if error.code in (Code.VAULT_MISSING, Code.VAULT_SEAL, Code.VAULT_COUNTER):
            return None
        raise
    return version, decode_calibration(value)


def hand_over(link: UpdateLink, lifecycle: Lifecycle, found: PackCalibration) -> InModule:
    """Into the module's own vault, whose checks stay: a closed module takes none, nor one that has another
    waiting for its next start, and no older one is offered. Nothing is reset: that is the pack's to decide.
    An app that answers otherwise keeps its own: it must still be updated. Raises Unavailable (link.*)."""
    try:
        held = block_of(link)
        if held == (found.block_version, found.block):
            return InModule.SAME
        if lifecycle is not Lifecycle.PROVISIONED or (held is not None and held[0] >= found.block_version):
            return InModule.OWN
        link.vault_write(Name.CALIBRATION, found.block_version, found.block.encode())
    except Refused:
        return InModule.OWN
    return InModule.WRITTEN


# --- using it ---


class Source(StrEnum):
    KEPT = "kept"
    LAST_GOOD = "last good"
    DEFAULTS = "safe defaults"


@dataclass(frozen=True)
class InForce:
    """What the controller goes by for a module. `event`: why it is not the kept one."""

    source: Source = Source.DEFAULTS
    calibration: PackCalibration | None = None
    event: CellwardError | None = None

    def narrowed(self, limits: Limits) -> Limits:
        """The windows in which an update may begin: narrower by the calibration, never wider."""
        found = self.calibration
        if found is None:
            return limits
        celsius = found.temperatures
        return replace(
            limits,
            cell_mv=_both(limits.cell_mv, (found.cell_under_mv, found.cell_over_mv)),
            temperature_dc=_both(
                limits.temperature_dc, (celsius.discharge_under_dc, celsius.discharge_over_dc)
            ),
        )

    def check(self, serial: str, measured: Telemetry) -> CellwardError | None:
        """What is measured outside of the calibration, for the report: of cells, temperatures, current."""
        if self.calibration is None:
            return None
        for name, window, values in _windows(self.calibration, measured):
            if values and (min(values) < window[0] or window[1] < max(values)):
                return PolicyRefused(
                    Code.CALIBRATION_LIMITS,
                    f"module {serial} {name}",
                    expected=f"{window[0]} to {window[1]}, by calibration {self.calibration.version}",
                    found=f"{min(values)} to {max(values)}",
                )
        return None


def _windows(
    found: PackCalibration, measured: Telemetry
) -> list[tuple[str, tuple[int, int], tuple[int, ...]]]:
    """Millivolts, tenths of a degree, milliamperes (positive discharges)."""
    limits, charging = found.temperatures, measured.current_ma < 0
    celsius = (
        (limits.charge_under_dc, limits.charge_over_dc)
        if charging
        else (limits.discharge_under_dc, limits.discharge_over_dc)
    )
    return [
        ("cells", (found.cell_under_mv, found.cell_over_mv), measured.cells_mv),
        ("temperature", celsius, measured.temperatures_dc),
        ("current", (-found.charge_ma, found.discharge_ma), (measured.current_ma,)),
    ]


def _both(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), min(one[1], other[1])


@dataclass(frozen=True)
class Applied:
    """What a cycle made of a module's calibration. `outside`: what is measured beyond its limits."""

    in_force: InForce
    in_module: InModule | None = None
    outside: CellwardError | None = None

    @property
    def said(self) -> CellwardError | None:
        return self.in_force.event or self.outside

    def note(self) -> dict[str, str]:
        """For `device status`; empty where nothing was ever kept."""
        found, said = self.in_force.calibration, self.said
        if found is None and said is None:
            return {}
        return {
            "source": self.in_force.source,
            "version": f"{found.version}" if found else "",
            "module": self.in_module or "",
            "code": f"{said.code}" if said else "",
            "expected": said.expected if said else "",
            "found": said.found if said else "",
        }


class Calibrations:
    """What is in force, module by module. `read` gives what is kept (`kept`); the last good one is remembered
    for as long as the agent's process lasts."""

    def __init__(
        self,
        keys: Collection[PublicKey] = (),
        entries: Sequence[ModuleEntry] = (),
        read: Callable[[], Mapping[str, bytes]] = dict,
    ) -> None:
        self._keys = keys
        self._entries = entries
        self._read = read
        self._in_force: dict[str, InForce] = {}

    def of(self, serial: str) -> InForce:
        return self._in_force.get(serial, InForce())

    def apply(self, module: Module, status: ModuleStatus) -> Applied:
        """Hand it to a module whose app runs, and compare what that measures. Raises what the link raises."""
        in_force = self.of(status.serial)
        if in_force.calibration is None:
            return Applied(in_force)
        link = UpdateLink(module, status.serial)
        in_module = hand_over(link, status.lifecycle, in_force.calibration)
        return Applied(in_force, in_module, in_force.check(status.serial, module.telemetry()))

    def refresh(self) -> None:
        """Check again whatever is kept. Never raises for what that is: each module's `InForce` says it."""
        held: Mapping[str, bytes] | CellwardError
        try:
            held = self._read()
        except CellwardError as error:
            held = error
        for entry in self._entries:
            self._in_force[entry.serial] = self._judged(entry, held)

    def _judged(self, entry: ModuleEntry, held: Mapping[str, bytes] | CellwardError) -> InForce:
        if isinstance(held, CellwardError):
            return self._without(entry, held)
        data = held.get(value_name(entry.serial))
        if data is None:
            return InForce()
        try:
            found, _ = meant(data, self._keys, [entry], "kept calibration")
        except CellwardError as error:
            return self._without(entry, error)
        return InForce(Source.KEPT, found)

    def _without(self, entry: ModuleEntry, cause: CellwardError) -> InForce:
        last = self.of(entry.serial).calibration
        source, code = (
            (Source.DEFAULTS, Code.CALIBRATION_DEFAULTS)
            if last is None
            else (Source.LAST_GOOD, Code.CALIBRATION_LAST_GOOD)
        )
        event = TrustRefused(
            code, f"module {entry.serial}", expected="the calibration that was kept", found=f"{cause}"
        )
        return InForce(source, last, event)
