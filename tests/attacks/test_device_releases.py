"""A pack controller that was given release keys: nothing is installed that no release names, whatever both
repositories say, and the second, post-quantum signature cannot be left out. State after the refusal."""

from dataclasses import replace

import pytest

from cellward.core.errors import Code
from cellward.core.image import Version
from cellward.core.keys import Algorithm
from cellward.core.metadata import Repository, Target, encode_factory
from cellward.core.release import File, Part, Release
from cellward.core.slots import Stage
from cellward.sign.release import sign_release
from tests.support.maker import NOW, Hand
from tests.support.pack import Pack

ECDSA, ML_DSA, STRANGER = Hand.of(Algorithm.P256), Hand.of(Algorithm.ML_DSA_65), Hand.of(Algorithm.P256)
SBOM, NOTES = File.of("sbom.json", b"{}"), File.of("notes.md", b"notes")


def part(target: Target, **changes: object) -> Part:
    file = File("app.img", target.sha256, target.length)
    made = Part(file, "bms-m33", target.stage, Version.parse(target.version), target.release_counter)
    return replace(made, **changes)  # type: ignore[arg-type]


def released(*parts: Part, hands: tuple[Hand, ...] = (ECDSA, ML_DSA)) -> bytes:
    named = tuple(replace(p, file=replace(p.file, name=f"{p.stage}.img")) for p in parts)
    return sign_release(Release("2026.11", NOW, False, "", named, NOTES, SBOM), hands)


def pack_with(*keys: Hand) -> tuple[Pack, dict[Stage, Target]]:
    """A pack that holds these release keys, with a new version of both images ordered."""
    pack = Pack()
    pack.factory = replace(pack.factory, release_keys=tuple(hand.public_key for hand in keys))
    pack.memory.set_device(pack.memory.device(), encode_factory(pack.factory))
    return pack, pack.release("1.4.0", 7)


def attach(pack: Pack, targets: dict[Stage, Target], data: bytes) -> None:
    """Publish the images anew, with this release beside them."""
    for target in targets.values():
        item = replace(target, release=File.of("release.json", data).sha256)
        pack.published[item.name] = item
        pack.server.files[f"/v1/artefacts/{item.release_name}"] = data
    pack.sign(Repository.IMAGE)


@pytest.mark.parametrize("keys", [(ECDSA,), (ECDSA, ML_DSA)], ids=["older", "newer"])
def test_what_a_release_names_is_installed(keys: tuple[Hand, ...]) -> None:
    pack, targets = pack_with(*keys)
    attach(pack, targets, released(*map(part, targets.values())))
    assert pack.cycle().refusal is None
    assert pack.module.counter == 7


def refused(pack: Pack, code: Code) -> None:
    before = pack.snapshot()
    pack.refused(code)
    after = pack.snapshot()
    assert (after.banks, after.counter, after.active) == (before.banks, before.counter, before.active)
    assert not any("/v1/artefacts/bms" in path for path in pack.server.requests), "nothing large was fetched"


def test_an_image_without_a_release_is_refused() -> None:
    pack, _ = pack_with(ECDSA)
    refused(pack, Code.RELEASE_PART)


@pytest.mark.parametrize(
    "change", [{"counter": 6}, {"version": Version(1, 4, 1)}, {"file": File("x", "ab" * 32, 9)}], ids=str
)
def test_another_image_than_the_release_names_is_refused(change: dict[str, object]) -> None:
    pack, targets = pack_with(ECDSA, ML_DSA)
    attach(pack, targets, released(*(part(target, **change) for target in targets.values())))
    refused(pack, Code.RELEASE_PART)


def test_a_release_without_the_post_quantum_signature_is_refused() -> None:
    pack, targets = pack_with(ECDSA, ML_DSA)
    attach(pack, targets, released(*map(part, targets.values()), hands=(ECDSA,)))
    refused(pack, Code.RELEASE_KEYS)


def test_a_stranger_s_release_is_refused() -> None:
    pack, targets = pack_with(ECDSA)
    attach(pack, targets, released(*map(part, targets.values()), hands=(STRANGER,)))
    refused(pack, Code.DOCUMENT_SIGNATURE)


@pytest.mark.parametrize("served", [b"", b"{}", None], ids=["empty", "other", "none"])
def test_other_bytes_than_the_target_names_are_refused(served: bytes | None) -> None:
    pack, targets = pack_with(ECDSA)
    data = released(*map(part, targets.values()))
    attach(pack, targets, data)
    path = f"/v1/artefacts/{next(iter(pack.published_as('1.4.0', Stage.APP))).release_name}"
    if served is None:
        del pack.server.files[path]
    else:
        pack.server.files[path] = served
    refused(pack, Code.RELEASE_FILE)
