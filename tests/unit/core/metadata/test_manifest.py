import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical

from cellward.core.errors import Code, FormatRefused, Refused
from cellward.core.metadata import (
    MAX_MANIFEST_SIZE,
    EcuReport,
    Installed,
    InstallResult,
    Manifest,
    decode_manifest,
    encode_manifest,
    verify_manifest,
)
from cellward.core.metadata.manifest import MAX_ECUS
from tests.support.uptane import APP, LOADER, NOW, VEHICLE, holder, target

PRIMARY, MODULE, STRANGER = holder("primary"), holder("module"), holder("stranger")
KEY = PRIMARY.public_key
RUNS = Installed.from_target(target())
LAST = InstallResult("image.counter", expected="a counter from 7", found="6", detail="bank b")
REPORTS = (
    EcuReport(APP.ecu_id, 3, NOW, RUNS, LAST, "image.counter"),
    EcuReport(LOADER.ecu_id, 4, NOW),
    EcuReport(VEHICLE, 5, NOW),
)


def signed(manifest: Manifest) -> Manifest:
    return manifest.signed_by(KEY, PRIMARY.sign(manifest.digest))


def report_signed(report: EcuReport) -> EcuReport:
    return report.signed_by(KEY, PRIMARY.sign(report.digest))


MANIFEST = signed(Manifest(VEHICLE, 12, NOW, tuple(report_signed(report) for report in REPORTS)))
DATA = encode_manifest(MANIFEST)


def test_there_and_back() -> None:
    assert set(decode_manifest(DATA).reports) == set(MANIFEST.reports)
    verified = verify_manifest(DATA, KEY, VEHICLE, 11)
    assert verified.report(APP.ecu_id) == MANIFEST.reports[0]
    assert verified.report("M-0002/app") is None
    assert verified.counter == 12


def test_boot_records_go_with_the_report_of_an_app_or_not_at_all() -> None:
    records = bytes(range(176))
    report = report_signed(replace(REPORTS[0], boot_records=records))
    data = encode_manifest(signed(Manifest(VEHICLE, 12, NOW, (report,))))
    found = verify_manifest(data, KEY, VEHICLE, 11).report(APP.ecu_id)
    assert found is not None
    assert found.boot_records == records
    assert b"boot_records" not in DATA
    with pytest.raises(FormatRefused):
        encode_manifest(signed(Manifest(VEHICLE, 12, NOW, (replace(report, boot_records=records[1:]),))))


def test_the_form_of_the_document() -> None:
    """docs/formats/uptane.md, "Vehicle manifest"; signed as TUF signs: over canonical JSON."""
    tree = json.loads(DATA)
    assert DATA.decode() == encode_canonical(tree)
    assert tree["signed"].keys() == {
        "_type",
        "vehicle_id",
        "primary_ecu_id",
        "counter",
        "time",
        "ecu_version_reports",
    }
    report = tree["signed"]["ecu_version_reports"][APP.ecu_id]["signed"]
    assert report["installed"] == {
        "filename": "bms-m33/app-1.4.0.img",
        "length": 100,
        "hashes": {"sha256": "a2" * 32},
        "version": "1.4.0",
        "release_counter": 7,
    }
    assert report["result"] == {
        "code": "image.counter",
        "expected": "a counter from 7",
        "found": "6",
        "detail": "bank b",
    }
    assert tree["signatures"][0].keys() == {"keyid", "method", "sig"}
    assert tree["signatures"][0]["keyid"] == KEY.fingerprint


def refused(data: bytes, code: Code, **changes: Any) -> None:
    known: dict[str, Any] = {"public_key": KEY, "vehicle_id": VEHICLE, "last_counter": 11, **changes}
    with pytest.raises(Refused) as caught:
        verify_manifest(data, **known)
    assert caught.value.code is code


def test_another_vehicles_manifest() -> None:
    refused(DATA, Code.TARGET_VEHICLE, vehicle_id="PACK-0002")


def test_replayed() -> None:
    refused(DATA, Code.REPORT_REPLAYED, last_counter=12)
    refused(DATA, Code.REPORT_REPLAYED, last_counter=13)


def test_a_strangers_key() -> None:
    refused(DATA, Code.REPORT_SIGNATURE, public_key=STRANGER.public_key)


def test_unsigned() -> None:
    refused(encode_manifest(replace(MANIFEST, signatures=())), Code.REPORT_SIGNATURE)


def test_changed_after_signing() -> None:
    refused(encode_manifest(replace(MANIFEST, counter=99)), Code.REPORT_SIGNATURE)


def test_the_primary_cannot_speak_for_an_ecu_with_its_own_key() -> None:
    """F2: the module has a key, so the Primary's signature on its report is worth nothing."""
    refused(DATA, Code.REPORT_SIGNATURE, ecu_keys={APP.ecu_id: MODULE.public_key})
    own = REPORTS[0].signed_by(MODULE.public_key, MODULE.sign(REPORTS[0].digest))
    data = encode_manifest(signed(Manifest(VEHICLE, 12, NOW, (own, *MANIFEST.reports[1:]))))
    assert verify_manifest(data, KEY, VEHICLE, 11, {APP.ecu_id: MODULE.public_key}).report(APP.ecu_id) == own
    refused(data, Code.REPORT_SIGNATURE)


