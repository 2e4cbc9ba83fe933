"""A release before it is published: everything it names, held against what a device would say of it.

1. files           there, and their bytes are those that were signed
2. images          the publish gate (publish.gate); what they say of themselves is what the release says
3. counters        never lower than before, higher where the release mends a vulnerability
4. calibrations    authentic, for that hardware, with that version and counter
5. pairs           no app with a higher counter than its loader: a module would refuse it (ADR 2)
6. requirements    of images (MCUboot's dependencies) and of the release: met by it, or by what is out
7. SBOM            CycloneDX, with a component for every image, by its hash
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from operator import eq

from cellward.core import image, release, sbom
from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.image import Flag, Version
from cellward.core.image.building import AES_BLOCK
from cellward.core.image.encryption import decrypt
from cellward.core.keys import PublicKey
from cellward.core.metadata import Target
from cellward.core.release import CALIBRATION, Approval, Part, Release, Withdrawal
from cellward.core.slots import Stage
from cellward.ports.store import RangedStore, Store
from cellward.publish.gate import (
    Gate,
    Requirement,
    check_counter_rises,
    check_requirements,
    requirements_of,
)
from cellward.publish.images import ImageRepository

ContentKeys = Callable[[bytes], bytes | None]
Document = Callable[[], bytes]  # makes one, signed
# Hardware, version and counter of a calibration (its bytes, its name in refusals), if it is authentic.
ReadCalibration = Callable[[bytes, str], tuple[str, Version, int]]


@dataclass(frozen=True)
class Folder:
    """A release's files, by their names, beside release.json, approvals/ and withdrawal.json."""

    store: RangedStore
    what: str = "release"

    def make(self, files: Mapping[str, bytes], signed: Callable[[], bytes]) -> bytes:
        """A new release's folder; release.json, which `signed` makes, comes last. Nothing is signed for a
        folder that holds anything else; one that was cut off half-way is completed.

        Raises PolicyRefused (storage.exists).
        """
        for name in self.store.names():
            if files.get(name) != self.store.read(name):
                raise PolicyRefused(
                    Code.STORAGE_EXISTS,
                    self.what,
                    expected="a new folder, or one that holds no more than this release's files",
                    found=name,
                    advice="name another folder",
                )
        data = signed()
        for name, content in files.items():
            self.store.write_once(name, content)
        self.store.write_once(release.RELEASE_FILE, data)
        return data

    def release(self, keys: Collection[PublicKey]) -> Release:
        """Raises as core.release.verify, and PolicyRefused (release.part) where there is none."""
        return release.verify(self.envelope(), keys, f"{self.what}: {release.RELEASE_FILE}")

    def envelope(self) -> bytes:
        return self._need(release.RELEASE_FILE, release.MAX_RELEASE_SIZE)

    def approvals(self, of: Release, keys: Collection[PublicKey]) -> tuple[Approval, ...]:
        """Those there are; each must be good, and by one of `keys`."""
        return tuple(
            release.verify_approval(data, of, keys, name) for name, data in self.stored_approvals().items()
        )

    def stored_approvals(self) -> dict[str, bytes]:
        """By their names; not verified."""
        names = [name for name in self.store.names() if name.startswith(f"{release.APPROVALS}/")]
        return {name: self._need(name, release.MAX_RELEASE_SIZE) for name in names}

    def withdrawal(self, of: Release, keys: Collection[PublicKey]) -> Withdrawal | None:
        if self.store.size(release.WITHDRAWAL_FILE) is None:
            return None
        data = self._need(release.WITHDRAWAL_FILE, release.MAX_RELEASE_SIZE)
        return release.verify_withdrawal(data, of, keys, release.WITHDRAWAL_FILE)

    def files(self, of: Release) -> dict[str, bytes]:
        """Step 1. Raises PolicyRefused (release.part), TrustRefused (release.file)."""
        return {file.name: file.check(self._need(file.name, file.length), file.name) for file in of.files()}

    def _need(self, name: str, limit: int) -> bytes:
        """Of a larger one no more than what shows that it is larger."""
        if self.store.size(name) is None:
            raise PolicyRefused(
                Code.RELEASE_PART, self.what, expected=f"{name} in its folder", found="no such file"
            )
        return self.store.read_range(name, 0, limit + 1)


