"""The attacker owns the server and every key on it, or the wire: what the pack must not do."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.metadata import Repository, Role
from cellward.core.slots import BMS_M33_18S, COUNTER_MAX, Stage
from tests.support.pack import SERIAL, Pack, State, built, target_for
from tests.support.uptane import NOW, VEHICLE, holder

APP = f"{SERIAL}/{Stage.APP}"


@pytest.fixture
def pack() -> Pack:
    made = Pack()
    made.cycle()  # a pack in the field trusts something already
    return made


def unchanged(pack: Pack, before: State, *, trust: bool = True) -> None:
    """Flash of both banks, counter and what runs; the trusted metadata where `trust` says so."""
    after = pack.snapshot()
    assert after.banks == before.banks
    assert (after.counter, after.active) == (before.counter, before.active)
    if trust:
        assert after.trust == before.trust
    assert pack.memory.attempt(SERIAL) is None


def tamper(pack: Pack, path: str, change: Callable[[bytes], bytes]) -> None:
    pack.server.files[path] = change(pack.server.files[path])


def flip(data: bytes) -> bytes:
    return data[:9000] + bytes([data[9000] ^ 1]) + data[9001:]


def test_one_flipped_bit_in_transit(pack: Pack) -> None:
    targets = pack.release("1.4.0", 7)
    before = pack.snapshot()
    tamper(pack, pack.artefact(targets[Stage.APP]), flip)
    error = pack.refused(Code.TARGET_HASH)
    unchanged(pack, before, trust=False)
    assert targets[Stage.APP].sha256 in error.expected
    assert pack.told(APP) == Code.TARGET_HASH
    report = pack.manifests[-1].report(APP)
    assert report is not None
    assert report.attacks_detected
    assert pack.memory.download(targets[Stage.APP].sha256) == b""  # not resumed from the poisoned bytes


def test_a_truncated_download(pack: Pack) -> None:
    targets = pack.release("1.4.0", 7)
    before = pack.snapshot()
    tamper(pack, pack.artefact(targets[Stage.APP]), lambda data: data[:-1])
    pack.refused(Code.TARGET_LENGTH)
    unchanged(pack, before, trust=False)


def test_an_endless_download(pack: Pack) -> None:
    targets = pack.release("1.4.0", 7)
    before = pack.snapshot()
    pack.server.endless.add(pack.artefact(targets[Stage.LOADER]))
    pack.refused(Code.TARGET_LENGTH)
    unchanged(pack, before, trust=False)


def test_an_image_that_is_withheld(pack: Pack) -> None:
    targets = pack.release("1.4.0", 7)
    before = pack.snapshot()
    del pack.server.files[pack.artefact(targets[Stage.APP])]
    pack.refused(Code.TARGET_MISSING)
    unchanged(pack, before, trust=False)


def test_a_poisoned_beginning_is_not_gone_on_with(pack: Pack) -> None:
    """The server sends other bytes, breaks off, then is honest: the second cycle heals."""
    targets = pack.release("1.4.0", 7)
    path = pack.artefact(targets[Stage.APP])
    good = pack.server.files[path]
    pack.server.files[path], pack.server.ends[path] = flip(good), 12_000
    pack.refused(Code.SERVER_UNREACHABLE)
    pack.server.files[path] = good
    del pack.server.ends[path]
    before = pack.snapshot()
    pack.refused(Code.TARGET_HASH)
    unchanged(pack, before)
    assert pack.cycle().outcome == "updated"


def test_both_repositories_sign_an_image_of_another_key(pack: Pack) -> None:
    """Uptane's keys are all stolen, the firmware key is not: the image itself is refused."""
    pack.release("1.4.0", 7, signer="thief")
    before = pack.snapshot()
    error = pack.refused(Code.IMAGE_KEY_UNKNOWN)
    assert holder("thief").public_key.fingerprint[:16] in error.found
    unchanged(pack, before, trust=False)


def test_both_repositories_sign_an_image_of_another_hardware(pack: Pack) -> None:
    pack.release("1.4.0", 7, hardware=BMS_M33_18S)
    before = pack.snapshot()
    pack.refused(Code.IMAGE_HARDWARE)
    unchanged(pack, before, trust=False)


def test_both_repositories_lie_about_an_old_images_counter(pack: Pack) -> None:
    pack.release("1.4.0", 7)
    pack.cycle()
    old = {stage: pack.publish(built(stage, "1.3.5", 6), stage, "1.3.5", 9) for stage in Stage}
    pack.order(*old.values())
    before = pack.snapshot()
    error = pack.refused(Code.IMAGE_COUNTER)
    assert (error.expected, error.found) == ("a security counter of at least 7", "6")
    unchanged(pack, before, trust=False)


def test_the_old_image_after_the_update(pack: Pack) -> None:
    old = [pack.published[f"bms-m33/{stage}-1.3.0.img"] for stage in Stage]
    pack.release("1.4.0", 7)
    pack.cycle()
    pack.order(*old)
    before = pack.snapshot()
    pack.refused(Code.TARGET_COUNTER)
    unchanged(pack, before)


def test_a_loader_where_an_app_was_promised(pack: Pack) -> None:
    data = built(Stage.LOADER, "1.4.0", 7)
    pack.order(pack.publish(data, Stage.APP, "1.4.0", 7))
    before = pack.snapshot()
    pack.refused(Code.IMAGE_HARDWARE)
    unchanged(pack, before, trust=False)


def test_a_counter_that_the_fuses_cannot_hold(pack: Pack) -> None:
    pack.release("1.4.0", COUNTER_MAX + 1)
    before = pack.snapshot()
    pack.refused(Code.PLAN_COUNTER)
    unchanged(pack, before, trust=False)


