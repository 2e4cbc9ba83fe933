"""Releases: nobody that is named can be left out, and what is said cannot be said in two ways."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import envelope
from cellward.core import release as releases
from cellward.core.errors import CellwardError, Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.image import Version
from cellward.core.keys import Algorithm, PublicKey
from cellward.core.release import Approval, File, Part, Release, Requirement
from cellward.sign.documents import sign_document
from cellward.sign.release import approve, sign_release, withdraw
from tests.support.hsm import code_of
from tests.support.maker import NOW, Hand
from tests.support.release import any_release, signed

CLASSICAL = Algorithm.P256, Algorithm.P384, Algorithm.RSA_3072, Algorithm.ED25519
POST_QUANTUM = Algorithm.ML_DSA_65, Algorithm.ML_DSA_87
HANDS = {algorithm: Hand.of(algorithm) for algorithm in (*CLASSICAL, *POST_QUANTUM)}
ECDSA, MLDSA = HANDS[Algorithm.P256], HANDS[Algorithm.ML_DSA_65]
ADA = Hand("ada")
MADE = any_release()
ONE, BOTH = signed(MADE, ECDSA), signed(MADE, ECDSA, MLDSA)


def keys(*hands: Hand) -> list[PublicKey]:
    return [hand.public_key for hand in hands]


def edited(data: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The envelope after an attacker's edit, in the one encoding it may have."""
    tree = json.loads(data)
    edit(tree)
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def payload(data: bytes, edit: Callable[[dict[str, Any]], object], *hands: Hand) -> bytes:
    """What its own keys have signed, otherwise; without hands the old signatures stay."""
    found = envelope.decode(data, _kind(data), "test", 1 << 20)
    tree = json.loads(found.payload)
    edit(tree)
    if not hands:
        return replace(found, payload=envelope.make("release", tree).payload).encode()
    made = envelope.make(_kind(data), tree)
    for hand in hands:
        made = sign_document(made, hand)
    return made.encode()


def _kind(data: bytes) -> str:
    return envelope.kind_of(data, "test", 1 << 20)


def refused(data: bytes, *hands: Hand) -> Code:
    with pytest.raises(CellwardError) as error:
        releases.verify(data, keys(*hands))
    assert "\n" not in str(error.value)
    return code_of(error)


# --- one key, or two ---


@pytest.mark.parametrize("algorithm", CLASSICAL)
def test_there_and_back_with_every_kind_of_token_s_key(algorithm: Algorithm) -> None:
    hand = HANDS[algorithm]
    found = releases.verify(signed(MADE, hand), keys(hand))
    assert found == replace(MADE, keys=(hand.public_key.fingerprint,))
    assert releases.decode(signed(MADE, hand)).name == "R1"


@pytest.mark.parametrize("second", POST_QUANTUM)
@pytest.mark.parametrize("first", [Algorithm.P256, Algorithm.P384, Algorithm.RSA_3072])
def test_two_keys(first: Algorithm, second: Algorithm) -> None:
    """An older verifier, which knows the classical key, and a new one take the same file."""
    one, two = HANDS[first], HANDS[second]
    data = signed(MADE, two, one)
    assert releases.verify(data, keys(one)) == releases.verify(data, keys(one, two))
    assert set(releases.decode(data).keys) == {h.public_key.fingerprint for h in (one, two)}


@pytest.mark.parametrize("second", POST_QUANTUM)
def test_neither_can_be_stripped(second: Algorithm) -> None:
    data = signed(MADE, ECDSA, HANDS[second])
    for left_out in (0, 1):
        less = edited(data, lambda tree, n=left_out: tree["signatures"].pop(n))  # type: ignore[misc]
        for known in ([ECDSA], [ECDSA, HANDS[second]]):
            assert refused(less, *known) is Code.DOCUMENT_SIGNATURE
    assert refused(edited(data, lambda tree: tree["signatures"].clear()), ECDSA) is Code.DOCUMENT_SIGNATURE


