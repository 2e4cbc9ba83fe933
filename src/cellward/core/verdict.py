"""Artefacts judged offline, together: who signed each, under which keys, when, and what is wrong.

For technicians and auditors, who hold files and public keys and nothing else. A file that nobody signed by
itself (notes, an SBOM) is good where a release among the files names it; a log proof says when a signature
was asked for. Keys are given for a role each: a firmware key vouches for no release.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cellward.core import calibration, envelope, image, release, sbom
from cellward.core.envelope import Envelope
from cellward.core.errors import CellwardError, Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.image import SIGNATURES, Trust
from cellward.core.keys import PublicKey
from cellward.core.log import proof
from cellward.core.log.entry import given
from cellward.core.log.proof import Logged
from cellward.core.release import MAX_RELEASE_SIZE, Release

FIRMWARE, CALIBRATION, RELEASE, APPROVAL, LOG = ROLES = (
    "firmware",
    "calibration",
    "release",
    "approval",
    "log",
)
Keys = Mapping[str, Sequence[PublicKey]]


@dataclass(frozen=True)
class Verdict:
    """`says`: what is known of a good file, a line each. `refusal`: what is wrong with one that is not."""

    name: str
    kind: str
    says: tuple[str, ...] = ()
    refusal: CellwardError | None = None


@dataclass
class _Bench:
    """The files of one call, and what is known of them so far."""

    files: Mapping[str, bytes]
    keys: Keys
    releases: list[Release] = field(default_factory=list)
    withdrawn: dict[str, str] = field(default_factory=dict)
    logged: dict[tuple[str, str], Logged] = field(default_factory=dict)

    def asked(self, role: str, what: str) -> list[PublicKey]:
        found = list(self.keys.get(role, ()))
        if not found:
            raise PolicyRefused(
                Code.IMAGE_NO_KEY_GIVEN,
                what,
                expected=f"--key {role}=PEM",
                found="no key of that role",
                advice="a file that names its own key proves nothing",
            )
        return found

    def when(self, key: PublicKey, signed: bytes) -> Iterator[str]:
        """What a log proof among the files says of this signature."""
        held = self.logged.get((key.fingerprint, given(signed)))
        if held is not None:
            at = f"{held.entry.time:%Y-%m-%d %H:%M:%S} UTC"
            yield f"logged {at}, entry {held.index} of {held.checkpoint.size}: {held.entry.subject}"


def judge(files: Mapping[str, bytes], keys: Keys) -> list[Verdict]:
    """A verdict on each file, in their order. Never raises for what a file holds."""
    bench = _Bench(files, keys)
    kinds = {name: kind_of(data) for name, data in files.items()}
    found: dict[str, Verdict] = {}
    for kind in _JUDGES:  # proofs before what they are about, releases before their parts
        for name in files:
            if kinds[name] == kind:
                found[name] = _judged(bench, name, kind)
    return [found[name] for name in files]


def kind_of(data: bytes) -> str:
    """By content alone, never by name; `file` for what is of no kind of ours."""
    if data[:4] == image.MAGIC.to_bytes(4, "little"):
        return "image"
    if data.startswith(proof.HEADER):
        return "log proof"
    try:
        kind = envelope.kind_of(data, "file", MAX_RELEASE_SIZE)
    except FormatRefused:
        return "SBOM" if b'"bomFormat"' in data[:4096] else "file"
    return kind if kind in _JUDGES else "file"


def _judged(bench: _Bench, name: str, kind: str) -> Verdict:
    try:
        return Verdict(name, kind, tuple(_JUDGES[kind](bench, name, bench.files[name])))
    except CellwardError as error:
        return Verdict(name, kind, refusal=error)


def _proof(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    read = proof.decode(data, name)
    refusal: CellwardError | None = None
    for key in bench.asked(LOG, name):
        try:
            held = read.verified_by(key, name)
        except TrustRefused as error:
            refusal = error
            continue
        bench.logged[held.entry.key, held.entry.signed] = held
        yield f"entry {held.index} of {held.checkpoint.size} in the log {held.checkpoint.origin}"
        yield f"{held.entry.time:%Y-%m-%d %H:%M:%S} UTC, {held.entry.kind}: {held.entry.subject}"
        return
    assert refusal is not None  # noqa: S101  at least one key was asked
    raise refusal


def _image(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    decoded = image.decode(data, name)
    keys = {key.key_hash: key for key in bench.asked(FIRMWARE, name)}
    trust = Trust(keys, algorithms=frozenset(SIGNATURES))
    sealed = bool(decoded.flags) and decoded.digest != decoded.stated_digest
    verified = (image.verify_stated if sealed else image.verify)(decoded, trust, name)
    yield f"version {decoded.version}, security counter {decoded.counter}"
    yield f"signed by firmware key {verified.key.fingerprint}"
    if sealed:
        yield "encrypted: its digest is what the signature says, the module recomputes it"
    yield from bench.when(verified.key, decoded.stated_digest or b"")
    yield from _bound(bench, data)


def _release(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    keys = bench.asked(RELEASE, name)
    found = release.verify(data, keys, name)
    reason = bench.withdrawn.get(found.id)
    if reason is not None:
        raise PolicyRefused(
            Code.RELEASE_WITHDRAWN, name, expected="a release that is not withdrawn", found=reason
        )
    bench.releases.append(found)
    yield f"release {found.name}, {len(found.parts)} parts, made {found.created:%Y-%m-%d %H:%M} UTC"
    yield f"safety: {found.safety_impact or 'no impact'}"
    whole = envelope.decode(data, release.RELEASE, name, MAX_RELEASE_SIZE)
    yield from _signers(bench, whole, keys, found.keys)


def _signers(
    bench: _Bench, whole: Envelope, keys: Sequence[PublicKey], named: Sequence[str]
) -> Iterator[str]:
    known = {key.fingerprint: key for key in keys}
    for fingerprint in named:
        key = known.get(fingerprint)
        if key is None:
            yield f"also signed by {fingerprint}: not checked, no such key was given"
            continue
        yield f"signed by {key.algorithm.display} key {fingerprint}"
        yield from bench.when(key, key.to_sign(whole.pae))


def _approval(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    def about(of: Release) -> str:
        found = release.verify_approval(data, of, bench.asked(APPROVAL, name), name)
        release.check_approved(of, [found], 1, name, asked=1)
        said = f"{found.approver} approves release {of.name}, {found.at:%Y-%m-%d %H:%M} UTC"
        return f"{said}, with key {found.key.fingerprint}"

    yield _about_one(bench, name, about)


def _withdrawal(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    """Before the releases: of those among the files, by their signatures."""
    keys = bench.asked(RELEASE, name)
    candidates = _Bench(bench.files, bench.keys)
    for other, content in bench.files.items():
        if kind_of(content) == release.RELEASE:
            candidates.releases.append(release.verify(content, keys, other))

    def about(of: Release) -> str:
        found = release.verify_withdrawal(data, of, keys, name)
        bench.withdrawn[of.id] = f"withdrawn {found.at:%Y-%m-%d}: {found.reason}"
        return f"release {of.name} is {bench.withdrawn[of.id]}, by key {found.key.fingerprint}"

    yield _about_one(candidates, name, about)


def _about_one(bench: _Bench, name: str, about: Callable[[Release], str]) -> str:
    """What `about` says of the release that a document is for."""
    refusal: CellwardError = PolicyRefused(
        Code.RELEASE_OTHER, name, expected="the release that it is about, among the files", found="none"
    )
    for of in bench.releases:
        try:
            return about(of)
        except TrustRefused as error:
            refusal = error
    raise refusal


def _calibration(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    found = calibration.verify(data, bench.asked(CALIBRATION, name), name)
    said, key = found.calibration, found.key
    yield f"calibration {said.version} for {said.serial or said.hardware}, counter {said.counter}"
    yield f"made {said.created:%Y-%m-%d %H:%M} UTC, signed by key {key.fingerprint}"
    whole = envelope.decode(data, calibration.KIND, name, calibration.MAX_SIZE)
    yield from bench.when(key, key.to_sign(whole.pae))
    yield from _bound(bench, data)


def _sbom(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    read = sbom.read(data, name)
    yield f"CycloneDX {read.spec_version}, {len(read.components)} components"
    yield from _need_bound(bench, name, data)


def _file(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    yield from _need_bound(bench, name, data)


def _need_bound(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    bound = list(_bound(bench, data))
    if not bound:
        raise TrustRefused(
            Code.RELEASE_FILE,
            name,
            expected="a signature of its own, or a release among the files that names it",
            found=f"neither, for SHA-256 {hashlib.sha256(data).hexdigest()[:16]}",
            advice="do not use it: nobody has vouched for it",
        )
    yield from bound


def _bound(bench: _Bench, data: bytes) -> Iterator[str]:
    digest = hashlib.sha256(data).hexdigest()
    for of in bench.releases:
        if any(file.sha256 == digest for file in of.files()):
            yield f"belongs to release {of.name}"


_JUDGES: dict[str, Callable[[_Bench, str, bytes], Iterator[str]]] = {
    "log proof": _proof,
    release.WITHDRAWAL: _withdrawal,
    release.RELEASE: _release,
    release.APPROVAL: _approval,
    "image": _image,
    calibration.KIND: _calibration,
    "SBOM": _sbom,
    "file": _file,
}