@dataclass(frozen=True)
class Released:
    """The maker's own record of releases that are out or withdrawn: a folder each, by its hash, without
    the parts. `lock` keeps other publishers out."""

    store: Store
    lock: Callable[[], AbstractContextManager[None]]

    def all(self) -> tuple[Release, ...]:
        """As they were verified when they came in."""
        names = (name for name in self.store.names() if name.endswith(f"/{release.RELEASE_FILE}"))
        return tuple(release.decode(self.store.read(name) or b"", name) for name in names)

    def add(self, of: Release, folder: Folder) -> None:
        """The release and its approvals, from its folder. Done twice is done once."""
        for name, data in folder.stored_approvals().items():
            self.store.write(f"{of.id}/{name}", data)
        self.store.write_once(f"{of.id}/{release.RELEASE_FILE}", folder.envelope())

    def withdraw(self, of: Release, folder: Folder, keys: Collection[PublicKey], make: Document) -> None:
        """Here first, where it counts, then in the folder. What was cut off in between is completed.

        Raises PolicyRefused (release.withdrawn) where it is done already, and as verify_withdrawal.
        """
        with self.lock():
            name, beside = f"{of.id}/{release.WITHDRAWAL_FILE}", folder.withdrawal(of, keys)
            held = self.store.read(name)
            if beside is not None and held is not None:
                check_not_withdrawn(of, beside)
            if beside is not None:
                held = folder.store.read(release.WITHDRAWAL_FILE)
            data = make() if held is None else held
            release.verify_withdrawal(data, of, keys, release.WITHDRAWAL_FILE)
            self.store.write_once(name, data)
            self.store.write_once(f"{of.id}/{release.RELEASE_FILE}", folder.envelope())
            folder.store.write_once(release.WITHDRAWAL_FILE, data)

    def is_withdrawn(self, of: Release) -> bool:
        """It counts that the maker's own record has a withdrawal, whoever wrote it: at worst, nothing
        goes out."""
        return self.store.read(f"{of.id}/{release.WITHDRAWAL_FILE}") is not None

    def withdrawn(self) -> dict[str, str]:
        """SHA-256 of each file of a withdrawn release, unless another one has it too; and its release."""
        found: dict[str, str] = {}
        good: set[str] = set()
        for of in self.all():
            digests = {part.file.sha256 for part in of.parts}
            if self.is_withdrawn(of):
                found |= dict.fromkeys(digests, of.name)
            else:
                good |= digests
        return {digest: name for digest, name in found.items() if digest not in good}

    def check_not_withdrawn(self, digests: Mapping[str, str]) -> None:
        """`digests`: SHA-256 in hex by the name in refusals. Of a withdrawn release nothing is published
        or ordered any more. Raises PolicyRefused (release.withdrawn)."""
        withdrawn = self.withdrawn()
        for name, digest in digests.items():
            if digest in withdrawn:
                raise PolicyRefused(
                    Code.RELEASE_WITHDRAWN,
                    name,
                    expected="an image of a release that is not withdrawn",
                    found=f"release {withdrawn[digest]}, which is",
                    advice="take another release",
                )


