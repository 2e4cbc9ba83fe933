"""checklists/uptane.md, section M (attacks) and G (the Primary's checks), over whole cycles.

A vehicle has taken release 2, which ordered 1.3.0. Release 3 orders 1.4.0, and somebody who holds
what the case says serves something else. The cycle must end in the one refusal named, nothing that
was served may be kept, no order may come out, and the honest repositories are believed afterwards.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Targets

from cellward.core.errors import Code, Refused
from cellward.core.metadata import (
    RULES,
    Assignment,
    Ecu,
    Repository,
    Role,
    Target,
    file_name,
    make_director_targets,
    make_snapshot,
    make_timestamp,
    parse_root,
    tuf_key,
)
from tests.support.uptane import (
    APP,
    DIRECTOR_OWNER,
    IMAGE_OWNER,
    LOADER,
    NOW,
    VEHICLE,
    Dates,
    Owner,
    Primary,
    Release,
    Served,
    director_release,
    holder,
    image_release,
    order,
    release,
    sign,
    target,
)

IMAGE, DIRECTOR = Repository.IMAGE, Repository.DIRECTOR
OWNERS = {DIRECTOR: DIRECTOR_OWNER, IMAGE: IMAGE_OWNER}
OLDEST, OLD, NEW = target("1.2.0", 5), target("1.3.0", 6), target("1.4.0", 7)
PUBLISHED = (OLDEST, OLD, NEW)
TAKEN, NEXT = 2, 3
EXPIRES = NOW + timedelta(days=1)
LONG = Dates(*[NOW + timedelta(days=30)] * 3)

World = dict[Repository, Served]


def honest(version: int) -> World:
    ordered = OLD if version <= TAKEN else NEW
    return {
        DIRECTOR: director_release(order(ordered), version=version).files(),
        IMAGE: image_release(*PUBLISHED, version=version).files(),
    }


def served(*releases: tuple[Repository, Release]) -> World:
    """Release 3, with these instead of the honest ones."""
    return {**honest(NEXT), **{repository: made.files() for repository, made in releases}}


def with_file(repository: Repository, name: str, data: bytes, world: World | None = None) -> World:
    world = world or honest(NEXT)
    world[repository][name] = data
    return world


@dataclass(frozen=True)
class Attack:
    """`row` of the checklist, `code` of the refusal, `make` what is served, `now` when."""

    name: str
    row: str
    code: Code
    make: Callable[[], World]
    now: datetime = NOW


# --- M4 freeze: all four roles expire, against the time that is passed in ---------------------------


def stale(repository: Repository, role: Role) -> World:
    dates = Dates(**{str(role): NOW})  # the first moment at which it is no longer valid
    if repository is DIRECTOR:
        return served((DIRECTOR, director_release(order(NEW), version=NEXT, dates=dates)))
    return served((IMAGE, image_release(*PUBLISHED, version=NEXT, dates=dates)))


def expired_root(repository: Repository) -> World:
    return with_file(repository, "2.root.json", OWNERS[repository].root(2, expires=NOW))


def fresh_timestamp_over(expired: Role) -> World:
    """Only the timestamp's key is in the wrong hands; it keeps an old release looking fresh."""
    dates = Dates(**{**vars(LONG), str(expired): NOW + timedelta(hours=1)})
    return served((IMAGE, image_release(*PUBLISHED, version=NEXT, dates=dates)))


FREEZE = [
    *(
        Attack(
            f"{repository} {role} has expired", "M4", Code.METADATA_EXPIRED, partial(stale, repository, role)
        )
        for repository in Repository
        for role in (Role.TIMESTAMP, Role.SNAPSHOT, Role.TARGETS)
    ),
    *(
        Attack(
            f"expired {repository} root at the end of the chain",
            "M4 G3",
            Code.METADATA_EXPIRED,
            partial(expired_root, repository),
        )
        for repository in Repository
    ),
    Attack("one release for ever", "M4", Code.METADATA_EXPIRED, partial(honest, NEXT), now=EXPIRES),
]


