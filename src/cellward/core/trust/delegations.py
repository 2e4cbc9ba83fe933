"""How to resolve delegations: Uptane 2.1.0 section 5.4.4.7, which is TUF 5.6.7.

1. Check the current file (5.4.4.6). Where that fails, the resolution ends.
2. If it has the image, that is the answer.
3. If it was reached by a terminating delegation, no delegation that comes later is followed. Those below
   it are (TUF 4.5): it ends with them.
4. Its delegations, in listed order:
   1. One applies if the image's name is in its paths, and the ECU's hardware in its list, if it has one.
      So a name passes every delegation on its way, not only the last.
   2. Multi-role delegations are not spoken: their form is refused.
   3. Otherwise go on with the role's file at step 1. A role is visited once (cycles end), and at most
      MAX_ROLES of them.
5. At the end there is no such image.

Nothing is fetched here: `search` says which file it needs next, the caller gives it to
`update_delegated`, and asks again. What is trusted is in the state, so the search starts over::

    while isinstance(found := search(state, name, now), Wanted):
        state = update_delegated(state, found, fetch(found.role, found.version, found.limit), now)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from cellward.core.errors import Code, TrustRefused
from cellward.core.metadata import Role, parse_targets
from cellward.core.trust.state import (
    Delegated,
    TrustedRepository,
    check_expiry,
    download_limit,
    is_listed,
    still_signed,
)
from cellward.core.trust.targets import check_snapshot_is_current, check_targets, current_targets, listed

# Beside the top level, for one image: a repository cannot keep a vehicle busy (J3).
MAX_ROLES = 32


@dataclass(frozen=True)
class Wanted:
    """The file that a search needs next, of at most `limit` bytes, to be signed for `delegator`."""

    role: str
    version: int
    limit: int
    delegator: Targets = field(repr=False)


def search(
    state: TrustedRepository, name: str, now: datetime, hardware: str | None = None
) -> TargetFile | Wanted | None:
    """The image of this name for this hardware (None: for any), the file that is needed to tell, or None.

    Raises TrustRefused (as `current_targets`; metadata.missing, metadata.expired, target.delegation).
    """
    return search_below(current_targets(state, now), state, name, now, hardware)


def search_below(
    top: Targets, state: TrustedRepository, name: str, now: datetime, hardware: str | None
) -> TargetFile | Wanted | None:
    """The same from `top`, which is current: for several searches in a row."""
    current, visited = top, {str(Role.TARGETS)}
    to_visit: list[tuple[str, Targets]] = []
    while name not in current.targets:  # 2
        to_visit = _below(current, to_visit, name, hardware)
        to_visit = [(role, delegator) for role, delegator in to_visit if role not in visited]  # 4.3
        if not to_visit:
            return None  # 5
        if len(visited) > MAX_ROLES:
            raise TrustRefused(
                Code.TARGET_DELEGATION,
                f"target {name[:80]!r}",
                expected=f"at most {MAX_ROLES} delegated roles to ask",
                found="more",
            )
        role, delegator = to_visit.pop()
        visited.add(role)
        found = _current(state, role, delegator, now)  # 1
        if isinstance(found, Wanted):
            return found
        current = found
    return current.targets[name]


def _below(
    delegator: Targets, to_visit: list[tuple[str, Targets]], name: str, hardware: str | None
) -> list[tuple[str, Targets]]:
    """What is to be asked behind `delegator`, the next last: its delegations that apply (4.1), then what was
    to be asked already, unless one of them is terminating (3)."""
    applying = []
    for role, terminating in _roles(delegator, name, hardware):
        applying.append((role, delegator))
        if terminating:
            to_visit = []
            break
    return to_visit + applying[::-1]


def _roles(delegator: Targets, name: str, hardware: str | None) -> Iterator[tuple[str, bool]]:
    delegations = delegator.delegations
    if delegations is None:
        return
    if delegations.succinct_roles is not None:
        yield delegations.succinct_roles.get_role_for_target(name), True  # TAP 15
    for role in (delegations.roles or {}).values():
        if role.is_delegated_path(name) and _for_hardware(role, hardware):
            yield role.name, role.terminating


def _for_hardware(role: DelegatedRole, hardware: str | None) -> bool:
    """J2: a delegation may be for some hardware only; `custom` is ours where somebody asks for hardware."""
    custom = role.unrecognized_fields.get("custom", {})
    return hardware is None or "hardware_ids" not in custom or hardware in custom["hardware_ids"]


def _current(state: TrustedRepository, role: str, delegator: Targets, now: datetime) -> Targets | Wanted:
    """The role's file as the snapshot has it, signed for this delegator. One that is held for another is
    asked again (J5): who reaches a role by two ways trusts it by neither's word for the other."""
    meta, held = listed(state, role), state.delegated.get(role)
    if held is None or not is_listed(meta, held) or not _vouched(state, role, held, delegator):
        limit = download_limit(meta, Role.TARGETS, state.dialect)
        return Wanted(role, meta.version, limit, delegator)
    check_expiry(f"{state.subject(role)} version {meta.version}", held.signed.expires, now)
    return held.signed


def _vouched(state: TrustedRepository, role: str, held: Delegated, delegator: Targets) -> bool:
    if held.delegator is delegator:
        return True
    return still_signed(delegator, role, parse_targets(held.data, state.dialect))


def update_delegated(
    state: TrustedRepository, wanted: Wanted, data: bytes, now: datetime
) -> TrustedRepository:
    """The state with this file of a delegated role (5.4.4.6 for it).

    Raises as `update_targets`.
    """
    check_snapshot_is_current(state, now)
    held = state.delegated.get(wanted.role)
    if held is not None and not _vouched(state, wanted.role, held, wanted.delegator):
        held = None  # what revoked keys signed sets no floor
    new = check_targets(state, wanted.role, wanted.delegator, data, held, now)
    delegated = {**state.delegated, wanted.role: Delegated(data, new, wanted.delegator)}
    return replace(state, delegated=delegated)
