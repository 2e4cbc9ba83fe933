"""Every Tpm keeps the promises of ports/tpm.py: swtpm through tpm2-pytss, and the fake."""

import secrets
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, TrustRefused, Unavailable
from cellward.core.keys import PublicKey
from cellward.core.tpm import pcr
from cellward.core.tpm.credential import Credential, make_credential
from cellward.core.tpm.keys import (
    AttestationKey,
    attestation_key,
    endorsement_key,
    identity_key,
)
from cellward.core.tpm.numbers import Hierarchy
from cellward.core.tpm.public import Public, decode_public, name_of
from cellward.core.tpm.quote import verify_quote
from cellward.core.wire import be32
from cellward.ports.tpm import (
    KeyName,
    Tpm,
)
from tests.support.packtpm import Device, MemoryDevice, refused

DIGEST, OTHER = bytes(range(32)), b"\x5a" * 32
NONCE = bytes(range(1, 33))
INDEX, SECOND, FUSE = 0x01800100, 0x01800101, 0x01400100
SECRET = b"the vault's key, thirty-two byte"
REFERENCE = b"vault"
VENDOR = ec.generate_private_key(ec.SECP256R1())
APPROVER = PublicKey.from_cryptography(VENDOR.public_key())


# --- endorsement, identity and attestation ---


def endorsement(tpm: Tpm) -> Public:
    certificate = x509.load_der_x509_certificate(tpm.ek_certificate())
    return endorsement_key(tpm.ek_public(), certificate.public_key())  # type: ignore[arg-type]


def attesting(tpm: Tpm) -> AttestationKey:
    area = tpm.key(KeyName.ATTESTATION) or tpm.create_key(KeyName.ATTESTATION)
    return attestation_key(area, be32(Hierarchy.ENDORSEMENT))


def test_the_certified_key_is_in_the_default_template(tpm: Tpm) -> None:
    endorsement(tpm)


def test_a_key_is_made_once_and_stays(device: Device) -> None:
    for name in KeyName:
        assert device.tpm.key(name) is None
        area = device.tpm.create_key(name)
        with refused(Refused, Code.TPM_EXISTS):
            device.tpm.create_key(name)
        assert device.tpm.key(name) == area
        device.restart()
        assert device.tpm.key(name) == area


def test_the_keys_are_what_a_server_believes(tpm: Tpm) -> None:
    identity_key(tpm.create_key(KeyName.IDENTITY))
    attesting(tpm)


@pytest.mark.parametrize("name", KeyName)
def test_a_key_that_was_removed_does_not_come_back(tpm: Tpm, name: KeyName) -> None:
    first = tpm.create_key(name)
    tpm.remove_key(name)
    tpm.remove_key(name)
    assert tpm.key(name) is None
    assert decode_public(tpm.create_key(name)).unique != decode_public(first).unique


def test_the_identity_signs(tpm: Tpm) -> None:
    key = identity_key(tpm.create_key(KeyName.IDENTITY)).key
    key.verify(DIGEST, tpm.sign(DIGEST), code=Code.ATTEST_SIGNATURE, subject="test")


def test_nothing_is_signed_without_a_key(tpm: Tpm) -> None:
    with refused(Unavailable, Code.TPM_MISSING):
        tpm.sign(DIGEST)
    with refused(Unavailable, Code.TPM_MISSING):
        tpm.quote(NONCE, [8])


@pytest.mark.parametrize("name", KeyName)
def test_a_credential_opens_for_the_key_it_was_made_for(tpm: Tpm, name: KeyName) -> None:
    areas = {each: tpm.create_key(each) for each in KeyName}
    made = make_credential(endorsement(tpm), name_of(areas[name]), SECRET, secrets.token_bytes)
    assert tpm.activate_credential(name, made) == SECRET
    for other in KeyName:
        if other is not name:
            with refused(TrustRefused, Code.TPM_BLOB):
                tpm.activate_credential(other, made)


