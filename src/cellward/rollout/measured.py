"""Measured boot, as the maker sees it: do ROM and loader say what the app says?

The app forwards two records that it cannot make (docs/formats/boot-record.md); here they are verified
with the keys that the plant registered, and compared with what the app claims to run. An app that lies
about itself, keeps the records back, or sends those of an earlier boot or of another module is found.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cellward.core import bootrecord
from cellward.core.bootrecord import BootRecord, MeasuredBoot, RecordKeys
from cellward.core.errors import Code, Refused, TrustRefused
from cellward.core.metadata import Installed, Manifest
from cellward.core.registration import Registration
from cellward.core.slots import Stage
from cellward.ports.store import Store

PROVEN = "ok"

Registrations = Callable[[str], Registration | None]  # by serial
# The digest that the published image with this file's hash states; None for one that is not published.
Digests = Callable[[Installed], bytes | None]


@dataclass(frozen=True)
class Verdict:
    """`code` is ok, a refusal's, or empty where nothing can be said: no registration, or no app runs."""

    code: str = ""
    expected: str = ""
    found: str = ""
    boot_count: int | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "code": self.code,
            "expected": self.expected,
            "found": self.found,
            "boot_count": self.boot_count,
        }


class Measured:
    """`last` holds each module's newest authentic pair: what is not above it is a replay."""

    def __init__(self, registrations: Registrations, last: Store, digests: Digests) -> None:
        self._registrations = registrations
        self._last = last
        self._digests = digests

    def note(self, manifest: Manifest) -> dict[str, Verdict]:
        """Keep what is authentic and new of a manifest that was accepted; the verdicts on it, by serial.
        Costs one read for each module that has not booted since."""
        verdicts = {}
        for report in manifest.reports:
            serial, _, stage = report.ecu_id.partition("/")
            if stage != Stage.APP or not report.boot_records:
                continue
            if self._last.read(serial) == report.boot_records:
                continue
            verdict = self.judge(manifest, serial)
            verdicts[serial] = verdict
            if verdict.boot_count is not None:
                self._last.write(serial, report.boot_records)
        return verdicts

    def judge(self, manifest: Manifest, serial: str) -> Verdict:
        """What this manifest's word for a module is worth."""
        reports = {stage: manifest.report(f"{serial}/{stage}") for stage in Stage}
        app = reports[Stage.APP]
        claims = {stage: report.installed for stage, report in reports.items() if report and report.installed}
        held = self._registrations(serial)
        if held is None or app is None or not claims:
            return Verdict()
        count = None
        try:
            boot = self._authentic(held, serial, app.boot_records)
            count = boot.boot_count
            self._compare(serial, claims, {Stage.LOADER: boot.rom, Stage.APP: boot.loader})
        except Refused as error:
            return Verdict(error.code, error.expected, error.found, count)
        return Verdict(PROVEN, boot_count=count)

    def _authentic(self, held: Registration, serial: str, records: bytes) -> MeasuredBoot:
        if not records:
            raise TrustRefused(
                Code.BOOT_RECORD, f"module {serial}", expected="the records of ROM and loader", found="none"
            )
        keys = RecordKeys(held.keys.rom_record, held.keys.loader_record)
        data = self._last.read(serial)
        last = None if data is None else bootrecord.verify(data, keys, None)
        return bootrecord.verify(records, keys, last)

    def _compare(
        self, serial: str, claims: Mapping[Stage, Installed], records: Mapping[Stage, BootRecord]
    ) -> None:
        for stage, claimed in claims.items():
            record = records[stage]
            digest = self._digests(claimed)
            if str(record.version) != claimed.version or digest not in (None, record.digest):
                named = digest.hex()[:16] if digest else "not published"
                raise TrustRefused(
                    Code.BOOT_RECORD,
                    f"{serial}/{stage}",
                    expected=f"{record.version} ({record.digest.hex()[:16]}), which was measured",
                    found=f"{claimed.version} ({named}) by the app's word",
                )
