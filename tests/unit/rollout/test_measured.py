"""rollout.measured: records that are authentic, and say what the app says."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from cellward.core.bootrecord import BootRecord, Measurer
from cellward.core.errors import Code
from cellward.core.image import Version
from cellward.core.ladder import ModuleKeys, derive, registered
from cellward.core.metadata import EcuReport, Installed, Manifest
from cellward.core.registration import Registration
from cellward.core.slots import Lifecycle, Stage
from cellward.rollout.measured import PROVEN, Measured, Verdict
from tests.fakes.store import MemoryStore
from tests.support.maker import NOW

SECRET = bytes(range(32))
KEYS, STRANGER = derive(SECRET), derive(bytes(32))
REGISTRATION = Registration(
    serial="m1",
    hardware="bms-m33",
    slot_keys=(bytes(32),),
    development=0,
    root_quorum=bytes(32),
    images={stage: bytes(32) for stage in Stage},
    keys=registered(SECRET),
)
RUNS = {
    stage: Installed(f"bms-m33/{stage}-1.4.0.img", 5000, digest * 32, "1.4.0", 7)
    for stage, digest in ((Stage.LOADER, "1a"), (Stage.APP, "2b"))
}
MEASURED = {"1a" * 32: b"\x01" * 32, "2b" * 32: b"\x02" * 32}  # by the published file's hash


def pair(
    count: int = 5, keys: ModuleKeys = KEYS, *, version: str = "1.4.0", digest: bytes = b"\x02" * 32
) -> bytes:
    rom = BootRecord(Measurer.ROM, Lifecycle.PRODUCTION, 1, count, 7, Version(1, 4, 0), b"\x01" * 32)
    loader = replace(rom, by=Measurer.LOADER, version=Version.parse(version), digest=digest)
    return rom.encode(keys.rom_record) + loader.encode(keys.loader_record)


def said(records: bytes, runs: Mapping[Stage, Installed] = RUNS) -> Manifest:
    reports = tuple(
        EcuReport(f"m1/{stage}", 1, NOW, runs.get(stage), boot_records=records if stage is Stage.APP else b"")
        for stage in Stage
    )
    return Manifest("PACK-1", 1, NOW, reports)


@pytest.fixture
def measured() -> Measured:
    return Measured({"m1": REGISTRATION}.get, MemoryStore(), lambda installed: MEASURED.get(installed.sha256))


def test_an_honest_app_is_proven(measured: Measured) -> None:
    assert measured.note(said(pair())) == {"m1": Verdict(PROVEN, boot_count=5)}
    assert measured.note(said(pair())) == {}  # the same boot, reported again
    assert measured.judge(said(pair()), "m1").code == PROVEN
    assert measured.note(said(pair(6)))["m1"].boot_count == 6


@pytest.mark.parametrize(
    "lie",
    [
        said(pair(version="1.3.0")),  # an old app that calls itself 1.4.0
        said(pair(digest=b"\x03" * 32)),  # another app of the same version
        said(pair(), {**RUNS, Stage.LOADER: replace(RUNS[Stage.LOADER], version="1.5.0")}),
        said(b""),  # it keeps the records back
        said(pair(keys=STRANGER)),  # another module's, or made up
        said(pair()[:88] + pair(6)[88:]),  # of two boots
        said(pair()[88:] + pair()[:88]),
        said(pair()[:40] + b"\xff" + pair()[41:]),
    ],
    ids=["version", "digest", "loader", "silent", "another module", "two boots", "swapped", "edited"],
)
def test_a_lying_app_is_found(measured: Measured, lie: Manifest) -> None:
    verdict = measured.judge(lie, "m1")
    assert verdict.code == Code.BOOT_RECORD
    assert verdict.expected
    assert verdict.found


def test_records_of_an_earlier_boot_are_found(measured: Measured) -> None:
    """Also after a report without any: what was seen once stays seen."""
    measured.note(said(pair(9)))
    measured.note(said(b""))
    for old in (pair(8), pair(9)[:-1] + bytes([pair(9)[-1] ^ 1])):
        assert measured.note(said(old))["m1"].code == Code.BOOT_RECORD
    assert measured.judge(said(pair(9)), "m1").code == PROVEN


def test_a_lie_about_an_authentic_boot_is_no_way_to_replay_it(measured: Measured) -> None:
    """The records are kept though the claims beside them were refused."""
    assert measured.note(said(pair(9, version="1.3.0")))["m1"].code == Code.BOOT_RECORD
    assert measured.judge(said(pair(8)), "m1").code == Code.BOOT_RECORD


def test_nothing_is_said_of_a_module_that_nobody_registered(measured: Measured) -> None:
    nobody = Measured(lambda serial: None, MemoryStore(), lambda installed: None)
    assert nobody.judge(said(pair()), "m1") == Verdict()
    assert measured.judge(said(b"", {}), "m1") == Verdict()  # no app runs


def test_a_file_that_is_not_published_is_judged_by_its_version() -> None:
    measured = Measured({"m1": REGISTRATION}.get, MemoryStore(), lambda installed: None)
    assert measured.judge(said(pair()), "m1").code == PROVEN
    assert "not published" in measured.judge(said(pair(version="1.3.0")), "m1").found
