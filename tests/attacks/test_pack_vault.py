"""The pack controller's vault under attack: swtpm, and the fake that keeps its promises.

After each refusal the vault that was there still opens, with what was in it.
"""

import hashlib
import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.adapters.files import DirectoryStore
from cellward.core import exported, packvault
from cellward.core.errors import Code, FormatRefused, PolicyRefused, Refused, TrustRefused, Unavailable
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.tpm.approval import REFERENCE
from cellward.core.tpm.keys import external_key
from cellward.core.tpm.policy import Policy
from cellward.device import vault as vaults
from cellward.device.vault import FILE, POLICIES, Successor, accept, create, opened
from cellward.ports.tpm import RELEASE_COUNTER, VAULT_CHAIN, VAULT_COUNTER, PolicyStep, SealedBlob
from tests.support.maker import Hand
from tests.support.packtpm import MemoryDevice, copy, make, refused
from tests.support.vault import FIRST, MAKER, SECOND, Pack, policy

OLD, NEW = b"the pairing secret of yesterday", b"the pairing secret of today"


@pytest.fixture(params=["swtpm", "memory"])
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pack]:
    with some_pack(request, tmp_path) as found:
        yield found


@contextmanager
def some_pack(request: pytest.FixtureRequest, folder: Path) -> Iterator[Pack]:
    if request.param == "swtpm":
        found = Pack(copy(request.getfixturevalue("made_tpm"), folder / "tpm"), folder / "state")
    else:
        found = Pack(MemoryDevice(), folder / "state")
    try:
        found.make()
        found.put("pairing", OLD, exportable=True)
        yield found
    finally:
        found.device.off()


# --- life ---


def test_values_stay_until_they_are_replaced_or_removed(pack: Pack) -> None:
    pack.put("calibration", b"1" * packvault.MAX_VALUE)
    pack.put("pairing", NEW)
    pack.start()
    assert pack.names() == ["calibration", "pairing"]
    assert pack.read("pairing") == NEW
    with opened(pack.place) as vault:
        vault.remove("calibration")
    assert pack.names() == ["pairing"]
    with opened(pack.place) as vault, refused(PolicyRefused, Code.VAULT_UNKNOWN):
        vault.remove("calibration")


def test_a_vault_is_not_made_over_another(pack: Pack) -> None:
    with refused(Refused, Code.STORAGE_EXISTS):
        create(pack.place, MAKER.public_key, policy(FIRST, pack.release))
    assert pack.read("pairing") == OLD


def test_no_vault(pack: Pack, tmp_path: Path) -> None:
    with refused(Unavailable, Code.VAULT_MISSING), opened(Pack(pack.device, tmp_path / "none").place):
        pass


def test_what_does_not_fit_changes_nothing(pack: Pack) -> None:
    before = pack.file
    with opened(pack.place) as vault:
        for name, value in (("Pairing", NEW), ("", NEW), ("a/b", NEW), ("x", b""), ("x", bytes(65537))):
            with refused(Refused, Code.VAULT_FORMAT):
                vault.put(name, value)
    assert pack.file == before
    assert pack.read("pairing") == OLD


def test_a_full_vault(pack: Pack) -> None:
    with opened(pack.place) as vault:
        for number in range(packvault.MAX_VALUES - 1):
            vault.put(f"n{number}", NEW)
        with refused(PolicyRefused, Code.VAULT_FULL):
            vault.put("one-more", NEW)
        vault.put("pairing", NEW)
    assert pack.read("pairing") == NEW
    assert "one-more" not in pack.names()


# --- which release opens it ---


def test_an_update_opens_it_without_resealing_and_a_rollback_does_not(pack: Pack) -> None:
    sealed = packvault.decode(pack.file).content.sealed
    accept(pack.place, policy(SECOND, pack.release + 1))
    pack.start(SECOND)
    assert pack.read("pairing") == OLD, "on trial"
    pack.start(FIRST)
    assert pack.read("pairing") == OLD, "fallen back"
    pack.start(SECOND)
    with opened(pack.place) as vault:
        assert vault.commit_release() == pack.release + 1
    assert pack.device.tpm.counter(RELEASE_COUNTER) == pack.release + 1
    assert packvault.decode(pack.file).content.sealed == sealed
    assert len(pack.place.policies()) == 1
    pack.start(FIRST)
    for policies in ([], [policy(FIRST, pack.release)]):  # the old release's is gone; its owner puts it back
        for data in policies:
            accept(pack.place, data)
        with refused(TrustRefused, Code.VAULT_POLICY), opened(pack.place):
            pass
    pack.start(SECOND)
    assert pack.read("pairing") == OLD


