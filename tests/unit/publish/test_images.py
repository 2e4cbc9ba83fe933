"""The Image repository: valid after every write, and after a crash at any write."""

from datetime import timedelta

import pytest
from tuf.api.metadata import Delegations

from cellward.core.errors import CellwardError, Code, Refused, Unavailable
from cellward.core.metadata import (
    Repository,
    Role,
    file_name,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
)
from tests.fakes.store import MemoryStore
from tests.support.maker import NOW, Hand, Maker, gate, signed_image


class PowerCut(Exception):
    """Not one of ours: nothing may handle it."""


class CutStore(MemoryStore):
    """Dies at the `fuse`-th write, before it or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = -1
        self.after = False

    def write(self, name: str, data: bytes) -> None:
        self._burn(name, data)

    def write_once(self, name: str, data: bytes) -> None:
        self._burn(name, data)

    def _burn(self, name: str, data: bytes) -> None:
        self.fuse -= 1
        if self.fuse == 0 and not self.after:
            raise PowerCut
        super().write_once(name, data) if name != "timestamp.json" else super().write(name, data)
        if self.fuse == 0:
            raise PowerCut


def versions(maker: Maker) -> tuple[int, int, int]:
    """Timestamp, snapshot, targets, found as a client finds them and checked as it checks hashes."""
    timestamp = parse_timestamp(maker.metadata.read("timestamp.json") or b"").signed
    data = maker.metadata.read(file_name(Role.SNAPSHOT, timestamp.snapshot_meta.version)) or b""
    timestamp.snapshot_meta.verify_length_and_hashes(data)
    snapshot = parse_snapshot(data).signed
    meta = snapshot.meta["targets.json"]
    data = maker.metadata.read(file_name(Role.TARGETS, meta.version)) or b""
    meta.verify_length_and_hashes(data)
    targets = parse_targets(data).signed
    assert (snapshot.version, targets.version) == (timestamp.snapshot_meta.version, meta.version)
    for target in maker.images.targets():
        assert len(maker.artefacts.read(target.stored_name) or b"") == target.length
    return timestamp.version, snapshot.version, targets.version


def test_a_new_repository_is_empty_and_whole() -> None:
    maker = Maker().init()
    assert versions(maker) == (1, 1, 1)
    assert maker.images.targets() == ()
    root = parse_root(maker.metadata.read("1.root.json") or b"")
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    expected = {"root": 365, "targets": 90, "snapshot": 7, "timestamp": 7}
    assert maker.images.expiries() == {role: NOW + timedelta(days=days) for role, days in expected.items()}


def test_init_again_changes_nothing() -> None:
    maker = Maker().init()
    before = {name: maker.metadata.read(name) for name in maker.metadata.names()}
    maker.init(NOW + timedelta(days=1))
    assert {name: maker.metadata.read(name) for name in maker.metadata.names()} == before


def test_nothing_works_before_init() -> None:
    for act in (Maker().images.targets, lambda: Maker().publish(signed_image(Maker().keys))):
        with pytest.raises(Unavailable) as refused:
            act()
        assert refused.value.code is Code.METADATA_MISSING


def test_publish_raises_every_version_and_keeps_what_was() -> None:
    maker = Maker().init()
    first = maker.publish(signed_image(maker.keys, "1.3.0", 6))
    second = maker.publish(signed_image(maker.keys, "1.4.0", 7), signed_image(maker.keys, "1.5.0", 7))
    assert versions(maker) == (3, 3, 3)
    assert maker.images.targets() == first + second


def test_publishing_the_same_again_changes_nothing() -> None:
    maker = Maker().init()
    data = signed_image(maker.keys)
    assert maker.publish(data) == maker.publish(data)
    assert maker.publish(data, data) == maker.publish(data) * 2
    assert versions(maker) == (2, 2, 2)


def test_delegations_that_other_tools_made_are_not_written_over() -> None:
    maker = Maker().init()
    targets = parse_targets(maker.metadata.read("1.targets.json") or b"")
    targets.signed.delegations = Delegations({}, roles={})
    maker.metadata.write("1.targets.json", targets.to_bytes())
    before = {name: maker.metadata.read(name) for name in maker.metadata.names()}
    with pytest.raises(Refused) as refused:
        maker.publish(signed_image(maker.keys))
    assert refused.value.code is Code.TARGET_DELEGATION
    assert {name: maker.metadata.read(name) for name in maker.metadata.names()} == before


def test_one_bad_image_keeps_all_of_them_out() -> None:
    maker = Maker().init()
    with pytest.raises(Refused):
        maker.publish(signed_image(maker.keys, "1.4.0", 7), signed_image(maker.keys, "1.3.0", 6))
    assert versions(maker) == (1, 1, 1)
    assert list(maker.artefacts.names()) == []


def test_two_images_of_one_name_in_one_command() -> None:
    maker = Maker().init()
    with pytest.raises(Refused) as refused:
        maker.publish(signed_image(maker.keys), signed_image(maker.keys, payload=b"other"))
    assert refused.value.code is Code.STORAGE_EXISTS
    assert versions(maker) == (1, 1, 1)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fuse", range(1, 6))
def test_a_crash_at_any_write_leaves_a_whole_repository(fuse: int, after: bool) -> None:
    metadata = CutStore()
    maker = Maker(metadata=metadata).init()
    maker.publish(signed_image(maker.keys, "1.3.0", 6))
    before = versions(maker)
    metadata.fuse, metadata.after = fuse, after
    died = False
    try:
        maker.publish(signed_image(maker.keys, "1.4.0", 7))
    except PowerCut:
        died = True
    metadata.fuse = -1
    assert died == (fuse <= 3)
    between = versions(maker)
    assert between == before if len(maker.images.targets()) == 1 else between > before
    seen = {name: metadata.read(name) for name in metadata.names() if name != "timestamp.json"}
    maker.publish(signed_image(maker.keys, "1.5.0", 8))
    assert len(versions(maker)) == 3
    assert maker.images.targets()[-1].version == "1.5.0"
    assert {name: metadata.read(name) for name in seen} == seen  # no name ever had two contents


@pytest.mark.parametrize("fuse", range(1, 5))
def test_an_init_that_was_cut_is_completed(fuse: int) -> None:
    metadata = CutStore()
    maker = Maker(metadata=metadata)
    metadata.fuse = fuse
    with pytest.raises(PowerCut):
        maker.images.init(NOW)
    metadata.fuse = -1
    maker.images.init(NOW)
    assert versions(maker)[0] == 1


def test_renewal_begins_when_half_is_gone() -> None:
    maker = Maker().init()
    maker.images.renew_online(NOW + timedelta(days=3.4))
    assert versions(maker) == (1, 1, 1)
    later = NOW + timedelta(days=3.6)
    maker.images.renew_online(later)
    assert versions(maker) == (2, 2, 1)
    assert maker.images.timestamp().expires == later.replace(microsecond=0) + timedelta(days=7)


def test_a_server_renews_without_the_offline_keys() -> None:
    maker = Maker().init()
    for name in ("root", "targets"):
        maker.keys(name).lost = True
    maker.images.renew_online(NOW + timedelta(days=100))
    assert versions(maker) == (2, 2, 1)


def test_the_maker_renews_everything() -> None:
    maker = Maker().init()
    target = maker.publish(signed_image(maker.keys))
    maker.images.renew(NOW + timedelta(days=50))
    assert versions(maker) == (3, 3, 3)
    assert maker.images.targets() == target
    maker.images.renew(NOW + timedelta(days=200))
    root = parse_root(maker.metadata.read("2.root.json") or b"")
    first = parse_root(maker.metadata.read("1.root.json") or b"")
    for verifier in (first.signed, root.signed):
        verifier.verify_delegate("root", root.signed_bytes, root.signatures)
    maker.images.renew(NOW + timedelta(days=201))
    assert maker.images.roots.newest().signed.version == 2


def test_a_token_that_is_gone_changes_nothing() -> None:
    maker = Maker().init()
    maker.keys("snapshot").lost = True
    with pytest.raises(Unavailable) as refused:
        maker.publish(signed_image(maker.keys))
    assert refused.value.code is Code.TOKEN_ABSENT
    assert versions(maker) == (1, 1, 1)


def test_another_tokens_key_is_refused_before_it_signs() -> None:
    """What it signed would be refused by every vehicle: found here, not in the field."""
    maker = Maker().init()
    maker.keys.hands["timestamp"] = stranger = Hand("timestamp")
    with pytest.raises(CellwardError) as refused:
        maker.images.publish({"i": signed_image(maker.keys)}, gate(maker.keys), NOW)
    assert refused.value.code is Code.METADATA_SIGNATURE
    assert stranger.signatures == 0
    assert versions(maker) == (1, 1, 1)


def test_repositories_are_told_apart() -> None:
    maker = Maker().init()
    assert maker.images.roots.repository is Repository.IMAGE
    assert maker.director.roots.repository is Repository.DIRECTOR
    keys = maker.director.roots.newest().signed.roles
    assert (
        keys["targets"].keyids == keys["snapshot"].keyids == [maker.keys("director").public_key.fingerprint]
    )
