"""A release before it is published: everything it names, held against what a device would say of it.

1. files           there, and their bytes are those that were signed
2. images          the publish gate (publish.gate); what they say of themselves is what the release says
3. counters        never lower than before, higher where the release mends a vulnerability
4. calibrations    authentic, for that hardware, with that version and counter
5. requirements    of images (MCUboot's dependencies) and of the release: met by it, or by what is out
6. SBOM            CycloneDX, with a component for every image, by its hash
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from cellward.core import image, release, sbom
from cellward.core.errors import Code, PolicyRefused, TrustRefused
from cellward.core.image import Version
from cellward.core.image.encryption import decrypt
from cellward.core.keys import PublicKey
from cellward.core.metadata import Target
from cellward.core.release import CALIBRATION, Approval, Part, Release, Withdrawal
from cellward.core.slots import Stage
from cellward.ports.store import Store
from cellward.publish.gate import (
    Gate,
    Requirement,
    check_counter_rises,
    check_requirements,
    requirements_of,
)

ContentKeys = Callable[[bytes], bytes | None]
# Hardware, version and counter of a calibration (its bytes, its name in refusals), if it is authentic.
ReadCalibration = Callable[[bytes, str], tuple[str, Version, int]]


@dataclass(frozen=True)
class Folder:
    """A release's files, by their names, beside release.json, approvals/ and withdrawal.json."""

    store: Store

    def release(self, keys: Collection[PublicKey]) -> Release:
        """Raises as core.release.verify, and PolicyRefused (release.part) where there is none."""
        return release.verify(self._need(release.RELEASE_FILE), keys)

    def approvals(self, of: Release, keys: Collection[PublicKey]) -> tuple[Approval, ...]:
        """Those there are; each must be good, and by one of `keys`."""
        names = [name for name in self.store.names() if name.startswith(f"{release.APPROVALS}/")]
        return tuple(release.verify_approval(self._need(name), of, keys, name) for name in names)

    def withdrawal(self, of: Release, keys: Collection[PublicKey]) -> Withdrawal | None:
        data = self.store.read(release.WITHDRAWAL_FILE)
        return None if data is None else release.verify_withdrawal(data, of, keys, release.WITHDRAWAL_FILE)

    def files(self, of: Release) -> dict[str, bytes]:
        """Step 1. Raises PolicyRefused (release.part), TrustRefused (release.file)."""
        return {file.name: file.check(self._need(file.name), file.name) for file in of.files()}

    def _need(self, name: str) -> bytes:
        data = self.store.read(name)
        if data is None:
            raise PolicyRefused(
                Code.RELEASE_PART, "release", expected=f"{name} in its folder", found="no such file"
            )
        return data


@dataclass(frozen=True)
class Released:
    """The maker's own record of releases that are out, by their hash: a folder each, without the parts."""

    store: Store

    def all(self) -> tuple[Release, ...]:
        """As they were verified when they came in."""
        names = (name for name in self.store.names() if name.endswith(f"/{release.RELEASE_FILE}"))
        return tuple(release.decode(self.store.read(name) or b"", name) for name in names)

    def add(self, of: Release, folder: Folder) -> None:
        """The release and its approvals, from its folder. Done twice is done once."""
        copied = (n for n in folder.store.names() if n.startswith(f"{release.APPROVALS}/"))
        for name in (*copied, release.RELEASE_FILE):
            data = folder.store.read(name)
            assert data is not None  # noqa: S101  it has just been verified
            self.store.write_once(f"{of.id}/{name}", data)

    def withdraw(self, of: Release, data: bytes) -> None:
        self.store.write_once(f"{of.id}/{release.WITHDRAWAL_FILE}", data)

    def check_not_withdrawn(self, targets: Sequence[Target]) -> None:
        """Of a withdrawn release nothing is ordered any more, unless another one has the same image.

        It counts that the maker's own record has a withdrawal, whoever wrote it: at worst, nothing goes out.
        Raises PolicyRefused (release.withdrawn).
        """
        withdrawn: dict[str, str] = {}
        good: set[str] = set()
        for of in self.all():
            digests = {part.file.sha256 for part in of.parts}
            if self.store.read(f"{of.id}/{release.WITHDRAWAL_FILE}") is None:
                good |= digests
            else:
                withdrawn |= dict.fromkeys(digests, of.name)
        for target in targets:
            if target.sha256 in withdrawn and target.sha256 not in good:
                raise PolicyRefused(
                    Code.RELEASE_WITHDRAWN,
                    target.name,
                    expected="an image of a release that is not withdrawn",
                    found=f"release {withdrawn[target.sha256]}, which is",
                    advice="order another release",
                )


@dataclass(frozen=True)
class ReleaseGate:
    """`published` and `earlier`: what is out already. `content_keys` open encrypted images, here alone."""

    gate: Gate
    published: Sequence[Target]
    earlier: Sequence[Release]
    read_calibration: ReadCalibration
    content_keys: ContentKeys = lambda data: None

    def check(self, wanted: Release, files: Mapping[str, bytes]) -> tuple[Target, ...]:
        """Steps 2 to 6: what the release's images are to be published as.

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
            digests = (data, plain.data, plain.payload)
            bill.require({*map(_sha256, digests), plain.digest.hex()}, part.file.name)
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

    def _plain(self, data: bytes, what: str) -> image.Image:
        decoded = image.decode(data, what)
        key = self.content_keys(data) if decoded.flags else None
        return decoded if key is None else image.decode(decrypt(data, key, what), what)

    def _held(self, wanted: Release, hardware: str) -> dict[str, Version]:
        """The newest that is out, by stage (or `calibration`), and over it what the release brings."""
        held: dict[str, Version] = {}
        out = [
            *((t.hardware_ids, t.stage, Version.parse(t.version)) for t in self.published),
            *(((p.hardware,), p.stage, p.version) for r in self.earlier for p in r.parts),
        ]
        for boards, stage, version in out:
            if hardware in boards:
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