@dataclass(frozen=True)
class ReleaseGate:
    """`published` and `earlier`: what is out already; `withdrawn`: digests of files that nobody gets any
    more. `content_keys` open encrypted images, here alone; `same_hand` says which keys are one person's."""

    gate: Gate
    published: Sequence[Target]
    earlier: Sequence[Release]
    read_calibration: ReadCalibration
    content_keys: ContentKeys = lambda data: None
    withdrawn: Collection[str] = ()
    same_hand: release.SameHand = eq

    def check(self, wanted: Release, files: Mapping[str, bytes]) -> tuple[Target, ...]:
        """Steps 2 to 7: what the release's images are to be published as.

        Raises what the publish gate raises, TrustRefused (release.part, release.sbom), PolicyRefused
        (publish.counter, publish.dependency).
        """
        bill = sbom.read(files[wanted.sbom.name], wanted.sbom.name)
        targets: list[Target] = []
        needs: list[tuple[str, Requirement]] = [
            (need.hardware, Requirement(need.of, need.name, need.at_least)) for need in wanted.requires
        ]
        for part in wanted.parts:
            data = files[part.file.name]
            if part.stage == CALIBRATION:
                self._check_calibration(wanted, part, data)
                continue
            targets.append(self._check_image(wanted, part, data, targets))
            plain = self._plain(data, part.file.name)
            needs += [(part.hardware, need) for need in requirements_of(plain, Stage(part.stage))]
            known = (data, plain.data, plain.payload, *_without_padding(plain))
            bill.require({*map(_sha256, known), plain.digest.hex()}, part.file.name)
        for hardware in {target.hardware_ids[0]: None for target in targets}:
            self._check_pair(hardware, targets)
        for hardware, need in needs:
            check_requirements(self._held(wanted, hardware), [need], f"release {wanted.name}")
        return tuple(targets)

    def _check_image(self, wanted: Release, part: Part, data: bytes, so_far: list[Target]) -> Target:
        what = part.file.name
        target = self.gate.admit(data, [*self.published, *so_far], what, self.content_keys(data))
        said = (target.hardware_ids[0], target.stage, target.version, target.release_counter)
        _check_said(part, said, what)
        before = [
            known.release_counter
            for known in self.published
            if known.sha256 != target.sha256
            and (known.hardware_ids, known.stage) == (target.hardware_ids, target.stage)
        ]
        self._check_counter(wanted, part, before)
        return target

    def _check_calibration(self, wanted: Release, part: Part, data: bytes) -> None:
        hardware, version, counter = self.read_calibration(data, part.file.name)
        _check_said(part, (hardware, CALIBRATION, str(version), counter), part.file.name)
        before = [
            known.counter
            for other in self.earlier
            if other.id != wanted.id
            for known in other.parts
            if (known.hardware, known.stage) == (part.hardware, CALIBRATION)
        ]
        self._check_counter(wanted, part, before)

    @staticmethod
    def _check_counter(wanted: Release, part: Part, before: Sequence[int]) -> None:
        if before:
            check_counter_rises(
                max(before), part.counter, security_fix=wanted.security_fix, what=part.file.name
            )

    def _check_pair(self, hardware: str, targets: Sequence[Target]) -> None:
        """The fuses are raised to the lower of both: with a loader below it, an app is not installed."""
        out = [t for t in self.published if t.sha256 not in self.withdrawn]
        newest: dict[str, Target] = {}
        for target in (*sorted(out, key=lambda t: Version.parse(t.version)), *targets):
            if hardware in target.hardware_ids:
                newest[target.stage] = target
        loader, app = newest.get(Stage.LOADER), newest.get(Stage.APP)
        if loader is not None and app is not None and app.release_counter > loader.release_counter:
            raise PolicyRefused(
                Code.PUBLISH_COUNTER,
                app.name,
                expected=f"a security counter of at most {loader.release_counter}, that of {loader.name}",
                found=f"{app.release_counter}",
                advice="put a loader with that counter into the release: modules refuse the app without it",
            )

    def _plain(self, data: bytes, what: str) -> image.Image:
        decoded = image.decode(data, what)
        key = self.content_keys(data) if decoded.flags else None
        return decoded if key is None else image.decode(decrypt(data, key, what), what)

    def _held(self, wanted: Release, hardware: str) -> dict[str, Version]:
        """The newest that is out, by stage (or `calibration`), and over it what the release brings."""
        held: dict[str, Version] = {}
        out = [
            *((t.sha256, t.hardware_ids, t.stage, Version.parse(t.version)) for t in self.published),
            *((p.file.sha256, (p.hardware,), p.stage, p.version) for r in self.earlier for p in r.parts),
        ]
        for digest, boards, stage, version in out:
            if hardware in boards and digest not in self.withdrawn:
                held[stage] = max(version, held.get(stage, version))
        return held | {part.stage: part.version for part in wanted.parts if part.hardware == hardware}


