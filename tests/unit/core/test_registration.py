"""A module's registration: what is encoded comes back, anything else is refused in one way."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import CellwardError, Code, FormatRefused
from cellward.core.keys import Algorithm
from cellward.core.ladder import registered
from cellward.core.registration import LIMIT, Registration, decode
from cellward.core.slots import Stage
from tests.support.maker import Hand

HELD = Registration(
    serial="M0001",
    hardware="bms-m33",
    slot_keys=(b"a" * 32, b"b" * 32),
    development=2,
    root_quorum=b"q" * 32,
    images={Stage.LOADER: b"l" * 32, Stage.APP: b"p" * 32},
    keys=registered(bytes(range(32))),
)


@pytest.mark.parametrize("half", [b"", b"h" * 32])
def test_comes_back(half: bytes) -> None:
    held = replace(HELD, half=half)
    assert decode(held.encode()) == held


def test_is_written_for_people_and_scripts() -> None:
    tree = json.loads(HELD.encode())
    assert tree["format"] == "cellward registration v1"
    assert (tree["serial"], tree["images"]["app"]) == ("M0001", (b"p" * 32).hex())


def test_shows_no_key_when_it_is_printed() -> None:
    held = replace(HELD, half=b"h" * 32)
    for key in (held.keys.rom_record, held.keys.loader_record, held.keys.report, held.half):
        assert repr(key)[2:20] not in repr(held)
        assert key.hex() not in repr(held)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "cellward registration v2"},
        {"serial": ""},
        {"serial": "M" * 17},
        {"serial": "a\nb"},
        {"serial": 5},
        {"slot_keys": []},
        {"slot_keys": ["61" * 32] * 5},
        {"slot_keys": ["61" * 31]},
        {"development": 4},
        {"development": -1},
        {"development": True},
        {"root_quorum": "61"},
        {"images": {"loader": "61" * 32}},
        {"images": {"loader": "61" * 32, "app": "61" * 32, "rom": "61" * 32}},
        {"rom_record": "61" * 33},
        {"report": "AA" * 32},
        {"update": "61" * 91},
        {"update": Hand.of(Algorithm.ED25519).public_key.encoded.hex()},
        {"half": "61"},
        {"half": None},
        {"more": 1},
    ],
    ids=lambda change: str(change)[:32],
)
def test_refuses(change: dict[str, Any]) -> None:
    data = json.dumps({**json.loads(HELD.encode()), **change}).encode()
    with pytest.raises(FormatRefused) as caught:
        decode(data)
    assert caught.value.code is Code.KEY_FORMAT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b" " * (LIMIT + 1),
        b"[" * LIMIT,
        HELD.encode().replace(b'"half"', b'"serial"'),
    ],
    ids=lambda data: repr(data[:8]),
)
def test_refuses_what_is_no_such_object(data: bytes) -> None:
    with pytest.raises(FormatRefused) as caught:
        decode(data)
    assert caught.value.code is Code.KEY_FORMAT


@given(st.integers(0, len(HELD.encode()) - 1), st.binary(min_size=1, max_size=3))
def test_any_change_is_another_registration_or_refused(at: int, put: bytes) -> None:
    data = HELD.encode()
    try:
        held = decode(data[:at] + put + data[at + len(put) :])
    except CellwardError:
        return
    assert decode(held.encode()) == held
