"""Entries and the journal: one form each, and what is not in it is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cellward.core.errors import CellwardError, Code, FormatRefused, TrustRefused
from cellward.core.log import entry, journal
from cellward.core.log.entry import Entry

NOW = datetime(2026, 11, 24, 20, 44, 56, tzinfo=UTC)
FINGERPRINT = "93a5" * 16


def make(**changes: object) -> Entry:
    fields = {
        "time": NOW,
        "kind": "image",
        "role": "firmware",
        "algorithm": "p256",
        "key": FINGERPRINT,
        "signed": "7b" * 32,
        "subject": "app 1.4.0 for bms-m33, security counter 7",
    }
    return Entry(**(fields | changes))  # type: ignore[arg-type]


def test_the_text_of_the_document() -> None:
    assert make().encode() == (
        b"cellward signing intent v1\ntime 2026-11-24T20:44:56Z\nkind image\nrole firmware\n"
        b"algorithm p256\nkey " + FINGERPRINT.encode() + b"\nsigned " + b"7b" * 32 + b"\n"
        b"subject app 1.4.0 for bms-m33, security counter 7\n"
    )


names = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
entries = st.builds(
    Entry,
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))]))
    .filter(lambda time: 1 < time.year < 9999)
    .map(lambda time: time.replace(microsecond=0)),
    names,
    names,
    names,
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.binary(min_size=1, max_size=100).map(entry.given),
    st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable() and text == text.strip()),
)


@given(entries)
def test_an_entry_says_what_went_in(made: Entry) -> None:
    assert entry.decode(made.encode(), "test") == made
    assert len(made.encode()) <= entry.MAX_ENTRY


@given(entries, st.data())
def test_a_changed_entry_is_another_or_refused(made: Entry, data: st.DataObject) -> None:
    whole = made.encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + data.draw(st.binary(max_size=2)) + whole[at + 1 :]
    assume(changed != whole)
    try:
        assert entry.decode(changed, "test").encode() == changed
    except FormatRefused as error:
        assert error.code is Code.LOG_FORMAT


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": ""},
        {"subject": "two\nlines"},
        {"subject": "red \x1b[31m"},
        {"subject": "rtl \u202e"},
        {"subject": " space"},
        {"subject": "x" * 201},
        {"kind": "Image"},
        {"role": ""},
        {"key": "93a5"},
        {"signed": ""},
        {"signed": "ab" * 65},
        {"signed": "AB" * 32},
    ],
)
def test_what_has_no_text_of_its_own_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(FormatRefused) as error:
        make(**changes)
    assert error.value.code is Code.LOG_FORMAT
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        make().encode()[:-1],
        make().encode() + b"\n",
        make().encode().replace(b"11-24", b"02-30"),
        make().encode().replace(b"20:44:56Z", b"20:44:56+"),
        make().encode().replace(b"v1", b"v2"),
        make().encode().replace(b"\n", b"\r\n"),
    ],
)
def test_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(FormatRefused) as error:
        entry.decode(data, "test")
    assert error.value.code is Code.LOG_FORMAT


def test_a_long_message_and_its_digest_have_two_texts() -> None:
    message = bytes(65)
    digest = bytes.fromhex(entry.given(message).removeprefix("sha256:"))
    assert entry.given(digest) == digest.hex()
    assert entry.given(digest) != entry.given(message)


# --- the journal ---


def written(*frames: list[bytes], start: int = 0) -> bytes:
    data, size = journal.encode_header(start), start
    for frame in frames:
        data += journal.encode_frame(size, frame)
        size += len(frame)
    return data


FRAMES: list[list[bytes]] = [[b"one"], [b"two", b"three"], [b"four"]]
HEAD = len(journal.encode_header(0))


def test_a_journal_says_what_went_in() -> None:
    held = journal.decode(written(*FRAMES, start=512), "test")
    assert held.entries == (b"one", b"two", b"three", b"four")
    assert (held.start, held.size) == (512, 516)
    assert held.end == len(written(*FRAMES, start=512))


def test_a_cut_at_every_byte_leaves_whole_frames() -> None:
    whole = written(*FRAMES)
    ends = [len(written(*FRAMES[:count])) for count in range(4)]
    for cut in range(HEAD, len(whole)):
        held = journal.decode(whole[:cut], "test")
        count = sum(end <= cut for end in ends) - 1
        assert held.end == ends[count]
        assert held.entries == tuple(each for frame in FRAMES[:count] for each in frame)


@pytest.mark.parametrize("cut", range(HEAD))
def test_a_cut_header_is_no_journal(cut: int) -> None:
    with pytest.raises(FormatRefused):
        journal.decode(written()[:cut], "test")


@given(st.data())
def test_a_flipped_bit_before_the_last_frame_is_damage(data: st.DataObject) -> None:
    whole = bytearray(written(*FRAMES))
    last = len(written(*FRAMES[:2]))
    bit = data.draw(st.integers(HEAD * 8, last * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TrustRefused) as error:
        journal.decode(bytes(whole), "test")
    assert error.value.code is Code.LOG_DAMAGED


@given(st.data())
def test_a_flipped_bit_in_the_last_frame_drops_it(data: st.DataObject) -> None:
    whole = bytearray(written(*FRAMES))
    last = len(written(*FRAMES[:2]))
    bit = data.draw(st.integers(last * 8, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert journal.decode(bytes(whole), "test").end == last


@pytest.mark.parametrize("gone", [0, 1])
def test_a_frame_that_is_gone_or_moved_is_damage(gone: int) -> None:
    frames = [journal.encode_frame(index, frame) for index, frame in zip((0, 1, 3), FRAMES, strict=True)]
    for order in ([frame for at, frame in enumerate(frames) if at != gone], frames[::-1]):
        with pytest.raises(TrustRefused) as error:
            journal.decode(journal.encode_header(0) + b"".join(order), "test")
        assert error.value.code is Code.LOG_DAMAGED


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_good_frame_are_read_or_refused(tail: bytes) -> None:
    try:
        held = journal.decode(written([b"one"]) + tail, "test")
    except CellwardError as error:
        assert error.code is Code.LOG_DAMAGED
    else:
        assert held.entries[0] == b"one"
