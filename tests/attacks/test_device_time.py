"""A pack that was given time keys: an old, foreign, replayed or withheld time moves nothing. State after."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cellward.core.attestedtime import attestation, decode_request, encode_request
from cellward.core.errors import Code, Unavailable
from cellward.core.metadata import encode_factory
from cellward.device.clock import TIME_PATH
from cellward.sign.documents import sign_document
from tests.support.maker import NOW, Hand
from tests.support.pack import Pack

KEY, NEXT = Hand(), Hand()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimedPack(Pack):
    """Its own clock stands in 1970, as after weeks without a battery; `at` is the time server's."""

    at: datetime = NOW

    def __post_init__(self) -> None:
        super().__post_init__()
        self.give(KEY)

    def give(self, hand: Hand) -> None:
        self.factory = replace(self.factory, time_keys=(hand.public_key,))
        self.memory.set_device(self.memory.device(), encode_factory(self.factory))
        self.answers(lambda nonce: sign_document(attestation(nonce, self.at), hand).encode())

    def answers(self, answer: Callable[[bytes], bytes]) -> None:
        self.server.posts[TIME_PATH] = lambda body: answer(decode_request(body))

    def stays(self, code: Code) -> None:
        """Refused, told to the server, and nothing moved: not even the metadata that is trusted."""
        before, clock = self.snapshot(), self.store.read("clock.json")
        asked = len(self.server.requests)
        self.refused(code, EPOCH)
        assert self.snapshot() == before
        assert self.store.read("clock.json") == clock
        assert not any("GET" in request for request in self.server.requests[asked:])
        assert self.told(self.memory.device().vehicle) == code


@pytest.fixture
def pack() -> TimedPack:
    made = TimedPack()
    made.release("1.4.0", 7)
    return made


def test_the_attested_time_counts_and_not_the_controllers(pack: TimedPack) -> None:
    """Its own clock would find every certificate and file of the future; the server's does not."""
    assert pack.cycle(EPOCH).refusal is None
    assert pack.module.counter == 7
    pack.at = NOW + timedelta(days=400)
    pack.refused(Code.METADATA_EXPIRED, NOW)


def test_an_answer_that_was_kept(pack: TimedPack) -> None:
    """Freeze: yesterday's attestation, replayed so that yesterday's metadata stays good."""
    kept = pack.server.posts[TIME_PATH](encode_request(bytes(32)))
    pack.cycle(EPOCH)
    pack.release("1.4.1", 7)
    pack.answers(lambda nonce: kept)
    pack.stays(Code.TIME_NONCE)


def test_a_time_before_the_last_one(pack: TimedPack) -> None:
    pack.cycle(EPOCH)
    pack.at -= timedelta(seconds=1)
    pack.stays(Code.TIME_ROLLBACK)
    pack.at += timedelta(seconds=1)
    assert pack.cycle(EPOCH).refusal is None


@pytest.mark.parametrize("hand", [NEXT, None], ids=["a stranger's", "nobody's"])
def test_a_time_that_no_time_key_signed(pack: TimedPack, hand: Hand | None) -> None:
    def answer(nonce: bytes) -> bytes:
        made = attestation(nonce, NOW)
        return (sign_document(made, hand) if hand else made).encode()

    pack.answers(answer)
    pack.stays(Code.DOCUMENT_SIGNATURE)


def test_no_time_at_all(pack: TimedPack) -> None:
    """Withheld, or from a server that knows no time: never silently the old one (checklist I4)."""
    del pack.server.posts[TIME_PATH]
    pack.stays(Code.TIME_MISSING)
    pack.server.refusals[TIME_PATH] = Unavailable(Code.SERVER_UNREACHABLE, TIME_PATH)
    pack.stays(Code.SERVER_UNREACHABLE)


def test_a_damaged_memory_of_the_time(pack: TimedPack) -> None:
    """Whoever could make the pack forget could set it back."""
    pack.cycle(EPOCH)
    pack.store.write("clock.json", b"{}")
    pack.stays(Code.METADATA_FORMAT)


def test_exchanged_keys_begin_anew(pack: TimedPack) -> None:
    """Fast-forward: who had the old key attested a year that never ends. New keys end it (Uptane 5.4.4.3)."""
    pack.at = NOW + timedelta(days=5000)
    pack.cycle(EPOCH)
    pack.at = NOW
    pack.stays(Code.TIME_ROLLBACK)
    pack.give(NEXT)
    assert pack.cycle(EPOCH).refusal is None
    assert pack.module.counter == 7


def test_without_time_keys_the_controllers_clock_counts() -> None:
    pack = Pack()
    pack.release("1.4.0", 7)
    assert pack.cycle().refusal is None
    assert not any(TIME_PATH in request for request in pack.server.requests)