def test_stripped_with_the_name_in_the_payload_the_other_no_longer_fits() -> None:
    def without(tree: dict[str, Any]) -> None:
        tree["keys"].remove(MLDSA.public_key.fingerprint)

    less = payload(BOTH, without)
    tree = json.loads(less)
    tree["signatures"] = [s for s in tree["signatures"] if s["keyid"] == ECDSA.public_key.fingerprint]
    data = edited(less, lambda old: old.update(tree))
    assert refused(data, ECDSA) is Code.DOCUMENT_SIGNATURE


def test_who_forges_ecdsa_cannot_leave_the_post_quantum_key_out() -> None:
    """The day it is for: a new release that names ECDSA alone, rightly signed with it."""
    assert releases.verify(ONE, keys(ECDSA)).keys
    assert refused(ONE, ECDSA, MLDSA) is Code.RELEASE_KEYS


def test_an_older_verifier_does_not_look_at_what_it_does_not_know_a_new_one_does() -> None:
    def spoil(tree: dict[str, Any]) -> None:
        for signature in tree["signatures"]:
            if signature["keyid"] == MLDSA.public_key.fingerprint:
                value = bytearray(b64decode(signature["sig"]))
                value[100] ^= 1
                signature["sig"] = b64encode(value).decode()

    data = edited(BOTH, spoil)
    assert releases.verify(data, keys(ECDSA)).keys
    assert refused(data, ECDSA, MLDSA) is Code.DOCUMENT_SIGNATURE


def test_swapped_and_doubled() -> None:
    def swap(tree: dict[str, Any]) -> None:
        one, two = tree["signatures"]
        one["sig"], two["sig"] = two["sig"], one["sig"]

    assert refused(edited(BOTH, swap), ECDSA) is Code.DOCUMENT_SIGNATURE
    assert refused(edited(BOTH, swap), ECDSA, MLDSA) is Code.DOCUMENT_SIGNATURE
    double = edited(BOTH, lambda tree: tree["signatures"].append(tree["signatures"][0]))
    assert refused(double, ECDSA) is Code.METADATA_FORMAT
    assert refused(edited(BOTH, lambda t: t["signatures"].reverse()), ECDSA) is Code.METADATA_FORMAT


def test_signatures_of_another_release() -> None:
    other = json.loads(signed(any_release("R2"), ECDSA, MLDSA))
    for number in (0, 1):
        moved = edited(BOTH, lambda t, n=number: t["signatures"].__setitem__(n, other["signatures"][n]))  # type: ignore[misc]
        assert refused(moved, ECDSA, MLDSA) is Code.DOCUMENT_SIGNATURE


def test_a_further_signature_is_none_of_the_release_s() -> None:
    more = sign_document(envelope.decode(ONE, "release", "test", 1 << 20), MLDSA)
    assert refused(more.encode(), ECDSA) is Code.DOCUMENT_SIGNATURE
    assert refused(more.encode(), ECDSA, MLDSA) is Code.DOCUMENT_SIGNATURE


def test_post_quantum_alone_is_refused_when_made_and_when_read() -> None:
    with pytest.raises(PolicyRefused) as error:
        sign_release(MADE, [MLDSA])
    assert code_of(error) is Code.RELEASE_KEYS
    tree = json.loads(envelope.decode(ONE, "release", "test", 1 << 20).payload)
    tree["keys"] = [MLDSA.public_key.fingerprint]
    data = sign_document(envelope.make("release", tree), MLDSA).encode()
    assert refused(data, MLDSA) is Code.RELEASE_KEYS
    assert refused(data, ECDSA, MLDSA) is Code.RELEASE_KEYS


def test_only_the_post_quantum_key_is_known() -> None:
    assert refused(BOTH, MLDSA) is Code.RELEASE_KEYS


def test_a_stranger_s_release_and_no_key_at_all() -> None:
    assert refused(ONE, Hand()) is Code.DOCUMENT_SIGNATURE
    assert refused(ONE) is Code.DOCUMENT_SIGNATURE


