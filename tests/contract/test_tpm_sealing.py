"""The same for what a Tpm seals, destroys, and does not take as an argument."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward.core.errors import Code, FormatRefused, Refused, TrustRefused, Unavailable
from cellward.core.keys import PublicKey
from cellward.core.tpm import pcr
from cellward.core.tpm.keys import (
    external_key,
)
from cellward.core.tpm.numbers import Comparison
from cellward.core.tpm.policy import ApprovedPolicy, Policy, approval_digest
from cellward.ports.tpm import (
    MAX_SEALED,
    ApprovalStep,
    CounterStep,
    KeyName,
    PcrStep,
    PolicyStep,
    SealedBlob,
    Tpm,
    counter_area,
)
from tests.support.packtpm import Device, MemoryDevice, refused

DIGEST, OTHER = bytes(range(32)), b"\x5a" * 32
NONCE = bytes(range(1, 33))
INDEX, FUSE = 0x01800100, 0x01400100
SECRET = b"the vault's key, thirty-two byte"
REFERENCE = b"vault"
VENDOR = ec.generate_private_key(ec.SECP256R1())
APPROVER = PublicKey.from_cryptography(VENDOR.public_key())


def approve(policy: Policy, reference: bytes = REFERENCE) -> ApprovedPolicy:
    signature = VENDOR.sign(approval_digest(policy, reference), ec.ECDSA(Prehashed(hashes.SHA256())))
    return ApprovedPolicy(policy.digest, signature)


def release(measured: bytes, version: int) -> list[PolicyStep]:
    """What a release ships: opens while this firmware is measured and no newer one was committed to."""
    values = pcr.PcrValues({8: pcr.extend(pcr.RESET_VALUE, measured)})
    policy = Policy().pcr(values).counter(counter_area(INDEX), Comparison.UNSIGNED_LE, version)
    return [
        PcrStep((8,)),
        CounterStep(INDEX, Comparison.UNSIGNED_LE, version),
        ApprovalStep(APPROVER, approve(policy), REFERENCE),
    ]


def sealed(tpm: Tpm) -> SealedBlob:
    return tpm.seal(SECRET, Policy.authorize(external_key(APPROVER).name, REFERENCE).digest)


def test_sealed_data_survives_an_update_and_no_rollback(device: Device) -> None:
    version = device.tpm.define_counter(INDEX)
    old, new = release(DIGEST, version), release(OTHER, version + 1)
    blob = sealed(device.tpm)
    device.tpm.pcr_extend(8, DIGEST)
    assert device.tpm.unseal(blob, old) == SECRET
    device.restart()
    device.tpm.pcr_extend(8, OTHER)
    assert device.tpm.unseal(blob, new) == SECRET, "on trial"
    device.tpm.increment(INDEX)
    assert device.tpm.unseal(blob, new) == SECRET, "committed"
    device.restart()
    device.tpm.pcr_extend(8, DIGEST)
    with refused(TrustRefused, Code.TPM_POLICY):
        device.tpm.unseal(blob, old)


def test_what_was_not_measured_unseals_nothing(tpm: Tpm) -> None:
    steps, blob = release(DIGEST, tpm.define_counter(INDEX)), sealed(tpm)
    with refused(TrustRefused, Code.TPM_POLICY):
        tpm.unseal(blob, steps)
    tpm.pcr_extend(8, DIGEST)
    assert tpm.unseal(blob, steps) == SECRET
    tpm.pcr_extend(8, OTHER)
    with refused(TrustRefused, Code.TPM_POLICY):
        tpm.unseal(blob, steps)


def test_a_policy_is_the_vendor_s_to_approve(tpm: Tpm) -> None:
    tpm.pcr_extend(8, DIGEST)
    blob, good = sealed(tpm), release(DIGEST, tpm.define_counter(INDEX))
    approval = good[-1]
    assert isinstance(approval, ApprovalStep)
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = stranger.sign(DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))
    wrong: list[list[PolicyStep]] = [
        [],
        good[:-1],
        [good[-1]],
        [good[1], good[0], good[2]],
        [*good[:2], ApprovalStep(APPROVER, approval.approved, b"other")],
        [*good[:2], ApprovalStep(APPROVER, ApprovedPolicy(approval.approved.digest, forged), REFERENCE)],
        [*good[:2], ApprovalStep(PublicKey.from_cryptography(stranger.public_key()), approval.approved)],
    ]
    for steps in wrong * 3:  # more often than there are slots: each failure leaves the TPM as it was
        with refused(TrustRefused, Code.TPM_POLICY):
            tpm.unseal(blob, steps)
    assert tpm.unseal(blob, good) == SECRET


def test_a_policy_is_for_one_opening(tpm: Tpm) -> None:
    """Whatever is kept between two, no step of the first is left in the second."""
    tpm.pcr_extend(8, DIGEST)
    blob, good = sealed(tpm), release(DIGEST, tpm.define_counter(INDEX))
    for _ in range(3):
        assert tpm.unseal(blob, good) == SECRET
        with refused(TrustRefused, Code.TPM_POLICY):
            tpm.unseal(blob, [])


def test_a_policy_needs_its_counter(tpm: Tpm) -> None:
    blob = sealed(tpm)
    tpm.pcr_extend(8, DIGEST)
    with refused(Unavailable, Code.TPM_MISSING):
        tpm.unseal(blob, release(DIGEST, 1))


def test_an_altered_blob_is_refused(tpm: Tpm) -> None:
    tpm.pcr_extend(8, DIGEST)
    blob, steps = sealed(tpm), release(DIGEST, tpm.define_counter(INDEX))
    for at in range(0, len(blob.data), 5):
        changed = blob.data[:at] + bytes([blob.data[at] ^ 0x80]) + blob.data[at + 1 :]
        with pytest.raises(Refused):
            tpm.unseal(SealedBlob(changed), steps)
    for cut in (b"", blob.data[:-1], blob.data + b"\0"):
        with pytest.raises(FormatRefused):
            tpm.unseal(SealedBlob(cut), steps)
    assert tpm.unseal(blob, steps) == SECRET


def test_a_blob_of_another_tpm_is_refused(device: Device) -> None:
    """After a clear, the same TPM is another one too: its storage root is new."""
    tpm = device.tpm
    policy = Policy().pcr(tpm.pcr_read([8])).digest
    other = MemoryDevice().tpm.seal(SECRET, policy)
    ours = tpm.seal(SECRET, policy)
    with refused(TrustRefused, Code.TPM_BLOB):
        tpm.unseal(other, [PcrStep((8,))])
    tpm.clear()
    with refused(TrustRefused, Code.TPM_BLOB):
        tpm.unseal(ours, [PcrStep((8,))])


def test_only_so_much_is_sealed(tpm: Tpm) -> None:
    policy = Policy().pcr(tpm.pcr_read([8])).digest
    for size in (1, MAX_SEALED):
        assert tpm.unseal(tpm.seal(bytes(size), policy), [PcrStep((8,))]) == bytes(size)
    for size in (0, MAX_SEALED + 1):
        with refused(FormatRefused, Code.TPM_INPUT):
            tpm.seal(bytes(size), policy)
    with refused(FormatRefused, Code.TPM_INPUT):
        tpm.seal(SECRET, b"")


def test_clear_destroys_what_is_the_owner_s(tpm: Tpm) -> None:
    """And leaves what is the manufacturer's, and the counters' height."""
    tpm.pcr_extend(8, DIGEST)
    version, endorsed = tpm.define_counter(INDEX), tpm.ek_public()
    blob, steps = sealed(tpm), release(DIGEST, version)
    for name in KeyName:
        tpm.create_key(name)
    assert tpm.sign(DIGEST)
    assert tpm.unseal(blob, steps) == SECRET
    tpm.set_lockout_auth(SECRET)
    tpm.clear(SECRET)
    assert [tpm.key(name) for name in KeyName] == [None, None]
    for use in (lambda: tpm.sign(DIGEST), lambda: tpm.counter(INDEX)):
        with refused(Unavailable, Code.TPM_MISSING):
            use()
    assert tpm.define_counter(INDEX) > version
    with pytest.raises(TrustRefused):
        tpm.unseal(blob, steps)
    assert tpm.ek_public() == endorsed
    tpm.clear()  # without an authorisation again


# --- arguments that are none ---

WRONG: dict[str, Callable[[Tpm], object]] = {
    "digest": lambda tpm: tpm.sign(bytes(31)),
    "long digest": lambda tpm: tpm.sign(bytes(100)),
    "no nonce": lambda tpm: tpm.quote(b"", [8]),
    "long nonce": lambda tpm: tpm.quote(bytes(33), [8]),
    "quote of nothing": lambda tpm: tpm.quote(NONCE, []),
    "measurement": lambda tpm: tpm.pcr_extend(8, bytes(31)),
    "PCR 24": lambda tpm: tpm.pcr_extend(24, DIGEST),
    "PCR -1": lambda tpm: tpm.pcr_read([-1]),
    "no PCR": lambda tpm: tpm.pcr_read([]),
    "long authorisation": lambda tpm: tpm.set_lockout_auth(bytes(33)),
    "long lockout": lambda tpm: tpm.clear(bytes(33)),
    "nothing fixed": lambda tpm: tpm.fix(FUSE, b""),
    "much fixed": lambda tpm: tpm.fix(FUSE, bytes(513)),
    "PCR step": lambda tpm: PcrStep((24,)),
    "counter step": lambda tpm: CounterStep(INDEX, Comparison.EQ, 1 << 64),
    "approval step": lambda tpm: ApprovalStep(APPROVER, approve(Policy()), bytes(33)),
}


@pytest.mark.parametrize("what", WRONG)
def test_arguments_that_are_none_change_nothing(tpm: Tpm, what: str) -> None:
    for name in KeyName:
        tpm.create_key(name)
    before = tpm.pcr_read(range(24))
    with refused(FormatRefused, Code.TPM_INPUT):
        WRONG[what](tpm)
    assert tpm.pcr_read(range(24)) == before
    with refused(Unavailable, Code.TPM_MISSING):
        tpm.fixed(FUSE)
    tpm.clear()
