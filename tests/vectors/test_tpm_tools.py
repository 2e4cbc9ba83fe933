"""tpm2-tools and swtpm as witnesses: what they make is read here, what is made here they take."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.errors import Code, Refused, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.tpm import eventlog, pcr
from cellward.core.tpm.certificate import verify_certificate
from cellward.core.tpm.credential import make_credential
from cellward.core.tpm.eventlog import Event
from cellward.core.tpm.keys import (
    AttestationKey,
    EndorsementPublicKey,
    attestation_key,
    endorsement_key,
    endorsement_template,
    external_key,
    identity_key,
)
from cellward.core.tpm.numbers import Alg, Command, Comparison, Hierarchy, NvAttributes, NvType
from cellward.core.tpm.pcr import PcrValues
from cellward.core.tpm.policy import ApprovedPolicy, Policy, approval_digest
from cellward.core.tpm.public import NvPublic, decode_public, qualified_name
from cellward.core.tpm.quote import verify_quote
from cellward.core.wire import be16, be32
from tests.support.manufacturer import ROOT_CERTIFICATE
from tests.support.tpm import Tpm, manufacture, running_swtpm

NONCE = bytes(range(32))
SECRET = b"sixteen bytes .."
INDEX = 0x01800001
SIGNS = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign"
COUNTER = NvPublic(
    INDEX,
    NvType.COUNTER,
    NvAttributes.OWNERWRITE | NvAttributes.OWNERREAD | NvAttributes.NO_DA | NvAttributes.WRITTEN,
    8,
)
EVENTS = [
    Event(8, "agent code", hashlib.sha256(b"code").digest()),
    Event(9, "agent configuration", hashlib.sha256(b"configuration").digest()),
    Event(8, "module bms-1 boot record", hashlib.sha256(b"record").digest()),
]


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    """With an endorsement key of either kind, an attestation key under each, and an identity key."""
    with running_swtpm(tmp_path_factory.mktemp("tpm")) as tpm:
        for event in EVENTS:
            tpm.run("pcrextend", f"{event.pcr}:sha256={event.digest.hex()}")
        tpm.run("createprimary", "-C", "o", "-G", "ecc", "-c", "srk.ctx", "-a", f"{STORES}|noda")
        for name, more in (("ak", "|restricted"), ("ik", "")):
            create(tpm, name, SIGNS + more)
        for kind in ("ecc", "rsa"):
            tpm.run("createek", "-G", kind, "-c", f"{kind}.ctx", "-u", f"{kind}.pub")
            tpm.run("readpublic", "-c", f"{kind}.ctx", "-f", "pem", "-o", f"{kind}.pem")
        yield tpm


STORES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt"


def create(tpm: Tpm, name: str, attributes: str) -> None:
    tpm.run(
        *("create", "-C", "srk.ctx", "-G", "ecc:ecdsa-sha256:null", "-a", attributes),
        *("-u", f"{name}.pub", "-r", f"{name}.priv"),
    )
    tpm.run("load", "-C", "srk.ctx", "-u", f"{name}.pub", "-r", f"{name}.priv", "-c", f"{name}.ctx")


def area(tpm: Tpm, name: str) -> bytes:
    """TPMT_PUBLIC, without the size that the tools put before it."""
    tpm.run("readpublic", "-c", f"{name}.ctx", "-f", "tss", "-o", "area")
    data = tpm.read("area")
    assert data[:2] == be16(len(data) - 2)
    return data[2:]


def names(tpm: Tpm, name: str) -> tuple[bytes, bytes]:
    """Name and qualified name, as the TPM says."""
    found = re.findall(r"name: ([0-9a-f]+)", tpm.run("readpublic", "-c", f"{name}.ctx"))
    return bytes.fromhex(found[0]), bytes.fromhex(found[1])


def trusted_key(tpm: Tpm) -> AttestationKey:
    return attestation_key(area(tpm, "ak"), names(tpm, "srk")[1])


def quoted(tpm: Tpm, selection: str, nonce: bytes = NONCE) -> tuple[bytes, bytes]:
    tpm.run("quote", "-c", "ak.ctx", "-l", selection, "-q", nonce.hex(), "-m", "message", "-s", "signature")
    return tpm.read("message"), tpm.read("signature")


def certified(tpm: Tpm, kind: str) -> EndorsementPublicKey:
    key = serialization.load_pem_public_key(tpm.read(f"{kind}.pem"))
    assert isinstance(key, EndorsementPublicKey)
    return key


@pytest.mark.parametrize("name", ["srk", "ak", "ik", "ecc", "rsa"])
def test_public_areas_and_their_names(tpm: Tpm, name: str) -> None:
    public = decode_public(area(tpm, name))
    assert public.encode() == area(tpm, name)
    assert public.name == names(tpm, name)[0]


def test_qualified_names(tpm: Tpm) -> None:
    srk, ak, ek = names(tpm, "srk"), names(tpm, "ak"), names(tpm, "ecc")
    assert qualified_name(be32(Hierarchy.OWNER), srk[0]) == srk[1]
    assert qualified_name(srk[1], ak[0]) == ak[1]
    assert qualified_name(be32(Hierarchy.ENDORSEMENT), ek[0]) == ek[1]


def test_keys_that_the_tpm_made_are_what_they_should_be(tpm: Tpm) -> None:
    assert identity_key(area(tpm, "ik")).name == names(tpm, "ik")[0]
    assert trusted_key(tpm).qualified_name == names(tpm, "ak")[1]
    for kind in ("ecc", "rsa"):
        assert endorsement_key(area(tpm, kind), certified(tpm, kind)).name == names(tpm, kind)[0]


def test_neither_key_is_taken_for_the_other(tpm: Tpm) -> None:
    """An identity key signs any digest: in the attestation key's place it would sign a made-up quote."""
    with pytest.raises(TrustRefused) as refusal:
        attestation_key(area(tpm, "ik"), names(tpm, "srk")[1])
    assert refusal.value.code is Code.ATTEST_KEY
    with pytest.raises(TrustRefused):
        identity_key(area(tpm, "ak"))


