"""The controller's vault as a file: what each field is checked for, and what each seal covers."""

from dataclasses import replace

import pytest

from cellward.core import packvault
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.keys import Algorithm
from cellward.core.packvault import Content, Value
from tests.support.maker import Hand
from tests.support.packtpm import refused

KEY, OTHER, DEVICE, NONCE = bytes(range(32)), b"\x07" * 32, b"\xd0" * 32, bytes(12)
APPROVER = Hand().public_key


def value(name: str, version: int = 3) -> Value:
    return packvault.seal_value(KEY, DEVICE, name, version, b"secret", NONCE, exportable=False)


CONTENT = Content(DEVICE, APPROVER, b"sealed", 5, bytes(32), (value("a"), value("b")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": (value("b"), value("a"))},
        {"values": (value("a"), value("a"))},
        {"values": (value("a", version=6),)},
        {"values": tuple(value(f"n{number:02}") for number in range(packvault.MAX_VALUES + 1))},
        {"sealed": b""},
        {"sealed": bytes(packvault.MAX_SEALED + 1)},
    ],
)
def test_what_no_vault_writes_is_no_vault(wrong: dict[str, object]) -> None:
    """Though it has the seal of the key."""
    assert packvault.decode(CONTENT.encode(KEY, NONCE)).check(KEY) == CONTENT
    with refused(FormatRefused, Code.VAULT_FORMAT):
        packvault.decode(replace(CONTENT, **wrong).encode(KEY, NONCE))  # type: ignore[arg-type]


def test_every_flag_but_one_is_unknown() -> None:
    good = CONTENT.encode(KEY, NONCE)
    at = good.index(CONTENT.values[0].entry) + 2 + len("a")
    for flags in (2, 3, 0x80):
        with refused(FormatRefused, Code.VAULT_FORMAT):
            packvault.decode(good[:at] + bytes([flags]) + good[at + 1 :])


@pytest.mark.parametrize(
    "changed", [{"name": "b"}, {"version": 4}, {"exportable": True}, {"nonce": bytes(11) + b"\1"}]
)
def test_a_value_is_what_it_was_sealed_as(changed: dict[str, object]) -> None:
    good, into = value("a"), memoryview(bytearray(6))
    good.open(KEY, DEVICE, into)
    assert into.tobytes() == b"secret"
    with refused(TrustRefused, Code.VAULT_SEAL):
        replace(good, **changed).open(KEY, DEVICE, into)  # type: ignore[arg-type]


def test_a_value_is_of_one_device_and_one_key() -> None:
    for key, device in ((KEY, OTHER), (OTHER, DEVICE)):
        with refused(TrustRefused, Code.VAULT_SEAL):
            value("a").open(key, device, memoryview(bytearray(6)))


def test_nobody_knows_a_mark_without_the_key() -> None:
    """It says which file it is of, too."""
    marks = {CONTENT.mark(KEY), CONTENT.mark(OTHER), CONTENT.mark(b""), replace(CONTENT, values=()).mark(KEY)}
    assert len(marks) == 4


def test_the_policy_key_is_one_that_a_tpm_takes() -> None:
    other = replace(CONTENT, approver=Hand.of(Algorithm.ED25519).public_key)
    with refused(FormatRefused, Code.KEY_FORMAT):
        packvault.decode(other.encode(KEY, NONCE))