def test_no_key_signs_nothing() -> None:
    with pytest.raises(PolicyRefused) as error:
        sign_release(MADE, [])
    assert code_of(error) is Code.RELEASE_KEYS


# --- what it says ---

REFUSED_TREES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("name", lambda t: t.update(name="../R1")),
    ("created", lambda t: t.update(created="yesterday")),
    ("flag", lambda t: t.update(security_fix=1)),
    ("cursor", lambda t: t.update(safety_impact="\x1b[2J")),
    ("c1", lambda t: t.update(safety_impact="\x9b2J")),
    ("override", lambda t: t.update(safety_impact="\u202eon")),
    ("no part", lambda t: t.update(parts=[])),
    ("part twice", lambda t: t["parts"].append({**t["parts"][0], "file": "b.img"})),
    ("file twice", lambda t: t["notes"].update(file="app.img")),
    ("own name", lambda t: t["notes"].update(file="release.json")),
    ("own name, large", lambda t: t["notes"].update(file="Withdrawal.JSON")),
    ("own folder", lambda t: t["sbom"].update(file="approvals")),
    ("out of the folder", lambda t: t["sbom"].update(file="../sbom.json")),
    ("hidden", lambda t: t["sbom"].update(file=".sbom")),
    ("too long", lambda t: t["parts"][0].update(length=releases.MAX_FILE_SIZE + 1)),
    ("empty file", lambda t: t["parts"][0].update(length=0)),
    ("hash", lambda t: t["parts"][0].update(sha256="AB" * 32)),
    ("hardware", lambda t: t["parts"][0].update(hardware="toaster")),
    ("stage", lambda t: t["parts"][0].update(stage="rom")),
    ("version", lambda t: t["parts"][0].update(version="1.04.0")),
    ("build 0", lambda t: t["parts"][0].update(version="1.4.0+0")),
    ("counter", lambda t: t["parts"][0].update(counter=1025)),
    ("negative", lambda t: t["parts"][0].update(counter=-1)),
    ("more of a part", lambda t: t["parts"][0].update(more=1)),
    ("more of notes", lambda t: t["notes"].update(more=1)),
    ("more", lambda t: t.update(more=1)),
    ("requirement", lambda t: t.update(requires=[{"hardware": "bms-m33", "of": "app"}])),
    ("keys", lambda t: t.update(keys=[])),
    ("key twice", lambda t: t.update(keys=t["keys"] * 2)),
    ("order", lambda t: t.update(keys=["f" * 64, "0" * 64])),
    ("five keys", lambda t: t.update(keys=[f"{n:064}" for n in range(5)])),
]


@pytest.mark.parametrize(("what", "edit"), REFUSED_TREES, ids=[what for what, _ in REFUSED_TREES])
def test_a_payload_is_strict(what: str, edit: Callable[[dict[str, Any]], object]) -> None:
    assert refused(payload(ONE, edit, ECDSA), ECDSA) is Code.METADATA_FORMAT


@pytest.mark.parametrize("name", list(json.loads(b64decode(json.loads(ONE)["payload"]))))
def test_every_field_is_needed(name: str) -> None:
    assert refused(payload(ONE, lambda t: t.pop(name), ECDSA), ECDSA) is Code.METADATA_FORMAT


def test_every_byte_is_signed() -> None:
    found = envelope.decode(ONE, "release", "test", 1 << 20)
    for at in range(len(found.payload)):
        flipped = bytearray(found.payload)
        flipped[at] ^= 1
        with pytest.raises(CellwardError):
            releases.verify(replace(found, payload=bytes(flipped)).encode(), keys(ECDSA))


def test_what_would_not_be_read_back_is_not_signed() -> None:
    hand = Hand()
    with pytest.raises(FormatRefused):
        sign_release(replace(MADE, name="R 1"), [hand])
    assert hand.signatures == 0


