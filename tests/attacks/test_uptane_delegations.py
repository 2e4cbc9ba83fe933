"""checklists/uptane.md, section J: delegated roles of the Image repository, followed by the real agent.

A supplier's role has the app that is ordered. Somebody who holds what the case says serves something
else: the cycle ends in the refusal named, the pack and what it trusts are as before, and the honest
repository is believed afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest

from cellward.core import trust
from cellward.core.errors import Code
from cellward.core.metadata import RULES, Repository, Role, Target
from cellward.core.slots import Stage
from cellward.device.report import ATTACKS as CLASSES
from tests.support.delegated import Delegate, delegating, snapshot_of
from tests.support.pack import SERIAL, Pack, built, target_for
from tests.support.uptane import IMAGE_OWNER, NOW, Served

IMAGE = Repository.IMAGE
APP = f"{SERIAL}/app"
DATA = built(Stage.APP, "1.3.1", 6)
NEW = target_for(DATA, Stage.APP, "1.3.1", 6)
EVIL = replace(NEW, sha256="ee" * 32)
SUPPLIER = Delegate("supplier", (NEW,))


def ordered(served: Served) -> Pack:
    """A pack that runs 1.3.0, for which 1.3.1 is ordered; the Image repository is what is served."""
    pack = Pack()
    pack.order(NEW)
    pack.server.files[pack.artefact(NEW)] = DATA
    serve(pack, served)
    return pack


def serve(pack: Pack, served: Served) -> None:
    for path in [path for path in pack.server.files if path.startswith(f"/v1/{IMAGE}/")]:
        del pack.server.files[path]
    for name, data in served.items():
        pack.server.files[f"/v1/{IMAGE}/{name}"] = data


def latest(*roles: Delegate, targets: tuple[Target, ...] = (), version: int = 9) -> Served:
    return delegating(*roles, targets=targets, version=version)


HONEST: dict[str, Served] = {
    "one role": latest(SUPPLIER),
    "by hash prefix": latest(replace(SUPPLIER, prefixes=tuple("0123456789abcdef"))),
    "three deep": latest(Delegate("oem", below=(Delegate("tier-1", below=(SUPPLIER,)),))),
    "behind another that has nothing": latest(Delegate("other", terminating=False), SUPPLIER),
    "terminating": latest(replace(SUPPLIER, terminating=True), Delegate("other", (EVIL,))),
    "for this hardware": latest(replace(SUPPLIER, hardware=("bms-m33-18s", "bms-m33"))),
    "two of three keys": latest(
        replace(SUPPLIER, keys=("s1", "s2", "s3"), threshold=2, signers=("s1", "s3"))
    ),
    "before a lower role that says otherwise": latest(SUPPLIER, Delegate("late", (EVIL,))),
    "past roles for other paths and hardware": latest(
        Delegate("loaders", (EVIL,), paths=("bms-m33/loader-*",), terminating=True),
        Delegate("elsewhere", (EVIL,), hardware=("bms-m33-18s",), terminating=True),
        SUPPLIER,
    ),
    "through a cycle": latest(
        Delegate("a", below=(Delegate("b", below=(Delegate("a"),)),)), Delegate("c", below=(SUPPLIER,))
    ),
    "a diamond": latest(Delegate("a", below=(SUPPLIER,)), Delegate("b", below=(SUPPLIER,))),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_order_for_what_a_delegated_role_has(name: str) -> None:
    pack = ordered(HONEST[name])
    cycle = pack.cycle()
    assert cycle.refusal is None
    assert cycle.installed[APP] == "1.3.1"
    assert f"trust/{IMAGE}/delegated/supplier.json" in pack.store.names()


def test_what_is_kept_is_not_fetched_again() -> None:
    pack = ordered(latest(SUPPLIER))
    pack.module.measured = replace(pack.module.measured, contactors_closed=True)
    pack.refused(Code.GATE_CONTACTORS)
    pack.server.requests.clear()
    pack.module.measured = replace(pack.module.measured, contactors_closed=False)
    assert pack.cycle().outcome == "updated"
    assert not any("supplier" in request for request in pack.server.requests)


@dataclass(frozen=True)
class Attack:
    name: str
    row: str
    code: Code
    make: Callable[[], Served]


def by(*signers: str, **changes: object) -> Served:
    return latest(replace(SUPPLIER, signers=signers, **changes))  # type: ignore[arg-type]


def files(*roles: Delegate) -> dict[str, tuple[int, bytes]]:
    served = latest(*roles)
    return {
        "targets": (9, served["9.targets.json"]),
        **{role.name: (role.version, role.file()) for role in roles},
    }


def unlisted() -> Served:
    return snapshot_of(files(SUPPLIER), 9, omit="supplier")


def listed_as(version: int) -> Served:
    return snapshot_of({**files(SUPPLIER), "supplier": (version, SUPPLIER.file())}, 9)


def without(name: str) -> Served:
    return {file: data for file, data in latest(SUPPLIER).items() if file != name}


def changed(change: Callable[[bytes], bytes]) -> Served:
    served = latest(SUPPLIER)
    return {**served, "1.supplier.json": change(served["1.supplier.json"])}


def chain(length: int) -> Served:
    role = Delegate(f"r{length}", (NEW,))
    for n in range(length - 1, 0, -1):
        role = Delegate(f"r{n}", below=(role,))
    return latest(role)


def diamond() -> Served:
    """`a` leads to the supplier for other images only; `b` names another key for it."""
    honest = Delegate("a", below=(SUPPLIER,), paths=("bms-m33/loader-*",))
    return latest(honest, Delegate("b", below=(replace(SUPPLIER, keys=("stranger",)),)))


LIMIT = RULES[Role.TARGETS].limit
ATTACKS = [
    Attack("a stranger signs for the supplier", "J1", Code.METADATA_SIGNATURE, partial(by, "stranger")),
    Attack("the Targets' key is not the supplier's", "J1", Code.METADATA_SIGNATURE, partial(by, "targets-1")),
    Attack(
        "below the role's threshold", "J1", Code.METADATA_SIGNATURE,
        partial(by, "s1", keys=("s1", "s2"), threshold=2),
    ),
    Attack(
        "outside of its paths", "J1 C3", Code.TARGET_MISSING,
        partial(by, "supplier", paths=("bms-m33/loader-*",)),
    ),
    Attack(
        "outside of the paths on the way", "J1", Code.TARGET_MISSING,
        lambda: latest(Delegate("oem", paths=("bms-m33/loader-*",), below=(SUPPLIER,))),
    ),
    Attack(
        "hardware of others", "J2", Code.TARGET_MISSING,
        partial(by, "supplier", hardware=("bms-m33-18s",)),
    ),
    Attack(
        "an earlier role says otherwise", "J1 G8", Code.TARGET_MISMATCH,
        lambda: latest(Delegate("early", (EVIL,)), SUPPLIER),
    ),
    Attack(
        "a terminating role comes first", "J1", Code.TARGET_MISSING,
        lambda: latest(Delegate("early", terminating=True), SUPPLIER),
    ),
    Attack("a cycle", "J3", Code.TARGET_MISSING, lambda: latest(
        Delegate("a", below=(Delegate("b", below=(Delegate("a"), Delegate("b"))),)),
    )),
    Attack("33 roles deep", "J3", Code.TARGET_DELEGATION, partial(chain, 33)),
    Attack("a second way with another key", "J5", Code.METADATA_SIGNATURE, diamond),
    Attack("expired", "M4 J1", Code.METADATA_EXPIRED, partial(by, "supplier", expires=NOW)),
    Attack("not in the snapshot", "G5", Code.METADATA_MISSING, unlisted),
    Attack("listed as another version", "M8", Code.METADATA_VERSION, partial(listed_as, 2)),
    Attack("withheld", "M2", Code.METADATA_MISSING, partial(without, "1.supplier.json")),
    Attack(
        "other bytes", "M8", Code.METADATA_HASH,
        lambda: changed(lambda data: data.replace(b'"expires":"2', b'"expires":"3', 1)),
    ),
    Attack("padded", "M7", Code.METADATA_TOO_LARGE, lambda: changed(lambda data: data + b" ")),
    Attack("endless", "M7", Code.METADATA_TOO_LARGE, lambda: changed(lambda _: b" " * (LIMIT + 1))),
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_refused_and_nothing_changed(attack: Attack) -> None:
    pack = ordered(attack.make())
    before = pack.snapshot()
    pack.refused(attack.code)
    assert pack.snapshot() == before
    report = pack.manifests[-1].report("PACK-0001")
    assert report is not None
    assert report.attacks_detected == f"{CLASSES[attack.code]}: {attack.code}"
    serve(pack, latest(replace(SUPPLIER, version=3), version=10))
    pack.versions[IMAGE] = 10
    assert pack.cycle().installed[APP] == "1.3.1"


def test_the_second_way_is_verified_though_the_first_was_trusted() -> None:
    """J5 over two cycles: the file is held, trusted by `a`'s word; then `b` names another key."""
    pack = ordered(latest(Delegate("a", below=(SUPPLIER,))))
    assert pack.cycle().outcome == "updated"
    again = target_for(built(Stage.APP, "1.3.2", 6), Stage.APP, "1.3.2", 6)
    held = replace(SUPPLIER, targets=(NEW, again))
    serve(pack, latest(Delegate("a", version=2, below=(held,)), version=10))
    pack.versions[IMAGE] = 10
    pack.order(again)
    pack.refused(Code.TARGET_MISSING)  # no such image yet, but the file is there
    other = Delegate("b", below=(replace(held, version=2, keys=("stranger",), signers=("supplier",)),))
    serve(pack, latest(Delegate("a", version=3), other, version=11))
    pack.versions[IMAGE] = 11
    before = pack.snapshot()
    pack.refused(Code.METADATA_SIGNATURE)
    assert pack.snapshot() == before