def test_a_quote_over_the_values_that_the_event_log_gives(tpm: Tpm) -> None:
    expected = eventlog.replay(eventlog.decode(eventlog.encode(EVENTS)), (8, 9, 10))
    quote = verify_quote(*quoted(tpm, "sha256:8,9,10"), trusted_key(tpm), NONCE, expected)
    assert (quote.selection, quote.nonce, quote.digest) == ((8, 9, 10), NONCE, expected.digest)
    later = verify_quote(*quoted(tpm, "sha256:8,9,10"), trusted_key(tpm), NONCE, expected)
    assert later.clock >= quote.clock
    assert (later.resets, later.restarts, later.firmware) == (quote.resets, quote.restarts, quote.firmware)


def test_pcr_values_of_the_log_are_the_tpm_s(tpm: Tpm) -> None:
    said = tpm.run("pcrread", "sha256:8,9,10")
    found = {
        int(index): bytes.fromhex(value) for index, value in re.findall(r"(\d+) *: 0x([0-9A-F]{64})", said)
    }
    assert found == eventlog.replay(EVENTS, (8, 9, 10)).values


def test_every_bit_of_a_quote_and_its_signature_counts(tpm: Tpm) -> None:
    message, signature = quoted(tpm, "sha256:8,9")
    key, expected = trusted_key(tpm), eventlog.replay(EVENTS, (8, 9))
    pairs = [(edited, signature) for edited in flipped(message)]
    pairs += [(message, edited) for edited in flipped(signature)]
    for data, signed in pairs:
        with pytest.raises(Refused):
            verify_quote(data, signed, key, NONCE, expected)


