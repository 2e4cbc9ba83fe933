"""Any artefact judged offline: by the keys of its role alone, with what lies beside it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import release as releases
from cellward.core.errors import Code
from cellward.core.image import decode
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.known import GivenKeys
from cellward.core.log import checkpoint
from cellward.core.log.entry import Entry
from cellward.core.log.entry import given as given_text
from cellward.core.log.merkle import leaf_hash
from cellward.core.log.proof import LogProof
from cellward.core.verdict import Verdict, judge, kind_of
from cellward.sign.release import approve, sign_release, withdraw
from tests.support.maker import NOW, Hand, Keys, signed_image
from tests.support.release import NOTES, sbom_of, unsigned

KEYS = Keys()
FIRMWARE, ADA = KEYS("firmware"), Hand("ada")
LOG, OTHER_LOG = Hand.of(Algorithm.ED25519, "log"), Hand.of(Algorithm.ED25519)
MAKER, ML_DSA = Hand("release"), Hand.of(Algorithm.ML_DSA_65)
IMAGE = signed_image(KEYS)
SBOM = sbom_of(IMAGE)
MADE = unsigned({"app.img": IMAGE})
RELEASE = sign_release(MADE, [MAKER])
OPENED = releases.decode(RELEASE)
TRUSTED = {
    "firmware": [FIRMWARE.public_key],
    "release": [MAKER.public_key],
    "approval": [ADA.public_key],
    "log": [LOG.public_key],
}


def of(name: str, files: dict[str, bytes], keys: dict[str, list[PublicKey]] = TRUSTED) -> Verdict:
    return next(verdict for verdict in judge(files, GivenKeys(keys)) if verdict.name == name)


def code(verdict: Verdict) -> Code:
    assert verdict.refusal is not None, verdict
    return verdict.refusal.code


def proof_of(hand: Hand, signed: bytes, by: Hand = LOG) -> bytes:
    """A log of one entry."""
    fingerprint = hand.public_key.fingerprint
    entry = Entry(NOW, "image", "firmware", "p256", fingerprint, given_text(signed), "app 1.4.0").encode()
    head = checkpoint.Checkpoint("cellward.test/log", 1, leaf_hash(entry))
    return LogProof(entry, 0, (), sealed(head, by)).encode()


def sealed(head: checkpoint.Checkpoint, by: Hand) -> bytes:
    return head.signed(by.public_key, by.sign(head.text.encode()))


FILES = {
    "app.img": IMAGE,
    "release.json": RELEASE,
    "ada.json": approve(OPENED, ADA, "Ada", "looked at", NOW),
    "sbom.json": SBOM,
    "notes.md": NOTES,
}


def test_a_release_and_all_that_belongs_to_it() -> None:
    for verdict in judge(FILES, GivenKeys(TRUSTED)):
        assert verdict.refusal is None, verdict
    assert [verdict.kind for verdict in judge(FILES, GivenKeys(TRUSTED))] == [
        "image",
        "release",
        "approval",
        "SBOM",
        "file",
    ]
    assert FIRMWARE.public_key.fingerprint in " ".join(of("app.img", FILES).says)
    assert "belongs to release R1" in of("notes.md", FILES).says
    assert "Ada approves" in of("ada.json", FILES).says[0]


def test_a_log_proof_says_when() -> None:
    stated = decode(IMAGE).stated_digest or b""
    files = FILES | {"proof": proof_of(FIRMWARE, stated)}
    assert of("proof", files).kind == "log proof"
    assert any(line.startswith("logged 2026-11-24 12:00:00 UTC") for line in of("app.img", files).says)
    for other in (
        proof_of(ADA, stated),
        proof_of(FIRMWARE, b"another"),
        proof_of(FIRMWARE, stated, OTHER_LOG),
    ):
        assert not any("logged" in line for line in of("app.img", FILES | {"proof": other}).says)


@pytest.mark.parametrize("role", ["firmware", "release", "approval", "log"])
def test_a_key_is_for_its_role_alone(role: str) -> None:
    """Every key in the other roles, none in this one."""
    everybody = [key for keys in TRUSTED.values() for key in keys]
    keys = {name: everybody for name in TRUSTED if name != role}
    name = {"firmware": "app.img", "release": "release.json", "approval": "ada.json", "log": "proof"}[role]
    files = FILES | {"proof": proof_of(FIRMWARE, b"signed")}
    assert code(of(name, files, keys)) is Code.IMAGE_NO_KEY_GIVEN
    stranger = (OTHER_LOG if role == "log" else Hand()).public_key
    assert of(name, files, keys | {role: [stranger]}).refusal is not None


def test_what_nobody_signed_is_not_good() -> None:
    for name in ("sbom.json", "notes.md"):
        assert code(of(name, {name: FILES[name]})) is Code.RELEASE_FILE
        assert code(of(name, FILES | {name: FILES[name] + b" "})) is Code.RELEASE_FILE
    assert code(of("fix.zip", FILES | {"fix.zip": b"PK\3\4"})) is Code.RELEASE_FILE  # attack 27


def test_a_release_that_is_bad_vouches_for_nothing() -> None:
    stranger = sign_release(MADE, [Hand()])
    files = FILES | {"release.json": stranger}
    assert code(of("release.json", files)) is Code.DOCUMENT_SIGNATURE
    assert code(of("notes.md", files)) is Code.RELEASE_FILE
    assert of("ada.json", files).refusal is not None


def withdrawal(hand: Hand) -> bytes:
    return withdraw(OPENED, [hand.public_key], hand, "a wrong limit", NOW)


def test_a_withdrawn_release() -> None:
    files = FILES | {"withdrawal.json": withdrawal(MAKER)}
    assert of("withdrawal.json", files).refusal is None
    assert code(of("release.json", files)) is Code.RELEASE_WITHDRAWN
    assert code(of("notes.md", files)) is Code.RELEASE_FILE
    other = FILES | {"withdrawal.json": withdrawal(Hand())}
    assert of("withdrawal.json", other).refusal is not None
    assert of("release.json", other).refusal is None


def test_an_approval_by_who_made_it() -> None:
    made = approve(replace(OPENED, keys=("ab" * 32,)), MAKER, "Me", "", NOW)
    keys = TRUSTED | {"approval": [MAKER.public_key]}
    assert code(of("ada.json", FILES | {"ada.json": made}, keys)) is Code.RELEASE_APPROVAL


def test_two_signatures_are_both_told() -> None:
    hybrid = sign_release(MADE, [MAKER, ML_DSA])
    files = {"release.json": hybrid}
    assert any("not checked" in line for line in of("release.json", files).says)
    both = TRUSTED | {"release": [MAKER.public_key, ML_DSA.public_key]}
    says = of("release.json", files, both).says
    assert any("ML-DSA-65" in line for line in says)
    assert not any("not checked" in line for line in says)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_get_a_verdict(data: bytes) -> None:
    assert of("x", {"x": data}).refusal is not None
    for start in (IMAGE[:64], b"c2sp.org/tlog-proof@v1\n", b'{"bomFormat":', RELEASE[:400]):
        assert of("x", {"x": start + data}).refusal is not None


@given(st.sampled_from(sorted(FILES)), st.integers(0, 1 << 20), st.integers(0, 7))
def test_a_flipped_bit_is_found(name: str, at: int, bit: int) -> None:
    data = bytearray(FILES[name])
    data[at % len(data)] ^= 1 << bit
    assert of(name, FILES | {name: bytes(data)}).refusal is not None


def test_kinds_are_by_content() -> None:
    assert {name: kind_of(data) for name, data in FILES.items()} == {
        "app.img": "image",
        "release.json": "release",
        "ada.json": "approval",
        "sbom.json": "SBOM",
        "notes.md": "file",
    }
