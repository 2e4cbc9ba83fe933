"""Calibrations for tests, signed by keys of the test's own."""

from dataclasses import replace

from cellward.cli.calibration import example_source
from cellward.core import envelope
from cellward.core.calibration import PackCalibration, Point, from_source
from cellward.core.image import Version
from cellward.sign.documents import sign_document
from tests.support.maker import NOW, Hand

EXAMPLE = from_source(example_source().encode(), NOW, "example")
HAND = Hand("calibration")


def made(
    version: str, serial: str | None = None, over_mv: int = EXAMPLE.cell_over_mv, **more: object
) -> PackCalibration:
    """The example with another version, module and highest cell voltage."""
    ocv = (Point(0, 3000), Point(1000, over_mv - 10))
    found = replace(EXAMPLE, version=Version.parse(version), serial=serial, cell_over_mv=over_mv, ocv=ocv)
    return replace(found, **more)  # type: ignore[arg-type]


def signed(version: str, serial: str | None = None, hand: Hand = HAND, **more: object) -> bytes:
    return sign_document(made(version, serial, **more).to_sign(), hand).encode()  # type: ignore[arg-type]


def out_of_range(version: str) -> bytes:
    """Signed by the right key, with a limit of another chemistry: no signer of ours would."""
    good = made(version).to_sign()
    payload = good.payload.replace(b'"over_mv":4200', b'"over_mv":4700')
    assert payload != good.payload
    bad = envelope.Envelope(good.payload_type, payload)
    return sign_document(bad, HAND).encode()