def test_an_image_larger_than_its_slot_is_not_even_fetched(pack: Pack) -> None:
    data = built(Stage.LOADER, "1.4.0", 7, size=70_000)
    item = pack.publish(data, Stage.LOADER, "1.4.0", 7)
    pack.order(item)
    before = pack.snapshot()
    pack.refused(Code.TARGET_LENGTH)
    unchanged(pack, before, trust=False)
    assert f"GET {pack.artefact(item)}" not in pack.server.requests


def test_a_director_alone(pack: Pack) -> None:
    """What only the Director signs is not installed."""
    data = built(Stage.APP, "9.9.9", 9)
    item = target_for(data, Stage.APP, "9.9.9", 9)
    pack.server.files[pack.artefact(item)] = data
    pack.order(item)
    before = pack.snapshot()
    pack.refused(Code.TARGET_MISSING)
    unchanged(pack, before)


def test_a_director_that_swaps_the_hash(pack: Pack) -> None:
    targets = pack.release("1.4.0", 7)
    pack.order(replace(targets[Stage.APP], sha256="00" * 32))
    before = pack.snapshot()
    pack.refused(Code.TARGET_MISMATCH)
    unchanged(pack, before)


def test_another_vehicles_director_metadata(pack: Pack) -> None:
    """Properly signed by the same Director, for another pack; and our own afterwards still works."""
    before = pack.snapshot()
    targets = pack.release("1.4.0", 7)
    pack.order(*targets.values(), vehicle="PACK-0002")
    pack.refused(Code.TARGET_VEHICLE)
    unchanged(pack, before)
    assert pack.told(VEHICLE) == Code.TARGET_VEHICLE
    pack.versions[Repository.DIRECTOR] = 1  # this vehicle's next version is lower than the other's
    pack.order(*targets.values())
    assert pack.cycle().outcome == "updated"


@pytest.mark.parametrize("repository", list(Repository))
@pytest.mark.parametrize("role", [Role.TIMESTAMP, Role.SNAPSHOT, Role.TARGETS])
def test_a_flipped_bit_in_any_metadata_file(pack: Pack, repository: Repository, role: Role) -> None:
    pack.release("1.4.0", 7)
    before = pack.snapshot()
    path = pack.path(repository, role)
    good = pack.server.files[path]
    pack.server.files[path] = good.replace(b'"version":', b'"versioN":', 1)
    assert pack.server.files[path] != good
    error = pack.cycle().refusal
    assert isinstance(error, Refused)
    unchanged(pack, before)


@pytest.mark.parametrize("repository", list(Repository))
@pytest.mark.parametrize("role", [Role.TIMESTAMP, Role.SNAPSHOT, Role.TARGETS])
def test_endless_metadata(pack: Pack, repository: Repository, role: Role) -> None:
    pack.release("1.4.0", 7)
    before = pack.snapshot()
    pack.server.endless.add(pack.path(repository, role))
    pack.refused(Code.METADATA_TOO_LARGE)
    unchanged(pack, before)


def test_a_frozen_server(pack: Pack) -> None:
    before = pack.snapshot()
    pack.refused(Code.METADATA_EXPIRED, NOW + timedelta(days=2))
    unchanged(pack, before)
    report = pack.manifests[-1].report(VEHICLE)
    assert report is not None
    assert report.attacks_detected == "freeze: metadata.expired"


def test_a_rolled_back_director(pack: Pack) -> None:
    pack.release("1.4.0", 7)
    pack.cycle()
    pack.versions[Repository.DIRECTOR] = 0
    pack.order()
    pack.hints = {str(r): {"root": 1, "timestamp": 99} for r in Repository}
    before = pack.snapshot()
    pack.refused(Code.METADATA_VERSION)
    unchanged(pack, before)


def test_hints_that_promise_roots_without_end(pack: Pack) -> None:
    pack.hints = {str(r): {"root": 2**50, "timestamp": pack.versions[r]} for r in Repository}
    requests = len(pack.server.requests)
    assert pack.cycle().refusal is None
    assert len(pack.server.requests) - requests == 3


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"director":{}}', b"\xff", b"[" * 5000])
def test_nonsense_in_answer_to_the_report(pack: Pack, answer: bytes) -> None:
    pack.release("1.4.0", 7)
    before = pack.snapshot()
    pack.server.posts["/v1/report"] = lambda _: answer
    assert pack.cycle().refusal is not None
    unchanged(pack, before)


def test_a_server_that_refuses_in_odd_words(pack: Pack) -> None:
    """The words go into the next manifest, which must stay one that the server can read."""
    odd = Refused(Code.SERVER_REFUSED, "e\u0301" * 900, expected="\u202e", found="x" * 5000)
    pack.server.refusals["/v1/director/timestamp.json"] = odd
    pack.hints = {str(r): {"root": 1, "timestamp": 99} for r in Repository}
    pack.refused(Code.SERVER_REFUSED)
    assert pack.told(VEHICLE) == Code.SERVER_REFUSED


def test_a_server_that_goes_away_after_the_orders(pack: Pack) -> None:
    targets = pack.release("1.4.0", 7)
    before = pack.snapshot()
    pack.server.refusals[pack.artefact(targets[Stage.LOADER])] = Unavailable(Code.SERVER_UNREACHABLE, "x")
    pack.refused(Code.SERVER_UNREACHABLE)
    unchanged(pack, before, trust=False)
    pack.server.refusals.clear()
    assert pack.cycle().outcome == "updated"
