"""Messages of enrolment and renewal: what was encoded, or a refusal of one kind; secrets stay unsaid."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import enrolment
from cellward.core.enrolment import (
    Challenge,
    Credentials,
    Introduction,
    Proof,
    Renewal,
    Secrets,
    decode_challenge,
    decode_introduction,
    decode_issued,
    decode_proof,
    decode_renewal,
)
from cellward.core.errors import Code, FormatRefused
from cellward.core.metadata import Ecu
from cellward.core.tpm.credential import Credential

BYTES = st.binary(min_size=1, max_size=64)
SECRET = st.binary(min_size=1, max_size=32)
TEXT = st.text("abcXYZ012_-", min_size=1, max_size=40)
INTRODUCTIONS = st.builds(
    Introduction,
    TEXT,
    st.lists(st.builds(Ecu, TEXT.map(lambda t: f"m{t}/app"), st.just("bms-m33")), max_size=3).map(tuple),
    BYTES,
    BYTES,
    BYTES,
    st.lists(BYTES, max_size=4).map(tuple),
)
CREDENTIALS = st.builds(Credential, BYTES, BYTES)
CHALLENGES = st.builds(
    Challenge,
    TEXT,
    st.binary(min_size=32, max_size=32),
    st.none() | st.builds(Credentials, CREDENTIALS, CREDENTIALS),
)
PROOFS = st.builds(
    Proof,
    TEXT,
    TEXT.map(str.encode),
    BYTES,
    BYTES,
    BYTES,
    st.none() | st.builds(Secrets, SECRET, SECRET),
)
RENEWALS = st.builds(Renewal, TEXT.map(lambda t: f"P{t}"), st.booleans())
DECODERS: tuple[Callable[[bytes], object], ...] = (
    decode_introduction,
    decode_challenge,
    decode_proof,
    decode_renewal,
    decode_issued,
)
GOOD: dict[Callable[[bytes], object], bytes] = {
    decode_introduction: Introduction("t", (Ecu("m1/app", "bms-m33"),), b"c", b"a", b"i", (b"x",)).encode(),
    decode_challenge: Challenge(
        "s", bytes(32), Credentials(Credential(b"b", b"e"), Credential(b"b", b"e"))
    ).encode(),
    decode_proof: Proof("s", b"csr", b"log", b"att", b"sig", Secrets(b"1", b"2")).encode(),
    decode_renewal: Renewal("PACK-1").encode(),
    decode_issued: enrolment.encode_issued(b"pem"),
}
DECODERS = tuple(GOOD)


@given(INTRODUCTIONS)
def test_introductions(it: Introduction) -> None:
    assert decode_introduction(it.encode()) == it


@given(CHALLENGES)
def test_challenges(it: Challenge) -> None:
    assert decode_challenge(it.encode()) == it


@given(PROOFS)
def test_proofs(it: Proof) -> None:
    assert decode_proof(it.encode()) == it


@given(RENEWALS)
def test_renewals(it: Renewal) -> None:
    assert decode_renewal(it.encode()) == it


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.data())
def test_anything_is_read_or_refused_as_a_request(
    decode: Callable[[bytes], object], data: st.DataObject
) -> None:
    tree = json.loads(GOOD[decode])
    name = data.draw(st.sampled_from([*tree, "more"]))
    edited = {**tree, name: data.draw(ANY)}
    body = data.draw(st.just(json.dumps(edited).encode()) | st.binary(max_size=99))
    try:
        decode(body)
    except FormatRefused as refused:
        assert refused.code is Code.REQUEST_FORMAT


@pytest.mark.parametrize("decode", DECODERS)
def test_no_field_is_left_out_or_added(decode: Callable[[bytes], object]) -> None:
    tree = json.loads(GOOD[decode])
    decode(GOOD[decode])
    bent = [{**tree, "more": 1}, *({k: v for k, v in tree.items() if k != name} for name in tree)]
    optional = {"secrets", "credentials"}
    for each in bent:
        if optional & set(tree) - set(each):
            decode(json.dumps(each).encode())
            continue
        with pytest.raises(FormatRefused) as refused:
            decode(json.dumps(each).encode())
        assert refused.value.code is Code.REQUEST_FORMAT


@pytest.mark.parametrize("text", ["", "AA", "AA=", "AB==", "A A==", "AA==\n", "é", "A" * 8000])
def test_bytes_have_one_encoding(text: str) -> None:
    tree = json.loads(GOOD[decode_proof])
    with pytest.raises(FormatRefused) as refused:
        decode_proof(json.dumps({**tree, "attest": text}).encode())
    assert refused.value.code is Code.REQUEST_FORMAT


def test_a_nonce_has_32_bytes() -> None:
    with pytest.raises(FormatRefused):
        decode_challenge(Challenge("s", bytes(31)).encode())


@given(st.text("abcdefgh", min_size=12, max_size=30))
def test_refusals_and_representations_keep_secrets(secret: str) -> None:
    proof = Proof(secret, b"csr", b"log", b"a", b"s", Secrets(secret.encode(), secret.encode()))
    for shown in (
        repr(proof),
        repr(Challenge(secret, bytes(32))),
        repr(Introduction(secret, (), b"", b"", b"")),
    ):
        assert secret not in shown
    tree = json.loads(GOOD[decode_introduction])
    with pytest.raises(FormatRefused) as refused:
        decode_introduction(json.dumps({**tree, "token": [secret], "more": 1}).encode())
    assert secret not in str(refused.value)