def test_an_altered_credential_opens_nothing(tpm: Tpm) -> None:
    name = attesting(tpm).name
    made = make_credential(endorsement(tpm), name, SECRET, secrets.token_bytes)
    for at in range(2, len(made.blob), 7):
        changed = made.blob[:at] + bytes([made.blob[at] ^ 1]) + made.blob[at + 1 :]
        with pytest.raises(TrustRefused):
            tpm.activate_credential(KeyName.ATTESTATION, Credential(changed, made.encrypted_seed))
    seed = made.encrypted_seed[:-1] + bytes([made.encrypted_seed[-1] ^ 1])
    for wrong in (Credential(made.blob, seed), Credential(made.blob[:-1], seed), Credential(b"", b"")):
        with pytest.raises(Refused):
            tpm.activate_credential(KeyName.ATTESTATION, wrong)
    for longer in (
        Credential(made.blob + b"\0", made.encrypted_seed),
        Credential(made.blob, made.encrypted_seed + b"\0"),
    ):
        with refused(FormatRefused, Code.TRAILING):
            tpm.activate_credential(KeyName.ATTESTATION, longer)
    assert tpm.activate_credential(KeyName.ATTESTATION, made) == SECRET


def test_a_credential_for_another_tpm_opens_nothing(tpm: Tpm) -> None:
    other = MemoryDevice().tpm
    made = make_credential(endorsement(other), attesting(tpm).name, SECRET, secrets.token_bytes)
    with refused(TrustRefused, Code.TPM_BLOB):
        tpm.activate_credential(KeyName.ATTESTATION, made)


# --- measurements ---


def test_a_pcr_is_extended_and_starts_anew(device: Device) -> None:
    assert device.tpm.pcr_read([8]).values == {8: pcr.RESET_VALUE}
    device.tpm.pcr_extend(8, DIGEST)
    device.tpm.pcr_extend(8, OTHER)
    expected = pcr.extend(pcr.extend(pcr.RESET_VALUE, DIGEST), OTHER)
    assert device.tpm.pcr_read([8, 9]).values == {8: expected, 9: pcr.RESET_VALUE}
    device.restart()
    assert device.tpm.pcr_read([8]).values == {8: pcr.RESET_VALUE}


def test_all_pcrs_are_read(tpm: Tpm) -> None:
    tpm.pcr_extend(15, DIGEST)
    found = tpm.pcr_read(range(24))
    assert found.selection == tuple(range(24))
    assert found.values[15] == pcr.extend(pcr.RESET_VALUE, DIGEST)
    assert found.values[17] == b"\xff" * 32


def test_a_quote_says_what_the_pcrs_hold(tpm: Tpm) -> None:
    key = attesting(tpm)
    tpm.pcr_extend(9, DIGEST)
    quoted = tpm.quote(NONCE, [9, 8])
    found = verify_quote(quoted.attest, quoted.signature, key, NONCE, tpm.pcr_read([8, 9]))
    assert found.resets == tpm.clock().resets
    tpm.pcr_extend(9, DIGEST)
    with refused(TrustRefused, Code.ATTEST_PCR):
        verify_quote(quoted.attest, quoted.signature, key, NONCE, tpm.pcr_read([8, 9]))


def test_the_clock_counts_resets(device: Device) -> None:
    before = device.tpm.clock()
    device.restart()
    assert device.tpm.clock().resets == before.resets + 1


# --- counters and fixed data ---


def test_a_counter_is_made_once_and_counts(device: Device) -> None:
    first = device.tpm.define_counter(INDEX)
    assert device.tpm.define_counter(INDEX) == first
    for _ in range(3):
        device.tpm.increment(INDEX)
    assert device.tpm.counter(INDEX) == first + 3
    device.restart()
    assert device.tpm.counter(INDEX) == device.tpm.define_counter(INDEX) == first + 3
    device.cut()
    assert device.tpm.counter(INDEX) == first + 3


def test_a_removed_counter_comes_back_above_its_old_value(tpm: Tpm) -> None:
    tpm.define_counter(INDEX)
    for _ in range(5):
        tpm.increment(INDEX)
    before = tpm.counter(INDEX)
    tpm.remove_counter(INDEX)
    tpm.remove_counter(INDEX)
    for use in (tpm.counter, tpm.increment):
        with refused(Unavailable, Code.TPM_MISSING):
            use(INDEX)
    assert tpm.define_counter(INDEX) > before