# --- M6 rollback -----------------------------------------------------------------------------------


def over(repository: Repository, snapshot: bytes, snapshot_version: int, version: int = NEXT) -> World:
    """The timestamp's key is in the wrong hands, and names this snapshot."""
    metadata = make_timestamp(
        version=version, expires=EXPIRES, snapshot_version=snapshot_version, snapshot_data=snapshot
    )
    world = with_file(repository, file_name(Role.SNAPSHOT, snapshot_version), snapshot)
    stamp = sign(metadata, *OWNERS[repository].holders(Role.TIMESTAMP))
    return with_file(repository, "timestamp.json", stamp, world)


def snapshot_back(repository: Repository) -> World:
    return over(repository, honest(1)[repository]["1.snapshot.json"], 1)


def snapshot_back_in_disguise() -> World:
    """The timestamp claims version 3 for the snapshot of version 1."""
    return over(IMAGE, honest(1)[IMAGE]["1.snapshot.json"], NEXT)


def snapshot_says(meta: dict[str, MetaFile]) -> World:
    """The keys of timestamp and snapshot are in the wrong hands."""
    metadata = make_snapshot(version=NEXT, expires=EXPIRES, targets_version=1, targets_data=b"{}")
    metadata.signed.meta = meta
    return over(IMAGE, sign(metadata, *IMAGE_OWNER.holders(Role.SNAPSHOT)), NEXT)


def targets_back() -> World:
    """As above; older Targets with their true version, which is what the snapshot then lists."""
    old = image_release(OLDEST, version=1)
    return over(IMAGE, release(IMAGE_OWNER, old.targets, 1).snapshot, NEXT)


def split_view() -> World:
    """The timestamp of the release that was taken, with other content under the same version."""
    world = honest(TAKEN)
    return {**honest(NEXT), DIRECTOR: world[DIRECTOR]}


def counter_back() -> World:
    """All keys of the Image repository: the same file name, now with a lower counter."""
    lowered = target("1.3.0", 4)
    return served((IMAGE, image_release(OLDEST, lowered, NEW, version=NEXT)))


ROLLBACK = [
    *(
        Attack(
            f"{repository} timestamp goes back",
            "M6 G4",
            Code.METADATA_VERSION,
            lambda repository=repository: {**honest(NEXT), repository: honest(1)[repository]},  # type: ignore[misc]
        )
        for repository in Repository
    ),
    *(
        Attack(
            f"{repository} snapshot goes back",
            "M6 G5",
            Code.METADATA_VERSION,
            partial(snapshot_back, repository),
        )
        for repository in Repository
    ),
    Attack("snapshot goes back in disguise", "M6 G5", Code.METADATA_VERSION, snapshot_back_in_disguise),
    Attack(
        "snapshot lists older targets",
        "M6 G5",
        Code.METADATA_VERSION,
        partial(snapshot_says, {"targets.json": MetaFile(1)}),
    ),
    Attack(
        "snapshot drops the targets",
        "M6 G5",
        Code.METADATA_MISSING,
        partial(snapshot_says, {"other.json": MetaFile(9)}),
    ),
    Attack("two timestamps of one version", "M6 G4", Code.METADATA_VERSION, split_view),
    Attack("a published counter is lowered", "M6 G8", Code.TARGET_COUNTER, counter_back),
]


# --- M8 mix and match, M7 endless data -------------------------------------------------------------


def from_another_release(repository: Repository, role: Role) -> World:
    """Honestly signed and of the right version, but not what the role above it names."""
    other = honest(NEXT)[repository][file_name(role, NEXT)]
    return with_file(repository, file_name(role, NEXT), other)


def endless(repository: Repository, role: Role) -> World:
    name = file_name(role, 2 if role is Role.ROOT else NEXT)
    return with_file(repository, name, b" " * (RULES[role].limit + 1))


def padded(role: Role) -> World:
    """Spaces behind an honest file: the same JSON, but more bytes than were named."""
    world = honest(NEXT)
    return with_file(IMAGE, file_name(role, NEXT), world[IMAGE][file_name(role, NEXT)] + b" ", world)


