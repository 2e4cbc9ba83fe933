"""Packs that a plant enrols in a second, each with an embedded TPM of its own, against a running server.

The reference is the same packs one after the other. Making the TPMs is not counted; the modules are stand-ins
that say their serial and are silent afterwards.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

from cellward import bootstrap
from cellward.cli.demo.journal import Actor
from cellward.cli.demo.stage import Stage
from cellward.cli.deviceenrol import Station
from cellward.cli.deviceplan import Outcome, enrol_all
from cellward.core import enrolplan
from cellward.core.errors import Code, Unavailable

PACKS = 8
AT_ONCE = (1, 4, 8)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, Stage(Path(name), Console(file=StringIO())) as stage:
        _maker(stage)
        seconds = {
            parallel: enrolment_seconds(stage, range(run * PACKS, (run + 1) * PACKS), parallel)
            for run, parallel in enumerate(AT_ONCE)
        }
    print(f"{'packs at once':24}{'packs/s':>10}{'ratio':>8}")
    for parallel, took in seconds.items():
        print(f"{parallel:<24}{PACKS / took:10.2f}{seconds[1] / took:8.2f}")
    print(f"{PACKS} packs with swtpm, tokens used, certificates in hand\n")


def enrolment_seconds(stage: Stage, numbers: Sequence[int], parallel: int) -> float:
    """What it takes to enrol new packs with these numbers, `parallel` of them at once."""
    folder = stage.folder
    packs = [enrolplan.Pack(n, f"PACK-{n}", str(folder / f"{n}"), (f"M-{n}",)) for n in numbers]
    with ThreadPoolExecutor() as pool:
        authorities = list(pool.map(_tpm, packs))
    stage.run(Actor.MAKER, "know", "server", "know-tpm", *authorities)
    (folder / "plan.csv").write_text("\n".join(["vehicle", *(pack.vehicle for pack in packs)]))
    stage.run(Actor.MAKER, "tokens", "server", "enrol-tokens", "plan.csv", "-o", "tokens.csv")
    tokens = enrolplan.decode_tokens((folder / "tokens.csv").read_bytes(), "tokens.csv")
    station = Station.of(folder / "factory.json", None, software=False)
    bootstrap.connect_module = lambda path: nullcontext(_Module(path.name))  # type: ignore[assignment, misc]
    began = time.perf_counter()
    results = enrol_all(packs, station, tokens, parallel)
    took = time.perf_counter() - began
    refused = [str(result.refusal) for result in results if result.outcome is not Outcome.ENROLLED]
    if refused:
        sys.exit(f"enrolment: {refused[0]}")
    return took


def _maker(stage: Stage) -> None:
    stage.run(Actor.MAKER, "keys", "keys", "init")
    stage.run(Actor.MAKER, "repositories", "repo", "init")
    stage.run(Actor.MAKER, "know", "server", "know-agent")
    addresses = ("--devices", "127.0.0.1:0", "--enrolment", "127.0.0.1:0")
    ready = stage.start(Actor.SERVER, "serve", "server", "run", *addresses)
    enrolment = ready.rpartition(" ")[2]
    stage.run(
        Actor.MAKER, "pin", "repo", "factory", "-o", "factory.json", "--enrol-url", f"https://{enrolment}"
    )


def _tpm(pack: enrolplan.Pack) -> str:
    state = Path(pack.state)
    with bootstrap.tpm(state, ""):
        authorities = state.parent / f"{pack.vehicle}.pem"
        authorities.write_bytes(bootstrap.tpm_authorities(state))
    return str(authorities)


class _Module:
    """It says who it is; asked what it runs, it is silent."""

    def __init__(self, serial: str) -> None:
        self._serial = serial

    def status(self) -> SimpleNamespace:
        return SimpleNamespace(serial=self._serial, hardware="bms-m33", outcome=None)

    def __getattr__(self, name: str) -> object:
        raise Unavailable(Code.LINK_SILENT, f"module {self._serial}")


if __name__ == "__main__":
    main()
