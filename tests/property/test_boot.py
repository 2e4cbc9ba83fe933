"""Arbitrary and edited bytes of the boot chain's formats: only refusals come out, in C as in Python."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cellward.core import bootrecord, revocation, vault
from cellward.core.errors import Refused
from tests.firmware.boot_host import BootHost, boot_host
from vectors.boot import NONE, SLOTS, Roots, body

KEY = b"k" * 32
KEYS = bootrecord.RecordKeys(KEY, KEY)
FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
ROOTS = Roots()
GOOD = [ROOTS.sign(SLOTS[0], m, n, tuple(range(m))) for m, n in ((1, 1), (2, 3), (4, 4))]
SEALED = vault.encode(vault.Name.CALIBRATION, KEY, vault.Block(1, 1, b"a value of two blocks"), b"n" * 16)


@pytest.fixture(scope="module")
def host() -> Iterator[BootHost]:
    with boot_host() as running:
        yield running


@st.composite
def edited(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """Bytes replaced, cut or added."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


@st.composite
def shaped(draw: st.DrawFn) -> bytes:
    """Near the format: counts, order and indices right or wrong."""
    n, k, m = draw(st.integers(0, 5)), draw(st.integers(0, 5)), draw(st.integers(0, 5))
    heads = st.sampled_from([b"\4\0", b"\4\1", b"\4\2", b"\2\0"])
    points = [draw(heads).ljust(65, b"\7") for _ in range(n)]
    entries = [bytes([draw(st.integers(0, 4))]) + bytes(64) for _ in range(k)]
    tidy = draw(st.booleans())
    return body(m, n, k, SLOTS[0], sorted(points) if tidy else points, sorted(entries) if tidy else entries)


def format_verdict(data: bytes) -> str:
    try:
        decoded = revocation.decode(data)
    except Refused as refusal:
        return str(refusal.code)
    assert decoded.encode() == data
    return "ok"


@FUZZ
@given(data=st.binary(max_size=600) | edited(GOOD) | shaped())
def test_python_and_c_decode_the_same_revocations(host: BootHost, data: bytes) -> None:
    verdict = format_verdict(data)
    event(verdict)
    assert host.ask("decode", (data.hex() or NONE,)) == (verdict,)


@settings(max_examples=200, deadline=None)
@given(data=edited(GOOD))
def test_only_what_was_signed_is_verified(data: bytes) -> None:
    quorum = ROOTS.quorum(2, 3)
    try:
        verified = revocation.verify(data, quorum)
    except Refused:
        return
    assert verified.key_hash == SLOTS[0]
    assert data == GOOD[1]


def open_verdict(page: bytes, committed: int) -> tuple[str, ...]:
    whole = page.ljust(2048, b"\xff")
    try:
        block = vault.open_page(vault.Name.CALIBRATION, KEY, whole, committed)
    except Refused as refusal:
        return str(refusal.code), "0", "0", NONE
    return "ok", str(block.version), str(block.counter), block.value.hex()


@FUZZ
@given(page=st.binary(max_size=200) | edited([SEALED]), committed=st.integers(0, 3))
def test_python_and_c_open_the_same_blocks(host: BootHost, page: bytes, committed: int) -> None:
    verdict = open_verdict(page, committed)
    event(verdict[0])
    words = ("0", KEY.hex(), str(committed), page.hex() or NONE, NONE)
    assert host.ask("open", words) == verdict


@FUZZ
@given(
    value=st.binary(min_size=1, max_size=1024),
    version=st.integers(0, 2**32 - 1),
    committed=st.integers(0, 255),
    name=st.sampled_from(vault.Name),
)
def test_python_opens_what_c_wrote(
    host: BootHost, value: bytes, version: int, committed: int, name: vault.Name
) -> None:
    words = (str(name.value), KEY.hex(), str(committed), NONE, NONE, str(version), value.hex())
    status, *pages = host.ask("write", words)
    assert status == "ok"
    block = vault.open_pages(name, KEY, [bytes.fromhex(page) for page in pages], committed)
    assert block == vault.Block(version, committed + 1, value)


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_no_boot_record(data: bytes) -> None:
    with pytest.raises(Refused):
        bootrecord.decode(data)
    with pytest.raises(Refused):
        bootrecord.verify(data, KEYS, None)


@given(fields=st.binary(min_size=84, max_size=84))
def test_a_record_decodes_to_itself_or_is_refused(fields: bytes) -> None:
    data = b"CWBR" + fields
    try:
        record = bootrecord.decode(data)
    except Refused:
        return
    assert record.encode(KEY)[:56] == data[:56]


@given(words=st.lists(st.integers(0, 6), min_size=4, max_size=4), rest=st.binary(min_size=80, max_size=80))
def test_a_record_near_the_format_decodes_to_itself_or_is_refused(words: list[int], rest: bytes) -> None:
    data = b"CWBR" + bytes(words) + rest
    good = words[0] in (1, 2) and words[1] < 5 and words[2] < 2 and words[3] == 0
    try:
        record = bootrecord.decode(data)
    except Refused:
        assert not good
        return
    assert good
    assert record.encode(KEY)[:56] == data[:56]