def test_an_unsigned_report_in_a_signed_manifest() -> None:
    data = encode_manifest(signed(Manifest(VEHICLE, 12, NOW, REPORTS)))
    refused(data, Code.REPORT_SIGNATURE)


def test_a_report_taken_from_another_manifest_keeps_its_own_signature_only() -> None:
    moved = replace(MANIFEST.reports[0], counter=9)
    data = encode_manifest(signed(Manifest(VEHICLE, 12, NOW, (moved, *MANIFEST.reports[1:]))))
    refused(data, Code.REPORT_SIGNATURE)


Change = Callable[[dict[str, Any]], object]
REPORT = ("signed", "ecu_version_reports", APP.ecu_id)


def put(*path: Any) -> Change:
    *steps, last, value = path

    def change(tree: dict[str, Any]) -> None:
        node: Any = tree
        for step in steps:
            node = node[step]
        node[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("signed", "_type", "targets"),
        put("signed", "vehicle_id", "../x"),
        put("signed", "primary_ecu_id", "PACK-0002"),
        put("signed", "counter", 0),
        put("signed", "counter", True),
        put("signed", "time", "yesterday"),
        put("signed", "extra", 1),
        put("extra", 1),
        put("signatures", {}),
        put("signatures", [1]),
        put("signatures", [{"keyid": "ab" * 32, "method": "rsa", "sig": "00" * 8}]),
        put("signatures", [{"keyid": "ab", "method": "ecdsa-sha2-nistp256", "sig": "00" * 8}]),
        put("signatures", [{"keyid": "ab" * 32, "method": "ecdsa-sha2-nistp256", "sig": "0"}]),
        put("signatures", 0, "extra", 1),
        put("signed", "ecu_version_reports", []),
        put("signed", "ecu_version_reports", {f"E{n}": {} for n in range(257)}),
        put(*REPORT, "extra", 1),
        put(*REPORT, "signed", "extra", 1),
        put(*REPORT, "signed", "ecu_id", "M-0002/app"),
        put(*REPORT, "signed", "counter", -1),
        put(*REPORT, "signed", "installed", []),
        put(*REPORT, "signed", "installed", {}),
        put(*REPORT, "signed", "installed", "extra", 1),
        put(*REPORT, "signed", "installed", "version", "../1"),
        put(*REPORT, "signed", "result", "code", "NOT A CODE"),
        put(*REPORT, "signed", "result", "detail", "x" * 1025),
        put(*REPORT, "signed", "result", "extra", 1),
        put(*REPORT, "signed", "attacks_detected", None),
        lambda tree: tree["signed"].pop("counter"),
    ],
)
def test_malformed(change: Change) -> None:
    tree = json.loads(DATA)
    change(tree)
    with pytest.raises(FormatRefused) as caught:
        decode_manifest(json.dumps(tree).encode())
    assert caught.value.code is Code.METADATA_FORMAT


@pytest.mark.parametrize(("count", "taken"), [(MAX_ECUS, True), (MAX_ECUS + 1, False)])
def test_the_number_of_reports_is_bounded(count: int, taken: bool) -> None:
    manifest = Manifest(VEHICLE, 1, NOW, tuple(EcuReport(f"E{n}", 1, NOW) for n in range(count)))
    if taken:
        assert len(decode_manifest(encode_manifest(manifest)).reports) == count
        return
    with pytest.raises(FormatRefused) as caught:
        encode_manifest(manifest)
    assert caught.value.expected == f"at most {MAX_ECUS} reports"


def test_the_vehicle_has_a_vehicle_id() -> None:
    with pytest.raises(FormatRefused) as caught:
        encode_manifest(Manifest("../x", 1, NOW, ()))
    assert "vehicle id" in caught.value.expected


def test_limit() -> None:
    decode_manifest(DATA + b" " * (MAX_MANIFEST_SIZE - len(DATA)))
    with pytest.raises(FormatRefused) as caught:
        decode_manifest(DATA + b" " * (MAX_MANIFEST_SIZE - len(DATA) + 1))
    assert caught.value.code is Code.METADATA_TOO_LARGE


def test_file_names_in_reports_are_target_names() -> None:
    with pytest.raises(FormatRefused) as caught:
        encode_manifest(Manifest(VEHICLE, 1, NOW, (EcuReport("E", 1, NOW, replace(RUNS, filename="../x")),)))
    assert caught.value.code is Code.TARGET_NAME


def test_nothing_is_sent_that_would_not_be_read() -> None:
    with pytest.raises(FormatRefused):
        encode_manifest(Manifest(VEHICLE, 0, NOW, ()))
    with pytest.raises(FormatRefused):
        encode_manifest(Manifest(VEHICLE, 1, NOW, (EcuReport("E", 1, NOW, attacks_detected="x" * 1025),)))


def test_text_in_any_language_is_signed_as_it_stands() -> None:
    report = report_signed(EcuReport("E", 1, NOW, result=InstallResult("ok", detail="Zelle 3: 4,21 V, 电池")))
    data = encode_manifest(signed(Manifest(VEHICLE, 1, NOW, (report,))))
    assert verify_manifest(data, KEY, VEHICLE, 0).reports == (report,)
