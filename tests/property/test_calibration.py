"""No bytes but a refusal or a calibration, and every calibration is one that a module takes."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cellward.cli.calibration import example_source
from cellward.core import envelope, strictjson, vault
from cellward.core.calibration import KIND, MAX_SIZE, decode, from_source
from cellward.core.errors import FormatRefused
from tests.support.maker import NOW

MADE = from_source(example_source().encode(), NOW, "example")
PAYLOAD = MADE.to_sign().payload
ENCODED = MADE.to_sign().encode()
SCALARS = st.none() | st.booleans() | st.integers(-6000, 6000) | st.text(max_size=8)
NAMES = st.sampled_from(
    ["cells", "temperatures", "currents", "sensor", "ocv", "serial", "counter", "over_mv"]
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)


def only_refused(data: bytes) -> None:
    try:
        found = decode(data)
    except FormatRefused:
        return
    assert vault.decode_calibration(found.block.encode()) == found.block
    assert found.to_sign().encode() == data


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    only_refused(data)


@given(st.integers(0, len(ENCODED) - 1), st.integers(0, 255))
def test_a_changed_byte(at: int, byte: int) -> None:
    only_refused(ENCODED[:at] + bytes([byte]) + ENCODED[at + 1 :])


@given(st.data())
def test_a_changed_field(data: st.DataObject) -> None:
    """A field, or one within it, has any other value."""
    tree: Any = strictjson.decode(PAYLOAD, "tree", MAX_SIZE)
    where = tree
    key = data.draw(st.sampled_from(sorted(tree)))
    if isinstance(tree[key], dict) and data.draw(st.booleans()):
        where, key = tree[key], data.draw(st.sampled_from(sorted(tree[key])))
    elif isinstance(tree[key], list) and data.draw(st.booleans()):
        where, key = tree[key], data.draw(st.integers(0, len(tree[key]) - 1))
    where[key] = data.draw(TREES)
    only_refused(envelope.make(KIND, tree).encode())


@given(st.text(max_size=200).map(str.encode) | st.binary(max_size=100))
def test_any_source(data: bytes) -> None:
    try:
        from_source(data, NOW, "source")
    except FormatRefused:
        return
    raise AssertionError("nobody writes a calibration by chance")
