"""Rotation and revocation whole: over the update link into the page, by the ROM into the fuses."""

import pytest

from cellward.core.errors import Code
from cellward.core.revocation import Quorum, Revocation, raw_signature
from cellward.core.slots import OTP_ROOT_QUORUM, OTP_SLOT_KEYS, Stage
from cellward.ports.updatelink import Request
from tests.firmware.rig import KEY, STRANGER, Rig, binary, sign, told
from tests.firmware.test_update_module import OLD, Module, planted
from vectors.forge import Key, RsaKey

SECOND = STRANGER  # burned into slot 1 here, and no stranger any more
ROOT, OTHER_ROOT = Key.make(), Key.make()
QUORUM = Quorum.of(1, (ROOT.public,))


def rotated(second: Key | RsaKey = SECOND) -> dict[Stage, bytes]:
    return {stage: sign(binary(f"{stage}-1.4.0.bin"), stage, "1.4.0", 7, second) for stage in Stage}


def revocation(key: Key | RsaKey, quorum: Quorum = QUORUM, root: Key = ROOT) -> bytes:
    unsigned = Revocation(quorum, key.public.key_hash, {})
    return Revocation(quorum, key.public.key_hash, {0: raw_signature(root.sign(unsigned.digest))}).encode()


def two_keys(second: Key | RsaKey = SECOND, *, quorum: bool = True) -> Rig:
    rig = planted()
    rig.fuse(OTP_SLOT_KEYS, KEY.public.key_hash + second.public.key_hash)
    if quorum:
        rig.fuse(OTP_ROOT_QUORUM, QUORUM.digest)
    return rig


def asked(rig: Rig, data: bytes) -> list[str]:
    """Stored over the link, carried out or refused at the next boot; what that boot told."""
    module = Module(rig)
    module.done(Request.REVOKE, data)
    module.done(Request.RESTART)
    assert rig.machine is not None
    return [str(event.code) for report in rig.machine.reports() for event in report.events]


@pytest.mark.parametrize("second", [SECOND, RsaKey.make()], ids=["P-256", "RSA-3072"])
def test_an_image_of_the_second_key_boots_and_the_first_key_is_revoked_for_good(second: Key | RsaKey) -> None:
    rig = two_keys(second)
    rig.stage("a", rotated(second), confirmed=True)
    rig.stage("b", OLD, confirmed=True)
    rig.boot()
    assert rig.machine is not None
    assert asked(rig, revocation(KEY)) == []
    assert (rig.machine.otp.revoked, rig.machine.reports()[-1].bank) == (1, "a")
    rig.flash[0x1000] ^= 1  # the good bank goes, the old key's stays
    rig.boot()
    assert ("rom", "b", Code.IMAGE_KEY_REVOKED) in told(rig.machine.reports()[-1])
    assert not rig.pack.contactors_closed
    rig.off()


@pytest.mark.parametrize(
    ("data", "code", "quorum"),
    [
        (revocation(SECOND), Code.REVOCATION_IN_USE, True),
        (revocation(KEY, Quorum.of(1, (OTHER_ROOT.public,)), OTHER_ROOT), Code.REVOCATION_SIGNATURE, True),
        (revocation(KEY, root=OTHER_ROOT), Code.REVOCATION_SIGNATURE, True),
        (revocation(KEY), Code.REVOCATION_SIGNATURE, False),
        (revocation(Key.make()), Code.IMAGE_KEY_UNKNOWN, True),
    ],
    ids=["in use", "another quorum", "another signer", "no quorum burned", "unknown key"],
)
def test_a_refused_revocation_burns_nothing_and_is_told_once(data: bytes, code: Code, quorum: bool) -> None:
    rig = two_keys(quorum=quorum)
    rig.stage("a", rotated(), confirmed=True)
    rig.boot()
    assert asked(rig, data) == [code]
    assert rig.machine is not None
    assert rig.machine.otp.revoked == 0
    assert rig.boot()[-1].events == ()
    rig.off()


def test_the_last_good_key_cannot_be_revoked() -> None:
    rig = planted()
    rig.fuse(OTP_ROOT_QUORUM, QUORUM.digest)
    rig.stage("a", OLD, confirmed=True)
    rig.boot()
    assert asked(rig, revocation(KEY)) == [Code.REVOCATION_LAST_KEY]
    assert rig.machine is not None
    assert rig.machine.otp.revoked == 0
    rig.off()
