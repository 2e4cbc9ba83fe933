"""Attack 5 (VW Simos18): a bank that is marked good but holds other bytes. A stored flag decides nothing:
every boot verifies what is in the flash. And attack 19: without keys or signatures nothing runs."""

import pytest

from cellward.core.errors import Code
from cellward.core.slots import BANKS, BMS_M33, OTP_SLOT_KEYS, Stage
from cellward.ports.module import Outcome
from tests.firmware.rig import Rig, binary, release, sign, told
from vectors.forge import Key


def confirmed() -> Rig:
    """Both banks confirmed, bank b newer."""
    rig = Rig.planted(7)
    rig.stage("a", release("1.3.0", 7), confirmed=True, started=True)
    rig.stage("b", release("1.4.0", 7), confirmed=True, started=True)
    return rig


def damage(rig: Rig, bank: str, stage: Stage, offset: int = 0x400) -> None:
    rig.flash[BANKS.index(bank) * BMS_M33.bank_size + BMS_M33.slot(stage).offset + offset] ^= 0x01


def test_untouched_the_newer_bank_runs() -> None:
    rig = confirmed()
    (report,) = rig.boot()
    rig.off()
    assert (report.bank, report.outcome, report.events) == ("b", Outcome.RUNNING, ())


@pytest.mark.parametrize(("stage", "where"), [(Stage.LOADER, "rom"), (Stage.APP, "loader")])
def test_a_confirmed_bank_with_other_bytes_does_not_run(stage: Stage, where: str) -> None:
    rig = confirmed()
    damage(rig, "b", stage)
    before = rig.kept()
    reports = rig.boot()
    rig.off()
    assert told(reports[0])[0] == (where, "b", Code.IMAGE_HASH)
    assert (reports[-1].bank, reports[-1].outcome) == ("a", Outcome.RUNNING)
    assert rig.kept() == before


def test_erase_one_bank_and_rewrite_the_other_leaves_recovery() -> None:
    """The attack itself: a is gone, b keeps its flags and gets the attacker's well-formed image."""
    rig = confirmed()
    rig.trailer("a")[:] = b"\xff" * 32
    forged = sign(binary("loader-1.4.0.bin"), Stage.LOADER, "9.9.9", 9, Key.make())
    rig.put("b", Stage.LOADER, forged)
    (report,) = rig.boot()
    rig.off()
    assert told(report)[0] == ("rom", "b", Code.IMAGE_KEY_UNKNOWN)
    assert (report.outcome, report.contactors_closed, report.counter) == (Outcome.RECOVERY, False, 7)


def test_a_module_without_keys_runs_nothing() -> None:
    rig = confirmed()
    rig.fuse(OTP_SLOT_KEYS, bytes(OTP_SLOT_KEYS.size))
    (report,) = rig.boot()
    rig.off()
    assert [code for _, _, code in told(report)] == [Code.IMAGE_KEY_UNKNOWN] * 2 + [Code.BANK_NONE_GOOD]
    assert (report.outcome, report.contactors_closed) == (Outcome.RECOVERY, False)


def test_a_module_whose_only_key_is_revoked_runs_nothing() -> None:
    rig = confirmed()
    rig.revoke(0)
    (report,) = rig.boot()
    rig.off()
    assert [code for _, _, code in told(report)] == [Code.IMAGE_KEY_REVOKED] * 2 + [Code.BANK_NONE_GOOD]
    assert (report.outcome, report.contactors_closed) == (Outcome.RECOVERY, False)
