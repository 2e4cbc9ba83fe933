"""tpm2-tools as witnesses of the adapter, on the same TPM in turn: what one makes the other takes."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cellward import bootstrap
from cellward.core.errors import Code, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.tpm.credential import Credential
from cellward.core.tpm.keys import external_key, identity_key
from cellward.core.tpm.numbers import Comparison
from cellward.core.tpm.policy import ApprovedPolicy, Policy, approval_digest
from cellward.core.tpm.public import name_of
from cellward.core.wire import be16
from cellward.ports.tpm import (
    ApprovalStep,
    CounterStep,
    KeyName,
    PcrStep,
    PolicyStep,
    Tpm,
    counter_area,
    fixed_area,
)
from tests.support import tpm as tools

DIGEST, NONCE = bytes(range(32)), bytes(range(1, 33))
SECRET = b"sixteen bytes .."
INDEX, FUSE = 0x01800100, 0x01400100
IDENTITY, ATTESTATION = "0x81000011", "0x81000012"
Ours = Callable[[], AbstractContextManager[Tpm]]


@pytest.fixture
def theirs(made_tpm: Path, tmp_path: Path) -> Iterator[tools.Tpm]:
    state = tmp_path / "state"
    shutil.copytree(made_tpm / "made" / "nv", state)
    with tools.running_swtpm(tmp_path, state) as running:
        yield running


@pytest.fixture
def ours(theirs: tools.Tpm, monkeypatch: pytest.MonkeyPatch) -> Ours:
    """By CELLWARD_TPM. One connection at a time is all that swtpm has."""
    monkeypatch.setenv("CELLWARD_TPM", theirs.tcti)
    return lambda: bootstrap.tpm(theirs.folder)


def test_a_quote_is_checked(ours: Ours, theirs: tools.Tpm) -> None:
    with ours() as tpm:
        tpm.create_key(KeyName.ATTESTATION)
        tpm.pcr_extend(8, DIGEST)
        quoted, values = tpm.quote(NONCE, [8, 9]), tpm.pcr_read([8, 9])
    theirs.run("readpublic", "-c", ATTESTATION, "-f", "pem", "-o", "ak.pem")
    theirs.write("quote", quoted.attest)
    theirs.write("signature", quoted.signature)
    theirs.run("pcrread", "sha256:8,9", "-o", "pcrs")
    assert theirs.read("pcrs") == values.values[8] + values.values[9]
    check = ("checkquote", "-u", "ak.pem", "-m", "quote", "-s", "signature", "-q")
    theirs.run(*check, NONCE.hex())
    with pytest.raises(AssertionError):
        theirs.run(*check, DIGEST.hex())
    theirs.write("quote", quoted.attest[:-1] + bytes([quoted.attest[-1] ^ 1]))
    with pytest.raises(AssertionError):
        theirs.run(*check, NONCE.hex())


def test_pcrs_are_read_alike(ours: Ours, theirs: tools.Tpm) -> None:
    theirs.run("pcrextend", f"10:sha256={DIGEST.hex()}")
    with ours() as tpm:
        tpm.pcr_extend(11, DIGEST)
        values = tpm.pcr_read(range(24)).values
    said = re.findall(r"(\d+) *: 0x([0-9A-F]{64})", theirs.run("pcrread", "sha256:all"))
    assert {int(index): bytes.fromhex(value) for index, value in said} == values
    assert values[10] == values[11] == hashlib.sha256(bytes(32) + DIGEST).digest()


def test_a_credential_of_theirs_is_activated(ours: Ours, theirs: tools.Tpm) -> None:
    with ours() as tpm:
        area, endorsement = tpm.create_key(KeyName.ATTESTATION), tpm.ek_public()
    theirs.write("secret", SECRET)
    theirs.write("ek.pub", be16(len(endorsement)) + endorsement)
    theirs.run(
        *("makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret"),
        *("-n", name_of(area).hex(), "-o", "credential"),
    )
    packed = theirs.read("credential")[8:]  # after the tools' own magic and version
    middle = 2 + int.from_bytes(packed[:2], "big")
    with ours() as tpm:
        opened = tpm.activate_credential(KeyName.ATTESTATION, Credential(packed[:middle], packed[middle:]))
    assert opened == SECRET


def test_they_find_our_keys_where_and_as_we_say(ours: Ours, theirs: tools.Tpm) -> None:
    with ours() as tpm:
        areas = {name: tpm.create_key(name) for name in KeyName}
        signature = tpm.sign(DIGEST)
    for name, place in ((KeyName.IDENTITY, IDENTITY), (KeyName.ATTESTATION, ATTESTATION)):
        said = theirs.run("readpublic", "-c", place, "-f", "tss", "-o", "public", "-n", "name")
        assert theirs.read("public")[2:] == areas[name]
        assert theirs.read("name") == name_of(areas[name])
        expected = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|"
        assert expected + ("restricted|sign" if name is KeyName.ATTESTATION else "sign") in said
    theirs.write("digest", DIGEST)
    theirs.write("signature", signature)
    theirs.run("readpublic", "-c", IDENTITY, "-f", "pem", "-o", "key.pem")
    key = serialization.load_pem_public_key(theirs.read("key.pem"))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))
    assert identity_key(areas[KeyName.IDENTITY]).key == PublicKey.from_cryptography(key)


def test_the_attestation_key_signs_nothing_from_outside(ours: Ours, theirs: tools.Tpm) -> None:
    with ours() as tpm:
        tpm.create_key(KeyName.ATTESTATION)
    theirs.write("digest", DIGEST)
    with pytest.raises(AssertionError):
        theirs.run("sign", "-c", ATTESTATION, "-g", "sha256", "-d", "-o", "signature", "digest")


def test_nv_areas_have_the_names_that_policies_are_made_of(ours: Ours, theirs: tools.Tpm) -> None:
    with ours() as tpm:
        tpm.define_counter(INDEX)
        tpm.fix(FUSE, b"pack 1")
    for area in (counter_area(INDEX), fixed_area(FUSE, 6)):
        assert area.name.hex() in theirs.run("nvreadpublic", f"{area.index:#x}").lower()


def test_fixed_data_is_fixed_for_everybody(ours: Ours, theirs: tools.Tpm) -> None:
    with ours() as tpm:
        tpm.fix(FUSE, b"pack 1")
    theirs.write("other", b"pack 2")
    index = f"{FUSE:#x}"
    for attempt in (
        ("nvwrite", index, "-C", "p", "-i", "other"),
        ("nvundefine", index, "-C", "p"),
        ("nvundefine", index, "-C", "o"),
    ):
        with pytest.raises(AssertionError):
            theirs.run(*attempt)
    theirs.run("clear", "-c", "p")
    with ours() as tpm:
        assert tpm.fixed(FUSE) == b"pack 1"


def test_a_policy_that_they_compute_opens_what_we_sealed(ours: Ours, theirs: tools.Tpm) -> None:
    """PolicyPCR and PolicyNV in a trial session of theirs, approved; then a counter that they raise."""
    vendor = ec.generate_private_key(ec.SECP256R1())
    key = PublicKey.from_cryptography(vendor.public_key())
    with ours() as tpm:
        version = tpm.define_counter(INDEX)
        blob = tpm.seal(SECRET, Policy.authorize(external_key(key).name, b"vault").digest)
    theirs.write("version", version.to_bytes(8, "big"))
    trial = theirs.session(
        ("policypcr", "-l", "sha256:8"),
        ("policynv", f"{INDEX:#x}", "ule", "-C", f"{INDEX:#x}", "-i", "version"),
    )
    digest = approval_digest(Policy(trial), b"vault")
    approved = ApprovedPolicy(trial, vendor.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    steps: list[PolicyStep] = [
        PcrStep((8,)),
        CounterStep(INDEX, Comparison.UNSIGNED_LE, version),
        ApprovalStep(key, approved, b"vault"),
    ]
    with ours() as tpm:
        assert tpm.unseal(blob, steps) == SECRET
    theirs.run("nvincrement", f"{INDEX:#x}", "-C", f"{INDEX:#x}")
    with ours() as tpm, pytest.raises(TrustRefused) as error:
        tpm.unseal(blob, steps)
    assert error.value.code is Code.TPM_POLICY


def test_what_is_sealed_opens_by_its_policy_alone(ours: Ours, theirs: tools.Tpm) -> None:
    """Not by an empty authorisation, which everybody has."""
    with ours() as tpm:
        blob = tpm.seal(SECRET, Policy().pcr(tpm.pcr_read([8])).digest).data
    middle = 2 + int.from_bytes(blob[:2], "big")
    theirs.write("private", blob[:middle])
    theirs.write("public", blob[middle:])
    theirs.run("load", "-C", "0x81000001", "-r", "private", "-u", "public", "-c", "sealed.ctx")
    with pytest.raises(AssertionError):
        theirs.run("unseal", "-c", "sealed.ctx")
    assert theirs.run("unseal", "-c", "sealed.ctx", "-p", "pcr:sha256:8") == SECRET.decode()
    with ours() as tpm:
        tpm.pcr_extend(8, DIGEST)
    with pytest.raises(AssertionError):
        theirs.run("unseal", "-c", "sealed.ctx", "-p", "pcr:sha256:8")
