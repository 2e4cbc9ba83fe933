"""The key register for people and programs: entries, what a version changes, who has signed it."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import combinations

from cellward.core.ceremony import Ceremony
from cellward.core.keys import KeyAttributes, Role
from cellward.core.register import Entry, Register, State
from cellward.core.strictjson import format_time

Facts = dict[str, object]


def grouped(fingerprint: str) -> str:
    """In fours, to be read aloud and compared."""
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def flags(said: KeyAttributes) -> Facts:
    return {
        "SENSITIVE": said.sensitive,
        "ALWAYS_SENSITIVE": said.always_sensitive,
        "EXTRACTABLE": said.extractable,
        "NEVER_EXTRACTABLE": said.never_extractable,
        "LOCAL": said.local,
    }


def entry_facts(entry: Entry) -> Facts:
    status, kept = entry.status, entry.custody
    return {
        "name": entry.name,
        "role": entry.purpose.value,
        "algorithm": entry.key.algorithm.value,
        "fingerprint": entry.fingerprint,
        "stage": entry.stage.value,
        "not_before": format_time(entry.not_before),
        "not_after": format_time(entry.not_after),
        "state": status.state.value,
        "at": None if status.at is None else format_time(status.at),
        "reason": status.reason,
        "successor": entry.successor or None,
        "attributes": None if kept is None else flags(kept.attributes),
        "token": None if kept is None else kept.token.__dict__,
    }


def state(entry: Entry) -> str:
    """`active`, `expired 2026-11-01`, `retires 2026-12-24`, `retired 2026-11-01`, `revoked 2026-11-24`."""
    status, now = entry.status, datetime.now(UTC)
    if status.at is None:
        return "active" if now <= entry.not_after else f"expired {entry.not_after:%Y-%m-%d}"
    said = "retires" if status.state is State.RETIRED and status.at > now else status.state.value
    return f"{said} {status.at:%Y-%m-%d}"


def entry_line(entry: Entry) -> str:
    until = f"until {entry.not_after:%Y-%m-%d}"
    kind = f"{entry.key.algorithm.display}, {entry.stage}, {state(entry)}, {until}"
    kind += "" if entry.custody is not None else ", no token's word"
    return f"{entry.purpose:<12} {entry.name:<20} {entry.fingerprint[:16]}  {kind}"


def _by_role(entries: Iterable[Entry]) -> list[Entry]:
    order = list(Role)
    return sorted(entries, key=lambda entry: (order.index(entry.purpose), entry.name))


def differences(old: Register | None, new: Register) -> Iterator[str]:
    """What a version changes, a line each; the whole of it where there was none before."""
    if old is None:
        yield f"the first register; {new.root.threshold} of {len(new.root.keys)} root keys agree on changes"
        yield from (f"new      {entry_line(entry)}" for entry in _by_role(new.entries))
        return
    if (old.root.threshold, len(old.root.keys)) != (new.root.threshold, len(new.root.keys)):
        yield (
            f"root     {old.root.threshold} of {len(old.root.keys)} keys before, "
            f"{new.root.threshold} of {len(new.root.keys)} from now on"
        )
    held = {entry.fingerprint: entry for entry in old.entries}
    for entry in _by_role(new.entries):
        before = held.get(entry.fingerprint)
        if before is None:
            yield f"new      {entry_line(entry)}"
        elif before != entry:
            yield f"{_verb(entry, before):<8} {entry_line(entry)}{_why(entry)}"


def _verb(entry: Entry, before: Entry) -> str:
    return entry.status.state.value if entry.status != before.status else "changed"


def _why(entry: Entry) -> str:
    reason = f"; {entry.status.reason}" if entry.status.state is State.REVOKED else ""
    return reason + (f"; successor {entry.successor[:16]}" if entry.successor else "")


def ceremony_facts(at: Ceremony) -> Facts:
    draft, previous = at.draft, at.previous
    return {
        "version": draft.register.version,
        "fingerprint": draft.fingerprint,
        "issued": format_time(draft.register.issued),
        "threshold": draft.register.root.threshold,
        "root": [entry_facts(entry) for entry in draft.register.roots()],
        "changes": list(differences(None if previous is None else previous.register, draft.register)),
        "signed": [
            {
                "holder": each.record.holder,
                "key": each.record.key,
                "at": format_time(each.record.at),
                "attributes": flags(each.record.custody.attributes),
                "token": each.record.custody.token.__dict__,
            }
            for each in at.records
        ],
        "missing": list(at.step.missing),
    }


def ceremony_lines(at: Ceremony) -> Iterator[str]:
    draft, previous = at.draft, at.previous
    yield f"key register, version {draft.register.version}, issued {draft.register.issued:%Y-%m-%d %H:%M} UTC"
    follows = "nothing" if previous is None else f"version {previous.register.version}, {previous.sha256}"
    yield f"  follows      {follows}"
    yield f"  fingerprint  {grouped(draft.fingerprint)}"
    for entry in draft.register.roots():
        yield f"  root key     {entry.name:<20} {entry.fingerprint}"
    for one, other in combinations(draft.register.roots(), 2):
        if draft.register.same_hand(one.fingerprint, other.fingerprint):
            yield f"careful: {one} and {other} have one name or one token: that is one person, not two"
    yield "what it changes"
    yield from (
        f"  {line}" for line in differences(None if previous is None else previous.register, draft.register)
    )
    for each in at.records:
        token = each.record.custody.token
        at_, key = f"{each.record.at:%Y-%m-%d %H:%M} UTC", each.record.key[:16]
        yield f"signed by {each.record.holder}, {at_}, key {key} in {token.label} (serial {token.serial})"
    yield from (f"missing: {missing}" for missing in at.step.missing)
    if not at.step.missing:
        yield "complete: `cellward keys ceremony finish` puts it in force"
