"""Registers, ceremonies and attestations are read from files that strangers wrote: good, or refused."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from cellward.core import attestation, ceremony, register
from cellward.core.errors import CellwardError
from cellward.core.keys import Role
from cellward.sign.ceremony import attest
from tests.support.ceremony import NOW, House, contribute, entry, holder

HOLDER = holder("Ada")


@functools.cache
def good() -> dict[str, bytes]:
    root = entry(HOLDER.signer, Role.ROOT, name="Ada")  # type: ignore[arg-type]
    held = contribute(ceremony.begin([], register.first([root], 1, NOW)), HOLDER)
    return {
        "register": House.make(1).first.data,
        "ceremony": held.encode(),
        "attestation": attest(HOLDER.store, HOLDER.stored, HOLDER.signer, NOW),
    }


def read(kind: str, data: bytes) -> bytes | None:
    """What was read, written again; None for a refusal."""
    try:
        if kind == "register":
            versions = register.split(data)
            register.verify_chain(versions)
            return b"".join(versions)
        if kind == "ceremony":
            return ceremony.decode(data).finished().encode()
        attestation.decode(data, "test")
    except CellwardError:
        return None
    return data


KINDS = st.sampled_from(["register", "ceremony", "attestation"])


def test_the_good_ones() -> None:
    for kind, data in good().items():
        assert read(kind, data) == data


@given(KINDS, st.binary(max_size=200))
def test_any_bytes(kind: str, data: bytes) -> None:
    assert read(kind, data) is None


@given(KINDS, st.data())
@settings(max_examples=300)
def test_one_changed_byte_is_refused(kind: str, data: st.DataObject) -> None:
    held = good()[kind]
    at = data.draw(st.integers(0, len(held) - 1))
    other = data.draw(st.integers(1, 255))
    assert read(kind, held[:at] + bytes([held[at] ^ other]) + held[at + 1 :]) is None


@given(KINDS, st.data())
def test_a_cut_or_added_piece_is_refused(kind: str, data: st.DataObject) -> None:
    held = good()[kind]
    cut = held[: data.draw(st.integers(0, len(held) - 1))]
    at = data.draw(st.integers(0, len(held)))
    more = held[:at] + data.draw(st.binary(min_size=1, max_size=20)) + held[at:]
    assert read(kind, cut) is None
    assert read(kind, more) is None


PIECES = st.sampled_from(["version", "issued", "root", "keys", "previous", "format", "key", "custody"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(PIECES, VALUES)
def test_any_value_in_any_place_of_a_payload(name: str, value: object) -> None:
    """Refused in our words, never by another exception; or it was what stood there."""
    from cellward.core import envelope, strictjson

    for kind in ("register", "attestation"):
        held = envelope.decode(
            good()[kind], register.KIND if kind == "register" else attestation.KIND, "test", 10**6
        )
        tree = strictjson.decode(held.payload, "test", 10**6)
        assert isinstance(tree, dict)
        for place in (tree, tree["keys"][0] if kind == "register" else tree["custody"]):
            if name not in place or place[name] == value:
                continue
            kept, place[name] = place[name], value
            try:
                changed = envelope.Envelope(held.payload_type, strictjson.encode(tree)).encode()
            except UnicodeEncodeError:
                return
            assert read(kind, changed) is None
            place[name] = kept