@pytest.mark.parametrize("measured", [[SECOND], [FIRST, FIRST], []])
def test_another_start_opens_nothing(pack: Pack, measured: list[bytes]) -> None:
    pack.device.restart()
    for digest in measured:
        pack.device.tpm.pcr_extend(8, digest)
    with refused(TrustRefused, Code.VAULT_POLICY), opened(pack.place):
        pass
    pack.start()
    assert pack.read("pairing") == OLD


def test_the_tpm_itself_refuses_another_start(pack: Pack) -> None:
    """Also where the agent's own comparison with what was measured is left out."""
    pack.start(SECOND)
    place, held = pack.place, pack.place.decoded().content
    found = next(iter(place.policies().values()))
    with place.memory.hold(32) as key, refused(TrustRefused, Code.VAULT_POLICY):
        vaults._unseal(place, held.sealed, held.approver, found, key)


def test_a_policy_is_the_maker_s(pack: Pack) -> None:
    """A stranger's is not taken; put into the folder by hand, it opens nothing."""
    other = Hand()
    forged = policy(SECOND, pack.release, other)
    disguised = forged.replace(other.public_key.fingerprint.encode(), MAKER.public_key.fingerprint.encode())
    for data in (forged, disguised):
        with refused(TrustRefused, Code.ATTEST_POLICY):
            accept(pack.place, data)
        (pack.state / POLICIES / "by-hand.json").write_bytes(data)
        pack.start(SECOND)
        with pytest.raises(TrustRefused) as caught, opened(pack.place):
            pass
        assert caught.value.code in (Code.VAULT_POLICY, Code.ATTEST_POLICY)
        (pack.state / POLICIES / "by-hand.json").unlink()
    pack.start()
    assert pack.read("pairing") == OLD


def test_a_key_of_another_size_is_none(pack: Pack) -> None:
    """Whoever has the TPM can seal anything to the policies; a short key would be a weak one."""
    good, tpm = pack.file, pack.device.tpm
    content = packvault.decode(good).content
    sealed = tpm.seal(bytes(16), Policy.authorize(external_key(MAKER.public_key).name, REFERENCE).digest)
    made = replace(content.successor(tpm.chain(VAULT_CHAIN), ()), sealed=sealed.data)
    pack.restore(made.encode(bytes(16), bytes(12)))
    with refused(TrustRefused, Code.VAULT_SEAL), opened(pack.place):
        pass
    pack.restore(good)
    assert pack.read("pairing") == OLD


def test_what_the_tpm_gave_is_wiped(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytearray] = []
    tpm = pack.device.tpm
    unseal = tpm.unseal

    def keeping(blob: SealedBlob, steps: Sequence[PolicyStep]) -> bytearray:
        given.append(unseal(blob, steps))
        return given[-1]

    monkeypatch.setattr(tpm, "unseal", keeping)
    assert pack.read("pairing") == OLD
    assert given == [bytes(packvault.KEY_SIZE)]


def test_an_impatient_policy(pack: Pack) -> None:
    accept(pack.place, policy(FIRST, pack.release + vaults.MAX_STEPS + 1))
    with opened(pack.place) as vault, refused(PolicyRefused, Code.VAULT_POLICY):
        vault.commit_release()
    assert pack.device.tpm.counter(RELEASE_COUNTER) == pack.release


def test_a_vault_that_would_not_open_is_not_made(pack: Pack, tmp_path: Path) -> None:
    new = Pack(pack.device, tmp_path / "new")
    for wrong in (policy(SECOND, pack.release), policy(FIRST, 1) if pack.release > 1 else policy(SECOND, 9)):
        with refused(TrustRefused, Code.VAULT_POLICY):
            create(new.place, MAKER.public_key, wrong)
        assert not (new.state / FILE).exists()
    assert pack.read("pairing") == OLD


# --- an old or altered file ---


def test_an_old_file_is_refused(pack: Pack) -> None:
    old = pack.file
    pack.put("pairing", NEW)
    newest = pack.file
    pack.restore(old)
    with refused(TrustRefused, Code.VAULT_ROLLBACK), opened(pack.place):
        pass
    assert pack.file == old, "nothing was written"
    pack.restore(newest)
    assert pack.read("pairing") == NEW


def test_an_old_file_is_refused_after_a_rotation(pack: Pack) -> None:
    old = pack.file
    with opened(pack.place) as vault:
        vault.rotate()
    newest = pack.file
    pack.restore(old)
    with refused(TrustRefused, Code.VAULT_ROLLBACK), opened(pack.place):
        pass
    pack.restore(newest)
    assert pack.read("pairing") == OLD