def test_too_large_and_another_kind() -> None:
    assert refused(b" " * (releases.MAX_RELEASE_SIZE + 1), ECDSA) is Code.METADATA_TOO_LARGE
    found = releases.verify(ONE, keys(ECDSA))
    assert refused(approve(found, ADA, "Ada", "", NOW), ADA) is Code.DOCUMENT_KIND


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,20}", fullmatch=True)
FILES = st.builds(
    File,
    st.uuids().map(str),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.integers(1, releases.MAX_FILE_SIZE),
)
VERSIONS = st.builds(
    Version, st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1)
)
STAGES = st.sampled_from(["loader", "app", "calibration"])
PARTS = st.builds(
    Part, FILES, st.sampled_from(["bms-m33", "bms-m33-18s"]), STAGES, VERSIONS, st.integers(0, 1024)
)
RELEASES = st.builds(
    Release,
    name=NAMES,
    created=st.just(NOW),
    security_fix=st.booleans(),
    safety_impact=st.from_regex(r"[a-z ]{0,40}", fullmatch=True),
    parts=st.lists(PARTS, min_size=1, max_size=6, unique_by=lambda p: (p.hardware, p.stage)).map(tuple),
    notes=FILES,
    sbom=FILES,
    requires=st.lists(st.builds(Requirement, st.just("bms-m33"), STAGES, STAGES, VERSIONS), max_size=3).map(
        tuple
    ),
)


@given(RELEASES)
def test_any_release_there_and_back(made: Release) -> None:
    found = releases.decode(releases.to_sign(made, keys(ECDSA)).encode())
    assert found == replace(made, keys=(ECDSA.public_key.fingerprint,))


# --- a second person, and a way back ---

FOUND = releases.verify(ONE, keys(ECDSA))
APPROVAL = approve(FOUND, ADA, "Ada", "notes read", NOW)
WITHDRAWAL = withdraw(FOUND, keys(ECDSA), ECDSA, "it does not charge", NOW)
VERIFY: dict[bytes, Callable[..., object]] = {
    APPROVAL: releases.verify_approval,
    WITHDRAWAL: releases.verify_withdrawal,
}
BY = {APPROVAL: ADA, WITHDRAWAL: ECDSA}


def approval_of(*hands: Hand, made: Release = FOUND) -> list[Approval]:
    return [
        releases.verify_approval(approve(made, hand, "Ada", "", NOW), made, keys(hand), "test")
        for hand in hands
    ]


def test_an_approval_and_a_withdrawal() -> None:
    found = releases.verify_approval(APPROVAL, FOUND, keys(ADA), "test")
    assert found == Approval(FOUND.id, "Ada", "notes read", NOW, ADA.public_key)
    taken = releases.verify_withdrawal(WITHDRAWAL, FOUND, keys(ECDSA), "test")
    assert (taken.release, taken.reason, taken.key) == (FOUND.id, "it does not charge", ECDSA.public_key)


def test_whoever_made_it_does_not_approve_it() -> None:
    hand = Hand()
    made = releases.verify(signed(MADE, hand), keys(hand))
    before = hand.signatures
    with pytest.raises(PolicyRefused) as error:
        approve(made, hand, "Me", "", NOW)
    assert code_of(error) is Code.RELEASE_APPROVAL
    assert hand.signatures == before
    forced = sign_document(releases.approval(made, "Me", "", NOW), hand).encode()
    found = releases.verify_approval(forced, made, keys(hand), "test")
    with pytest.raises(PolicyRefused) as error:
        releases.check_approved(made, [found], 1, "test", asked=1)
    assert "made it" in str(error.value)


def test_the_same_approver_twice_is_one() -> None:
    again = approval_of(ADA, ADA)
    releases.check_approved(FOUND, again, 1, "test", asked=1)
    with pytest.raises(PolicyRefused) as error:
        releases.check_approved(FOUND, again, 2, "test", asked=2)
    assert code_of(error) is Code.RELEASE_APPROVAL
    releases.check_approved(FOUND, approval_of(ADA, Hand()), 2, "test", asked=2)


