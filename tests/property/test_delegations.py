"""Whatever the graph of delegations: a search ends, asks each role once, and believes nobody by chance."""

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import DelegatedRole, Targets

from cellward.core import trust
from cellward.core.errors import Code, Refused
from cellward.core.metadata import TUF, Role
from cellward.core.trust import TrustedRepository, Wanted
from tests.support.delegated import Delegate, delegating
from tests.support.tufrepo import LATER, NOW, TufRepository, signer
from tests.support.uptane import IMAGE_OWNER, start, target
from tests.support.uptane import NOW as UPTANE_NOW

NAMES = [f"r{n}" for n in range(6)]
TARGET = target()


@dataclass(frozen=True)
class Edge:
    to: str
    terminating: bool
    applies: bool


edges = st.builds(Edge, st.sampled_from(NAMES), st.booleans(), st.booleans())
graphs = st.fixed_dictionaries(
    {name: st.lists(edges, max_size=4, unique_by=lambda edge: edge.to) for name in ["targets", *NAMES]}
)


def repository(graph: Mapping[str, list[Edge]], holders: set[str]) -> TufRepository:
    made = TufRepository()
    for name in NAMES:
        made.delegated[name] = Targets(expires=LATER)
        made.signers[name] = [signer("supplier")]
    for name, below in graph.items():
        for edge in below:
            paths = ["file" if edge.applies else "other"]
            role = DelegatedRole(edge.to, [], 1, edge.terminating, paths)
            made.delegate(name, role, keys={edge.to: signer("supplier")})
    for name in holders:
        made.add_target("file", name.encode(), name)
    made.publish()
    return made


def expected(graph: Mapping[str, list[Edge]], holders: set[str]) -> tuple[list[str], str | None]:
    """The section's recursion, read as it is written: who is asked, and who answers."""
    asked: list[str] = []

    def ask(name: str) -> tuple[str | None, bool]:
        """Who has it, and whether the search is over without anybody."""
        if name in holders:
            return name, True
        for edge in graph[name]:
            if not edge.applies:
                continue
            if edge.to not in asked:
                asked.append(edge.to)
                found, over = ask(edge.to)
                if over:
                    return found, True
            if edge.terminating:
                return None, True
        return None, False

    return asked, ask("targets")[0]


def taken(made: TufRepository) -> TrustedRepository:
    files = made.files
    root = files["metadata/1.root.json"]
    state = trust.load(IMAGE_OWNER.repository, {Role.ROOT: root}, dialect=TUF)
    state = trust.update_timestamp(state, files["metadata/timestamp.json"], NOW)
    state = trust.update_snapshot(state, files["metadata/1.snapshot.json"], NOW)
    return trust.update_targets(state, files["metadata/1.targets.json"], NOW)


@given(graphs, st.sets(st.sampled_from(NAMES), max_size=2))
@settings(max_examples=150, deadline=None)
def test_a_search_is_the_sections_recursion(graph: dict[str, list[Edge]], holders: set[str]) -> None:
    made = repository(graph, holders)
    state, asked = taken(made), []
    while isinstance(found := trust.search(state, "file", NOW), Wanted):
        asked.append(found.role)
        assert len(asked) <= len(NAMES)
        state = trust.update_delegated(state, found, made.files[f"metadata/1.{found.role}.json"], NOW)
    wanted, holder = expected(graph, holders)
    assert asked == wanted
    assert (found and found.length) == (holder and len(holder))
    again = trust.load(state.repository, state.files(), state.delegated_files(), TUF)
    assert again.delegated_files() == state.delegated_files()
    assert trust.search(again, "file", NOW) == found


SERVED = delegating(Delegate("supplier", (TARGET,)))
STATE = trust.update_timestamp(start(IMAGE_OWNER), SERVED["timestamp.json"], UPTANE_NOW)
STATE = trust.update_snapshot(STATE, SERVED["1.snapshot.json"], UPTANE_NOW)
STATE = trust.update_targets(STATE, SERVED["1.targets.json"], UPTANE_NOW)
WANTED = trust.search(STATE, TARGET.name, UPTANE_NOW)


@given(position=st.integers(0), bit=st.integers(0, 7))
@settings(max_examples=200)
def test_one_flipped_bit_of_a_delegated_file(position: int, bit: int) -> None:
    assert isinstance(WANTED, Wanted)
    data = bytearray(SERVED["1.supplier.json"])
    data[position % len(data)] ^= 1 << bit
    try:
        trust.update_delegated(STATE, WANTED, bytes(data), UPTANE_NOW)
    except Refused as refused:
        assert refused.code is Code.METADATA_HASH
        return
    raise AssertionError("a changed file was taken")


@given(st.dictionaries(st.text(max_size=20) | st.just("supplier"), st.binary(max_size=60)))
def test_persisted_rubbish_is_never_trusted(files: dict[str, bytes]) -> None:
    state = trust.load(STATE.repository, STATE.files(), files)
    assert state.delegated_files() == {}
    assert state.files() == STATE.files()
