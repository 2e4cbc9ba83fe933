"""`cellward device tamper`: what was noticed, what was done about it, and what would be."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.core import strictjson
from cellward.core import tamper as tables
from cellward.core.tamper import Entry, Event, Log, State, Step
from cellward.device.tamper import read_log
from cellward.ports.store import Store

_MEANS = {
    State.SOUND: "nothing that was noticed locks it",
    State.LOCKED: "until the maker enrols it, its vault is closed and only modules in recovery are updated",
    State.ZEROISING: "its keys are being destroyed",
    State.ZEROISED: "it has no keys: it watches its modules and keeps their contactors open",
}


@click.command()
@options.device_state
@options.as_json
def tamper(state: Path, as_json: bool) -> None:
    """Tampering with this controller: look now, and show state, log and policy.

    What is an event, and what follows, is in docs/formats/tamper.md; `tamper.toml` in the state directory
    makes it stricter and names sensors. The maker ends a lock by `device enrol --again` with a new token.
    """
    with bootstrap.tpm(state) as tpm:
        guard = bootstrap.guard(state, tpm)
        guard.sense()
        facts = {
            "state": guard.state.value,
            "log": _entries(guard.log),
            "policy": {event.value: guard.policy.responses[event].name.lower() for event in Event},
            "sensors": list(guard.policy.sensors),
            "failed_authentications": guard.policy.guesses,
        }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for line in _lines(facts):
        click.echo(line)


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"state        {facts['state']}: {_MEANS[State(facts['state'])]}"
    yield f"sensors      {', '.join(facts['sensors']) or 'none but the process and the TPM'}"
    for event, response in facts["policy"].items():
        yield f"policy       {event:<16} {response}"
    for entry in facts["log"]:
        yield f"log          {said(entry)}"


def said(entry: dict[str, str]) -> str:
    parts = (entry["time"], entry["what"], entry["response"], entry["subject"], entry["detail"])
    return "  ".join(part for part in parts if part)


def remembered(store: Store) -> dict[str, Any] | None:
    """By the log alone: whether the TPM says the same, `device tamper` asks. None where there is no log."""
    log = read_log(store)
    if log is None:
        return {"state": "its log cannot be read", "events": []}
    if not log:
        return None
    events = [entry for entry in tables.period(log) if entry.what is not Step.ERASED]
    return {"state": tables.replay(log).value, "events": _entries(tuple(events))}


def _entries(log: Log) -> list[dict[str, str]]:
    return [_facts(entry) for entry in log]


def _facts(entry: Entry) -> dict[str, str]:
    return {
        "time": strictjson.format_time(entry.time),
        "what": entry.what.value,
        "response": "" if entry.response is None else entry.response.name.lower(),
        "subject": entry.subject,
        "detail": entry.detail,
    }