def test_nobody_asked_and_nobody_has() -> None:
    for asked, advice in ((0, "--approver"), (1, "another person")):
        with pytest.raises(PolicyRefused) as error:
            releases.check_approved(FOUND, [], 1, "test", asked=asked)
        assert advice in error.value.advice


def test_a_software_key_approves_nothing() -> None:
    with pytest.raises(PolicyRefused) as error:
        approve(FOUND, MLDSA, "Ada", "", NOW)
    assert code_of(error) is Code.RELEASE_KEYS
    forced = sign_document(releases.approval(FOUND, "Ada", "", NOW), MLDSA).encode()
    with pytest.raises(PolicyRefused) as error:
        releases.verify_approval(forced, FOUND, keys(MLDSA), "test")
    assert code_of(error) is Code.RELEASE_KEYS


@pytest.mark.parametrize("data", [APPROVAL, WITHDRAWAL], ids=["approval", "withdrawal"])
class TestDocumentsAboutARelease:
    def refusal(self, data: bytes, of: bytes, *, by: Hand | None = None, made: Release = FOUND) -> Code:
        with pytest.raises(CellwardError) as error:
            VERIFY[of](data, made, keys(by or BY[of]), "test")
        return code_of(error)

    def test_of_another_release(self, data: bytes) -> None:
        other = releases.verify(signed(any_release("R2"), ECDSA), keys(ECDSA))
        assert self.refusal(data, data, made=other) is Code.RELEASE_OTHER
        same_name = releases.verify(signed(replace(MADE, safety_impact="x"), ECDSA), keys(ECDSA))
        assert self.refusal(data, data, made=same_name) is Code.RELEASE_OTHER

    def test_of_another_name(self, data: bytes) -> None:
        lying = payload(data, lambda t: t.update(name="R9"), BY[data])
        assert self.refusal(lying, data) is Code.RELEASE_OTHER

    def test_of_a_stranger(self, data: bytes) -> None:
        assert self.refusal(data, data, by=Hand()) is Code.DOCUMENT_SIGNATURE

    def test_without_a_signature_and_with_two(self, data: bytes) -> None:
        bare = edited(data, lambda t: t["signatures"].clear())
        assert self.refusal(bare, data) is Code.DOCUMENT_SIGNATURE
        second = Hand()
        found = sign_document(envelope.decode(data, _kind(data), "t", 1 << 20), second).encode()
        with pytest.raises(TrustRefused):
            VERIFY[data](found, FOUND, keys(BY[data], second), "test")

    @pytest.mark.parametrize("name", ["release", "name", "at"])
    def test_every_field_is_needed(self, data: bytes, name: str) -> None:
        assert self.refusal(payload(data, lambda t: t.pop(name), BY[data]), data) is Code.METADATA_FORMAT

    def test_no_further_field(self, data: bytes) -> None:
        assert self.refusal(payload(data, lambda t: t.update(x=1), BY[data]), data) is Code.METADATA_FORMAT

    def test_edited(self, data: bytes) -> None:
        edit = payload(data, lambda t: t.update(at="2026-11-25T00:00:00Z"))
        forged = edited(edit, lambda t: t.update(payloadType=json.loads(data)["payloadType"]))
        assert self.refusal(forged, data) is Code.DOCUMENT_SIGNATURE


@pytest.mark.parametrize("text", ["", "two\nlines", "\x1b[2J", "\u202eadA", "x" * 121])
def test_names_and_reasons_are_one_clean_line(text: str) -> None:
    with pytest.raises(FormatRefused):
        approve(FOUND, ADA, text, "", NOW)
    with pytest.raises(FormatRefused):
        withdraw(FOUND, keys(ECDSA), ECDSA, text, NOW)


def test_only_a_release_key_takes_a_release_back() -> None:
    hand = Hand()
    with pytest.raises(PolicyRefused) as error:
        withdraw(FOUND, keys(ECDSA), hand, "mine now", NOW)
    assert (code_of(error), hand.signatures) == (Code.RELEASE_KEYS, 0)
