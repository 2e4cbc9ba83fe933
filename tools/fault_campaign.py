#!/usr/bin/env python3
"""Every single fault, one scenario after the other, in as many sittings and on as many machines as it takes.

    tools/fault_campaign.py [--work DIR] [--last]

docs/evidence/faults.json keeps what is done of one firmware; results of a scenario that was cut short stay in
DIR and are gone on with. Another firmware's file is left alone: move it away to begin anew. `--last` begins
with the scenarios that come last.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellward.lab.faults.runner import VERSION
from cellward.lab.faults.subject import ModuleSubject

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs/evidence/faults.json"
SEED = 1


def opened(fingerprint: str) -> dict[str, Any]:
    held: dict[str, Any] = {"firmware": fingerprint, "version": VERSION, "seed": SEED, "scenarios": {}}
    if RECORD.exists():
        found: dict[str, Any] = json.loads(RECORD.read_text())
        if (found["firmware"], found["version"], found["seed"]) != (fingerprint, VERSION, SEED):
            sys.exit(f"{RECORD.name} is of another firmware or campaign: move it away to begin anew")
        return found
    return held


def run(name: str, results: Path) -> dict[str, Any] | None:
    """What `cellward lab faults` says of one scenario; None where it was stopped."""
    command = ("lab", "faults", "--scenario", name, "--results", str(results), "--seed", f"{SEED}", "--json")
    program = Path(sys.executable).parent / "cellward"
    done = subprocess.run([program, *command], stdout=subprocess.PIPE, check=False)
    return json.loads(done.stdout) if done.stdout else None


def record(told: dict[str, Any]) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    for scenarios in told["table"].values():
        for counts in scenarios.values():
            outcomes.update(counts)
    return {
        "faults": told["faults"],
        "bypasses": told["bypasses"],
        "audited": told["audited"],
        "differing": len(told["differing"]),
        "cpu_seconds": round(told["seconds"]),
        "outcomes": dict(sorted(outcomes.items())),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build/lab/campaign")
    parser.add_argument("--last", action="store_true")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    subject = ModuleSubject(SEED)
    held = opened(subject.fingerprint)
    open_ = [(i, name) for i, name in enumerate(subject.scenarios) if name not in held["scenarios"]]
    for number, name in reversed(open_) if chosen.last else open_:
        told = run(name, chosen.work / f"{number:02}.jsonl")
        if told is None:
            sys.exit(1)
        held["scenarios"][name] = record(told)
        RECORD.write_text(json.dumps(held, indent=1) + "\n")
        print(f"{name}: {told['faults']:,} faults, {told['bypasses']} bypasses", flush=True)
    done = held["scenarios"].values()
    print(
        f"{len(done)} of {len(subject.scenarios)} scenarios: {sum(d['faults'] for d in done):,} faults, "
        f"{sum(d['bypasses'] for d in done)} bypasses"
    )


if __name__ == "__main__":
    main()