def test_an_old_value_in_a_newer_file_is_refused(pack: Pack) -> None:
    old = packvault.decode(pack.file).content.value("pairing")
    pack.put("pairing", b"x" * len(OLD))
    newest, decoded = pack.file, packvault.decode(pack.file)
    new = decoded.content.value("pairing")
    spliced = newest.replace(new.ciphertext, old.ciphertext)
    pack.restore(spliced)
    with opened(pack.place) as vault, refused(TrustRefused, Code.VAULT_SEAL), vault.get("pairing"):
        pass
    pack.restore(spliced.replace(new.entry, old.entry))  # its line in the index with it
    with refused(TrustRefused, Code.VAULT_SEAL), opened(pack.place):
        pass
    pack.restore(newest)
    assert pack.read("pairing") == b"x" * len(OLD)


def test_a_removed_value_does_not_come_back_under_its_name(pack: Pack) -> None:
    """Versions are the vault's counter: the second `pairing` has none that the first had."""
    first = packvault.decode(pack.file).content.value("pairing").version
    with opened(pack.place) as vault:
        vault.remove("pairing")
        vault.put("pairing", NEW)
    assert packvault.decode(pack.file).content.value("pairing").version > first


def test_a_file_that_was_never_in_force_is_refused_once_another_is(pack: Pack) -> None:
    """The power is cut behind the rename, the file taken away, the one before it put back. What is written
    next has the same number as the file that was taken; a counter alone would take either."""
    before = pack.file
    cut_at(pack, "extend_chain")
    taken = pack.file
    assert taken != before
    pack.restore(before)
    with opened(pack.place) as vault:
        vault.remove("pairing")
    newest = pack.file
    assert packvault.decode(taken).content.counter == packvault.decode(newest).content.counter
    pack.restore(taken)
    with refused(TrustRefused, Code.VAULT_ROLLBACK), opened(pack.place):
        pass
    pack.restore(newest)
    assert pack.names() == []


def test_a_chain_that_was_made_again_leads_nowhere(pack: Pack) -> None:
    """Whoever has the TPM can remove an index, but does not know what the files extended it with; and the
    counter, made again, begins above everything that it has said."""
    old = pack.file
    pack.put("pairing", NEW)
    tpm = pack.device.tpm
    tpm.remove_counter(VAULT_CHAIN)
    tpm.define_chain(VAULT_CHAIN)
    for data in (old, pack.file):
        pack.restore(data)
        with refused(TrustRefused, Code.VAULT_ROLLBACK), opened(pack.place):
            pass
    before = tpm.counter(VAULT_COUNTER)
    tpm.remove_counter(VAULT_COUNTER)
    assert tpm.define_counter(VAULT_COUNTER) > before


