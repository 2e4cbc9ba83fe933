"""Releases in memory: images of a maker's keys, an SBOM with their hashes, signed by hands of the test."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from cellward.core import release as releases
from cellward.core.image import Version, decode
from cellward.core.image.place import place
from cellward.core.keys import PublicKey
from cellward.core.metadata import Target
from cellward.core.release import File, Part, Release
from cellward.publish.releases import Folder, Released, ReleaseGate, publish
from cellward.sign.release import approve, sign_release
from tests.fakes.store import MemoryStore
from tests.support.maker import NOW, Hand, Keys, Maker, gate

NOTES = b"What is new."


def sbom_of(*images: bytes) -> bytes:
    components = [
        {
            "type": "firmware",
            "name": f"image {number}",
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}],
        }
        for number, data in enumerate(images)
    ]
    return json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components}).encode()


def part_of(name: str, data: bytes) -> Part:
    decoded = decode(data, name)
    hardware, stage = place(decoded, name)
    return Part(File.of(name, data), hardware.name, stage.value, decoded.version, decoded.counter or 0)


def unsigned(images: Mapping[str, bytes], sbom: bytes | None = None, name: str = "R1") -> Release:
    return Release(
        name=name,
        created=NOW,
        security_fix=False,
        safety_impact="",
        parts=tuple(part_of(name, data) for name, data in images.items()),
        notes=File.of("notes.md", NOTES),
        sbom=File.of("sbom.json", sbom_of(*images.values()) if sbom is None else sbom),
    )


def any_release(name: str = "R1") -> Release:
    """One whose files nobody looks at."""
    part = Part(File("app.img", "ab" * 32, 100), "bms-m33", "app", Version(1, 4, 0), 7)
    return replace(unsigned({}, name=name), parts=(part,))


def signed(made: Release, *hands: Hand) -> bytes:
    return sign_release(made, hands)


@dataclass
class House:
    """A maker with both repositories, a record of releases, and somebody else who approves."""

    maker: Maker = field(default_factory=lambda: Maker().init())
    record: MemoryStore = field(default_factory=MemoryStore)
    hand: Hand = field(default_factory=Hand)
    ada: Hand = field(default_factory=lambda: Hand("ada"))
    content_key: bytes | None = None

    @property
    def keys(self) -> Keys:
        return self.maker.keys

    @property
    def released(self) -> Released:
        return Released(self.record, nullcontext)

    @property
    def gate(self) -> ReleaseGate:
        return ReleaseGate(
            gate(self.keys),
            self.maker.images.targets(),
            self.released.all(),
            no_calibration,
            lambda data: self.content_key,
            self.released.withdrawn().keys(),
        )

    def folder(
        self,
        *images: bytes,
        name: str = "R1",
        security_fix: bool = False,
        requires: Sequence[releases.Requirement] = (),
        sbom: bytes | None = None,
        approved: bool = True,
        change: dict[str, object] | None = None,
    ) -> Folder:
        files = {f"image-{number}.img": data for number, data in enumerate(images)}
        made = replace(unsigned(files, sbom, name), security_fix=security_fix, requires=tuple(requires))
        if change:
            made = replace(made, parts=(replace(made.parts[0], **change), *made.parts[1:]))  # type: ignore[arg-type]
        bill = sbom_of(*images) if sbom is None else sbom
        folder = Folder(MemoryStore())
        folder.make({**files, "notes.md": NOTES, "sbom.json": bill}, lambda: signed(made, self.hand))
        if approved:
            self.approve(folder)
        return folder

    def approve(self, folder: Folder, by: Hand | None = None) -> None:
        hand = by or self.ada
        data = approve(folder.release([self.hand.public_key]), hand, "Ada", "", NOW)
        folder.store.write(releases.approval_file(hand.public_key), data)

    def publish(
        self, folder: Folder, approvers: Sequence[PublicKey] | None = None, gate: ReleaseGate | None = None
    ) -> tuple[Target, ...]:
        return publish(
            folder,
            [self.hand.public_key],
            [self.ada.public_key] if approvers is None else approvers,
            self.released,
            self.maker.images,
            gate or self.gate,
            NOW,
        )

    def state(self) -> list[dict[str, bytes]]:
        """Everything that a publisher writes."""
        stores = self.record, self.maker.metadata, self.maker.artefacts
        return [everything(store) for store in stores]


def everything(store: MemoryStore | Folder) -> dict[str, bytes]:
    held = store.store if isinstance(store, Folder) else store
    return {name: held.read(name) or b"" for name in held.names()}


def no_calibration(data: bytes, what: str) -> tuple[str, Version, int]:
    raise AssertionError("there is none")
