"""Any bytes, and good ones edited anyhow: the value that was there, or a refusal."""

import hashlib
import secrets
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from cellward.core.errors import FormatRefused, Refused
from cellward.core.tpm import eventlog
from cellward.core.tpm.certificate import verify_certificate
from cellward.core.tpm.credential import make_credential
from cellward.core.tpm.eventlog import Event
from cellward.core.tpm.keys import attestation_key, endorsement_template, identity_key
from cellward.core.tpm.pcr import PcrValues, encode_selection, read_selection
from cellward.core.tpm.policy import ApprovedPolicy
from cellward.core.tpm.public import decode_name, decode_public
from cellward.core.tpm.quote import decode_quote, decode_signature, verify_quote
from cellward.core.wire import BigEndianReader
from tests.support.attested import KEY, NONCE, OWNER, VALUES, attested, encoded, signed, signing_area
from tests.support.manufacturer import EK, MIDDLE, MIDDLE_CERTIFICATE, NOW, ROOT, ROOT_CERTIFICATE, der

RSA = endorsement_template(rsa.generate_private_key(65537, 2048).public_key())
AREAS = [signing_area().encode(), RSA.encode()]
QUOTE = attested()
SIGNATURE = signed(QUOTE)
LOG = [Event(8, "agent code", bytes(32)), Event(9, "module bms-1", b"\1" * 32)]
DIGESTS = st.binary(min_size=32, max_size=32)
EVENTS = st.builds(
    Event, st.sampled_from(eventlog.PCRS), st.from_regex(eventlog.WHAT, fullmatch=True), DIGESTS
)


@st.composite
def edits(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """One of these with bytes replaced, put in or taken out, or anything."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return draw(st.one_of(st.just(bytes(data)), st.binary(max_size=128)))


def value_or_refusal(decode: Callable[[bytes], object], data: bytes) -> object | None:
    try:
        return decode(data)
    except Refused:
        return None


@given(edits(AREAS))
def test_public_areas(data: bytes) -> None:
    public = value_or_refusal(decode_public, data)
    assert public is None or public.encode() == data  # type: ignore[attr-defined]
    for key in (
        value_or_refusal(identity_key, data),
        value_or_refusal(lambda a: attestation_key(a, OWNER), data),
    ):
        assert key is None or key.name[2:] == hashlib.sha256(data).digest()  # type: ignore[attr-defined]


@given(edits([QUOTE]))
def test_quotes_one_encoding_for_one_meaning(data: bytes) -> None:
    found = value_or_refusal(decode_quote, data)
    assert (found == decode_quote(QUOTE)) == (data == QUOTE)


@given(edits([QUOTE]), edits([SIGNATURE]))
def test_nothing_but_the_quote_that_was_signed(data: bytes, signature: bytes) -> None:
    verified = value_or_refusal(lambda d: verify_quote(d, signature, KEY, NONCE, VALUES), data)
    assert verified is None or (data, signature) == (QUOTE, SIGNATURE)


@given(edits([SIGNATURE, encoded(1, 1)]))
def test_signatures(data: bytes) -> None:
    der = value_or_refusal(decode_signature, data)
    assert der is None or encoded(*decode_dss_signature(der)) == data  # type: ignore[arg-type]


@given(edits([encode_selection((8, 9)), encode_selection(())]))
def test_selections(data: bytes) -> None:
    reader = BigEndianReader(data, "selection")
    selection = value_or_refusal(lambda _: read_selection(reader), data)
    if selection is not None:
        assert encode_selection(selection) == data[: reader.offset]  # type: ignore[arg-type]


@given(st.dictionaries(st.integers(-2, 30), st.binary(min_size=30, max_size=33), max_size=4))
def test_pcr_values(values: dict[int, bytes]) -> None:
    good = all(0 <= i < 24 and len(value) == 32 for i, value in values.items()) and bool(values)
    try:
        assert (
            PcrValues(values).digest == hashlib.sha256(b"".join(values[i] for i in sorted(values))).digest()
        )
        assert good
    except FormatRefused:
        assert not good


@given(edits([RSA.name]))
def test_names(data: bytes) -> None:
    assert value_or_refusal(decode_name, data) in (None, data)


@given(st.lists(EVENTS, max_size=8))
def test_event_logs_there_and_back(events: list[Event]) -> None:
    assert eventlog.decode(eventlog.encode(events)) == tuple(events)
    values = eventlog.replay(events, eventlog.PCRS).values
    for index in eventlog.PCRS:
        value = bytes(32)
        for event in events:
            if event.pcr == index:
                value = hashlib.sha256(value + event.digest).digest()
        assert values[index] == value


@given(edits([eventlog.encode(LOG)]))
def test_event_logs_have_one_encoding(data: bytes) -> None:
    events = value_or_refusal(eventlog.decode, data)
    assert events is None or eventlog.encode(events) == data  # type: ignore[arg-type]


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_approved_policies(digest: bytes, signature: bytes) -> None:
    try:
        policy = ApprovedPolicy(digest, signature).verify(KEY.key, b"")
    except Refused:
        return
    raise AssertionError(policy)


@given(edits([RSA.name]), st.binary(max_size=40))
def test_credentials(name: bytes, secret: bytes) -> None:
    made = value_or_refusal(lambda n: make_credential(RSA, n, secret, secrets.token_bytes), name)
    assert (made is not None) == (1 <= len(secret) <= 32 and value_or_refusal(decode_name, name) is not None)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # a negative serial
@given(edits([der(ROOT.endorse()), der(MIDDLE.endorse())]), edits([der(MIDDLE_CERTIFICATE)]))
def test_certificates(leaf: bytes, between: bytes) -> None:
    """Parsed before a signature is checked, in a library: whatever it finds there, it is a refusal."""
    found = value_or_refusal(lambda d: verify_certificate(d, [between], [ROOT_CERTIFICATE], NOW), leaf)
    assert found is None or found.key == EK  # type: ignore[attr-defined]