def test_counters_count_by_themselves(tpm: Tpm) -> None:
    first, second = tpm.define_counter(INDEX), tpm.define_counter(SECOND)
    tpm.increment(SECOND)
    assert (tpm.counter(INDEX), tpm.counter(SECOND)) == (first, second + 1)


def test_fixed_data_stays(device: Device) -> None:
    with refused(Unavailable, Code.TPM_MISSING):
        device.tpm.fixed(FUSE)
    device.tpm.fix(FUSE, b"pack 1")
    device.tpm.fix(FUSE, b"pack 1")
    for other in (b"pack 2", b"pack 10"):
        with refused(Refused, Code.TPM_EXISTS):
            device.tpm.fix(FUSE, other)
    device.tpm.clear()
    device.restart()
    assert device.tpm.fixed(FUSE) == b"pack 1"


def test_a_counter_is_no_fuse(tpm: Tpm) -> None:
    tpm.fix(FUSE, DIGEST[:8])
    with refused(Refused, Code.TPM_EXISTS):
        tpm.define_counter(FUSE)
    tpm.define_counter(INDEX)
    with refused(Refused, Code.TPM_EXISTS):
        tpm.fix(INDEX, DIGEST[:8])
    with refused(Unavailable, Code.TPM_MISSING):
        tpm.fixed(INDEX)


# --- chains ---


def test_a_chain_keeps_what_extended_it(device: Device) -> None:
    first = device.tpm.define_chain(INDEX)
    assert first == pcr.extend(bytes(32), bytes(32))
    assert device.tpm.define_chain(INDEX) == first
    for data in (DIGEST, OTHER):
        device.tpm.extend_chain(INDEX, data)
    expected = pcr.extend(pcr.extend(first, DIGEST), OTHER)
    assert device.tpm.chain(INDEX) == expected
    device.cut()
    assert device.tpm.chain(INDEX) == device.tpm.define_chain(INDEX) == expected


def test_a_chain_is_no_counter(tpm: Tpm) -> None:
    for use in (tpm.chain, lambda index: tpm.extend_chain(index, DIGEST)):
        with refused(Unavailable, Code.TPM_MISSING):
            use(INDEX)
    tpm.define_chain(INDEX)
    with refused(Refused, Code.TPM_EXISTS):
        tpm.define_counter(INDEX)
    tpm.define_counter(SECOND)
    with refused(Refused, Code.TPM_EXISTS):
        tpm.define_chain(SECOND)


# --- the TPM as a whole ---


def test_random_bytes_are_as_many_as_asked_for(tpm: Tpm) -> None:
    for count in (0, 1, 32, 33, 200):
        assert len(tpm.random(count)) == count
    assert tpm.random(32) != tpm.random(32)


def test_a_wrong_authorisation_clears_nothing(tpm: Tpm) -> None:
    tpm.set_lockout_auth(SECRET)
    area = tpm.create_key(KeyName.IDENTITY)
    with refused(Refused, Code.TPM_AUTHORISATION):
        tpm.clear(b"guessed")
    with refused(Unavailable, Code.TPM_LOCKOUT):
        tpm.clear(SECRET)
    assert tpm.key(KeyName.IDENTITY) == area
    assert len(tpm.sign(DIGEST)) > 60


def test_threads_take_turns(tpm: Tpm) -> None:
    tpm.create_key(KeyName.IDENTITY)
    first, failures = tpm.define_counter(INDEX), []

    def work() -> None:
        try:
            for _ in range(10):
                tpm.sign(DIGEST)
                tpm.increment(INDEX)
        except CellwardError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert tpm.counter(INDEX) == first + 40


def test_it_says_what_it_is(tpm: Tpm) -> None:
    found = tpm.facts()
    assert found.manufacturer
    assert (found.failed_tries, found.locked_out) == (0, False)
