"""`verify` by a key register: purpose, stage and state count, by the log's time or by now."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cellward.core import register
from cellward.core import release as releases
from cellward.core.errors import CellwardError, Code
from cellward.core.image import decode
from cellward.core.keys import Algorithm, KeyStage, PublicKey, Role, TokenFacts
from cellward.core.known import Anchor, RegisterKeys
from cellward.core.log import checkpoint
from cellward.core.log.entry import Entry as LogEntry
from cellward.core.log.entry import given
from cellward.core.log.merkle import leaf_hash
from cellward.core.log.proof import LogProof
from cellward.core.register import Document, Entry, Register, State, Status
from cellward.core.verdict import Verdict, judge, kind_of
from cellward.sign.ceremony import attest
from cellward.sign.release import approve, sign_release, withdraw
from tests.support.ceremony import CUSTODY, DAY, NOW, contribute, entry, holder, sign
from tests.support.maker import Hand, Keys, signed_image
from tests.support.release import unsigned

PRODUCTION = KeyStage.PRODUCTION
KEYS = Keys()
FIRMWARE = KEYS("firmware")
LOG, OTHER_LOG = (Hand.of(Algorithm.ED25519, name) for name in ("log", "log-2"))
MAKER, ADA, PQ = Hand("release"), Hand("approval"), Hand.of(Algorithm.ML_DSA_65)
HOLDERS = [holder(name) for name in ("Ben", "Cem")]
IMAGE = signed_image(KEYS)
DIGEST = decode(IMAGE).stated_digest or b""
RELEASE = sign_release(unsigned({"app.img": IMAGE}), [MAKER])


def lone(hand: Hand, purpose: Role, name: str = "") -> Entry:
    """In a token of its own."""
    token = TokenFacts("cellward", "the test", "hand", hand.public_key.fingerprint[:16])
    return replace(entry(hand, purpose, name=name), custody=replace(CUSTODY, token=token))


ENTRIES = [
    *(replace(entry(each.signer, Role.ROOT, name=each.name), custody=CUSTODY) for each in HOLDERS),  # type: ignore[arg-type]
    lone(FIRMWARE, Role.FIRMWARE),
    lone(MAKER, Role.RELEASE),
    lone(ADA, Role.APPROVAL, "Ada"),
    lone(LOG, Role.LOG),
]


def first(*more: Entry, change: Hand | None = None, **values: object) -> Document:
    """Version 1, signed by both holders, with one key's entry changed."""
    entries = [
        replace(e, **values) if change is not None and e.key == change.public_key else e  # type: ignore[arg-type]
        for e in [*ENTRIES, *more]
    ]
    return sign(register.first(entries, 2, NOW), *(each.signer for each in HOLDERS))  # type: ignore[arg-type]


def known(document: Document, now: datetime = NOW, stage: KeyStage = PRODUCTION) -> RegisterKeys:
    return RegisterKeys.verified([document.data], document.sha256, stage, now, "register")


def proof(hand: Hand, signed: bytes, at: datetime, by: Hand = LOG) -> bytes:
    made = LogEntry(at, "image", "x", "p256", hand.public_key.fingerprint, given(signed), "it").encode()
    head = checkpoint.Checkpoint("cellward.test/log", 1, leaf_hash(made))
    return LogProof(made, 0, (), head.signed(by.public_key, by.sign(head.text.encode()))).encode()


def verdict(document: Document, now: datetime = NOW, stage: KeyStage = PRODUCTION, **files: bytes) -> Verdict:
    """On the first of the files."""
    return judge(files, known(document, now, stage))[0]


def code(found: Verdict) -> Code | None:
    return None if found.refusal is None else found.refusal.code


def test_under_which_key_of_the_register() -> None:
    found = verdict(first(), image=IMAGE)
    assert code(found) is None
    assert f"register 1: firmware ({FIRMWARE.public_key.fingerprint[:16]})" in " ".join(found.says)
    assert "a production key for firmware, active, until 2027-11-24" in " ".join(found.says)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"purpose": Role.CALIBRATION}, Code.KEY_PURPOSE),
        ({"stage": KeyStage.DEVELOPMENT}, Code.KEY_STAGE),
        ({"status": Status(State.REVOKED, NOW, "stolen")}, Code.KEY_REVOKED),
        ({"status": Status(State.RETIRED, NOW)}, Code.KEY_RETIRED),
        ({"status": Status(State.RETIRED, NOW + DAY)}, None),
        ({"not_after": NOW - timedelta(seconds=1)}, Code.KEY_EXPIRED),
        ({"not_before": NOW + DAY}, Code.KEY_NOT_YET),
    ],
)
def test_what_is_wrong_with_a_key(values: dict[str, object], expected: Code | None) -> None:
    found = verdict(first(change=FIRMWARE, **values), image=IMAGE)
    assert code(found) is expected
    assert found.refusal is None or found.refusal.subject.startswith("image, key firmware")


def test_a_development_key_where_that_is_asked() -> None:
    held = first(change=FIRMWARE, stage=KeyStage.DEVELOPMENT)
    assert code(verdict(held, stage=KeyStage.DEVELOPMENT, image=IMAGE)) is None
    assert code(verdict(first(), stage=KeyStage.DEVELOPMENT, image=IMAGE)) is Code.KEY_STAGE