MIX = [
    *(
        Attack(
            f"{repository} {role} of another release",
            "M8 G5",
            Code.METADATA_HASH,
            partial(from_another_release, repository, role),
        )
        for repository in Repository
        for role in (Role.SNAPSHOT, Role.TARGETS)
    ),
    *(
        Attack(f"padded {role}", "M7 M8", Code.METADATA_HASH, partial(padded, role))
        for role in (Role.SNAPSHOT, Role.TARGETS)
    ),
    *(
        Attack(f"endless {repository} {role}", "M7", code, partial(endless, repository, role))
        for repository in Repository
        for role, code in (
            (Role.ROOT, Code.METADATA_TOO_LARGE),
            (Role.TIMESTAMP, Code.METADATA_TOO_LARGE),
            (Role.SNAPSHOT, Code.METADATA_HASH),
            (Role.TARGETS, Code.METADATA_HASH),
        )
    ),
]


# --- M9 arbitrary software: one repository compromised, all its keys but the root's -----------------


def director_orders(*orders: Assignment, vehicle_id: str = VEHICLE) -> World:
    return served((DIRECTOR, director_release(*orders, version=NEXT, vehicle_id=vehicle_id)))


def image_lists(*targets: Target) -> World:
    return served((IMAGE, image_release(*targets, version=NEXT)))


EVIL = target("1.4.0", 7, sha256="ee" * 32)
ELSEWHERE = Ecu("M-9999/app", "bms-m33")
OTHER_HARDWARE = Ecu(APP.ecu_id, "bms-m33-18s")
BOTH_HARDWARES = target("1.4.0", 7, hardware_ids=("bms-m33", "bms-m33-18s"))
NARROW = target("1.4.0", 7, name="bms-m33-18s/app-1.4.0.img", hardware_ids=("bms-m33-18s",))
FIELDS: dict[str, Target] = {
    "length": target("1.4.0", 7, length=101),
    "hash": EVIL,
    "release counter": target("1.4.0", 8),
    "hardware ids": BOTH_HARDWARES,
}

COMPROMISE = [
    Attack(
        "Director orders what was never published",
        "M9 G8",
        Code.TARGET_MISSING,
        partial(director_orders, order(target("6.6.6", 99))),
    ),
    *(
        Attack(
            f"Director alone changes the {name}",
            "M9 G8",
            Code.TARGET_MISMATCH,
            partial(director_orders, order(t)),
        )
        for name, t in FIELDS.items()
    ),
    *(
        Attack(
            f"Image repository alone changes the {name}",
            "M9 G8",
            Code.TARGET_MISMATCH,
            partial(image_lists, OLDEST, OLD, t),
        )
        for name, t in FIELDS.items()
    ),
    Attack(
        "Image repository withdraws what is ordered",
        "M9 G8",
        Code.TARGET_MISSING,
        partial(image_lists, OLDEST, OLD),
    ),
    Attack(
        "Director orders an older image",
        "M6 M9 G10",
        Code.TARGET_COUNTER,
        partial(director_orders, order(OLDEST)),
    ),
    Attack(
        "another vehicle's Director metadata",
        "M10 G7",
        Code.TARGET_VEHICLE,
        partial(director_orders, order(NEW), vehicle_id="PACK-0002"),
    ),
    Attack(
        "another vehicle's, with nothing ordered",
        "M10 A8",
        Code.TARGET_VEHICLE,
        partial(director_orders, vehicle_id="PACK-0002"),
    ),
    Attack("ECU of another vehicle", "G7", Code.TARGET_ECU, partial(director_orders, order(NEW, ELSEWHERE))),
    Attack(
        "ECU of another vehicle beside one of this",
        "G7",
        Code.TARGET_ECU,
        partial(director_orders, order(NEW, APP, ELSEWHERE)),
    ),
    Attack(
        "ECU named twice",
        "G7",
        Code.TARGET_ECU,
        partial(director_orders, order(OLD), order(NEW)),
    ),
    Attack(
        "app ordered for the loader's slot",
        "G7",
        Code.TARGET_ECU,
        partial(director_orders, order(NEW, LOADER)),
    ),
    Attack(
        "hardware that this ECU does not have",
        "M9 G10",
        Code.TARGET_HARDWARE,
        partial(director_orders, order(BOTH_HARDWARES, OTHER_HARDWARE)),
    ),
    Attack(
        "image for other hardware",
        "M9 G10",
        Code.TARGET_HARDWARE,
        partial(director_orders, order(NARROW)),
    ),
]