def test_a_supplier_takes_nothing_back() -> None:
    """An older file, or a lower release counter in a newer one."""
    pack = ordered(latest(replace(SUPPLIER, version=5)))
    assert pack.cycle().outcome == "updated"
    before = pack.snapshot()
    other = target_for(built(Stage.APP, "1.3.2", 6), Stage.APP, "1.3.2", 6)
    pack.order(other)
    pack.versions[IMAGE] = 10
    serve(pack, latest(replace(SUPPLIER, version=4, targets=(NEW, other)), version=10))
    pack.refused(Code.METADATA_VERSION)
    lowered = replace(NEW, release_counter=5)
    serve(pack, latest(replace(SUPPLIER, version=6, targets=(lowered, other)), version=10))
    pack.refused(Code.TARGET_COUNTER)
    assert pack.snapshot() == before


def test_a_role_that_is_gone_is_not_kept() -> None:
    """Its keys, or those of who delegated to it, are withdrawn: its file goes from the device too."""
    pack = ordered(latest(SUPPLIER))
    assert pack.cycle().outcome == "updated"
    held = pack.memory.trusted(IMAGE, pack.factory)
    assert list(held.delegated_files()) == ["supplier"]
    rotated = IMAGE_OWNER.rekeyed(targets=("t3", "t4"))
    pack.memory.set_trusted(trust.update_root(held, rotated.root(2)))
    assert not any("delegated" in name for name in pack.store.names())
