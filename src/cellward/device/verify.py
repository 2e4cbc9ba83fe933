"""Full verification of a Primary: both repositories, their agreement, then the image itself.

The rules are core.trust's, one numbered step each; here stands only which file is fetched when. A new
root is kept at once, everything else by the agent when the cycle's last check has passed (core.trust).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cellward.core import image, release, strictjson, trust
from cellward.core.errors import Code, TrustRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata import Assignment, Repository, Role, Target
from cellward.core.slots import Stage
from cellward.core.trust import TrustedRepository
from cellward.device.fetch import Fetcher
from cellward.device.inventory import trust_of
from cellward.ports.module import ModuleStatus

HINTS_LIMIT = 4096

Keep = Callable[[TrustedRepository], None]


@dataclass(frozen=True)
class Hints:
    """The newest versions that the server says there are. A lie delays, as withholding would."""

    director_root: int
    director_timestamp: int
    image_root: int
    image_timestamp: int
    server_cas: int = 0  # there is none, or the server knows of none

    def root(self, repository: Repository) -> int:
        return self.director_root if repository is Repository.DIRECTOR else self.image_root

    def timestamp(self, repository: Repository) -> int:
        return self.director_timestamp if repository is Repository.DIRECTOR else self.image_timestamp


def decode_hints(data: bytes) -> Hints:
    """Raises FormatRefused (metadata.format)."""
    fields = strictjson.Fields(
        strictjson.decode(data, "answer to the report", HINTS_LIMIT), "answer to the report"
    )
    director, image_repository = fields.fields("director"), fields.fields("image")
    return Hints(
        director.integer("root"),
        director.integer("timestamp"),
        image_repository.integer("root"),
        image_repository.integer("timestamp"),
        fields.integer("server_cas") if "server_cas" in fields else 0,
    )


def refresh(state: TrustedRepository, hints: Hints, now: datetime, fetch: Fetcher) -> TrustedRepository:
    """The repository as it is now, behind its root: timestamp, snapshot, targets (Uptane 5.4.4.2 steps
    3 to 5 and 7 to 9). What did not change is not fetched again.

    Raises what core.trust and Fetcher raise. Freshness of what was not fetched: `current_targets`, in
    the checks that follow.
    """
    state = _timestamp(state, hints, now, fetch)
    state = _snapshot(state, now, fetch)
    return _targets(state, now, fetch)


def refresh_root(state: TrustedRepository, hints: Hints, fetch: Fetcher, keep: Keep) -> TrustedRepository:
    """The root chain, N to N+1, as far as the server says that it goes (steps 2 and 6)."""
    repository = state.repository
    for _ in range(trust.MAX_ROOTS_PER_CYCLE):
        following = state.version(Role.ROOT) + 1
        data = fetch.root(repository, following) if following <= hints.root(repository) else None
        if data is None:
            break
        state = trust.update_root(state, data)
        keep(state)
    return state


def _timestamp(state: TrustedRepository, hints: Hints, now: datetime, fetch: Fetcher) -> TrustedRepository:
    """Fetched when a newer one is promised, or when the held one has expired: then it is a freeze."""
    held = state.timestamp
    if (
        held is not None
        and hints.timestamp(state.repository) <= held.signed.version
        and now < held.signed.expires
    ):
        return trust.update_timestamp(state, held.data, now)
    return trust.update_timestamp(state, fetch.metadata(state.repository, Role.TIMESTAMP, 0), now)


def _snapshot(state: TrustedRepository, now: datetime, fetch: Fetcher) -> TrustedRepository:
    timestamp = state.timestamp
    if timestamp is None or not trust.needs_snapshot(state):
        return state
    version, limit = timestamp.signed.snapshot_meta.version, trust.snapshot_limit(state)
    data = fetch.metadata(state.repository, Role.SNAPSHOT, version, limit)
    return trust.update_snapshot(state, data, now)


def _targets(state: TrustedRepository, now: datetime, fetch: Fetcher) -> TrustedRepository:
    snapshot = state.snapshot
    if snapshot is None or not trust.needs_targets(state):
        return state
    version, limit = snapshot.signed.meta["targets.json"].version, trust.targets_limit(state)
    data = fetch.metadata(state.repository, Role.TARGETS, version, limit)
    return trust.update_targets(state, data, now)


def resolve(
    assignments: Sequence[Assignment], image: TrustedRepository, now: datetime, fetch: Fetcher
) -> TrustedRepository:
    """The Image repository with the files of all delegated roles that these orders ask for (5.4.4.7)."""
    while (wanted := trust.wanted(assignments, image, now)) is not None:
        data = fetch.metadata(image.repository, wanted.role, wanted.version, wanted.limit)
        image = trust.update_delegated(image, wanted, data, now)
    return image


def verify_release(data: bytes, target: Target, keys: tuple[PublicKey, ...]) -> release.Release:
    """The release that an image belongs to: by every key that it names (so that a second, post-quantum
    signature cannot be left out), and that it names this image.

    Raises FormatRefused, TrustRefused (document.signature, release.file, release.part), PolicyRefused
    (release.keys).
    """
    found = release.verify(data, keys, f"release of {target.name}")
    said = {
        (part.file.sha256, part.file.length, part.stage, str(part.version), part.counter)
        for part in found.parts
        if part.hardware in target.hardware_ids
    }
    ordered = (target.sha256, target.length, target.stage, target.version, target.release_counter)
    if ordered not in said:
        raise TrustRefused(
            Code.RELEASE_PART,
            f"target {target.name}",
            expected=f"a part of release {found.name}",
            found=f"{target.sha256[:16]}, which it does not name",
        )
    return found


def verify_image(
    data: bytes, target: Target, stage: Stage, status: ModuleStatus, keys: tuple[PublicKey, ...]
) -> image.VerifiedImage:
    """The image itself (docs/formats/image.md, steps 1 to 7), whatever the metadata said about it. Of an
    encrypted one step 2 is the module's: what is signed here is the digest that it states.

    Raises FormatRefused and TrustRefused (image.*).
    """
    decoded = image.decode(data, target.name)
    check = image.verify_stated if decoded.flags else image.verify
    return check(decoded, trust_of(status, stage, keys), target.name)
