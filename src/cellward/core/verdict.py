"""Artefacts judged offline, together: who signed each, under which keys, when, and what is wrong.

For technicians and auditors, who hold files and public keys and nothing else. A file that nobody signed by
itself (notes, an SBOM) is good where a release among the files names it; a log proof says when a signature
was asked for. Keys are given for a role each, or by a key register (core.known): a firmware key vouches for
no release.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cellward.core import attestation, calibration, ceremony, envelope, health, image, register, release, sbom
from cellward.core.envelope import Envelope
from cellward.core.errors import CellwardError, Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.image import SIGNATURES, Trust
from cellward.core.keys import PublicKey, Role
from cellward.core.known import Anchor, Known, RegisterKeys, said, verify_register
from cellward.core.log import proof
from cellward.core.log.entry import given
from cellward.core.log.proof import Logged
from cellward.core.release import MAX_RELEASE_SIZE, Release


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
    known: Known
    anchor: Anchor = None
    packs: frozenset[str] = frozenset()
    releases: list[Release] = field(default_factory=list)
    withdrawn: dict[str, str] = field(default_factory=dict)
    logged: dict[tuple[str, str], Logged] = field(default_factory=dict)

    def vouched(self, role: Role, key: PublicKey, signed: bytes, what: str) -> Iterator[str]:
        """What is known of the key and, by a log proof among the files, of when it signed this; if its
        signature counts."""
        held = self.logged.get((key.fingerprint, given(signed)))
        yield from self.known.check(key, role, None if held is None else held.entry.time, what)
        if held is not None:
            at = f"{held.entry.time:%Y-%m-%d %H:%M:%S} UTC"
            yield f"logged {at}, entry {held.index} of {held.checkpoint.size}: {held.entry.subject}"


def judge(
    files: Mapping[str, bytes], known: Known, anchor: Anchor = None, packs: frozenset[str] = frozenset()
) -> list[Verdict]:
    """A verdict on each file, in their order; `anchor` is for a key register among them, `packs` has
    fingerprints of packs' identity keys. Never raises for what a file holds."""
    bench = _Bench(files, known, anchor, packs)
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
    first, more = data[: register.MAX_SIZE].partition(b"\n")[::2]
    try:
        kind = envelope.kind_of(first if more else data, "file", register.MAX_SIZE)
    except FormatRefused:
        return "SBOM" if b'"bomFormat"' in data[:4096] else "file"
    return kind if kind in _JUDGES and (not more or kind in _OF_LINES) else "file"


def _judged(bench: _Bench, name: str, kind: str) -> Verdict:
    try:
        return Verdict(name, kind, tuple(_JUDGES[kind](bench, name, bench.files[name])))
    except CellwardError as error:
        return Verdict(name, kind, refusal=error)