def flipped(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        edited = bytearray(data)
        edited[bit // 8] ^= 1 << bit % 8
        yield bytes(edited)


@pytest.mark.parametrize(
    ("code", "selection", "nonce", "expected"),
    [
        (Code.ATTEST_NONCE, "sha256:8,9", bytes(32), eventlog.replay(EVENTS, (8, 9))),
        (Code.ATTEST_SELECTION, "sha256:8", NONCE, eventlog.replay(EVENTS, (8, 9))),
        (Code.ATTEST_SELECTION, "sha256:8,9,10", NONCE, eventlog.replay(EVENTS, (8, 9))),
        (Code.ATTEST_PCR, "sha256:8,9", NONCE, eventlog.replay(EVENTS[:2], (8, 9))),
        (Code.ATTEST_PCR, "sha256:8,9", NONCE, eventlog.replay(EVENTS[::-1], (8, 9))),
    ],
)
def test_a_genuine_quote_of_something_else(
    tpm: Tpm, code: Code, selection: str, nonce: bytes, expected: PcrValues
) -> None:
    with pytest.raises(TrustRefused) as refusal:
        verify_quote(*quoted(tpm, selection, nonce), trusted_key(tpm), NONCE, expected)
    assert refusal.value.code is code


def test_a_quote_of_another_bank_is_refused(tpm: Tpm) -> None:
    with pytest.raises(Refused) as refusal:
        verify_quote(*quoted(tpm, "sha1:8,9"), trusted_key(tpm), NONCE, eventlog.replay(EVENTS, (8, 9)))
    assert refusal.value.code is Code.ATTEST_FORMAT


def test_another_attestation_by_the_same_key_is_no_quote(tpm: Tpm) -> None:
    tpm.run(
        *(
            "certify",
            "-c",
            "ik.ctx",
            "-C",
            "ak.ctx",
            "-g",
            "sha256",
            "-f",
            "tss",
            "-o",
            "message",
            "-s",
            "sig",
        )
    )
    with pytest.raises(TrustRefused) as refusal:
        verify_quote(
            tpm.read("message"), tpm.read("sig"), trusted_key(tpm), NONCE, eventlog.replay(EVENTS, (8, 9))
        )
    assert refusal.value.code is Code.ATTEST_TYPE


def test_the_key_elsewhere_in_its_tpm(tpm: Tpm) -> None:
    key = attestation_key(area(tpm, "ak"), be32(Hierarchy.OWNER))
    with pytest.raises(TrustRefused) as refusal:
        verify_quote(*quoted(tpm, "sha256:8"), key, NONCE, eventlog.replay(EVENTS[::2], (8,)))
    assert refusal.value.code is Code.ATTEST_SIGNER


def activate(tpm: Tpm, kind: str, name: str) -> bytes:
    """TPM2_ActivateCredential of the file `credential`, with the endorsement key's policy."""
    tpm.run("startauthsession", "--policy-session", "--session", "ek.ctx")
    tpm.run("policysecret", "--session", "ek.ctx", "-c", "endorsement")
    try:
        tpm.run(
            *("activatecredential", "-c", f"{name}.ctx", "-C", f"{kind}.ctx"),
            *("-P", "session:ek.ctx", "-i", "credential", "-o", "opened"),
        )
    finally:
        tpm.run("flushcontext", "ek.ctx")
    return tpm.read("opened")


@pytest.mark.parametrize("kind", ["ecc", "rsa"])
@pytest.mark.parametrize("secret", [b"x", SECRET, bytes(range(32))])
def test_a_credential_opens_in_this_tpm_for_this_key(tpm: Tpm, kind: str, secret: bytes) -> None:
    endorsement = endorsement_key(area(tpm, kind), certified(tpm, kind))
    made = make_credential(endorsement, names(tpm, "ak")[0], secret, secrets.token_bytes)
    tpm.write("credential", be32(0xBADCC0DE) + be32(1) + made.blob + made.encrypted_seed)  # the tools' header
    assert activate(tpm, kind, "ak") == secret


@pytest.mark.parametrize("kind", ["ecc", "rsa"])
def test_a_credential_for_another_key_or_edited_does_not_open(tpm: Tpm, kind: str) -> None:
    endorsement = endorsement_key(area(tpm, kind), certified(tpm, kind))
    made = make_credential(endorsement, names(tpm, "ak")[0], SECRET, secrets.token_bytes)
    header = be32(0xBADCC0DE) + be32(1)
    tpm.write("credential", header + made.blob + made.encrypted_seed)
    with pytest.raises(AssertionError, match="activatecredential"):
        activate(tpm, kind, "ik")
    for at in (10, len(made.blob) - 1):
        edited = bytearray(made.blob)
        edited[at] ^= 1
        tpm.write("credential", header + bytes(edited) + made.encrypted_seed)
        with pytest.raises(AssertionError, match="activatecredential"):
            activate(tpm, kind, "ak")


@pytest.fixture(scope="module")
def counter(tpm: Tpm) -> Iterator[NvPublic]:
    """Incremented once: before that it has another Name."""
    attributes = "ownerwrite|ownerread|no_da|nt=counter"
    tpm.run("nvdefine", hex(INDEX), "-C", "o", "-a", attributes, "-s", "8")
    tpm.run("nvincrement", hex(INDEX), "-C", "o")
    yield COUNTER
    tpm.run("nvundefine", hex(INDEX), "-C", "o")


def counted(tpm: Tpm) -> int:
    tpm.run("nvread", hex(INDEX), "-C", "o", "-s", "8", "-o", "count")
    return int.from_bytes(tpm.read("count"), "big")


def test_the_name_of_a_counter(tpm: Tpm, counter: NvPublic) -> None:
    said = tpm.run("nvreadpublic", hex(INDEX))
    assert f"name: {counter.name.hex()}" in said


def test_policies_of_pcr_command_and_secret(tpm: Tpm) -> None:
    values = eventlog.replay(EVENTS, (8, 9))
    assert tpm.session(("policypcr", "-l", "sha256:8,9")) == Policy().pcr(values).digest
    assert tpm.session(("policycommandcode", "TPM2_CC_Unseal")) == Policy().command(Command.UNSEAL).digest
    endorsement = be32(Hierarchy.ENDORSEMENT)
    assert tpm.session(("policysecret", "-c", "endorsement")) == Policy().secret(endorsement).digest
    tpm.write("ref", b"use")
    found = tpm.session(("policysecret", "-c", "endorsement", "-q", "ref"))
    assert found == Policy().secret(endorsement, b"use").digest


def test_a_policy_of_future_values_needs_no_such_pcr(tpm: Tpm) -> None:
    """What the vendor does for a release that no TPM has measured yet."""
    values = PcrValues({8: pcr.extend(pcr.RESET_VALUE, hashlib.sha256(b"next release").digest())})
    tpm.write("future", values.values[8])
    assert tpm.session(("policypcr", "-l", "sha256:8", "-f", "future")) == Policy().pcr(values).digest


@pytest.mark.parametrize(
    ("word", "comparison"),
    [("eq", Comparison.EQ), ("ule", Comparison.UNSIGNED_LE), ("uge", Comparison.UNSIGNED_GE)],
)
def test_policies_of_a_counter(tpm: Tpm, counter: NvPublic, word: str, comparison: Comparison) -> None:
    count = counted(tpm)
    tpm.write("operand", count.to_bytes(8, "big"))
    found = tpm.session(("policynv", hex(INDEX), word, "-C", "o", "-i", "operand"))
    assert found == Policy().counter(counter, comparison, count).digest
    both = tpm.session(
        ("policypcr", "-l", "sha256:8,9"), ("policynv", hex(INDEX), word, "-C", "o", "-i", "operand")
    )
    expected = Policy().pcr(eventlog.replay(EVENTS, (8, 9))).counter(counter, comparison, count)
    assert both == expected.digest


@pytest.mark.parametrize("reference", [b"", b"cellward vault"])
def test_sealed_once_and_opened_by_what_the_vendor_approved(
    tpm: Tpm, counter: NvPublic, reference: bytes
) -> None:
    """The whole pattern: digest, approval and Name made here, everything else by the tools."""
    vendor = ec.generate_private_key(ec.SECP256R1())
    public = PublicKey.from_cryptography(vendor.public_key())
    approver = external_key(public)
    policy = (
        Policy()
        .pcr(eventlog.replay(EVENTS, (8, 9)))
        .counter(counter, Comparison.UNSIGNED_LE, counted(tpm) + 1)
    )
    message = policy.digest + reference
    signature = vendor.sign(message, ec.ECDSA(hashes.SHA256()))
    assert approval_digest(policy, reference) == hashlib.sha256(message).digest()
    assert ApprovedPolicy(policy.digest, signature).verify(public, reference) == policy

    tpm.write("vendor.pub", be16(len(approver.encode())) + approver.encode())
    tpm.write("aim", Policy.authorize(approver.name, reference).digest)
    tpm.write("value", b"a value of the vault")
    tpm.run(
        *("create", "-C", "srk.ctx", "-L", "aim", "-i", "value", "-u", "sealed.pub", "-r", "sealed.priv"),
        *("-a", "fixedtpm|fixedparent|noda"),
    )
    tpm.run("load", "-C", "srk.ctx", "-u", "sealed.pub", "-r", "sealed.priv", "-c", "sealed.ctx")
    tpm.run("loadexternal", "-C", "o", "-u", "vendor.pub", "-c", "vendor.ctx", "-n", "vendor.name")
    assert tpm.read("vendor.name") == approver.name
    tpm.write("message", message)
    tpm.write("approval", signature)
    tpm.run(
        *("verifysignature", "-c", "vendor.ctx", "-g", "sha256", "-m", "message", "-s", "approval"),
        *("-f", "ecdsa", "-t", "ticket"),
    )
    tpm.write("operand", (counted(tpm) + 1).to_bytes(8, "big"))
    tpm.write("approved", policy.digest)
    tpm.write("ref", reference)
    tpm.run("startauthsession", "--policy-session", "--session", "open.ctx")
    tpm.run("policypcr", "--session", "open.ctx", "-l", "sha256:8,9")
    tpm.run("policynv", "--session", "open.ctx", hex(INDEX), "ule", "-C", "o", "-i", "operand")
    qualified = ("-q", "ref") if reference else ()
    tpm.run(
        *("policyauthorize", "--session", "open.ctx", "-i", "approved", "-n", "vendor.name", "-t", "ticket"),
        *qualified,
    )
    assert tpm.run("unseal", "-c", "sealed.ctx", "-p", "session:open.ctx") == "a value of the vault"
    tpm.run("flushcontext", "open.ctx")


def test_the_certificate_of_a_tpm_that_swtpm_setup_made(tmp_path: Path) -> None:
    leaf, *issuers = manufacture(tmp_path)
    issuer, root = map(x509.load_pem_x509_certificate, issuers)
    between = [issuer.public_bytes(serialization.Encoding.DER)]
    found = verify_certificate(leaf, between, [root], datetime.now(UTC))
    assert (found.manufacturer, found.model, found.issuer) == ("id:00001014", "swtpm", "CN=swtpm-localca")
    assert endorsement_template(found.key).kind is Alg.RSA
    for intermediates, roots in (([], [root]), (between, [ROOT_CERTIFICATE])):
        with pytest.raises(TrustRefused) as refusal:
            verify_certificate(leaf, intermediates, roots, datetime.now(UTC))
        assert refusal.value.code is Code.ATTEST_CERTIFICATE
