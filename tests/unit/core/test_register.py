"""The key register: a chain of versions that only its root quorums can continue, and what a key may do."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import envelope, register, strictjson
from cellward.core.errors import CellwardError, Code, FormatRefused
from cellward.core.keys import Algorithm
from cellward.core.register import Register, RegisteredKey, Stage, State
from cellward.sign.documents import sign_document
from tests.support.maker import NOW, Hand

ALICE, BOB, CAROL, DAVE = (Hand(name) for name in ("alice", "bob", "carol", "dave"))
FIRMWARE, NEXT = Hand("firmware"), Hand.of(Algorithm.RSA_3072, "next")
DAY = timedelta(days=1)
PRODUCTION, DEVELOPMENT = Stage.PRODUCTION, Stage.DEVELOPMENT


def entry(hand: Hand, purpose: str = "root", **changes: object) -> RegisteredKey:
    made = RegisteredKey(hand.public_key, hand.name, purpose, PRODUCTION, NOW)
    return replace(made, **changes)  # type: ignore[arg-type]


def ended(known: RegisteredKey, state: State, successor: str = "") -> RegisteredKey:
    return replace(known, state=state, at=NOW + DAY, reason="rotation", successor=successor)


ROOTS = tuple(map(entry, (ALICE, BOB, CAROL)))
FIRST = Register(1, "", NOW, 2, (*ROOTS, entry(FIRMWARE, "firmware")))
ANCHOR = [hand.public_key for hand in (ALICE, BOB, CAROL)]


def signed(version: Register, *hands: Hand) -> bytes:
    made = version.to_sign()
    for hand in hands:
        made = sign_document(made, hand)
    return made.encode()


def first() -> Register:
    return register.verify_first(signed(FIRST, ALICE, BOB), ANCHOR)


def after(held: Register, *keys: RegisteredKey, **changes: object) -> Register:
    made = Register(held.version + 1, held.id, NOW + DAY, held.threshold, keys or held.keys)
    return replace(made, **changes)  # type: ignore[arg-type]


def refused(code: Code, data: bytes, held: Register) -> None:
    with pytest.raises(CellwardError) as refusal:
        register.verify_next(data, held)
    assert refusal.value.code is code, refusal.value


def test_a_quorum_makes_the_first_version() -> None:
    made = first()
    assert replace(made, encoded=b"") == FIRST
    assert made.roots == tuple(ANCHOR)
    assert made.usable("firmware", PRODUCTION, NOW) == (FIRMWARE.public_key,)


@pytest.mark.parametrize("hands", [(), (ALICE,), (ALICE, DAVE), (FIRMWARE, DAVE)], ids=str)
def test_less_than_the_quorum_makes_none(hands: tuple[Hand, ...]) -> None:
    with pytest.raises(CellwardError) as refusal:
        register.verify_first(signed(FIRST, *hands), ANCHOR)
    assert refusal.value.code is Code.DOCUMENT_SIGNATURE


@pytest.mark.parametrize("anchor", [[], ANCHOR[:2], [*ANCHOR, DAVE.public_key]], ids=len)
def test_other_roots_than_one_knows(anchor: list) -> None:  # type: ignore[type-arg]
    """A holder, or a verifier, who has another root in hand."""
    with pytest.raises(CellwardError) as refusal:
        register.verify_first(signed(FIRST, ALICE, BOB), anchor)
    assert refusal.value.code is Code.REGISTER_ROOTS


def test_a_rotation_of_a_key() -> None:
    held = first()
    keys = tuple(
        ended(known, State.RETIRED, NEXT.public_key.fingerprint) if known.purpose == "firmware" else known
        for known in held.keys
    )
    data = signed(after(held, *keys, entry(NEXT, "firmware")), BOB, CAROL)
    now = register.verify_chain([signed(FIRST, ALICE, BOB), data], ANCHOR)
    assert now.version == 2
    assert now.usable("firmware", PRODUCTION, NOW) == (NEXT.public_key,)
    assert now.find(FIRMWARE.public_key.fingerprint).successor == NEXT.public_key.fingerprint


def test_a_rotation_of_a_root_needs_both_quorums() -> None:
    held = first()
    keys = (ended(ROOTS[0], State.RETIRED), ended(ROOTS[1], State.RETIRED), *held.keys[2:], entry(DAVE))
    version = after(held, *keys)
    assert register.verify_next(signed(version, ALICE, BOB, CAROL, DAVE), held).roots == (
        CAROL.public_key,
        DAVE.public_key,
    )
    refused(Code.DOCUMENT_SIGNATURE, signed(version, ALICE, BOB), held)
    refused(Code.DOCUMENT_SIGNATURE, signed(version, CAROL, DAVE), held)
    refused(Code.DOCUMENT_SIGNATURE, signed(version, ALICE, DAVE, CAROL), replace(held, threshold=3))


def test_a_smaller_quorum_is_for_the_larger_one_to_give() -> None:
    held = first()
    refused(Code.DOCUMENT_SIGNATURE, signed(after(held, threshold=1), ALICE), held)
    assert register.verify_next(signed(after(held, threshold=1), ALICE, BOB), held).threshold == 1


@pytest.mark.parametrize(
    "changes", [{"version": 3}, {"version": 1, "previous": ""}, {"previous": "ab" * 32}], ids=str
)
def test_a_version_follows_the_one_before(changes: dict[str, object]) -> None:
    held = first()
    refused(Code.REGISTER_VERSION, signed(after(held, **changes), ALICE, BOB), held)


def test_an_old_version_does_not_come_back() -> None:
    held = first()
    data = signed(after(held), ALICE, BOB)
    newest = register.verify_next(data, held)
    refused(Code.REGISTER_VERSION, data, newest)
    with pytest.raises(CellwardError):
        register.verify_chain([data], [DAVE.public_key])
    with pytest.raises(CellwardError):
        register.verify_chain([], ANCHOR)


def test_history_is_not_rewritten() -> None:
    held = first()
    revoked = (*ROOTS, ended(held.keys[3], State.REVOKED))
    for keys in (
        ROOTS,  # forgotten
        (*ROOTS, entry(FIRMWARE, "calibration")),
        (*ROOTS, entry(FIRMWARE, "firmware", stage=DEVELOPMENT)),
        (*ROOTS, entry(FIRMWARE, "firmware", since=NOW - DAY)),
    ):
        refused(Code.REGISTER_KEYS, signed(after(held, *keys), ALICE, BOB), held)
    newest = register.verify_next(signed(after(held, *revoked), ALICE, BOB), held)
    for keys in (held.keys, (*ROOTS, ended(held.keys[3], State.RETIRED))):  # back to life
        refused(Code.REGISTER_KEYS, signed(after(newest, *keys), ALICE, BOB), newest)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"purpose": "calibration"}, Code.KEY_PURPOSE),
        ({"stage": DEVELOPMENT}, Code.KEY_STAGE),
        ({"since": NOW + DAY}, Code.KEY_NOT_YET),
        ({"until": NOW}, Code.KEY_EXPIRED),
        ({"until": NOW + DAY}, None),
        ({"state": State.RETIRED, "at": NOW, "reason": "old"}, Code.KEY_RETIRED),
        ({"state": State.REVOKED, "at": NOW, "reason": "lost"}, Code.KEY_REVOKED),
    ],
    ids=str,
)
def test_what_a_key_may_sign(changes: dict[str, object], code: Code | None) -> None:
    known = replace(entry(FIRMWARE, "firmware"), **changes)  # type: ignore[arg-type]
    held = replace(FIRST, keys=(*ROOTS, known))
    usable = held.usable("firmware", PRODUCTION, NOW)
    assert usable == ((FIRMWARE.public_key,) if code is None else ())
    if code is None:
        assert held.check_use(FIRMWARE.public_key, "firmware", PRODUCTION, NOW) == known
        return
    with pytest.raises(CellwardError) as refusal:
        held.check_use(FIRMWARE.public_key, "firmware", PRODUCTION, NOW)
    assert refusal.value.code is code


def test_a_stranger_s_key_may_sign_nothing() -> None:
    with pytest.raises(CellwardError) as refusal:
        FIRST.check_use(DAVE.public_key, "firmware", PRODUCTION, NOW)
    assert refusal.value.code is Code.KEY_UNKNOWN


@pytest.mark.parametrize(
    "keys",
    [
        (*ROOTS, entry(ALICE, "firmware")),  # one key, two purposes
        (ROOTS[0],),  # fewer roots than the threshold
        (*ROOTS, entry(FIRMWARE, "firmware", successor="ab" * 32)),
        (*ROOTS, entry(FIRMWARE, "firmware", state=State.REVOKED)),
        (*ROOTS, entry(FIRMWARE, "firmware", at=NOW)),
        (*ROOTS, entry(FIRMWARE, "Firmware")),
        (*ROOTS, entry(Hand.of(Algorithm.ML_DSA_65, "pq"))),
    ],
    ids=["twice", "few", "successor", "no time", "no state", "purpose", "root in software"],
)
def test_what_is_not_written(keys: tuple[RegisteredKey, ...]) -> None:
    with pytest.raises(FormatRefused):
        replace(FIRST, keys=keys).to_sign()


@given(st.integers(0, 1 << 20), st.integers(0, 7))
def test_every_bit_is_signed(at: int, bit: int) -> None:
    data = bytearray(signed(FIRST, ALICE, BOB))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(CellwardError):
        register.verify_first(bytes(data), ANCHOR)


FIELDS = st.sampled_from(
    ["version", "previous", "issued", "threshold", "keys", "key", "until", "state", "at"]
)
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.none(), max_size=2)


@given(FIELDS, VALUES)
def test_other_values_in_its_fields(name: str, value: object) -> None:
    """Refused, or read as what is written again."""
    tree = json.loads(FIRST.to_sign().payload)
    for holder in (tree, tree["keys"][3]):
        if name in holder:
            holder[name] = value
    try:
        data = envelope.make("key-register", tree).encode()
        read = register.decode(data)
    except (FormatRefused, UnicodeEncodeError):
        return
    assert strictjson.decode(read.to_sign().payload, "x", 1 << 20) == tree
