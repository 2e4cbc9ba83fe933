"""The calibration artefact: what it may say, whose it is, and what the module takes of it."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from cellward.cli.calibration import example_source
from cellward.core import envelope, strictjson, vault
from cellward.core.calibration import (
    KIND,
    MAX_SIZE,
    WINDOWS,
    Chemistry,
    PackCalibration,
    check_device,
    decode,
    from_source,
    verify,
)
from cellward.core.errors import CellwardError, Code, FormatRefused, TrustRefused
from cellward.core.image import Version
from cellward.sign.documents import sign_document
from tests.support.maker import NOW, Hand

MADE = from_source(example_source().encode(), NOW, "example")
HAND = Hand("calibration")
SIGNED = sign_document(MADE.to_sign(), HAND).encode()


def tree() -> dict[str, Any]:
    found: dict[str, Any] = strictjson.decode(MADE.to_sign().payload, "tree", MAX_SIZE)  # type: ignore[assignment]
    return found


def changed(**values: object) -> dict[str, Any]:
    """`cells__over_mv=1` is the field `over_mv` of `cells`."""
    found = tree()
    for name, value in values.items():
        first, _, inner = name.partition("__")
        (found[first] if inner else found)[inner or first] = value
    return found


def code(made: dict[str, Any]) -> Code:
    """Of an envelope with this payload; its signature is good."""
    data = sign_document(envelope.make(KIND, made), HAND).encode()
    with pytest.raises(CellwardError) as refused:
        verify(data, [HAND.public_key])
    with pytest.raises(CellwardError) as also:
        decode(data)
    assert also.value.code is refused.value.code
    return refused.value.code


def test_from_source_to_what_was_signed() -> None:
    verified = verify(SIGNED, [HAND.public_key, Hand().public_key])
    assert (verified.calibration, verified.key) == (MADE, HAND.public_key)
    assert decode(SIGNED) == MADE
    assert (
        sign_document(decode(SIGNED).to_sign(), HAND).payload
        == envelope.decode(SIGNED, KIND, "again", MAX_SIZE).payload
    )


def test_what_the_module_takes_of_it() -> None:
    one = replace(MADE, current_gain_ppm=-1200, current_offset_ma=35, version=Version(1, 2, 515))
    assert one.block == vault.Calibration(-1200, 35, MADE.cell_over_mv, MADE.cell_under_mv)
    assert vault.decode_calibration(one.block.encode()) == one.block
    assert one.block_version == 0x01020203
    later = replace(one, version=Version(1, 3, 0))
    assert later.block_version > one.block_version


@pytest.mark.parametrize("chemistry", list(Chemistry))
def test_every_window_is_one_that_modules_take(chemistry: Chemistry) -> None:
    lowest, highest = WINDOWS[chemistry]
    vault.Calibration(0, 0, highest, lowest)


# Whose it is ------------------------------------------------------------------------------------------


def test_another_key_and_none() -> None:
    for data, keys in (
        (SIGNED, [Hand().public_key]),
        (SIGNED, []),
        (MADE.to_sign().encode(), [HAND.public_key]),
    ):
        with pytest.raises(TrustRefused) as refused:
            verify(data, keys)
        assert refused.value.code is Code.DOCUMENT_SIGNATURE


def test_two_signatures_are_not_one() -> None:
    other = Hand()
    data = sign_document(sign_document(MADE.to_sign(), HAND), other).encode()
    with pytest.raises(TrustRefused) as refused:
        verify(data, [HAND.public_key, other.public_key])
    assert refused.value.code is Code.DOCUMENT_SIGNATURE


def test_a_limit_that_was_edited() -> None:
    whole = envelope.decode(SIGNED, KIND, "calibration", MAX_SIZE)
    edited = strictjson.encode(changed(cells__under_mv=2500))
    with pytest.raises(TrustRefused) as refused:
        verify(replace(whole, payload=edited).encode(), [HAND.public_key])
    assert refused.value.code is Code.DOCUMENT_SIGNATURE


def test_another_kind_of_document_by_the_same_key() -> None:
    data = sign_document(envelope.make("release", tree()), HAND).encode()
    with pytest.raises(FormatRefused) as refused:
        verify(data, [HAND.public_key])
    assert refused.value.code is Code.DOCUMENT_KIND


def test_more_than_a_calibration_can_have() -> None:
    with pytest.raises(FormatRefused) as refused:
        verify(SIGNED + b" " * MAX_SIZE, [HAND.public_key])
    assert refused.value.code is Code.METADATA_TOO_LARGE


# For which module -------------------------------------------------------------------------------------


def test_for_every_module_of_its_hardware() -> None:
    check_device(MADE, "bms-m33", "M1", MADE.counter)
    check_device(MADE, "bms-m33", None, 0)


@pytest.mark.parametrize(
    ("found", "serial", "counter", "wanted"),
    [
        (replace(MADE, hardware="bms-m33-18s"), "M1", 0, Code.CALIBRATION_HARDWARE),
        (replace(MADE, serial="M2"), "M1", 0, Code.CALIBRATION_SERIAL),
        (replace(MADE, serial="M2"), None, 0, Code.CALIBRATION_SERIAL),
        (replace(MADE, serial="M1"), "M1", 0, None),
        (MADE, "M1", 2, Code.CALIBRATION_COUNTER),
        (MADE, "M1", 1, None),
    ],
)
def test_for_which_module(
    found: PackCalibration, serial: str | None, counter: int, wanted: Code | None
) -> None:
    if wanted is None:
        check_device(found, "bms-m33", serial, counter)
        return
    with pytest.raises(TrustRefused) as refused:
        check_device(found, "bms-m33", serial, counter)
    assert refused.value.code is wanted


# What it may say --------------------------------------------------------------------------------------

RISING = [[0, 3000], [500, 3700], [1000, 4180]]


@pytest.mark.parametrize(
    "made",
    [
        changed(cells__under_mv=4200),
        changed(cells__under_mv=4300),
        changed(cells__over_mv=4451),
        changed(cells__under_mv=2399),
        changed(chemistry="lfp"),
        changed(temperatures__charge_under_dc=450),
        changed(temperatures__charge_under_dc=-210),
        changed(temperatures__charge_over_dc=610),
        changed(ocv=[]),
        changed(ocv=[[0, 3000]]),
        changed(ocv=[[10, 3000], [1000, 4180]]),
        changed(ocv=[[0, 3000], [990, 4180]]),
        changed(ocv=[[0, 3000], [500, 3000], [1000, 4180]]),
        changed(ocv=[[0, 3000], [500, 3700], [600, 3690], [1000, 4180]]),
        changed(ocv=[[0, 3000], [500, 3700], [500, 3800], [1000, 4180]]),
        changed(ocv=[[0, 2799], [1000, 4180]]),
        changed(ocv=[[0, 3000], [1000, 4201]]),
    ],
)
def test_numbers_that_do_not_go_together(made: dict[str, Any]) -> None:
    assert code(made) is Code.CALIBRATION_RANGE


def test_limits_the_wrong_way_round_are_called_so() -> None:
    with pytest.raises(FormatRefused) as refused:
        decode(envelope.make(KIND, changed(cells__under_mv=4300)).encode())
    assert "under-voltage limit below" in refused.value.expected


def test_the_ends_of_what_goes_together() -> None:
    for made in (
        changed(cells__over_mv=4450, cells__under_mv=2400),
        changed(temperatures__charge_under_dc=-200, temperatures__charge_over_dc=600),
        changed(ocv=[[0, 2800], [1000, 4200]]),
    ):
        data = sign_document(envelope.make(KIND, made), HAND).encode()
        verify(data, [HAND.public_key])


@pytest.mark.parametrize(
    "made",
    [
        changed(hardware="bms-x"),
        changed(serial=""),
        changed(serial="M" * 17),
        changed(serial=7),
        changed(version="1.0"),
        changed(version="1.0.0+3"),
        changed(version="01.0.0"),
        changed(counter=-1),
        changed(counter=1025),
        changed(counter=True),
        changed(created="today"),
        changed(chemistry="lead"),
        changed(cells__over_mv=5001),
        changed(cells__over_mv=None),
        changed(cells__nominal_mv=3700),
        changed(temperatures__charge_over_dc=1001),
        changed(temperatures__discharge_under_dc=-401),
        changed(temperatures__alarm_dc=700),
        changed(currents__charge_ma=0),
        changed(currents__discharge_ma=2_000_001),
        changed(currents__pulse_ma=1),
        changed(sensor__gain_ppm=100_001),
        changed(sensor__gain_ppm=-100_001),
        changed(sensor__offset_ma=10_001),
        changed(sensor__offset_ma=-10_001),
        changed(sensor__unit="A"),
        changed(ocv="flat"),
        changed(ocv=[[n, 3000 + n] for n in range(65)]),
        changed(ocv=[[0, 3000], [1000]]),
        changed(ocv=[[0, 3000], [1000, True]]),
        changed(ocv=[[0, 3000], [1001, 4180]]),
        changed(ocv=[[0, -1], [1000, 4180]]),
        changed(ocv=[{"0": 3000}, [1000, 4180]]),
        changed(note="hello"),
        {key: value for key, value in tree().items() if key != "ocv"},
        {key: value for key, value in tree().items() if key != "serial"},
    ],
)
def test_fields_that_are_not_as_they_must_be(made: dict[str, Any]) -> None:
    assert code(made) is Code.METADATA_FORMAT


def test_a_version_that_is_none() -> None:
    assert code(changed(version="1.0.65536")) is Code.IMAGE_VERSION


def test_nothing_is_signed_that_would_not_be_read() -> None:
    for wrong in (replace(MADE, cell_over_mv=2000), replace(MADE, version=Version(1, 0, 0, 4))):
        with pytest.raises(FormatRefused):
            wrong.to_sign()


# As an engineer writes it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ('hardware = "bms-m33"', 'hardware = "bms-m33', Code.CONFIG),
        ("over_mv = 4200", "over_mv = 4200.0", Code.METADATA_FORMAT),
        ("over_mv = 4200", "over_mv = 9000", Code.METADATA_FORMAT),
        ("over_mv = 4200", "over_mv = 4100", Code.CALIBRATION_RANGE),
        ("counter = 1 ", "counter = 1\ncreated = 2026-11-24T00:00:00Z", Code.METADATA_FORMAT),
        ("counter = 1 ", "# ", Code.METADATA_FORMAT),
        ("[cells]", "[cell]", Code.METADATA_FORMAT),
    ],
)
def test_a_source_with_a_slip_of_the_pen(old: str, new: str, wanted: Code) -> None:
    text = example_source()
    assert old in text
    with pytest.raises(FormatRefused) as refused:
        from_source(text.replace(old, new, 1).encode(), NOW, "pack.toml")
    assert refused.value.code is wanted
    assert "pack.toml" in refused.value.subject


def test_a_source_for_one_module() -> None:
    text = example_source().replace('# serial = "M0001"', 'serial = "M0001"')
    assert tomllib.loads(text)["serial"] == "M0001"
    assert from_source(text.encode(), NOW, "pack.toml").serial == "M0001"


def test_a_source_without_end() -> None:
    for data in (b"a = " + b"[" * 5000, b"#" * (64 * 1024 + 1), b"\xff"):
        with pytest.raises(FormatRefused) as refused:
            from_source(data, NOW, "pack.toml")
        assert refused.value.code is Code.CONFIG


def test_the_table_used_here_is_good() -> None:
    data = sign_document(envelope.make(KIND, changed(ocv=RISING)), HAND).encode()
    assert len(verify(data, [HAND.public_key]).calibration.ocv) == len(RISING)