def test_a_key_that_the_register_does_not_know() -> None:
    other = signed_image(Keys())
    assert code(verdict(first(), image=other)) is Code.IMAGE_KEY_UNKNOWN


@pytest.mark.parametrize("state", [State.REVOKED, State.RETIRED])
def test_the_logs_time_counts_where_a_proof_shows_it(state: State) -> None:
    status = Status(state, NOW, "stolen" if state is State.REVOKED else "")
    held = first(change=FIRMWARE, status=status)
    refused = Code.KEY_REVOKED if state is State.REVOKED else Code.KEY_RETIRED
    early, late = NOW - timedelta(seconds=1), NOW
    later = NOW + 9 * DAY
    for evidence, expected in (
        (proof(FIRMWARE, DIGEST, early), None),
        (proof(FIRMWARE, DIGEST, late), refused),
        (proof(FIRMWARE, b"other".ljust(32), early), refused),
        (proof(MAKER, DIGEST, early), refused),
        (proof(FIRMWARE, DIGEST, early, by=OTHER_LOG), refused),
    ):
        assert code(verdict(held, later, image=IMAGE, proof=evidence)) is expected


def test_a_log_key_that_is_revoked_proves_no_time() -> None:
    held = first(change=LOG, status=Status(State.REVOKED, NOW, "stolen"))
    found = judge({"proof": proof(FIRMWARE, DIGEST, NOW)}, known(held))[0]
    assert code(found) is Code.KEY_REVOKED
    status = Status(State.REVOKED, NOW, "stolen")
    both = first(lone(OTHER_LOG, Role.LOG, "log-2"), change=FIRMWARE, status=status)
    entries = tuple(
        replace(e, status=status) if e.key == LOG.public_key else e for e in both.register.entries
    )
    worse = sign(replace(both.register, entries=entries), *(each.signer for each in HOLDERS))  # type: ignore[arg-type]
    early = NOW - timedelta(seconds=1)
    revoked = Code.KEY_REVOKED
    for document, by, expected in ((both, LOG, None), (worse, LOG, revoked), (worse, OTHER_LOG, None)):
        evidence = proof(FIRMWARE, DIGEST, early, by)
        assert code(verdict(document, image=IMAGE, proof=evidence)) is expected


def test_a_release_and_who_approved_it() -> None:
    opened = releases.decode(RELEASE)
    approval, own = (approve(opened, hand, "Ada", "", NOW) for hand in (ADA, Hand()))
    found = judge({"a": approval, "r": RELEASE, "i": IMAGE}, known(first()))
    assert [code(each) for each in found] == [None] * 3
    assert "Ada" in " ".join(found[0].says)
    assert "a production key for approval" in " ".join(found[0].says)
    assert code(judge({"a": own, "r": RELEASE}, known(first()))[0]) is Code.DOCUMENT_SIGNATURE
    for values in ({"name": "RELEASE"}, {"custody": entry_of(MAKER).custody}):
        same = first(change=ADA, **values)
        assert code(judge({"a": approval, "r": RELEASE}, known(same))[0]) is Code.RELEASE_APPROVAL, values
    wrong = first(change=ADA, purpose=Role.TIME)
    assert code(judge({"a": approval, "r": RELEASE}, known(wrong))[0]) is Code.KEY_PURPOSE


def entry_of(hand: Hand) -> Entry:
    return next(e for e in ENTRIES if e.key == hand.public_key)


def test_a_release_by_a_key_that_is_out_of_use() -> None:
    status = Status(State.REVOKED, NOW, "stolen")
    held = first(change=MAKER, status=status)
    files = {"r": RELEASE, "notes": b"What is new."}
    assert [code(each) for each in judge(files, known(held))] == [Code.KEY_REVOKED, Code.RELEASE_FILE]
    taken_back = withdraw(releases.decode(RELEASE), [MAKER.public_key], MAKER, "why", NOW)
    found = judge({"w": taken_back, "r": RELEASE}, known(first()))
    assert [code(each) for each in found] == [None, Code.RELEASE_WITHDRAWN]
    assert code(judge({"w": taken_back, "r": RELEASE}, known(held))[0]) is Code.KEY_REVOKED


def test_a_post_quantum_key_is_asked_for_while_it_may_sign() -> None:
    with_pq = entry(PQ, Role.RELEASE, name="pq")
    assert code(verdict(first(with_pq), r=RELEASE)) is Code.RELEASE_KEYS
    gone = replace(with_pq, status=Status(State.RETIRED, NOW))
    assert code(verdict(first(gone), r=RELEASE)) is None


# --- one person ---


