"""Measured boot on the emulated module: records that hold, counts that never repeat, keys that are gone."""

from collections.abc import Iterator

import pytest

from cellward.core.bootrecord import MeasuredBoot, RecordKeys, verify
from cellward.core.errors import Code, TrustRefused
from cellward.core.image import decode
from cellward.core.slots import (
    BANKS,
    BMS_M33,
    BOOTS_PER_EPOCH,
    DATA_BANK,
    DATA_PAGE_SIZE,
    ERASED,
    OTP_BOOT_EPOCH,
    OTP_DEVICE_SECRET,
    DataPage,
    Lifecycle,
    Stage,
)
from cellward.ports.module import Outcome, Torn
from cellward.ports.updatelink import Request
from tests.firmware.rig import Rig, release
from tests.firmware.test_update_module import KEYS, OLD, SECRET, Module, planted, whole_update

RECORD_KEYS = RecordKeys(KEYS.rom_record, KEYS.loader_record)
COUNTS = DATA_BANK * BMS_M33.bank_size + DataPage.BOOT_COUNT.value * DATA_PAGE_SIZE


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = planted(Lifecycle.PRODUCTION)
    rig.stage("a", OLD, confirmed=True)
    yield rig
    rig.off()


def records(rig: Rig) -> bytes:
    return Module(rig).done(Request.BOOT_RECORD)


def measured(rig: Rig, last: MeasuredBoot | None = None) -> MeasuredBoot:
    return verify(records(rig), RECORD_KEYS, last)


def refused(data: bytes, last: MeasuredBoot | None = None) -> None:
    with pytest.raises(TrustRefused) as caught:
        verify(data, RECORD_KEYS, last)
    assert caught.value.code is Code.BOOT_RECORD


def test_both_stages_say_what_they_verified(rig: Rig) -> None:
    rig.boot()
    boot = measured(rig)
    for record, stage in ((boot.rom, Stage.LOADER), (boot.loader, Stage.APP)):
        image = decode(OLD[stage])
        assert (record.digest, record.version) == (image.digest, image.version)
        assert (BANKS[record.bank], record.counter) == ("a", 6)
        assert record.lifecycle is Lifecycle.PRODUCTION


def test_after_an_update_the_records_are_the_new_releases(rig: Rig) -> None:
    rig.boot()
    before = measured(rig)
    whole_update(Module(rig))
    after = measured(rig, before)
    assert after.loader.digest == decode(release("1.4.0", 7)[Stage.APP]).digest
    assert (BANKS[after.loader.bank], after.loader.counter) == ("b", 7)
    assert after.boot_count > before.boot_count


def test_every_boot_has_a_count_of_its_own(rig: Rig) -> None:
    counts = []
    last = None
    for _ in range(4):
        rig.boot()
        last = measured(rig, last)
        assert measured(rig, last) == last  # the same boot, reported again
        counts.append(last.boot_count)
    assert counts == [BOOTS_PER_EPOCH + number for number in range(4)]


def test_a_count_is_not_given_twice_when_its_pages_are_lost(rig: Rig) -> None:
    rig.boot()
    first = measured(rig)
    rig.off()
    rig.flash[COUNTS : COUNTS + 2 * DATA_PAGE_SIZE] = bytes([ERASED]) * (2 * DATA_PAGE_SIZE)
    rig.boot()
    assert measured(rig, first).boot_count == 2 * BOOTS_PER_EPOCH
    rig.off()
    assert rig.fuses[OTP_BOOT_EPOCH.offset] == 0b11


@pytest.mark.parametrize("torn", Torn, ids=str)
def test_a_count_is_not_given_twice_over_power_cuts(rig: Rig, torn: Torn) -> None:
    rig.boot()
    last = measured(rig)
    for _ in range(3):
        rig.cuts.order(1, torn)
        assert rig.boot()[-1].outcome is Outcome.POWER_CUT
        rig.boot()
        last = measured(rig, last)


def test_an_older_copy_of_the_counts_is_noticed(rig: Rig) -> None:
    """Flash put back from outside: the count repeats, and whoever saw it before refuses the second."""
    rig.boot()
    rig.off()
    pages = bytes(rig.flash[COUNTS : COUNTS + 2 * DATA_PAGE_SIZE])
    rig.boot()
    seen = measured(rig)
    rig.off()
    rig.flash[COUNTS : COUNTS + 2 * DATA_PAGE_SIZE] = pages
    rig.stage("b", release("1.4.0", 7), confirmed=True)
    rig.boot()
    refused(records(rig), seen)


def test_an_app_that_lies_is_detected(rig: Rig) -> None:
    rig.boot()
    data = records(rig)
    seen = verify(data, RECORD_KEYS, None)
    rig.boot()
    lie = bytearray(records(rig))
    lie[88 + 24] ^= 1  # another app's digest
    refused(bytes(lie))
    refused(data[:88] + bytes(records(rig))[88:])  # the ROM's record of the boot before
    verify(records(rig), RECORD_KEYS, seen)


def test_a_module_without_its_secret_vouches_for_nothing(rig: Rig) -> None:
    rig.fuse(OTP_DEVICE_SECRET, b"\xff" * 32)
    rig.fuses[0x084:0x088] = Lifecycle.TAMPERED.fuses.to_bytes(4, "little")
    rig.boot()
    refused(records(rig))


def holders(rig: Rig) -> set[str]:
    """Of the keys that the stages had, those still in memory; the secret itself lies in hidden fuses."""
    stages = {"secret": SECRET, "rom": KEYS.rom_record, "loader": KEYS.loader_record, "stage": KEYS.stage}
    keys = {**stages, "update": KEYS.update_scalar, "vault": KEYS.vault, "report": KEYS.report}
    return {name for name, key in keys.items() if set(Module(rig).holds(key)) - {"fuses"}}


def test_each_stage_holds_its_own_keys_only(rig: Rig) -> None:
    rig.boot()
    assert holders(rig) == {"vault", "report"}
    Module(rig).enter()
    assert holders(rig) == {"update"}


def test_recovery_holds_what_an_update_needs(rig: Rig) -> None:
    rig.flash[BMS_M33.app.offset + 0x400] ^= 1
    assert rig.boot()[-1].outcome is Outcome.RECOVERY
    assert holders(rig) == {"update"}
