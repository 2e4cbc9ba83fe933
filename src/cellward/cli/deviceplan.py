"""`cellward device enrol-plan`: the plant enrols many packs at once.

First every pack is looked at, and nothing is sent: what two of them share (a TPM, an identity, a module) is a
copy or a mistake, and none of the two is enrolled. Then each is enrolled by itself; what is done is found
done the next time, so that a run that was killed is simply repeated.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import click

from cellward import bootstrap
from cellward.cli import options
from cellward.cli.deviceenrol import (
    Station,
    check_not_enrolled,
    enrol_pack,
    enrolled_as,
    factory_option,
    module_entry,
    server_option,
    software_option,
)
from cellward.core import enrolplan
from cellward.core.enrolplan import Pack
from cellward.core.errors import CellwardError, Code, PolicyRefused, Refused
from cellward.core.tpm.keys import identity_key
from cellward.device import identity
from cellward.device.memory import Device
from cellward.ports.tpm import KeyName

_file = click.Path(dir_okay=False, path_type=Path)
NAMED_AT_MOST = 20

Given = TypeVar("Given")
Made = TypeVar("Made")
Step = Callable[[], None]  # one more is done


class Outcome(StrEnum):
    ENROLLED = "enrolled"
    NOTHING_TO_DO = "nothing to do"
    REFUSED = "refused"


@dataclass(frozen=True)
class Result:
    """`identity_key`: fingerprint of the key that signs the pack's reports."""

    pack: Pack
    outcome: Outcome
    identity_key: str = ""
    refusal: CellwardError | None = None

    def facts(self) -> dict[str, object]:
        return {
            "vehicle": self.pack.vehicle,
            "line": self.pack.line,
            "outcome": self.outcome,
            "identity_key": self.identity_key or None,
            "refusal": self.refusal and self.refusal.facts(),
        }


@dataclass
class Look:
    """A pack before anything was sent. `marks` are what no other pack may have; `device` is what to enrol,
    `done` the identity key of one that is enrolled."""

    pack: Pack
    marks: set[str] = field(default_factory=set)
    device: Device | None = None
    done: str = ""
    refusal: CellwardError | None = None


@click.command("enrol-plan")
@click.argument("plan", type=_file)
@factory_option
@click.option(
    "--tokens",
    "tokens_file",
    required=True,
    type=_file,
    help="What `server enrol-tokens` wrote for the plan.",
)
@server_option
@software_option
@click.option("--parallel", type=click.IntRange(1, 64), default=8, show_default=True, help="Packs at once.")
@options.as_json
def enrol_plan(
    plan: Path,
    factory_file: Path,
    tokens_file: Path,
    server: str | None,
    software_identity: bool,
    parallel: int,
    as_json: bool,
) -> None:
    """Enrol the packs of a PLAN, several at once (docs/formats/enrolment-plan.md).

    A pack that is enrolled already is left alone, one that is refused stops no other: repeat the command
    until nothing is left, also after it was killed. The plan names each pack's TPM; CELLWARD_TPM is not read.
    """
    packs = enrolplan.decode(
        bootstrap.read_file(plan, enrolplan.MAX_SIZE), str(plan), enrolplan.NEEDED_BY_THE_PLANT
    )
    tokens = enrolplan.decode_tokens(bootstrap.read_file(tokens_file, enrolplan.MAX_SIZE), str(tokens_file))
    station = Station.of(factory_file, server, software=software_identity)
    with _progress(2 * len(packs), shown=not as_json) as step:
        results = enrol_all(packs, station, tokens, parallel, step)
    _show(results, as_json=as_json)
    refused = [result.pack.vehicle for result in results if result.outcome is Outcome.REFUSED]
    if refused:
        more = ", …" if len(refused) > NAMED_AT_MOST else ""
        raise PolicyRefused(
            Code.ENROL_PLAN,
            str(plan),
            expected=f"{len(results)} packs enrolled",
            found=f"{len(refused)} refused: {', '.join(refused[:NAMED_AT_MOST])}{more}",
            advice="put right what was refused and repeat: what is enrolled stays as it is",
        )


def enrol_all(
    packs: Sequence[Pack],
    station: Station,
    tokens: Mapping[str, str],
    parallel: int,
    step: Step = lambda: None,
) -> list[Result]:
    """What became of each, in the plan's order."""
    looks = _each(packs, lambda pack: _look(pack, station), parallel, step)
    _refuse_shared(looks)
    return _each(looks, lambda look: _enrol(look, station, tokens), parallel, step)


def _each(items: Sequence[Given], work: Callable[[Given], Made], parallel: int, step: Step) -> list[Made]:
    """Several at once, in order. Whoever interrupts waits for those that are under way, and no more."""
    pool = ThreadPoolExecutor(parallel)
    try:
        running = [pool.submit(work, item) for item in items]
        for done in as_completed(running):
            done.result()
            step()
        return [done.result() for done in running]
    finally:
        pool.shutdown(cancel_futures=True)


# --- look