def test_one_person_by_key_name_or_token() -> None:
    held = first().register

    def same(one: Entry, other: Entry) -> bool:
        entries = tuple(
            {e.fingerprint: e for e in (*held.entries, one, other)}[e.fingerprint] for e in held.entries
        )
        return replace(held, entries=entries).same_hand(one.fingerprint, other.fingerprint)

    ada, maker = entry_of(ADA), entry_of(MAKER)
    assert not same(ada, maker)
    assert same(ada, ada)
    assert same(ada, replace(maker, name="aDA"))
    assert same(ada, replace(maker, custody=ada.custody))
    assert not same(ada, replace(maker, custody=None))
    assert not same(replace(ada, custody=None), replace(maker, custody=None))
    nameless = replace(CUSTODY, token=TokenFacts("cellward", "", "", ""))
    assert not same(replace(ada, custody=nameless), replace(maker, custody=nameless))
    assert not held.same_hand(ada.fingerprint, "0" * 64)


# --- the register itself, its ceremonies, attestations ---


def anchored(data: bytes, anchor: Anchor) -> Verdict:
    return judge({"it": data}, known(first()), anchor)[0]


def test_the_register_itself() -> None:
    held = first()
    roots = [each.stored.public_key for each in HOLDERS]
    anchors: tuple[Anchor, ...] = (held.sha256, roots)
    for anchor in anchors:
        found = anchored(held.data, anchor)
        assert (found.kind, code(found)) == ("key-register", None)
        assert any(line.startswith(f"Ada ({ADA.public_key.fingerprint[:16]})") for line in found.says)
    others: tuple[Anchor, ...] = (None, [], "0" * 64, roots[:1])
    for anchor in others:
        assert code(anchored(held.data, anchor)) is Code.REGISTER_ROOTS
        with pytest.raises(CellwardError) as error:
            RegisterKeys.verified([held.data], anchor, PRODUCTION, NOW, "register")
        assert error.value.code is Code.REGISTER_ROOTS
    assert code(anchored(held.data + held.data, held.sha256)) is Code.REGISTER_VERSION
    assert code(anchored(held.data[:-1], held.sha256)) is Code.METADATA_FORMAT
    unsigned_ = register.unsigned(held.register)
    assert code(anchored(unsigned_.data, unsigned_.sha256)) is Code.REGISTER_QUORUM


@pytest.fixture(scope="module")
def held_twice() -> tuple[RegisterKeys, list[bytes]]:
    """A register of two versions, and the transcripts of both."""
    from cellward.core import ceremony

    one = contribute(ceremony.begin([], register.first(ENTRIES, 2, NOW)), *HOLDERS).finished()
    later = Register(2, one.draft.sha256, NOW + DAY, one.draft.register.root, one.draft.register.entries)
    two = contribute(ceremony.begin([one.draft.data], later), *HOLDERS).finished()
    chain = register.split(two.chain)
    made = RegisterKeys.verified(chain, one.draft.sha256, PRODUCTION, NOW, "register")
    return made, [one.transcript, two.transcript]


def test_transcripts(held_twice: tuple[RegisterKeys, list[bytes]]) -> None:
    held, (one, two) = held_twice
    for version, data in ((1, one), (2, two)):
        found = judge({"t": data}, held)[0]
        assert (found.kind, code(found)) == ("ceremony", None)
        assert found.says[0] == f"how version {version} of the register was agreed on"
        assert "Ben" in " ".join(found.says)
    lines = one.splitlines(keepends=True)
    for bad in bad_transcripts(lines, two):
        assert code(judge({"t": bad}, held)[0]) in (Code.CEREMONY_FILE, Code.METADATA_FORMAT), bad
    short = replace(held, chain=held.chain[:1])
    assert code(judge({"t": two}, short)[0]) is Code.REGISTER_VERSION


def bad_transcripts(lines: list[bytes], other: bytes) -> Iterator[bytes]:
    yield lines[0]
    yield lines[1] + lines[0]
    yield lines[0] + other.splitlines(keepends=True)[1]
    yield lines[0] + lines[1][:-1]


def test_attestations() -> None:
    ben, eve = HOLDERS[0], holder("Eve")
    good = attest(ben.store, ben.stored, ben.signer, NOW)
    found = judge({"a": good}, known(first()))[0]
    assert (found.kind, code(found)) == ("attestation", None)
    assert "made inside its token, never outside" in found.says[0]
    strange = attest(eve.store, eve.stored, eve.signer, NOW)
    assert code(judge({"a": good + strange}, known(first()))[0]) is Code.KEY_UNKNOWN
    loose = replace(ben.stored, attributes=replace(ben.stored.attributes, local=False))
    outside = attest(ben.store, loose, ben.signer, NOW)
    assert code(judge({"a": outside}, known(first()))[0]) is Code.CEREMONY_ATTRIBUTES


def test_several_lines_are_a_kind_only_where_that_has_lines() -> None:
    assert kind_of(RELEASE + RELEASE) == "file"
    assert kind_of(first().data * 2) == "key-register"


def test_without_a_register_there_is_nothing_to_hold_a_transcript_against() -> None:
    from cellward.core.known import GivenKeys

    ben = HOLDERS[0]
    data: dict[str, bytes] = {"a": attest(ben.store, ben.stored, ben.signer, NOW)}
    keys: dict[str, list[PublicKey]] = {"root": [ben.stored.public_key]}
    assert code(judge(data, GivenKeys(keys))[0]) is Code.IMAGE_NO_KEY_GIVEN
