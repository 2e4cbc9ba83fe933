"""docs/evidence/faults.json, and what docs/testplan.toml says of it."""

import json
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORD: dict[str, Any] = json.loads((ROOT / "docs/evidence/faults.json").read_text())
PLAN = tomllib.loads((ROOT / "docs/testplan.toml").read_text())


def test_no_recorded_scenario_has_a_bypass_or_an_audit_that_differs() -> None:
    for name, found in RECORD["scenarios"].items():
        assert (found["bypasses"], found["differing"]) == (0, 0), name
        assert sum(found["outcomes"].values()) == found["faults"] > 0, name
        assert found["audited"] > 0, name


def test_the_claim_s_figure_is_the_record_s() -> None:
    (claim,) = (claim for claim in PLAN["claim"] if claim["id"] == "faults.full")
    scenarios = RECORD["scenarios"].values()
    said = f"{len(scenarios)} scenarios with {sum(found['faults'] for found in scenarios):,} faults"
    assert said in claim["figure"]
    assert RECORD["firmware"][:16] in claim["figure"]