def delegating(metadata: Metadata[Targets]) -> Metadata[Targets]:
    key = tuf_key(holder("supplier").public_key)
    role = DelegatedRole("supplier", [key.keyid], 1, terminating=False, paths=["*/*"])
    metadata.signed.delegations = Delegations({key.keyid: key}, {"supplier": role})
    return metadata


def delegated() -> World:
    metadata = make_director_targets(
        version=NEXT, expires=EXPIRES, vehicle_id=VEHICLE, assignments=[order(NEW)]
    )
    targets = sign(delegating(metadata), *DIRECTOR_OWNER.holders(Role.TARGETS))
    return served((DIRECTOR, release(DIRECTOR_OWNER, targets, NEXT)))


# What a delegated role of the Image repository can do: test_uptane_delegations.py.
DELEGATION = [Attack("director delegates", "D6 G7", Code.TARGET_DELEGATION, delegated)]


# --- keys and thresholds ----------------------------------------------------------------------------


def signed_by(repository: Repository, **names: tuple[str, ...]) -> World:
    """The role's file signed by these keys instead of its own."""
    owner = OWNERS[repository].rekeyed(**names)
    if repository is DIRECTOR:
        return served((DIRECTOR, director_release(order(NEW), version=NEXT, owner=owner)))
    return served((IMAGE, image_release(*PUBLISHED, version=NEXT, owner=owner)))


def root_by(repository: Repository, owner: Owner, *signers: str, version: int = 2) -> World:
    data = owner.root(version, signers=[holder(name) for name in signers])
    return with_file(repository, "2.root.json", data)


TAKEOVER = DIRECTOR_OWNER.rekeyed(root=("thief-1", "thief-2", "thief-3"))
HANDOVER = IMAGE_OWNER.rekeyed(root=("root-4", "root-5", "root-6"))


def one_signature_twice() -> World:
    """Threshold 2, one signer: the same key id twice."""
    file = json.loads(IMAGE_OWNER.root(2, signers=[holder("root-1")]))
    file["signatures"] *= 2
    return with_file(IMAGE, "2.root.json", json.dumps(file).encode())


def one_key_under_two_ids() -> World:
    """An honest root of version 2 names one of the targets' keys twice, under two ids; its holder
    alone then signs with both (A5, T6.1: unique keys are counted, not ids).
    """
    pem = holder("targets-1").public_key.pem().decode()
    key = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": pem}}
    root = json.loads(IMAGE_OWNER.root(2))
    root["signed"]["keys"].update({"alias-1": key, "alias-2": key})
    root["signed"]["roles"]["targets"] = {"keyids": ["alias-1", "alias-2"], "threshold": 2}
    world = with_file(IMAGE, "2.root.json", resigned(root, "root-1", "root-2"))
    targets = json.loads(image_release(*PUBLISHED, version=NEXT).targets)
    targets = json.loads(resigned(targets, "targets-1"))
    (signature,) = targets["signatures"]
    targets["signatures"] = [{**signature, "keyid": f"alias-{n}"} for n in (1, 2)]
    made = release(IMAGE_OWNER, json.dumps(targets).encode(), NEXT)
    return {**world, IMAGE: {**made.files(), "2.root.json": world[IMAGE]["2.root.json"]}}


def resigned(file: dict[str, object], *names: str) -> bytes:
    file = json.loads(json.dumps({**file, "signatures": []}))  # python-tuf consumes what it is given
    return sign(Metadata.from_dict(file), *map(holder, names))