def _proof(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    read = proof.decode(data, name)
    refusal: CellwardError | None = None
    for key in bench.known.keys(Role.LOG, name):
        try:
            held = read.verified_by(key, name)
        except TrustRefused as error:
            refusal = error
            continue
        by = list(bench.known.check(key, Role.LOG, None, name))
        bench.logged[held.entry.key, held.entry.signed] = held
        yield f"entry {held.index} of {held.checkpoint.size} in the log {held.checkpoint.origin}"
        yield f"{held.entry.time:%Y-%m-%d %H:%M:%S} UTC, {held.entry.kind}: {held.entry.subject}"
        yield from by
        return
    assert refusal is not None  # noqa: S101  at least one key was asked
    raise refusal


def _image(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    decoded = image.decode(data, name)
    keys = {key.key_hash: key for key in bench.known.keys(Role.FIRMWARE, name)}
    trust = Trust(keys, algorithms=frozenset(SIGNATURES))
    sealed = bool(decoded.flags) and decoded.digest != decoded.stated_digest
    verified = (image.verify_stated if sealed else image.verify)(decoded, trust, name)
    yield f"version {decoded.version}, security counter {decoded.counter}"
    yield f"signed by firmware key {verified.key.fingerprint}"
    if sealed:
        yield "encrypted: its digest is what the signature says, the module recomputes it"
    yield from bench.vouched(Role.FIRMWARE, verified.key, decoded.stated_digest or b"", name)
    yield from _bound(bench, data)


def _release(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    keys = bench.known.keys(Role.RELEASE, name)
    found = release.verify(data, keys, name)
    whole = envelope.decode(data, release.RELEASE, name, MAX_RELEASE_SIZE)
    by = list(_signers(bench, whole, keys, found.keys, name))
    reason = bench.withdrawn.get(found.id)
    if reason is not None:
        raise PolicyRefused(
            Code.RELEASE_WITHDRAWN, name, expected="a release that is not withdrawn", found=reason
        )
    bench.releases.append(found)
    yield f"release {found.name}, {len(found.parts)} parts, made {found.created:%Y-%m-%d %H:%M} UTC"
    yield f"safety: {found.safety_impact or 'no impact'}"
    yield from by


def _signers(
    bench: _Bench, whole: Envelope, keys: Sequence[PublicKey], named: Sequence[str], what: str
) -> Iterator[str]:
    known = {key.fingerprint: key for key in keys}
    for fingerprint in named:
        key = known.get(fingerprint)
        if key is None:
            yield f"also signed by {fingerprint}: not checked, no such key was given"
            continue
        yield f"signed by {key.algorithm.display} key {fingerprint}"
        yield from bench.vouched(Role.RELEASE, key, key.to_sign(whole.pae), what)


def _approval(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    def about(of: Release) -> tuple[str, PublicKey]:
        found = release.verify_approval(data, of, bench.known.keys(Role.APPROVAL, name), name)
        release.check_approved(of, [found], 1, name, asked=1, same_hand=bench.known.same_hand)
        said = f"{found.approver} approves release {of.name}, {found.at:%Y-%m-%d %H:%M} UTC"
        return f"{said}, with key {found.key.fingerprint}", found.key

    line, key = _about_one(bench, name, about)
    yield line
    whole = envelope.decode(data, release.APPROVAL, name, MAX_RELEASE_SIZE)
    yield from bench.vouched(Role.APPROVAL, key, key.to_sign(whole.pae), name)


def _withdrawal(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    """Before the releases: of those among the files, by their signatures."""
    keys = bench.known.keys(Role.RELEASE, name)
    candidates = _Bench(bench.files, bench.known)
    for other, content in bench.files.items():
        if kind_of(content) == release.RELEASE:
            candidates.releases.append(release.verify(content, keys, other))

    def about(of: Release) -> tuple[str, PublicKey]:
        found = release.verify_withdrawal(data, of, keys, name)
        bench.withdrawn[of.id] = f"withdrawn {found.at:%Y-%m-%d}: {found.reason}"
        return f"release {of.name} is {bench.withdrawn[of.id]}, by key {found.key.fingerprint}", found.key

    line, key = _about_one(candidates, name, about)
    yield line
    whole = envelope.decode(data, release.WITHDRAWAL, name, MAX_RELEASE_SIZE)
    yield from bench.vouched(Role.RELEASE, key, key.to_sign(whole.pae), name)


def _about_one(
    bench: _Bench, name: str, about: Callable[[Release], tuple[str, PublicKey]]
) -> tuple[str, PublicKey]:
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
    found = calibration.verify(data, bench.known.keys(Role.CALIBRATION, name), name)
    made, key = found.calibration, found.key
    yield f"calibration {made.version} for {made.serial or made.hardware}, counter {made.counter}"
    yield f"made {made.created:%Y-%m-%d %H:%M} UTC, signed by key {key.fingerprint}"
    whole = envelope.decode(data, calibration.KIND, name, calibration.MAX_SIZE)
    yield from bench.vouched(Role.CALIBRATION, key, key.to_sign(whole.pae), name)
    yield from _bound(bench, data)


def _health(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    if not bench.packs:
        raise PolicyRefused(
            Code.IMAGE_NO_KEY_GIVEN,
            name,
            expected="--pack-key SHA256, of the pack's identity key",
            found="none",
            advice="a record that names its own key proves nothing; the maker knows the pack's",
        )
    found = health.verify(data, bench.packs, name)
    yield f"state of health of {found.vehicle}, {found.at:%Y-%m-%d %H:%M} UTC"
    yield f"signed by pack key {found.key.fingerprint}"
    for module in found.modules:
        seen = module.measured
        charge = f"charge {seen.charge_permille / 10:.1f} %" if seen else f"not measured: {module.silent}"
        yield f"module {module.serial}: {charge}" + (", TAMPERED" if module.tampered else "")
    yield f"absent, each with its reason: {len(found.absent)} of {len(health.Parameter)} parameters"


# --- of the maker's keys ---


def _register(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    newest = verify_register(register.split(data, name), bench.anchor, name)
    first = hashlib.sha256(data.partition(b"\n")[0] + b"\n").hexdigest()
    roots = ", ".join(entry.name for entry in newest.roots())
    yield f"version {newest.version}, issued {newest.issued:%Y-%m-%d %H:%M} UTC; its first line is {first}"
    yield f"root: {newest.root.threshold} of {len(newest.root.keys)} agree on changes: {roots}"
    yield from (said(entry) for entry in newest.entries)


def _by_register(bench: _Bench, name: str) -> RegisterKeys:
    if isinstance(bench.known, RegisterKeys):
        return bench.known
    raise PolicyRefused(
        Code.IMAGE_NO_KEY_GIVEN, name, expected="--register FILE, which knows its keys", found="none"
    )


def _transcript(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    chain = _by_register(bench, name).chain
    version = ceremony.version_of(data, name)
    if version > len(chain):
        raise TrustRefused(
            Code.REGISTER_VERSION,
            name,
            expected=f"version 1 to {len(chain)}, as in the register",
            found=f"{version}",
        )
    at = ceremony.decode(b"".join(chain[:version]) + data, name).finished()
    yield f"how version {version} of the register was agreed on"
    for each in at.records:
        record, token = each.record, each.record.custody.token
        where = f"{token.label}, {token.model}, serial {token.serial}"
        yield f"{record.holder}, {record.at:%Y-%m-%d %H:%M} UTC, key {record.key[:16]}, {INSIDE} ({where})"


def _attestation(bench: _Bench, name: str, data: bytes) -> Iterator[str]:
    held = _by_register(bench, name).register
    for line in data.splitlines(keepends=True):
        found = attestation.decode(line, name)
        entry = held.key(found.key.fingerprint)
        found.custody.check(f"key {entry}")
        yield f"{said(entry)}: {INSIDE}, by its token, {found.at:%Y-%m-%d %H:%M} UTC"


INSIDE = "made inside its token, never outside"


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
    health.KIND: _health,
    register.KIND: _register,
    ceremony.KIND: _transcript,
    attestation.KIND: _attestation,
    "SBOM": _sbom,
    "file": _file,
}
_OF_LINES = frozenset({register.KIND, ceremony.KIND, attestation.KIND})
