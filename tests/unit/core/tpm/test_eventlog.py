"""The event log: one encoding, and values that follow from it."""

import hashlib
from dataclasses import replace

import pytest

from cellward.core.errors import Code, FormatRefused
from cellward.core.tpm import pcr
from cellward.core.tpm.eventlog import MAX_EVENTS, Event, decode, encode, replay

ONE, TWO = b"\1" * 32, b"\2" * 32
EVENTS = (Event(8, "agent code", ONE), Event(9, "agent configuration", TWO), Event(8, "module bms-1", TWO))
BYTES = (
    b'{"events":[{"pcr":8,"sha256":"' + b"01" * 32 + b'","what":"agent code"}],"format":1}'
)  # what docs/formats/attestation.md shows


def refused(data: bytes) -> Code:
    with pytest.raises(FormatRefused) as refusal:
        decode(data)
    return refusal.value.code


def test_there_and_back() -> None:
    assert decode(encode(EVENTS)) == EVENTS
    assert encode(EVENTS[:1]) == BYTES
    assert decode(encode(())) == ()


def test_replay_is_extension_in_order() -> None:
    found = replay(EVENTS, (8, 9, 10)).values
    first = hashlib.sha256(bytes(32) + ONE).digest()
    assert found == {
        8: hashlib.sha256(first + TWO).digest(),
        9: hashlib.sha256(bytes(32) + TWO).digest(),
        10: pcr.RESET_VALUE,
    }


def test_an_event_that_nobody_quotes_is_refused() -> None:
    """Replay would not touch it, and a quote would seem to vouch for it."""
    with pytest.raises(FormatRefused) as refusal:
        replay(EVENTS, (8,))
    assert refusal.value.code is Code.ATTEST_LOG


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"format":1', b'"format":2', Code.METADATA_FORMAT),
        (b'"format":1', b'"format":1,"more":1', Code.METADATA_FORMAT),
        (b'"what":"agent code"', b'"what":"agent code","type":1', Code.METADATA_FORMAT),
        (b'"pcr":8', b'"pcr":7', Code.METADATA_FORMAT),
        (b'"pcr":8', b'"pcr":16', Code.METADATA_FORMAT),
        (b'"pcr":8', b'"pcr":true', Code.METADATA_FORMAT),
        (b'"pcr":8', b'"pcr":8,"pcr":8', Code.METADATA_FORMAT),
        (b"0101", b"01", Code.METADATA_FORMAT),
        (b"agent code", b"agent\\ncode", Code.METADATA_FORMAT),
        (b"agent code", b" agent code", Code.METADATA_FORMAT),
        (b"agent code", b"", Code.METADATA_FORMAT),
        (b"agent code", b"x" * 65, Code.METADATA_FORMAT),
        (b'{"events"', b'{ "events"', Code.ATTEST_LOG),
        (b"agent code", b"agent\\u0020code", Code.ATTEST_LOG),
    ],
)
def test_other_logs_and_other_encodings(old: bytes, new: bytes, code: Code) -> None:
    assert old in BYTES
    assert refused(BYTES.replace(old, new, 1)) is code


def test_a_log_has_an_end() -> None:
    longest = EVENTS[:1] * MAX_EVENTS
    assert decode(encode(longest)) == longest
    with pytest.raises(FormatRefused) as refusal:
        encode(EVENTS[:1] * (MAX_EVENTS + 1))
    assert refusal.value.code is Code.ATTEST_LOG
    event = BYTES[len(b'{"events":[') : -len(b'],"format":1}')]
    more = b'{"events":[' + b",".join([event] * (MAX_EVENTS + 1)) + b'],"format":1}'
    assert refused(more) is Code.METADATA_FORMAT
    assert refused(b" " * 70_000) is Code.METADATA_TOO_LARGE


def test_an_event_that_no_log_holds_is_not_made() -> None:
    changes: tuple[dict[str, object], ...] = ({"pcr": 0}, {"pcr": 16}, {"what": "a\n"}, {"digest": ONE[1:]})
    for change in changes:
        with pytest.raises(FormatRefused) as refusal:
            replace(EVENTS[0], **change)  # type: ignore[arg-type]
        assert refusal.value.code is Code.ATTEST_LOG