def test_every_byte_of_the_file_counts(pack: Pack) -> None:
    good = pack.file
    for at in range(0, len(good), 1 if isinstance(pack.device, MemoryDevice) else 29):
        pack.restore(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(Refused):
            pack.read("pairing")
    pack.restore(good)
    assert pack.read("pairing") == OLD


def test_another_controller_opens_nothing(pack: Pack, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """With the same release, policies and files; its TPM is another."""
    if isinstance(pack.device, MemoryDevice):
        other = Pack(MemoryDevice(), tmp_path / "other")
    else:
        other = Pack(copy(make(tmp_path / "fresh"), tmp_path / "second"), tmp_path / "other")
    try:
        other.make()
        theirs = other.file
        shutil.copytree(pack.state, other.state, dirs_exist_ok=True)
        with refused(TrustRefused, Code.TPM_BLOB), opened(other.place):
            pass
        other.restore(theirs)
        assert other.names() == []
    finally:
        other.device.off()


# --- rotation and export ---


def test_a_rotation_encrypts_everything_anew(pack: Pack) -> None:
    pack.put("other", NEW)
    before = packvault.decode(pack.file).content
    with opened(pack.place) as vault:
        vault.rotate()
        vault.put("third", OLD)
    after = packvault.decode(pack.file).content
    assert after.sealed != before.sealed
    for value in before.values:
        moved = after.value(value.name)
        assert (moved.version, moved.exportable) == (value.version, value.exportable)
        assert moved.ciphertext != value.ciphertext
    assert [pack.read(name) for name in ("other", "pairing", "third")] == [NEW, OLD, OLD]


def test_another_policy_key_takes_over(pack: Pack) -> None:
    successor = Hand()
    before = pack.file
    with opened(pack.place) as vault:
        for wrong, code in (
            (policy(FIRST, pack.release), Code.ATTEST_POLICY),
            (policy(SECOND, pack.release, successor), Code.VAULT_POLICY),
        ):
            with refused(TrustRefused, code):
                vault.rotate(Successor(successor.public_key, wrong))
            assert pack.file == before
        vault.rotate(Successor(successor.public_key, policy(FIRST, pack.release, successor)))
        vault.put("other", NEW)
    assert pack.read("pairing") == OLD
    for file in (pack.state / POLICIES).iterdir():  # the predecessor's alone is left
        if successor.public_key.fingerprint in file.read_text():
            file.unlink()
    with refused(TrustRefused, Code.VAULT_POLICY), opened(pack.place):
        pass


def test_what_is_exportable_is_exported_to_one_recipient(pack: Pack) -> None:
    recipient, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    guessed = ec.derive_private_key(1, ec.SECP256R1())
    pack.put("stays", NEW)
    key = PublicKey.from_cryptography(recipient.public_key())
    with opened(pack.place) as vault:
        with refused(PolicyRefused, Code.VAULT_EXPORT):
            vault.export("stays", key)
        with refused(TrustRefused, Code.KEY_PUBLISHED):
            vault.export("pairing", PublicKey.from_cryptography(guessed.public_key()))
        with refused(FormatRefused, Code.KEY_FORMAT):
            vault.export("pairing", Hand.of(Algorithm.ED25519).public_key)
        data = vault.export("pairing", key)
    assert OLD not in data
    found = exported.decode(data)
    assert (found.name, found.size) == ("pairing", len(OLD))
    assert found.device == hashlib.sha256(pack.device.tpm.ek_public()).digest()
    assert opened_export(data, recipient) == OLD
    with refused(TrustRefused, Code.IMAGE_ENCRYPTION):
        opened_export(data, other)
    for at in range(len(data)):
        with pytest.raises(Refused):
            opened_export(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], recipient)


def test_exportable_is_under_the_seal(pack: Pack) -> None:
    pack.put("stays", NEW)
    good, value = pack.file, packvault.decode(pack.file).content.value("stays")
    at = good.index(value.entry) + 2 + len("stays")
    pack.restore(good[:at] + b"\x01" + good[at + 1 :])
    with refused(TrustRefused, Code.VAULT_SEAL), opened(pack.place):
        pass
    pack.restore(good)
    assert pack.read("stays") == NEW


def opened_export(data: bytes, recipient: ec.EllipticCurvePrivateKey) -> bytes:
    found = exported.decode(data)
    plain = bytearray(found.size)
    found.open(scalar(recipient), memoryview(plain))
    return bytes(plain)


def scalar(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(32, "big")


# --- power cuts ---


class Cut(BaseException):
    """The power goes: nobody catches it."""


def cut_at(pack: Pack, step: str) -> None:
    """Put NEW, and lose the power before this command of the TPM."""
    place = pack.place

    def gone(*_: object) -> None:
        raise Cut

    with opened(place) as vault:
        setattr(place.tpm, step, gone)
        with pytest.raises(Cut):
            vault.put("pairing", NEW)
    delattr(place.tpm, step)


@pytest.mark.parametrize("step", ["extend_chain", "increment"])
def test_a_cut_between_file_chain_and_counter_is_made_good(pack: Pack, step: str) -> None:
    cut_at(pack, step)
    pack.device.cut()
    pack.device.tpm.pcr_extend(8, FIRST)
    assert pack.read("pairing") == NEW
    content = packvault.decode(pack.file).content
    assert pack.device.tpm.counter(VAULT_COUNTER) == content.counter
    pack.put("pairing", OLD)
    assert pack.read("pairing") == OLD


class CutStore(DirectoryStore):
    """Loses the power when as many bytes of a file were written."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(folder, 0o600)
        self._after = after

    def write(self, name: str, data: bytes) -> None:
        (self._path(name).parent / ".values.torn").write_bytes(data[: self._after])
        raise Cut


def test_a_disk_that_is_full_at_any_byte_leaves_the_old_value(pack: Pack) -> None:
    """By the operating system's own limit, through the writes that a vault really does."""
    before, limits = pack.file, resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(before) + len(NEW) - len(OLD)
    for after in range(0, size, 1 if isinstance(pack.device, MemoryDevice) else 97):
        with opened(pack.place) as vault:
            resource.setrlimit(resource.RLIMIT_FSIZE, (after, limits[1]))
            try:
                with refused(Unavailable, Code.STORAGE_FULL):
                    vault.put("pairing", NEW)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            with vault.get("pairing") as view:
                assert view.tobytes() == OLD
        assert pack.file == before
        assert sorted(path.name for path in (pack.state / "vault").iterdir()) == ["policies", "values"]
    assert pack.read("pairing") == OLD
    pack.put("pairing", NEW)
    assert pack.read("pairing") == NEW


def test_a_cut_at_every_byte_of_a_write_leaves_the_old_value(pack: Pack) -> None:
    before = pack.file
    size = len(before) + len(NEW) - len(OLD)
    for after in range(0, size + 1, 1 if isinstance(pack.device, MemoryDevice) else 97):
        place = vaults.Place(pack.device.tpm, CutStore(pack.state, after), pack.place.memory)
        with pytest.raises(Cut), opened(place) as vault:
            vault.put("pairing", NEW)
        assert pack.file == before
        assert pack.read("pairing") == OLD
    pack.put("pairing", NEW)
    assert pack.read("pairing") == NEW