KEYS = [
    *(
        Attack(
            f"{repository} {role} by a stranger",
            "M9 G3-G6",
            Code.METADATA_SIGNATURE,
            partial(signed_by, repository, **{str(role): ("stranger",)}),
        )
        for repository in Repository
        for role in (Role.TIMESTAMP, Role.SNAPSHOT, Role.TARGETS)
    ),
    Attack(
        "targets by the online key",
        "M9 G6",
        Code.METADATA_SIGNATURE,
        partial(signed_by, IMAGE, targets=("timestamp", "snapshot")),
    ),
    Attack(
        "targets below their threshold",
        "A5 G6",
        Code.METADATA_SIGNATURE,
        partial(signed_by, IMAGE, targets=("targets-1",)),
    ),
    Attack(
        "root by its new keys alone",
        "M9 G3",
        Code.METADATA_SIGNATURE,
        partial(root_by, DIRECTOR, TAKEOVER, "thief-1", "thief-2", "thief-3"),
    ),
    Attack(
        "root by one old key and the new ones",
        "M9 G3",
        Code.METADATA_SIGNATURE,
        partial(root_by, DIRECTOR, TAKEOVER, "root-1", "thief-1", "thief-2"),
    ),
    Attack(
        "root by its old keys alone",
        "G3",
        Code.METADATA_SIGNATURE,
        partial(root_by, IMAGE, HANDOVER, "root-1", "root-2", "root-4"),
    ),
    Attack(
        "root skips a version",
        "G3",
        Code.METADATA_VERSION,
        partial(root_by, IMAGE, IMAGE_OWNER, "root-1", "root-2", version=3),
    ),
    Attack(
        "root of the same version",
        "G3",
        Code.METADATA_VERSION,
        partial(root_by, IMAGE, IMAGE_OWNER, "root-1", "root-2", version=1),
    ),
    Attack("one root signature twice", "A5", Code.METADATA_FORMAT, one_signature_twice),
    Attack("one key under two ids", "A5", Code.METADATA_SIGNATURE, one_key_under_two_ids),
]

ATTACKS = [*FREEZE, *ROLLBACK, *MIX, *COMPROMISE, *DELEGATION, *KEYS]


def vehicle() -> Primary:
    """It runs 1.3.0 (counter 6), as release 2 ordered."""
    primary = Primary({APP.ecu_id: OLD.release_counter})
    assert [o.target for o in primary.cycle(honest(TAKEN))] == [OLD]
    return primary


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_refused_and_nothing_kept(attack: Attack) -> None:
    primary = vehicle()
    before = deepcopy(primary.files)
    with pytest.raises(Refused) as caught:
        primary.cycle(attack.make(), attack.now)
    assert caught.value.code is attack.code, str(caught.value)
    assert caught.value.expected
    assert caught.value.found
    for repository, held in primary.files.items():
        assert_nothing_new(held, before[repository])


def assert_nothing_new(held: dict[Role, bytes], before: dict[Role, bytes]) -> None:
    """Only a root may have come, signed by the old one's keys; and gone what its rotation revokes."""
    if held[Role.ROOT] == before[Role.ROOT]:
        assert held == before
    without_root = {role: data for role, data in held.items() if role is not Role.ROOT}
    assert without_root.items() <= before.items()


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.now == NOW], ids=lambda attack: attack.name)
def test_honest_repositories_are_believed_afterwards(attack: Attack) -> None:
    primary = vehicle()
    with pytest.raises(Refused):
        primary.cycle(attack.make(), attack.now)
    assert [o.target for o in primary.cycle(recovered(primary))] == [NEW]


def recovered(primary: Primary) -> World:
    """Release 9, with a next root where the attack used an honest one that was taken."""
    world = honest(9)
    for repository, owner in OWNERS.items():
        if parse_root(primary.files[repository][Role.ROOT]).signed.version == 2:
            world[repository]["3.root.json"] = owner.root(3)
    return world
