"""An app that lies about itself: the controller believes and reports it, the maker finds it."""

from hashlib import sha256

import pytest

from cellward.core import wire
from cellward.core.errors import Code
from cellward.core.image import Version, decode
from cellward.core.ladder import registered
from cellward.core.metadata import Installed
from cellward.core.registration import Registration
from cellward.core.slots import BMS_M33, OTP_DEVICE_SECRET, Stage
from cellward.ports.updatelink import ANSWER, Request
from cellward.ports.updatevalues import StageDigest
from cellward.rollout.measured import PROVEN, Measured
from tests.fakes.store import MemoryStore
from tests.support.pack import SERIAL, Pack, built

SECRET = sha256(b"the secret of a module of the tests").digest()
IMAGES = [
    built(stage, version, counter) for stage in Stage for version, counter in (("1.3.0", 6), ("1.4.0", 7))
]
DIGESTS = {sha256(image).hexdigest(): decode(image).digest for image in IMAGES}


class Maker:
    """What the maker holds of a pack's one module."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        at = OTP_DEVICE_SECRET.offset
        pack.module.fuses[at : at + len(SECRET)] = SECRET
        held = Registration(
            serial=SERIAL,
            hardware=BMS_M33.name,
            slot_keys=pack.module.status().slot_keys,
            development=0,
            root_quorum=bytes(32),
            images={stage: bytes(32) for stage in Stage},
            keys=registered(SECRET),
        )
        self.measured = Measured({SERIAL: held}.get, MemoryStore(), self.digest_of)

    def digest_of(self, installed: Installed) -> bytes | None:
        return DIGESTS.get(installed.sha256)

    def verdict(self) -> str:
        """Of the last manifest, as the server takes it."""
        manifest = self.pack.manifests[-1]
        self.measured.note(manifest)
        return self.measured.judge(manifest, SERIAL).code


@pytest.fixture
def maker() -> Maker:
    return Maker(Pack())


def answered(pack: Pack, request: Request, payload: bytes) -> None:
    """The app answers this request with these bytes, whatever is true."""
    firmware = pack.module.firmware
    honest = firmware.answer

    def answer(frame: bytes) -> bytes:
        told = honest(frame)
        if frame[0] != request:
            return told
        return bytes([request | ANSWER, frame[1]]) + wire.u16(len(payload)) + told[4:8] + payload

    firmware.answer = answer  # type: ignore[method-assign,assignment]


def test_an_honest_module_is_proven_before_and_after_an_update(maker: Maker) -> None:
    maker.pack.cycle()
    assert maker.verdict() == PROVEN
    maker.pack.release("1.4.0", 7)
    assert maker.pack.cycle().outcome == "updated"
    assert maker.verdict() == PROVEN


def test_an_old_app_that_calls_itself_the_new_one(maker: Maker) -> None:
    """It wants to be left alone: nothing is ordered for what runs already."""
    pack, new = maker.pack, built(Stage.APP, "1.4.0", 7)
    pack.release("1.4.0", 7)
    told = StageDigest(len(new), sha256(new).digest(), Version(1, 4, 0), 7)
    answered(pack, Request.DIGEST, told.encode())
    pack.cycle()
    report = pack.manifests[-1].report(f"{SERIAL}/app")
    assert report is not None
    assert report.installed is not None
    assert report.installed.version == "1.4.0"  # the controller believes it
    assert maker.verdict() == Code.BOOT_RECORD


@pytest.mark.parametrize("records", [b"", bytes(176), b"\xff" * 100], ids=["none", "zeros", "short"])
def test_an_app_that_makes_its_own_records_or_none(maker: Maker, records: bytes) -> None:
    answered(maker.pack, Request.BOOT_RECORD, records)
    maker.pack.cycle()
    assert maker.verdict() == Code.BOOT_RECORD


def test_an_app_that_repeats_the_records_of_a_good_boot(maker: Maker) -> None:
    """It was measured when it was good, and a later boot measured something else."""
    pack = maker.pack
    pack.cycle()
    report = pack.manifests[-1].report(f"{SERIAL}/app")
    assert report is not None
    assert maker.verdict() == PROVEN
    pack.module.reset()
    pack.cycle()
    assert maker.verdict() == PROVEN
    answered(pack, Request.BOOT_RECORD, report.boot_records)
    pack.cycle()
    assert maker.verdict() == Code.BOOT_RECORD


def test_another_modules_records_are_none_of_this_one(maker: Maker) -> None:
    other = Maker(Pack())
    other.pack.module.fuses[OTP_DEVICE_SECRET.offset] ^= 1
    other.pack.cycle()
    report = other.pack.manifests[-1].report(f"{SERIAL}/app")
    assert report is not None
    answered(maker.pack, Request.BOOT_RECORD, report.boot_records)
    maker.pack.cycle()
    assert maker.verdict() == Code.BOOT_RECORD