def _look(pack: Pack, station: Station) -> Look:
    """What is known of it is kept also where it is refused: the other pack may be the copy."""
    state = Path(pack.state)
    look = Look(pack, {f"state directory {state.resolve()}"})
    try:
        held = enrolled_as(state, pack.vehicle)
        if held is not None:
            look.done = _look_at_enrolled(look, held, state)
        else:
            _look_at_key(look, state, station)
            entries = tuple(module_entry(Path(module)) for module in pack.modules)
            look.marks.update(f"module {entry.serial}" for entry in entries)
            look.device = Device(pack.vehicle, entries)
    except CellwardError as error:
        look.refusal = error
    return look


def _look_at_enrolled(look: Look, held: Device, state: Path) -> str:
    """Its identity key. Its TPM and modules are left alone: the agent may be at work with them."""
    look.marks.update(f"module {entry.serial}" for entry in held.modules)
    key = held.attested.identity_key if held.attested else _software_key(state)
    look.marks.add(f"identity {key}")
    addresses = {str(Path(module).absolute()) for module in look.pack.modules}
    enrolled = {entry.address for entry in held.modules}
    if enrolled != addresses:
        raise Refused(
            Code.ENROL_DONE,
            f"vehicle {held.vehicle}",
            expected=f"modules at {', '.join(sorted(addresses))}",
            found=f"enrolled with those at {', '.join(sorted(enrolled))}",
            advice="`cellward device enrol --again` enrols it with others",
        )
    return key


def _look_at_key(look: Look, state: Path, station: Station) -> None:
    """Raises PolicyRefused (enrol.identity) for another TPM than the plan's."""
    pack = look.pack
    if station.software:
        key = _software_key(state)
        look.marks.update({f"identity {key}"} if key else ())
        return
    with bootstrap.tpm(state, pack.tpm) as tpm:
        endorsement, area = sha256(tpm.ek_certificate()).digest(), tpm.key(KeyName.IDENTITY)
    look.marks.add(f"TPM {endorsement.hex()}")
    if area is not None:
        look.marks.add(f"identity {identity_key(area).key.fingerprint}")
    if pack.endorsement not in (b"", endorsement):
        raise PolicyRefused(
            Code.ENROL_IDENTITY,
            f"vehicle {pack.vehicle}",
            expected=f"the TPM that the plan names, {pack.endorsement.hex()[:16]}",
            found=endorsement.hex()[:16],
        )


def _software_key(state: Path) -> str:
    held = bootstrap.device_store(state).read(identity.KEY)
    return "" if held is None else identity.public_key(held).fingerprint


def _refuse_shared(looks: Sequence[Look]) -> None:
    """Which of two is the copy is nobody's to guess here. What is enrolled already stays enrolled."""
    owners: dict[str, list[Look]] = defaultdict(list)
    for look in looks:
        for mark in look.marks:
            owners[mark].append(look)
    for mark, sharing in sorted(owners.items()):
        if len(sharing) == 1:
            continue
        lines = ", ".join(str(look.pack.line) for look in sharing)
        for look in sharing:
            look.refusal = look.refusal or PolicyRefused(
                Code.ENROL_IDENTITY,
                f"vehicle {look.pack.vehicle}",
                expected=f"a {mark.rpartition(' ')[0]} that no other pack has",
                found=f"{mark} in lines {lines}",
                advice="nothing was sent for any of them",
            )


# --- enrol


def _enrol(look: Look, station: Station, tokens: Mapping[str, str]) -> Result:
    pack, state = look.pack, Path(look.pack.state)
    if look.refusal is not None or look.device is None:
        outcome = Outcome.REFUSED if look.refusal else Outcome.NOTHING_TO_DO
        return Result(pack, outcome, look.done, look.refusal)
    try:
        token = _token(tokens, pack.vehicle)
        with bootstrap.device_lock(state):
            check_not_enrolled(state, pack.vehicle)
            enrolled, got = enrol_pack(state, look.device, station, token, pack.tpm)
    except CellwardError as error:
        return Result(pack, Outcome.REFUSED, refusal=error)
    key = enrolled.attested.identity_key if enrolled.attested else got.public_key.fingerprint
    return Result(pack, Outcome.ENROLLED, key)


def _token(tokens: Mapping[str, str], vehicle: str) -> str:
    if vehicle not in tokens:
        raise Refused(
            Code.ENROL_TOKEN,
            f"vehicle {vehicle}",
            expected="a token for it among those of the plan",
            found="none",
            advice="`cellward server enrol-tokens` makes them for vehicles that are not enrolled",
        )
    return identity.check_token(tokens[vehicle])


# --- show


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Step]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as bar:
        task = bar.add_task("looked at, enrolled", total=total)
        yield lambda: bar.advance(task)


def _show(results: Sequence[Result], *, as_json: bool) -> None:
    counts = {str(outcome): sum(r.outcome is outcome for r in results) for outcome in Outcome}
    if as_json:
        click.echo(json.dumps({"packs": [r.facts() for r in results], **counts}, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("line", "vehicle", "outcome", "", box=box.SIMPLE_HEAD, pad_edge=False)
    colours = {Outcome.ENROLLED: "green", Outcome.NOTHING_TO_DO: "dim", Outcome.REFUSED: "red"}
    for result in results:
        pack, said = result.pack, result.refusal or f"key {result.identity_key[:16]}"
        outcome = f"[{colours[result.outcome]}]{result.outcome}[/]"
        table.add_row(str(pack.line), pack.vehicle, outcome, escape(str(said)))
    Console().print(table)
    click.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