def _check_said(part: Part, found: tuple[str, str, str, int], what: str) -> None:
    said = (part.hardware, part.stage, str(part.version), part.counter)
    if said != found:
        raise TrustRefused(
            Code.RELEASE_PART,
            what,
            expected="{} {} {}, counter {}, as the release says".format(*said),
            found="{} {} {}, counter {}".format(*found),
        )


def _without_padding(of: image.Image) -> Iterator[bytes]:
    """What a payload to be encrypted may have been before zeros filled its last AES block."""
    if of.flags & Flag.ENC_AES128:
        padding = len(of.payload) - len(of.payload.rstrip(b"\0"))
        for zeros in range(1, min(padding, AES_BLOCK - 1) + 1):
            yield of.payload[:-zeros]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_not_withdrawn(of: Release, withdrawal: Withdrawal | None) -> None:
    """Raises PolicyRefused (release.withdrawn)."""
    if withdrawal is not None:
        raise PolicyRefused(
            Code.RELEASE_WITHDRAWN,
            f"release {of.name}",
            expected="one that is not withdrawn",
            found=f"withdrawn {withdrawal.at:%Y-%m-%d}: {withdrawal.reason}",
        )


def check_four_eyes(
    of: Release,
    folder: Folder,
    approvers: Collection[PublicKey],
    least: int = 1,
    *,
    same_hand: release.SameHand = eq,
) -> tuple[Approval, ...]:
    """Raises as Folder.approvals, and PolicyRefused (release.approval)."""
    found = folder.approvals(of, approvers) if approvers else ()
    release.check_approved(of, found, least, f"release {of.name}", asked=len(approvers), same_hand=same_hand)
    return found


def check_needs_no_release(approvers: Collection[PublicKey], what: str) -> None:
    """Where the maker has said who approves, nothing goes out past them. Raises PolicyRefused
    (release.approval)."""
    if approvers:
        raise PolicyRefused(
            Code.RELEASE_APPROVAL,
            what,
            expected="a release that somebody else has approved: the key register says who may",
            found="images alone",
            advice="make one with `cellward release create`, and publish it with --release",
        )


def check_release(
    folder: Folder, keys: Collection[PublicKey], released: Released, gate: ReleaseGate
) -> tuple[Release, dict[str, bytes], tuple[Target, ...]]:
    """All that is to be said of a release but who approved it; nothing is changed.

    Raises what its steps raise.
    """
    of = open_release(folder, keys, released)
    files = folder.files(of)
    return of, files, gate.check(of, files)


def open_release(folder: Folder, keys: Collection[PublicKey], released: Released) -> Release:
    """Signed, and not withdrawn: neither in its folder nor in the maker's record, which a copy of the
    folder from before the withdrawal does not know of."""
    of = folder.release(keys)
    check_not_withdrawn(of, folder.withdrawal(of, keys))
    if released.is_withdrawn(of):
        raise PolicyRefused(
            Code.RELEASE_WITHDRAWN,
            f"release {of.name}",
            expected="one that is not withdrawn",
            found="a withdrawal in the maker's record",
        )
    return of


def publish(
    folder: Folder,
    keys: Collection[PublicKey],
    approvers: Collection[PublicKey],
    released: Released,
    repository: ImageRepository,
    gate: ReleaseGate,
    now: datetime,
) -> tuple[Target, ...]:
    """Everything is checked again, with other publishers kept out; then all of it goes out, or nothing.

    The record comes first: cut off after it, the release is repeated and completes.
    """
    of = open_release(folder, keys, released)
    check_four_eyes(of, folder, approvers, same_hand=gate.same_hand)
    files = folder.files(of)

    def check(published: Sequence[Target]) -> None:
        open_release(folder, keys, released)
        held = replace(
            gate, published=published, earlier=released.all(), withdrawn=released.withdrawn().keys()
        )
        held.check(of, files)
        released.add(of, folder)

    images = {part.file.name: files[part.file.name] for part in of.parts if part.stage != CALIBRATION}
    return repository.publish(images, gate.gate, now, gate.content_keys, check, folder.envelope())
