"""Releases, approvals, withdrawals and SBOMs are read or refused, whatever their bytes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from cellward.core import envelope, sbom
from cellward.core import release as releases
from cellward.core.errors import CellwardError, FormatRefused
from tests.support.release import sbom_of
from tests.unit.core.test_release import ADA, APPROVAL, ECDSA, FOUND, ONE, WITHDRAWAL, keys

DOCUMENTS = st.sampled_from([ONE, APPROVAL, WITHDRAWAL])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "name",
    "created",
    "parts",
    "notes",
    "sbom",
    "requires",
    "keys",
    "release",
    "at",
    "reason",
    "approver",
]


def accepted(data: bytes) -> list[object]:
    """What each verifier makes of it; nothing but a refusal of one line may come out."""
    found: list[object] = []
    for verify in (
        lambda: releases.verify(data, keys(ECDSA)),
        lambda: releases.verify_approval(data, FOUND, keys(ADA), "x"),
        lambda: releases.verify_withdrawal(data, FOUND, keys(ECDSA), "x"),
    ):
        try:
            found.append(verify())
        except CellwardError as error:
            assert error.code
            assert "\n" not in str(error)
    return found


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_document(data: bytes) -> None:
    assert accepted(data) == []


@given(DOCUMENTS, st.integers(0, 1 << 20), st.binary(max_size=6), st.integers(0, 6))
def test_an_edited_document_is_refused(data: bytes, at: int, put: bytes, cut: int) -> None:
    at %= len(data) + 1
    changed = data[:at] + put + data[at + cut :]
    if changed != data:
        assert accepted(changed) == []


@given(DOCUMENTS, st.sampled_from(FIELDS), JSON)
def test_an_edited_payload_is_refused_before_its_signature_counts(
    data: bytes, name: str, value: object
) -> None:
    """By the reader alone: an attacker with a release key cannot break it either."""
    kind = envelope.kind_of(data, "x", 1 << 20)
    tree = json.loads(envelope.decode(data, kind, "x", 1 << 20).payload)
    tree[name] = value
    try:
        payload = json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate cannot even be written
    made = envelope.Envelope(envelope.payload_type(kind), payload)
    try:
        found = releases.decode(made.encode())
    except FormatRefused as error:
        assert "\n" not in str(error)
        return
    assert releases.to_sign(found, keys(ECDSA)).payload


@given(st.binary(max_size=300) | JSON.map(lambda tree: json.dumps(tree).encode()))
def test_arbitrary_bytes_are_an_sbom_or_refused(data: bytes) -> None:
    try:
        sbom.read(data)
    except FormatRefused as error:
        assert "\n" not in str(error)


@given(st.sampled_from(["components", "metadata", "specVersion", "bomFormat"]), JSON, st.booleans())
def test_an_edited_sbom_is_read_or_refused(name: str, value: object, inside: bool) -> None:
    tree = json.loads(sbom_of(b"image"))
    (tree["components"][0] if inside else tree).update({name: value, "hashes": value})
    try:
        found = sbom.read(json.dumps(tree).encode())
    except FormatRefused as error:
        assert "\n" not in str(error)
    else:
        assert all(len(digest) == 64 for each in found.components for digest in each.sha256)
